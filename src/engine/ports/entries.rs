//! What the engine and the ledger tell each other: sources, partitions, leases and gaps.

use std::sync::Arc;
use std::time::Duration;

use super::LoadView;
use crate::model::{Epoch, EpochMillis, Generation, PartitionId, Position, WorkerId};

/// What a source is, as the ledger remembers it.
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

/// A source as the ledger has it at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LedgerView {
    /// The source's generation.
    pub generation: Generation,
    /// Why the source is halted, where it is.
    pub halted: Option<String>,
    /// The stream whose shards were registered last: the one to read. Empty in a view of nothing.
    pub stream_arn: Arc<str>,
    /// Whether the stream's shards were ever listed completely.
    pub listed: bool,
    /// Where its loads stand. While one is active, deletes and scan pages must take claims.
    pub load: LoadView,
    /// The partitions of the newest stream and of an active load.
    pub partitions: Vec<PartitionRow>,
    /// How many workers showed themselves alive within the lease time.
    pub workers: usize,
    /// The fingerprints of the mappings that those run, as far as they have published.
    pub mappings: Vec<i64>,
    /// Dead letters that are still open.
    pub dead_letters: u64,
    /// Gaps that are neither repaired nor accepted.
    pub gaps: u64,
    /// Of those, how many no active load repairs.
    pub gaps_open: u64,
    /// What the last verification found, where there was one.
    pub verified: Option<Verified>,
    /// Every change before this time is in the target, whoever applied it; `None` while that is unknown.
    pub synced_up_to: Option<EpochMillis>,
}

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Rows that were left as they should not be.
    pub mismatched: u64,
    /// When it ended.
    pub at: EpochMillis,
}

/// One partition as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRow {
    /// The partition.
    pub id: PartitionId,
    /// The partition that must be at its end before this one is read, known to the ledger or not.
    pub parent: Option<PartitionId>,
    /// Whether there is more to read.
    pub state: PartitionState,
    /// How far it is applied.
    pub position: Position,
    /// How many records of it were applied in this generation.
    pub records: u64,
    /// The epoch of the newest lease; 0 before the first.
    pub epoch: Epoch,
    /// Who holds the lease; `None` when it is free, or when its owner is no longer alive.
    pub owner: Option<WorkerId>,
    /// The time of the newest applied record.
    pub last_event_at: Option<EpochMillis>,
    /// Whether it stands at its horizon for so long that records of since then may be gone: 23 hours after
    /// it was entered, or set there by a load or an operator. The service keeps records for 24 hours.
    pub overdue: bool,
}

/// Whether a partition has more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionState {
    /// There may be more.
    Open,
    /// Its last page is applied.
    Drained,
    /// It vanished before it was drained; a gap says so.
    Lost,
}

/// A wish for leases.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The source.
    pub source: &'a str,
    /// Who wants them.
    pub worker: &'a WorkerId,
    /// The generation that the worker believes in; with another one nothing is leased.
    pub generation: Generation,
    /// The partitions.
    pub wanted: &'a [PartitionId],
    /// How long the worker counts as alive from now, and so how long all of its leases last.
    pub lease_ttl: Duration,
}

/// How far a worker is, told for all the shards that it speaks for at once.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The source.
    pub source: &'a str,
    /// Who tells.
    pub worker: &'a WorkerId,
    /// Counts the worker's publications: one that is taken after a later one changes nothing.
    pub number: u64,
    /// In every shard that this speaks for, each change before this time is in the target.
    pub synced_up_to: Option<EpochMillis>,
    /// The oldest of the shards' last polls.
    pub last_poll_at: Option<EpochMillis>,
    /// The leases that this speaks for, all of them; `None` when they are those of the last one.
    pub covers: Option<&'a [(PartitionId, Epoch)]>,
    /// The fingerprint of the worker's mapping.
    pub mapping: i64,
}

/// The ledger's answer to a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The database's time during the call.
    pub now: EpochMillis,
    /// Whether it was taken: not from a worker that was never alive or is gone, nor after a later one.
    pub taken: bool,
}

/// An interval of changes that can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why they are lost.
    pub reason: GapReason,
    /// The stream.
    pub stream_arn: String,
    /// The partition, where one is concerned.
    pub partition: Option<PartitionId>,
    /// The position after which changes are lost.
    pub after: Option<Position>,
    /// The time of the newest change that was applied before the gap.
    pub since: Option<EpochMillis>,
}

/// Why changes were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The stream no longer holds the position.
    Trimmed,
    /// The shard vanished before it was drained.
    Vanished,
    /// The stream was disabled and enabled again.
    StreamChanged,
    /// The table was deleted and created again.
    TableChanged,
    /// Nobody read the shard for so long that records may have been trimmed unseen.
    Unpolled,
}

impl GapReason {
    /// The label that logs, metrics and the `gaps` table carry.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Vanished => "vanished",
            Self::StreamChanged => "stream_changed",
            Self::TableChanged => "table_changed",
            Self::Unpolled => "unpolled",
        }
    }
}
