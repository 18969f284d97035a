//! Maps and sorts a page in the task that read it, so pages of several shards are mapped in parallel and the
//! worker's loop only adds them up.

use std::cmp::Ordering;

use super::letters::dead_letter;
use super::ports::{DeadLetter, RecordRef, Unit};
use crate::mapping::{Mapper, Outcome, Unmatched};
use crate::model::{
    Change, ChangeOp, EpochMillis, Generation, Item, PartitionId, Position, RecordCounts,
    RecordOutcome, Reject, RowOp, Version,
};

/// The service's own bookmark, valid for 15 minutes and never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIterator(pub String);

/// The result of one read.
#[derive(Debug)]
pub struct Page {
    /// The changes in order; an empty page is not the end of the stream.
    pub changes: Vec<Change>,
    /// The position once these changes are applied; unchanged when there are none.
    pub next: Position,
    /// Where to continue; `None` when `end`.
    pub iterator: Option<ShardIterator>,
    /// Whether the partition will never have anything after these changes.
    pub end: bool,
    /// The read units of a scan's page; `None` for a stream.
    pub consumed_capacity: Option<f64>,
}

/// How to map a page.
#[derive(Debug, Clone, Copy)]
pub struct PageContext<'a> {
    /// The mapping of the source.
    pub mapper: &'a Mapper,
    /// The number of key columns of each of its tables.
    pub tables: &'a [usize],
    /// The generation in which the page was read.
    pub generation: Generation,
    /// The partition that it was read from.
    pub partition: &'a PartitionId,
}

/// A page and its mapped rows.
#[derive(Debug)]
pub struct MappedPage {
    /// The page as it was read.
    pub page: Page,
    pub(super) generation: Generation,
    /// Sorted by table, key and item, the newest first; the page's number in the batch is not known yet.
    pub(super) units: Vec<Unit>,
    pub(super) rejects: Vec<DeadLetter>,
    /// Unmatched or rejected records, which supersede no dead letter; only the removal of an unmatched item
    /// does.
    pub(super) passed_over: Vec<u32>,
    pub(super) records: RecordCounts,
    pub(super) bytes: usize,
    pub(super) last_event_at: Option<EpochMillis>,
}

/// A change that matches no entity, in a source that halts on such changes.
#[derive(Debug)]
pub struct UnmatchedItem {
    /// The item's key.
    pub keys: Item,
}

impl MappedPage {
    /// Maps every change of a page.
    ///
    /// # Errors
    /// The first unmatched change, if the mapping says that it halts the source.
    pub fn new(page: Page, context: PageContext<'_>) -> Result<Self, UnmatchedItem> {
        let mut mapped = Self {
            generation: context.generation,
            units: Vec::with_capacity(page.changes.len()),
            rejects: Vec::new(),
            passed_over: Vec::new(),
            records: RecordCounts::default(),
            bytes: 0,
            last_event_at: None,
            page,
        };
        let changes = std::mem::take(&mut mapped.page.changes);
        let mut scratch = Vec::new();
        for (index, change) in (0_u32..).zip(&changes) {
            mapped.map(index, change, context, &mut scratch)?;
        }
        mapped.page.changes = changes;
        mapped.units.sort_unstable_by(|a, b| order(a, b, context.tables));
        Ok(mapped)
    }

    fn map(
        &mut self,
        index: u32,
        change: &Change,
        context: PageContext<'_>,
        scratch: &mut Vec<RowOp>,
    ) -> Result<(), UnmatchedItem> {
        let version = Version { generation: context.generation, sequence: change.sequence };
        let mut reject = |reject| {
            self.rejects.push(dead_letter(context.partition, change, version, reject));
            RecordOutcome::Rejected
        };
        // An item that matches no entity has no row, so its removal settles everything.
        let gone = change.op == ChangeOp::Remove;
        let outcome = match context.mapper.map(change, scratch) {
            Outcome::Mapped => RecordOutcome::Mapped,
            Outcome::Filtered => RecordOutcome::Filtered,
            Outcome::Unmatched => match context.mapper.unmatched() {
                Unmatched::Halt => return Err(UnmatchedItem { keys: change.keys.clone() }),
                Unmatched::DeadLetter if gone => RecordOutcome::Unmatched,
                Unmatched::DeadLetter => reject(Reject::unmatched()),
                Unmatched::Ignore | Unmatched::Count => RecordOutcome::Unmatched,
            },
            Outcome::Rejected(why) => reject(why),
        };
        if outcome == RecordOutcome::Rejected || outcome == RecordOutcome::Unmatched && !gone {
            self.passed_over.push(index);
        }
        self.records.count(change.op, outcome);
        self.bytes += change.bytes;
        self.last_event_at = self.last_event_at.max(change.changed_at);
        let record = RecordRef { page: 0, index };
        self.units.extend(scratch.drain(..).map(|op| Unit { op, version, record }));
        Ok(())
    }
}

/// Order by table and key, then by item where rows name theirs, newest first. `tables` has each table's
/// number of key columns.
pub(super) fn order(a: &Unit, b: &Unit, tables: &[usize]) -> Ordering {
    let keys = tables[usize::from(a.op.table.0)];
    (a.op.table.cmp(&b.op.table))
        .then_with(|| a.op.cells.cmp_prefix(&b.op.cells, keys))
        .then_with(|| a.op.item.cmp(&b.op.item))
        .then_with(|| b.version.cmp(&a.version))
        .then_with(|| b.record.cmp(&a.record))
}
