//! Change -> rows, purely: no tokio, no sqlx, no AWS.
//!
//! A [`definition::SourceDefinition`] is compiled once; after that a change is routed by its key
//! (the templates), its cells are converted one by one, and either all of its rows are appended or
//! none is.

mod compile;
mod condition;
mod convert;
pub mod definition;
mod infer;
mod invert;
mod path;
mod rest;
mod row;
pub mod spec;
mod template;
pub(crate) mod toml_text;
pub mod trial;
mod types;

pub use infer::{InferRequest, infer_items};
pub use types::{TYPE_NAMES, TypeError};

use std::sync::Arc;

use crate::model::{Cells, Change, ChangeOp, Item, Reject, RejectReason, RowAction, RowOp};
use compile::{Compiled, Entity};
use definition::{OnDelete, Problem, SourceDefinition};
use row::Material;
use spec::{ColumnType, TableSpec};
use template::Captures;

/// A compiled mapping of one source.
#[derive(Debug, Default)]
pub struct Mapper {
    tables: Vec<TableSpec>,
    entities: Vec<Entity>,
    unmatched: Unmatched,
}

/// What becomes of an item that no entity's key template matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// It is counted.
    Ignore,
    /// It is counted and logged.
    Count,
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
    /// The source halts.
    Halt,
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its rows were appended.
    Mapped,
    /// It does not pass its entity's filter; deletes of what may be there were appended. Or it is a
    /// removal that the mapping keeps the row for; then nothing was appended.
    Filtered,
    /// No key template matches; the source's [`Unmatched`] says what follows.
    Unmatched,
    /// It cannot be mapped; nothing was appended.
    Rejected(Reject),
}

/// Why a removal cannot be routed from the item's keys alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsOldImage {
    /// The entity.
    pub entity: Arc<str>,
    /// The column of its primary key that comes from an attribute which is no key.
    pub column: Arc<str>,
}

impl Mapper {
    /// Compiles a source's mapping.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn compile(definition: &SourceDefinition) -> Result<Self, Vec<Problem>> {
        Self::compile_onto(definition, &|_, _| None)
    }

    /// Compiles a source's mapping onto tables that may exist already: a column that names no type
    /// has the one that `existing` knows, by table (as the mapping names it) and column.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn compile_onto(
        definition: &SourceDefinition,
        existing: &dyn Fn(&str, &str) -> Option<ColumnType>,
    ) -> Result<Self, Vec<Problem>> {
        let Compiled { tables, entities } = compile::compile(definition, existing)?;
        Ok(Self { tables, entities, unmatched: definition.unmatched })
    }

    /// The target tables, parents before their children; a row names its own by index.
    #[must_use]
    pub fn tables(&self) -> &[TableSpec] {
        &self.tables
    }

    /// What becomes of items that no key template matches.
    #[must_use]
    pub fn unmatched(&self) -> Unmatched {
        self.unmatched
    }

    /// The attributes that the mapping takes for the table's key, each named once.
    #[must_use]
    pub fn key_attributes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.entities.iter().flat_map(|entity| &entity.keys) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The key attributes of an item that is known as a whole.
    #[must_use]
    pub fn keys_of(&self, item: &Item) -> Item {
        let names = self.key_attributes();
        let keys = item.iter().filter(|(name, _)| names.contains(name));
        keys.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    /// Why the stream must carry old images too; `None` when removals can be routed from the keys
    /// alone.
    #[must_use]
    pub fn needs_old_image(&self) -> Option<NeedsOldImage> {
        self.entities.iter().find_map(|entity| {
            let column = Arc::clone(entity.needs_image_for.as_ref()?);
            Some(NeedsOldImage { entity: Arc::clone(&entity.name), column })
        })
    }

    /// Appends the rows of one change: all of them or, when it is rejected, none.
    pub fn map(&self, change: &Change, rows: &mut Vec<RowOp>) -> Outcome {
        let before = rows.len();
        let outcome = self.route(change, rows).unwrap_or_else(Outcome::Rejected);
        if matches!(outcome, Outcome::Rejected(_)) {
            rows.truncate(before);
        }
        outcome
    }

    fn route(&self, change: &Change, rows: &mut Vec<RowOp>) -> Result<Outcome, Reject> {
        let mut outcome = Outcome::Unmatched;
        let mut first: Option<&Entity> = None;
        for entity in &self.entities {
            let mut captures = Captures::default();
            if !entity.takes(&change.keys, &mut captures) {
                continue;
            }
            let first = *first.get_or_insert(entity);
            let alone = std::ptr::eq(first, entity);
            if !alone && (first.filter.is_none() || entity.filter.is_none()) {
                return Err(ambiguous(first, entity));
            }
            let mapped = entity.map(change, &captures, rows)?;
            if outcome != Outcome::Mapped {
                outcome = if mapped { Outcome::Mapped } else { Outcome::Filtered };
            }
        }
        Ok(outcome)
    }
}

