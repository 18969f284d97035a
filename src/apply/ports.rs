//! What the apply asks of a target: batches, each in one transaction with the positions that it advances.
//!
//! The doc comments are the contract. One contract suite runs over the simulated and over the real sink.

use std::future::Future;
use std::sync::Arc;

use crate::error::Result;
use crate::model::{
    Epoch, EpochMillis, Generation, PartitionId, Position, Reject, RowOp, ShardListing, Stamp,
    Version, WorkerId,
};

/// The target tables, together with the positions in one transaction.
///
/// Two items may want one row where rows name their items: one has left the key, or is about to, and the
/// other has taken it, and their changes come in any order. Each change then counts for its own item alone:
/// a version guards against versions of the same item, an end takes the item's own row, a tombstone keeps
/// away the item's own scanned row. The row of a key is that of an item that holds it, whichever was
/// applied last; when that item leaves, another one's that was there shows again. A row of no known item is
/// anybody's.
pub trait Sink: Send + Sync + 'static {
    /// Applies the batch in one transaction: rows, each guarded by its version; rejects as dead letters; last
    /// the fence, which advances every position of the batch or rolls everything back.
    ///
    /// A history has one version per key and instant afterwards, open exactly where its table has the row
    /// unmarked, with the same values. A row of a load that comes after a newer soft delete of its key is
    /// written and marked as that delete said.
    ///
    /// # Errors
    /// `Fenced`: nothing was written, another worker has the lease or moved the position. `Data`: nothing was
    /// written, the data of some unit was refused. After `Unreachable` and `Unavailable` the commit may have
    /// happened: only the ledger's positions tell.
    fn apply(&self, batch: &Batch) -> impl Future<Output = Result<Applied>> + Send;

    /// Runs the rows of some units and rolls back, to test whether the database takes their data.
    ///
    /// # Errors
    /// `Data` if it does not; other kinds say nothing about the data.
    fn probe(&self, batch: &Batch, units: &[Unit]) -> impl Future<Output = Result<()>> + Send;
}

/// What one transaction applies. The parts are apart: what is written, and who may write it.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The source.
    pub source: Arc<str>,
    /// What a backfill means for this batch.
    pub phase: Phase,
    /// What is written.
    pub rows: Rows,
    /// Shards found at the end of another, registered in the same transaction.
    pub lineage: Lineage,
    /// Who may write it, and how far the positions move.
    pub fence: Fence,
}

/// What a backfill means for a batch. Partitions of the two kinds never meet in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// No backfill is active.
    #[default]
    Steady,
    /// The batch is of the stream while a backfill is active: its deletes leave tombstones.
    BesideBackfill,
    /// The batch is of the backfill's own segments or files: it looks for tombstones.
    OfBackfill,
}

/// What a batch writes.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Sorted by table and key, one per key: the last change of each. Only a soft delete has the change
    /// before it behind it, which is to be written first. In a table whose rows name their items there is one
    /// per key and item, sorted by item too.
    pub units: Vec<Unit>,
    /// Records that cannot be mapped or stored. Of one item at most one dead letter is open: a newer reject
    /// takes the place of an older one, and one that is older than a letter of its item is never open.
    pub rejects: Vec<DeadLetter>,
    /// The keys of this batch's mapped records, each with the last version. It supersedes open dead letters
    /// of the key with a lower version, and while a backfill is active also those that come later. Filled
    /// only while dead letters may be open, or may come that are older.
    pub touched: Vec<(KeyHash, Version)>,
}

/// New shards of a stream.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// The stream.
    pub stream_arn: Arc<str>,
    /// The shards.
    pub shards: Vec<ShardListing>,
}

/// Who may write a batch: what must still hold in the ledger when the transaction ends.
#[derive(Debug, Clone)]
pub struct Fence {
    /// Who holds the leases.
    pub worker: WorkerId,
    /// The generation of every advance.
    pub generation: Generation,
    /// The moves of the positions; a batch without any is never applied.
    pub advances: Vec<Advance>,
}

impl Phase {
    /// The phase of a batch that makes these steps.
    #[must_use]
    pub fn of(backfilling: bool, advances: &[Advance]) -> Self {
        let of_stream = |own: &Advance| own.partition.is_shard();
        match (backfilling, advances.iter().all(of_stream)) {
            (false, _) => Self::Steady,
            (true, true) => Self::BesideBackfill,
            (true, false) => Self::OfBackfill,
        }
    }
}

/// One row, its version and the record that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The row and what to do with it.
    pub op: RowOp,
    /// The version that guards it.
    pub version: Version,
    /// The record, for a dead letter if Postgres refuses the row.
    pub record: RecordRef,
}

impl Unit {
    /// What the row's version column holds.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { version: self.version, item: self.op.item }
    }
}

/// A record within a page of an unsealed batch; only the engine uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordRef {
    /// The page's number within the batch.
    pub page: u32,
    /// The record's number within the page.
    pub index: u32,
}

/// The move of one partition's position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: PartitionId,
    /// The lease's epoch.
    pub epoch: Epoch,
    /// The position that the ledger must have now.
    pub from: Position,
    /// The new position.
    pub to: Position,
    /// Whether this was the partition's last page.
    pub drained: bool,
    /// How many records it passes.
    pub records: u64,
    /// The time of the newest record.
    pub last_event_at: Option<EpochMillis>,
}

/// The SHA-256 of an item's key in canonical form (`Change::key_hash`).
pub type KeyHash = [u8; 32];

/// A complete record that could not be mapped or stored.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Where it was read.
    pub partition: PartitionId,
    /// Its version.
    pub version: Version,
    /// The item's key as DynamoDB JSON, attributes sorted by name.
    pub key: String,
    /// The hash of the key.
    pub key_hash: KeyHash,
    /// The whole record as DynamoDB JSON: `{"op", "keys", "new_image", "old_image"}`.
    pub image: String,
    /// Why.
    pub reject: Reject,
}

/// The effect of a committed batch, per table in the order of the mapping's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// One entry per table of the mapping.
    pub tables: Vec<TableApplied>,
    /// Open dead letters that a newer image of the same key superseded.
    pub dead_letters_superseded: u64,
}

/// The effect of a committed batch on one table, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableApplied {
    /// Rows inserted or updated.
    pub upserted: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows that the version guard left unchanged: a newer one exists, or there was nothing to delete.
    pub superseded: u64,
}
