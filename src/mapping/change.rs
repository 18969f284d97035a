//! The effect of a change on its entity's rows: the row itself, the soft delete, and the history.
//!
//! An item that is removed, expires or leaves the filter ends its row by the entity's policy. The history
//! follows the row: if the row stays unchanged, nothing ended.

use std::sync::Arc;

use super::compile::Entity;
use super::definition::OnDelete;
use super::row::{self, Material};
use super::template::Captures;
use crate::model::{
    Cells, Change, ChangeOp, EpochMillis, Item, ItemTag, Reject, RejectReason, RowAction, RowOp,
    TableIndex,
};

/// How a row ends: the action on it, and the word in its history.
#[derive(Debug, Clone, Copy)]
struct End {
    policy: OnDelete,
    op: &'static str,
}

impl Entity {
    /// Whether the key belongs to this entity; also fills the captures.
    pub(crate) fn takes<'a>(&self, keys: &'a Item, captures: &mut Captures<'a>) -> bool {
        self.keys.iter().all(|(attribute, template)| {
            keys.attribute(attribute).is_some_and(|value| template.capture(value, captures))
        })
    }

    /// Appends the change's effect on this entity's row; false if it does not pass the filter, or if the row
    /// stays without its item.
    pub(crate) fn map(
        &self,
        change: &Change,
        captures: &Captures<'_>,
        rows: &mut Vec<RowOp>,
    ) -> Result<bool, Reject> {
        let keys = &change.keys;
        let old = change.old_image.as_ref();
        if change.op == ChangeOp::Remove {
            let end = if change.expired {
                End { policy: self.on_ttl, op: "expire" }
            } else {
                End { policy: self.on_delete, op: "remove" }
            };
            if end.policy == OnDelete::Keep {
                return Ok(false);
            }
            let material = Material { captures, keys, image: old };
            match row::key(self, &material) {
                Ok(key) => self.end(key, end, change, rows),
                // An old image without a key never had a row.
                Err(_) if self.needs_image_for.is_some() && old.is_some() => return Ok(false),
                Err(reject) => return Err(reject),
            }
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
            self.end_filtered(&material, change, rows)?;
            return Ok(false);
        }
        let cells = row::row(self, &material)?;
        self.end_moved(&cells, &Material { image: old, ..material }, change, rows);
        let children = row::children(self, &material, &cells)?;
        self.record(&cells, change, rows);
        rows.push(RowOp {
            table: self.table,
            action: RowAction::Upsert,
            cells,
            children,
            item: None,
        });
        Ok(true)
    }

    /// Names the item in its rows, where their keys do not tell it.
    pub(crate) fn name_item(&self, change: &Change, rows: &mut [RowOp]) {
        if self.needs_image_for.is_none() || rows.is_empty() {
            return;
        }
        let item = ItemTag::of(&change.keys);
        rows.iter_mut().for_each(|row| row.item = Some(item));
    }

    /// Appends the end of the row that the item of a rejected change has left. If its key is the same, the
    /// row stays as it last was.
    pub(crate) fn leave(&self, change: &Change, captures: &Captures<'_>, rows: &mut Vec<RowOp>) {
        let before = rows.len();
        if change.op == ChangeOp::Remove {
            // The removal is rejected for another entity's sake.
            if self.map(change, captures, rows).is_err() {
                rows.truncate(before);
            }
            return;
        }
        let Some(image) = &change.new_image else { return };
        let new = Material { captures, keys: &change.keys, image: Some(image) };
        let now = row::key(self, &new).unwrap_or_default();
        let old = Material { image: change.old_image.as_ref(), ..new };
        self.end_moved(&now, &old, change, rows);
    }

    /// Ends any row of an item that does not pass the filter.
    fn end_filtered(
        &self,
        material: &Material<'_>,
        change: &Change,
        rows: &mut Vec<RowOp>,
    ) -> Result<(), Reject> {
        let end = End { policy: self.on_delete, op: "filter" };
        let old = Material { image: change.old_image.as_ref(), ..*material };
        match row::key(self, material) {
            Ok(cells) => {
                self.end_moved(&cells, &old, change, rows);
                self.end(cells, end, change, rows);
            }
            // The filter may exclude items that lack an attribute of the primary key.
            Err(reject) if reject.reason == RejectReason::Missing => {
                if let Ok(was) = row::key(self, &old) {
                    self.end(was, end, change, rows);
                }
            }
            Err(reject) => return Err(reject),
        }
        Ok(())
    }

    /// If the primary key has attributes outside the source's key, a change can move the row. The old row
    /// then belongs to no item, so it cannot be kept unchanged.
    fn end_moved(&self, cells: &Cells, old: &Material<'_>, change: &Change, rows: &mut Vec<RowOp>) {
        if self.needs_image_for.is_none() || old.image.is_none() {
            return;
        }
        let policy = match self.on_delete {
            OnDelete::Soft => OnDelete::Soft,
            OnDelete::Delete | OnDelete::Keep => OnDelete::Delete,
        };
        // An old image without a key never had a row.
        if let Ok(was) = row::key(self, old)
            && !was.iter().eq(cells.iter().take(self.rows.key_columns))
        {
            self.end(was, End { policy, op: "move" }, change, rows);
        }
    }

    /// Ends the row with this key by the policy.
    fn end(&self, key: Cells, end: End, change: &Change, rows: &mut Vec<RowOp>) {
        let action = match end.policy {
            OnDelete::Keep => return,
            OnDelete::Delete => RowAction::Delete,
            OnDelete::Soft => RowAction::SoftDelete,
        };
        if let Some(table) = self.history {
            let own = self.cells().saturating_sub(key.len());
            let mut cells = key.clone();
            cells.push_display(change.sequence);
            (0..own).for_each(|_| cells.push_null());
            end_of_history(&mut cells, end.op, change);
            rows.push(recorded(table, cells));
        }
        let mut cells = key;
        if action == RowAction::SoftDelete {
            push_instant(&mut cells, change.changed_at);
        }
        rows.push(RowOp { table: self.table, action, cells, children: Vec::new(), item: None });
    }

    /// Appends the row's version to its history, if it has one.
    fn record(&self, row: &Cells, change: &Change, rows: &mut Vec<RowOp>) {
        let Some(table) = self.history else { return };
        let keys = self.rows.key_columns;
        let mut cells = row.prefix(keys);
        cells.push_display(change.sequence);
        for cell in row.iter().take(self.cells()).skip(keys) {
            match cell {
                Some(text) => cells.push(text),
                None => cells.push_null(),
            }
        }
        end_of_history(&mut cells, change.op.label(), change);
        rows.push(recorded(table, cells));
    }

    /// The number of cells that show the item: all except the soft-delete column.
    fn cells(&self) -> usize {
        self.rows.columns.len() + usize::from(self.rows.rest.is_some())
    }
}

/// A version for a history.
fn recorded(table: TableIndex, cells: Cells) -> RowOp {
    RowOp { table, action: RowAction::Record, cells, children: Vec::new(), item: None }
}

/// The cells of [`crate::mapping::spec::HISTORY_COLUMNS`]; the sink fills the last.
fn end_of_history(cells: &mut Cells, op: &str, change: &Change) {
    cells.push(op);
    push_instant(cells, change.changed_at);
    cells.push_null();
}

/// A time in Postgres' format; NULL if unknown.
fn push_instant(cells: &mut Cells, at: Option<EpochMillis>) {
    match at.and_then(|at| jiff::Timestamp::from_millisecond(at.0).ok()) {
        Some(at) => cells.push_display(at),
        None => cells.push_null(),
    }
}
