//! The fold of records: what the rows must be, computed without versions' guards, batches or leases.

use std::collections::BTreeMap;

use dynaurora::mapping::Outcome;
use dynaurora::model::{
    Cells, Change, Item, ItemTag, PartitionId, RowAction, RowOp, SequenceNumber, TableIndex,
    Version,
};

use super::Run;

use crate::sim::store::{Key, Row, key_of, marked};

/// What a record does.
pub enum Effect {
    /// Its rows are written.
    Rows(Vec<RowOp>),
    /// It is a dead letter.
    Reject,
    /// The database refuses some of its rows: it is a dead letter, unless a later record of its batch
    /// replaced those rows before the database saw them.
    Refused(Vec<RowOp>),
    /// Nothing.
    Nothing,
}

/// The records applied so far, one after the other.
#[derive(Default)]
pub struct Fold {
    /// The newest fate of every row ever named; but where rows name their items, nothing.
    pub rows: BTreeMap<(TableIndex, Key), Folded>,
    /// Where rows name their items: which items hold a key, each by its own records alone.
    pub holders: BTreeMap<(TableIndex, Key), BTreeMap<ItemTag, Folded>>,
    /// The newest record of each item's key, applied or rejected.
    newest: BTreeMap<String, Version>,
    /// The newest record of each item's key that was not rejected.
    pub succeeded: BTreeMap<String, SequenceNumber>,
    /// The same by its version, those among it that have no row.
    applied: BTreeMap<String, Version>,
    /// The rejected records of each item's key; numbers are unique within a shard only.
    pub rejected: BTreeMap<String, BTreeMap<SequenceNumber, PartitionId>>,
}

/// A row, and its item where rows name theirs.
pub type Place = (TableIndex, Key, Option<ItemTag>);

/// A row's newest fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    pub version: Version,
    pub row: Option<(Cells, Vec<(TableIndex, Cells)>)>,
    /// The key of the item that decided it.
    pub item: String,
    /// Whether it was a soft delete, of whatever row there was.
    pub soft: bool,
}

impl Folded {
    /// Whether a stored row is what this fate says.
    pub fn is(&self, row: Option<&Row>) -> bool {
        match (&self.row, row) {
            (None, None) => true,
            (Some((cells, children)), Some(row)) => {
                row.version == self.version && row.cells == *cells && row.children == *children
            }
            _ => false,
        }
    }
}

impl Fold {
    /// Takes the next record of its key; false when a later one of the same key was taken before.
    pub fn in_order(&mut self, change: &Change, version: Version) -> bool {
        let before = self.newest.insert(item_key(&change.keys), version);
        before.is_none_or(|before| before < version)
    }

    /// Notes a record that was not rejected.
    pub fn apply(&mut self, change: &Change, version: Version) {
        self.applied.insert(item_key(&change.keys), version);
    }

    /// What was applied last of the item with this key, as text.
    pub fn applied(&self, key: &str) -> Option<Version> {
        self.applied.get(key).copied()
    }

    /// Writes a record's rows; returns their keys.
    pub fn write(
        &mut self,
        run: &Run<'_>,
        (change, version): (&Change, Version),
        ops: Vec<RowOp>,
    ) -> Vec<Place> {
        let item = item_key(&change.keys);
        self.succeeded.insert(item, change.sequence);
        self.take(run, (change, version), ops)
    }

    /// Writes some rows of a record; returns their keys.
    pub fn take(
        &mut self,
        run: &Run<'_>,
        (change, version): (&Change, Version),
        ops: Vec<RowOp>,
    ) -> Vec<Place> {
        let item = item_key(&change.keys);
        let mut keys = Vec::new();
        for op in ops {
            let spec = &run.specs[usize::from(op.table.0)];
            let key = (op.table, key_of(&op.cells, spec.key_columns));
            if let Some(tag) = op.item.filter(|_| spec.history_of.is_none()) {
                let holders = self.holders.entry(key.clone()).or_default();
                if op.action.ends_row() {
                    holders.remove(&tag);
                } else {
                    let row = Some((op.cells, sorted(op.children)));
                    let own = Folded { version, row, item: item.clone(), soft: false };
                    holders.insert(tag, own);
                }
                keys.push((key.0, key.1, op.item));
                continue;
            }
            let known = self.rows.get(&key);
            let before = known.and_then(|folded| folded.row.clone());
            // A row of a history is written once, by whichever generation came first.
            let kept = known.filter(|_| op.action == RowAction::Record);
            let version = kept.map_or(version, |folded| folded.version);
            let row = match op.action {
                RowAction::Upsert | RowAction::Record => Some((op.cells, sorted(op.children))),
                RowAction::Delete => None,
                // Of a row that is not there nothing can stay.
                RowAction::SoftDelete => {
                    before.map(|(cells, children)| (marked(&cells, &op.cells), children))
                }
            };
            let soft = op.action == RowAction::SoftDelete;
            self.rows.insert(key.clone(), Folded { version, row, item: item.clone(), soft });
            keys.push((key.0, key.1, op.item));
        }
        keys
    }

    /// Notes a rejected record.
    pub fn reject(&mut self, partition: &PartitionId, change: &Change) {
        let own = self.rejected.entry(item_key(&change.keys)).or_default();
        own.insert(change.sequence, partition.clone());
    }
}

/// What a record must do. A record that leaves its filter or entity still deletes.
pub fn effect_of(run: &Run<'_>, change: &Change) -> Effect {
    let mut ops = Vec::new();
    match (run.map)(change, &mut ops) {
        Outcome::Rejected(_) | Outcome::Unmatched => Effect::Reject,
        Outcome::Mapped | Outcome::Filtered => {
            let refused = |op: &RowOp| op.action == RowAction::Upsert && (run.refuses)(op);
            if ops.iter().any(refused) {
                Effect::Refused(ops)
            } else if ops.is_empty() {
                Effect::Nothing
            } else {
                Effect::Rows(ops)
            }
        }
    }
}

/// The ends of rows that the item of a rejected record has left: those of its old image whose keys the new
/// one has not.
pub fn left(run: &Run<'_>, change: &Change) -> Vec<RowOp> {
    let rows_of = |image: Option<&Item>| {
        let mut ops = Vec::new();
        if let Some(image) = image {
            (run.map)(&Change::removal(change.keys.clone(), Some(image.clone())), &mut ops);
        }
        ops.retain(|op| op.item.is_some() && op.action.ends_row());
        ops
    };
    let new = rows_of(change.new_image.as_ref());
    let mut left = rows_of(change.old_image.as_ref());
    left.retain(|op| !new.iter().any(|own| (own.table, &own.cells) == (op.table, &op.cells)));
    left
}

/// An item's key as text.
pub fn item_key(keys: &Item) -> String {
    serde_json::to_string(keys).unwrap()
}

fn sorted(mut children: Vec<(TableIndex, Cells)>) -> Vec<(TableIndex, Cells)> {
    children.sort_by_cached_key(|(table, cells)| (*table, key_of(cells, cells.len())));
    children
}