/// The templates were found not to overlap, yet a capture held the literal that ends another one.
/// Rather than guess, the record is set aside.
fn ambiguous(one: &Entity, other: &Entity) -> Reject {
    Reject {
        reason: RejectReason::Unmatched,
        entity: Some(Arc::clone(&other.name)),
        place: None,
        detail: format!("the key matches the entities {} and {}", one.name, other.name),
    }
}

impl Entity {
    /// Whether the key is this entity's; fills the captures on the way.
    fn takes<'a>(&self, keys: &'a Item, captures: &mut Captures<'a>) -> bool {
        self.keys.iter().all(|(attribute, template)| {
            keys.attribute(attribute).is_some_and(|value| template.capture(value, captures))
        })
    }

    /// Appends what the change does to this entity's row; false when it does not pass the filter,
    /// or when the row stays although the item is gone.
    fn map(
        &self,
        change: &Change,
        captures: &Captures<'_>,
        rows: &mut Vec<RowOp>,
    ) -> Result<bool, Reject> {
        let keys = &change.keys;
        let old = change.old_image.as_ref();
        if change.op == ChangeOp::Remove {
            let policy = if change.expired { self.on_ttl } else { self.on_delete };
            if policy == OnDelete::Keep {
                return Ok(false);
            }
            let material = Material { captures, keys, image: old };
            rows.push(self.delete(row::key(self, &material)?));
            return Ok(true);
        }
        let Some(image) = &change.new_image else {
            return Err(Reject {
                reason: RejectReason::Missing,
                entity: Some(Arc::clone(&self.name)),
                place: None,
                detail: "the record carries no new image".to_owned(),
            });
        };
        let material = Material { captures, keys, image: Some(image) };
        if self.filter.as_ref().is_some_and(|filter| !filter.holds(image)) {
            self.delete_filtered(&material, old, rows)?;
            return Ok(false);
        }
        let cells = row::row(self, &material)?;
        self.delete_moved(&cells, &Material { image: old, ..material }, rows);
        let children = row::children(self, &material, &cells)?;
        rows.push(RowOp { table: self.table, action: RowAction::Upsert, cells, children });
        Ok(true)
    }

    /// Deletes what may be there of an item that does not pass the filter.
    fn delete_filtered(
        &self,
        material: &Material<'_>,
        old: Option<&Item>,
        rows: &mut Vec<RowOp>,
    ) -> Result<(), Reject> {
        let old = Material { image: old, ..*material };
        match row::key(self, material) {
            Ok(cells) => {
                self.delete_moved(&cells, &old, rows);
                rows.push(self.delete(cells));
            }
            // The filter may be there for the very items that lack an attribute of the primary key.
            Err(reject) if reject.reason == RejectReason::Missing => {
                if let Ok(was) = row::key(self, &old) {
                    rows.push(self.delete(was));
                }
            }
            Err(reject) => return Err(reject),
        }
        Ok(())
    }

    /// Where the primary key holds other attributes than the source's key, a change can move the
    /// row.
    fn delete_moved(&self, cells: &Cells, old: &Material<'_>, rows: &mut Vec<RowOp>) {
        if self.needs_image_for.is_none() || old.image.is_none() {
            return;
        }
        // An old image that has no key never had a row.
        if let Ok(was) = row::key(self, old)
            && !was.iter().eq(cells.iter().take(self.rows.key_columns))
        {
            rows.push(self.delete(was));
        }
    }

    fn delete(&self, cells: Cells) -> RowOp {
        RowOp { table: self.table, action: RowAction::Delete, cells, children: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
