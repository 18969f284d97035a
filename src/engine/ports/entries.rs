//! Types that the engine and the ledger exchange: sources, partitions, leases and gaps.

use std::sync::Arc;
use std::time::Duration;

use crate::mapping::spec::TableSpec;
use crate::model::{
    Epoch, EpochMillis, GapReason, Generation, Halt, Incarnation, PartitionId, Position, WorkerId,
};

/// A source's identity in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIdentity {
    /// The source's name in the config.
    pub source: Arc<str>,
    /// The table's ARN.
    pub table_arn: String,
    /// The table's id.
    pub table_id: String,
    /// The stream's ARN.
    pub stream_arn: String,
    /// The target tables that it fills.
    pub tables: Vec<TableSpec>,
}

/// The ledger's answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The source's generation.
    pub generation: Generation,
    /// How the table and stream relate to what the ledger knew.
    pub continuity: Continuity,
    /// How long ago the last complete listing of the shards ended; `None` before the first.
    pub listed_ago: Option<Duration>,
}

/// How a table and its stream relate to what the ledger knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuity {
    /// The same table and stream, or a new source.
    Same,
    /// The table is the same, the stream another: changes between the two are lost.
    StreamChanged {
        /// The stream that the ledger knew.
        was: String,
    },
    /// The table was deleted and created again, or another one has its name.
    TableChanged {
        /// The table id that the ledger knew.
        was: String,
    },
}

/// A source in the ledger at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LedgerView {
    /// Which run of the server showed it.
    pub incarnation: Incarnation,
    /// The source's generation.
    pub generation: Generation,
    /// Why the source is halted, if it is.
    pub halted: Option<Halt>,
    /// The stream whose shards were registered last: the one to read. Empty in an empty view.
    pub stream_arn: Arc<str>,
    /// Whether the stream's shards were ever listed completely.
    pub listed: bool,
    /// The state of its backfills. While one is active, deletes must leave tombstones and pages check them.
    pub backfill: BackfillView,
    /// The partitions of the newest stream and of an active backfill.
    pub partitions: Vec<PartitionRow>,
    /// How many workers gave a sign of life within the lease time.
    pub workers: usize,
    /// The fingerprints of those workers' mappings, as far as published.
    pub mappings: Vec<i64>,
    /// Dead letters that are still open.
    pub dead_letters: u64,
    /// Gaps that are neither repaired nor accepted.
    pub gaps: u64,
    /// How many of those no active backfill repairs.
    pub gaps_open: u64,
    /// The result of the last verification, if any.
    pub verified: Option<Verified>,
    /// Every change before this time is in the target, of all workers; `None` while unknown.
    pub synced_up_to: Option<EpochMillis>,
}

/// The state of a source's backfills.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BackfillView {
    /// Whether a backfill is active.
    pub active: bool,
    /// Whether one ever ended.
    pub loaded: bool,
    /// Whether the active backfill deletes the rows that it does not find.
    pub sweeps: bool,
    /// How many rewound shards are not back at their old position.
    pub replaying: u64,
    /// Whether an operator confirmed a sweep beyond the usual share.
    pub sweep_confirmed: bool,
    /// The number of items when it began, as far as the service knew.
    pub items: Option<u64>,
    /// The read units a second for all workers together.
    pub rcu_max: Option<f64>,
    /// The mapping's fingerprint at the begin of the newest backfill.
    pub mapping: Option<i64>,
}

/// The result of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Wrong rows that were not repaired.
    pub mismatched: u64,
    /// When it ended.
    pub at: EpochMillis,
}

/// One partition in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRow {
    /// The partition.
    pub id: PartitionId,
    /// The partition that must be drained before this one is read; the ledger may not know it.
    pub parent: Option<PartitionId>,
    /// Whether there is more to read.
    pub state: PartitionState,
    /// How far it was applied.
    pub position: Position,
    /// How many of its records were applied in this generation.
    pub records: u64,
    /// The epoch of the newest lease; 0 before the first.
    pub epoch: Epoch,
    /// The lease's owner; `None` if it is free or its owner is dead.
    pub owner: Option<WorkerId>,
    /// The time of the newest applied record.
    pub last_event_at: Option<EpochMillis>,
    /// Whether it stands at its horizon for so long that records of since then may be gone:
    /// [`crate::model::UNREAD_MAX`] after it was entered, or set there by a backfill or an operator.
    pub overdue: bool,
}

/// Whether a partition has more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionState {
    /// There may be more.
    Open,
    /// Its last page is applied.
    Drained,
    /// It vanished before it was drained; a gap records this.
    Lost,
}

/// A request for leases.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRequest<'a> {
    /// The source.
    pub source: &'a str,
    /// The worker that wants them.
    pub worker: &'a WorkerId,
    /// The worker's generation; if it is not current, nothing is leased.
    pub generation: Generation,
    /// The partitions.
    pub wanted: &'a [PartitionId],
    /// How long the worker counts as alive from now, and so how long all its leases last.
    pub lease_ttl: Duration,
}

/// A worker's progress, for all shards that it covers together.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The source.
    pub source: &'a str,
    /// The worker.
    pub worker: &'a WorkerId,
    /// Counts the worker's publications: one that arrives after a later one changes nothing.
    pub number: u64,
    /// In every covered shard, each change before this time is in the target.
    pub synced_up_to: Option<EpochMillis>,
    /// The oldest of the shards' last polls.
    pub last_poll_at: Option<EpochMillis>,
    /// All covered leases; `None` if they are those of the last publication.
    pub covers: Option<&'a [(PartitionId, Epoch)]>,
    /// The fingerprint of the worker's mapping.
    pub mapping: i64,
    /// The run of the server to which all that was committed which this rests on.
    pub incarnation: &'a Incarnation,
}

/// The ledger's answer to a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The database's time during the call.
    pub now: EpochMillis,
    /// Whether it was accepted: not from a worker that was never alive or is gone, nor after a later one, nor
    /// by another run of the server than the one it rests on.
    pub taken: bool,
}

/// An interval of changes that can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why they are lost.
    pub reason: GapReason,
    /// The stream.
    pub stream_arn: String,
    /// The partition, if it concerns one.
    pub partition: Option<PartitionId>,
    /// The position after which changes are lost.
    pub after: Option<Position>,
    /// The time of the newest change that was applied before the gap.
    pub since: Option<EpochMillis>,
}
