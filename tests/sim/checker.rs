//! Checks the protocol's numbered invariants over the journal of a run and what it left behind.
//!
//! The checker shares nothing with the engine but the mapping: it replays the journal against what really
//! happened at the source. Read: this file for the evidence and the verdict; [`replay`] for what must hold
//! at each commit; [`outcome`] for what must hold at the end.

mod backfills;
mod fold;
mod histories;
mod outcome;
mod repairs;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use dynaurora::engine::ports::Gap;
use dynaurora::mapping::Outcome;
use dynaurora::mapping::spec::TableSpec;
use dynaurora::model::{Change, EpochMillis, Item, PartitionId, RowOp, SequenceNumber, TableIndex};

use super::store::{Entry, Key, OpenLetter, Row};

/// What really happened at the source.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// Every shard that the stream ever had.
    pub shards: BTreeMap<PartitionId, ShardTruth>,
    /// The items as they are now.
    pub items: Vec<Item>,
}

/// One shard, whole.
#[derive(Debug, Clone, Default)]
pub struct ShardTruth {
    /// The shard that it continues.
    pub parent: Option<PartitionId>,
    /// Every record that it ever got, in order.
    pub records: Vec<Change>,
    /// When each was written, to the millisecond.
    pub written_at: Vec<EpochMillis>,
    /// Whether it gets no more.
    pub closed: bool,
    /// The last record that the stream no longer holds.
    pub trimmed_through: Option<SequenceNumber>,
    /// When it was closed, since the run started.
    pub closed_at: Option<Duration>,
    /// When the stream dropped the shard itself, since the run started.
    pub dropped_at: Option<Duration>,
}

/// A run to be judged.
pub struct Run<'a> {
    /// What really happened.
    pub truth: &'a Truth,
    /// What was committed.
    pub journal: &'a [Entry],
    /// The target tables at the end.
    pub contents: &'a BTreeMap<(TableIndex, Key), Row>,
    /// The gaps at the end.
    pub gaps: &'a [Gap],
    /// The open dead letters at the end.
    pub dead_letters: &'a [OpenLetter],
    /// The target tables.
    pub specs: &'a [TableSpec],
    /// The mapping.
    pub map: &'a dyn Fn(&Change, &mut Vec<RowOp>) -> Outcome,
    /// Which rows the database refuses.
    pub refuses: fn(&RowOp) -> bool,
    /// Whether the source was quiet for long enough that the target must equal it.
    pub quiet: bool,
    /// Whether the service keeps what freshness relies on: a shard's end shows within the margin, all of its
    /// children with it, and an empty page does not lie three times in a row.
    pub prompt: bool,
}

/// The numbered invariants of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: for one key, effects follow stream order; the version of a row never falls.
    Order,
    /// I2: a position moves only with its rows and rejects.
    Together,
    /// I3: no record of a child commits before its parents are drained or recorded as a gap.
    Lineage,
    /// I4: no commit by a stale epoch or generation.
    Fence,
    /// I5: received = upserted + deleted + superseded + filtered + rejected.
    Books,
    /// I6: what is lost is a gap.
    Gaps,
    /// I7: when the source is quiet, the target equals it.
    Convergence,
    /// I8: at every moment, rows = fold(records up to the positions).
    KillSafe,
    /// I9: after a delete is applied, the key stays absent until a later change.
    Resurrection,
    /// I10: the sweep spares every key seen in this generation or held as a dead letter.
    Sweep,
    /// I12: what is said to be in the target is there.
    Fresh = 11,
    /// I14: a letter is open only while it is newer than what was applied of its item; one of each item.
    Letters = 13,
    /// I15: a history has one row per key and instant, open exactly where the table has the row.
    History = 14,
}

/// A broken invariant.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// At which entry of the journal; none at the end.
    pub entry: Option<usize>,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.invariant as u8 + 1;
        write!(f, "I{number} {:?}", self.invariant)?;
        if let Some(entry) = self.entry {
            write!(f, " at entry {entry}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Every broken invariant of a run; none is the verdict wished for.
pub fn check(run: &Run<'_>) -> Vec<Violation> {
    let replayed = replay::replay(run);
    outcome::check(run, replayed)
}
