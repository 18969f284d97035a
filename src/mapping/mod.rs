//! Turns a change into rows, purely: no tokio, no sqlx, no AWS.
//!
//! A [`definition::SourceDefinition`] is compiled once. Then a change is routed by its key (the templates),
//! its cells are converted one by one, and either all of its rows are appended or none.

mod auto;
mod change;
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

pub use auto::Known;
pub use infer::{InferPlace, InferRequest, ModelError, infer_items, infer_model};
pub use types::{TYPE_NAMES, TypeError};

use std::sync::Arc;

use crate::model::{Cells, Change, Item, Reject, RejectReason, RowOp, TableIndex};
use compile::{Compiled, Entity};
pub use definition::Unmatched;
use definition::{OnDelete, Problem, SourceDefinition};
use row::Material;
use spec::TableSpec;
use template::Captures;

/// A compiled mapping of one source.
#[derive(Debug, Default)]
pub struct Mapper {
    tables: Vec<TableSpec>,
    entities: Vec<Entity>,
    unmatched: Unmatched,
}

/// The result for one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its rows were appended.
    Mapped,
    /// It does not pass its entity's filter, and deletes of its possible rows were appended; or it is a
    /// removal whose row the mapping keeps, and nothing was appended.
    Filtered,
    /// No key template matches; the source's [`Unmatched`] decides.
    Unmatched,
    /// It cannot be mapped; nothing was appended but the ends of rows that the item has left: those of its
    /// old image where the new one's key is another, or has none.
    Rejected(Reject),
}

/// Why a removal cannot be routed from the item's keys alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsOldImage {
    /// The entity.
    pub entity: Arc<str>,
    /// The primary-key column that comes from a non-key attribute.
    pub column: Arc<str>,
}

impl Mapper {
    /// Compiles a source's mapping.
    ///
    /// # Errors
    /// Everything wrong with it, in the order of the text.
    pub fn compile(definition: &SourceDefinition) -> Result<Self, Vec<Problem>> {
        Self::compile_onto(definition, &Known::default())
    }

    /// Compiles a source's mapping against tables that may exist: a column without a type gets the existing
    /// one, and `columns = "auto"` means the known columns.
    ///
    /// # Errors
    /// Everything wrong with it, in the order of the text.
    pub fn compile_onto(
        definition: &SourceDefinition,
        known: &Known,
    ) -> Result<Self, Vec<Problem>> {
        let resolved = definition.is_auto().then(|| definition.resolved(known));
        let definition = resolved.as_ref().unwrap_or(definition);
        let existing = |table: &str, column: &str| known.column_type(table, column);
        let Compiled { tables, entities } = compile::compile(definition, &existing)?;
        Ok(Self { tables, entities, unmatched: definition.unmatched })
    }

    /// A number that is equal only for equal mappings, whatever the file's layout. It is stored with
    /// backfills, so it is stable within a version of the program.
    #[must_use]
    pub fn fingerprint(&self) -> i64 {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        hasher.hash_one(format!("{self:?}")).cast_signed()
    }

    /// The target tables, parents before their children; a row names its own by index.
    #[must_use]
    pub fn tables(&self) -> &[TableSpec] {
        &self.tables
    }

    /// What happens to items that match no key template.
    #[must_use]
    pub fn unmatched(&self) -> Unmatched {
        self.unmatched
    }

    /// The mapping's key attributes of the table, each once.
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

    /// The key attributes of a complete item.
    #[must_use]
    pub fn keys_of(&self, item: &Item) -> Item {
        let names = self.key_attributes();
        let keys = item.iter().filter(|(name, _)| names.contains(name));
        keys.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    /// Why the stream must carry old images too; `None` if the keys alone suffice for removals.
    #[must_use]
    pub fn needs_old_image(&self) -> Option<NeedsOldImage> {
        self.entities.iter().find_map(|entity| {
            let column = Arc::clone(entity.needs_image_for.as_ref()?);
            Some(NeedsOldImage { entity: Arc::clone(&entity.name), column })
        })
    }

    /// The first entity with different policies for expiries and deletes, if any.
    #[must_use]
    pub fn tells_expiries(&self) -> Option<&str> {
        let differs = self.entities.iter().find(|entity| entity.on_ttl != entity.on_delete);
        differs.map(|entity| &*entity.name)
    }

    /// The keys of the rows that an item with these keys and this image may have.
    ///
    /// # Errors
    /// Why they are not known: a part of a primary key is missing or has the wrong type.
    pub fn row_keys(
        &self,
        change: &Change,
        keys: &mut Vec<(TableIndex, Cells)>,
    ) -> Result<(), Reject> {
        let image = change.new_image.as_ref().or(change.old_image.as_ref());
        for entity in &self.entities {
            let mut captures = Captures::default();
            if entity.takes(&change.keys, &mut captures) {
                let material = Material { captures: &captures, keys: &change.keys, image };
                match row::key(entity, &material) {
                    Ok(key) => keys.push((entity.table, key)),
                    // An image without a key has no row.
                    Err(_) if entity.needs_image_for.is_some() && image.is_some() => {}
                    Err(reject) => return Err(reject),
                }
            }
        }
        Ok(())
    }

    /// The tables whose rows are deleted or marked with their item: those that a sweep may touch. If some end
    /// of an item keeps its row, nobody knows which end a sweep has missed.
    #[must_use]
    pub fn swept_tables(&self) -> Vec<TableIndex> {
        let goes = |entity: &&Entity| {
            entity.on_delete != OnDelete::Keep && entity.on_ttl != OnDelete::Keep
        };
        self.entities.iter().filter(goes).map(|entity| entity.table).collect()
    }

    /// Appends all rows of one change or, if it is rejected, none but the ends of rows that its item has
    /// left: no later change would name them.
    pub fn map(&self, change: &Change, rows: &mut Vec<RowOp>) -> Outcome {
        let before = rows.len();
        let outcome = self.route(change, rows).unwrap_or_else(Outcome::Rejected);
        if matches!(outcome, Outcome::Rejected(_)) {
            rows.truncate(before);
            self.leave(change, rows);
        }
        outcome
    }

    /// Appends the ends of the rows that the item of a rejected change has left.
    fn leave(&self, change: &Change, rows: &mut Vec<RowOp>) {
        for entity in self.entities.iter().filter(|entity| entity.needs_image_for.is_some()) {
            let mut captures = Captures::default();
            if entity.takes(&change.keys, &mut captures) {
                let before = rows.len();
                entity.leave(change, &captures, rows);
                entity.name_item(change, rows.get_mut(before..).unwrap_or_default());
            }
        }
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
            let before = rows.len();
            let mapped = entity.map(change, &captures, rows)?;
            entity.name_item(change, rows.get_mut(before..).unwrap_or_default());
            if outcome != Outcome::Mapped {
                outcome = if mapped { Outcome::Mapped } else { Outcome::Filtered };
            }
        }
        Ok(outcome)
    }
}

/// Templates do not overlap, but a capture contained the literal that ends another one. The record is
/// rejected rather than guessed at.
fn ambiguous(one: &Entity, other: &Entity) -> Reject {
    Reject {
        reason: RejectReason::Unmatched,
        entity: Some(Arc::clone(&other.name)),
        place: None,
        detail: format!("the key matches the entities {} and {}", one.name, other.name),
    }
}

#[cfg(test)]
mod lifecycle_tests;
#[cfg(test)]
mod tests;
