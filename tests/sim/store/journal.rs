//! What was committed, in order: the checker's evidence.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dynaurora::apply::ports::{Advance, Applied, DeadLetter, KeyHash, Unit};
use dynaurora::engine::ports::{Gap, Listing};
use dynaurora::model::{
    Epoch, EpochMillis, Generation, PartitionId, Position, ShardListing, TableIndex, Version,
    WorkerId,
};

use super::histories::Histories;
use super::{Key, OpenLetter, Row};

/// One committed transaction.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When, since the run started.
    pub at: Duration,
    /// What it did.
    pub event: Event,
}

/// What a transaction did.
#[derive(Debug, Clone)]
pub enum Event {
    /// The ledger was lost, and the rows stay.
    Forgotten,
    /// The source was entered.
    Enrolled { generation: Generation },
    /// Shards were listed.
    Registered { listing: Arc<Listing> },
    /// A lease was given.
    Leased { worker: WorkerId, partition: PartitionId, epoch: Epoch },
    /// A lease was given back.
    Released { worker: WorkerId, partition: PartitionId, epoch: Epoch },
    /// A gap was recorded for the first time.
    Gap { gap: Gap, halted: bool },
    /// Somebody accepted that the stream is another one: the generation changed.
    Accepted { generation: Generation },
    /// A load began: the generation changed, these partitions make it up, and shards are read again.
    BackfillBegun {
        generation: Generation,
        partitions: Vec<PartitionId>,
        rewound: Vec<(PartitionId, Position)>,
    },
    /// A sweep deleted a row, or marked it as deleted.
    Swept { table: TableIndex, key: Key, row: Option<Row> },
    /// The end of a load settled letters.
    Settled { letters: Vec<OpenLetter> },
    /// A load ended.
    BackfillEnded { generation: Generation },
    /// What is said of how far the source is has changed.
    Synced { synced_up_to: Option<EpochMillis> },
    /// Somebody damaged a row; `None` where it was deleted.
    Damaged { table: TableIndex, key: Key, row: Option<Row> },
    /// Rows were repaired by what their items were at some moment since the writers were kept off.
    Repaired {
        since: Duration,
        generation: Generation,
        effects: Vec<(TableIndex, Key, Option<Row>)>,
    },
    /// Somebody damaged histories; what they are now.
    HistoryDamaged { histories: Histories },
    /// What histories are after the transaction that stands before this.
    Kept { histories: Histories },
    /// A batch was applied.
    Committed(Arc<Commit>),
}

/// An applied batch.
#[derive(Debug, Clone)]
pub struct Commit {
    pub worker: WorkerId,
    pub generation: Generation,
    pub tombstones: bool,
    pub units: Vec<Unit>,
    /// What the rows became that changed; `None` where a row was deleted.
    pub effects: Vec<(TableIndex, Key, Option<Row>)>,
    pub rejects: Vec<DeadLetter>,
    pub advances: Vec<Advance>,
    pub touched: Vec<(KeyHash, Version)>,
    pub discovered: Vec<ShardListing>,
    pub applied: Applied,
}

impl fmt::Display for Event {
    /// One line for people who replay a run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forgotten => write!(f, "the ledger is lost"),
            Self::Enrolled { generation } => write!(f, "enrolled, generation {generation}"),
            Self::Registered { listing } => {
                let complete = if listing.complete { "" } else { ", incomplete" };
                write!(f, "registered{complete}:")?;
                listing.shards.iter().try_for_each(|shard| write!(f, " {}", shard.id))
            }
            Self::Leased { worker, partition, epoch } => {
                write!(f, "{worker} leased {partition}, epoch {epoch}")
            }
            Self::Released { worker, partition, epoch } => {
                write!(f, "{worker} released {partition}, epoch {epoch}")
            }
            Self::Gap { gap, halted } => {
                let reason = gap.reason.label();
                let stream = gap.stream_arn.rsplit('/').next().unwrap_or_default();
                write!(f, "gap: {reason} {:?} of {stream}, halted {halted}", gap.partition)
            }
            Self::Accepted { generation } => write!(f, "accepted, generation {generation}"),
            Self::BackfillBegun { generation, partitions, rewound } => {
                let partitions = partitions.len();
                write!(f, "load begun, generation {generation}, {partitions} partitions")?;
                rewound.iter().try_for_each(|(id, at)| write!(f, "; {id} back at {at}"))
            }
            Self::Swept { table, key, .. } => write!(f, "swept {key:?} of table {}", table.0),
            Self::Settled { letters } => {
                write!(f, "settled dead letters:")?;
                letters.iter().try_for_each(|own| {
                    write!(f, " {} {} of {};", own.partition, own.version, own.key)
                })
            }
            Self::BackfillEnded { generation } => {
                write!(f, "load of generation {generation} ended")
            }
            Self::Synced { synced_up_to } => write!(f, "synced up to {synced_up_to:?}"),
            Self::Damaged { table, key, row } => {
                let version = row.as_ref().map(|row| row.version.to_string());
                write!(f, "damaged {key:?} of table {}, version {version:?}", table.0)
            }
            Self::Repaired { since, effects, .. } => {
                write!(f, "repaired, as of {since:.3?}:")?;
                effects.iter().try_for_each(|(table, key, row)| {
                    let version = row.as_ref().map(|row| row.version.to_string());
                    write!(f, " {key:?} of table {} {version:?};", table.0)
                })
            }
            Self::Kept { histories } | Self::HistoryDamaged { histories } => {
                write!(f, "histories:")?;
                histories.iter().try_for_each(|((_, key), chain)| {
                    write!(f, " {key:?} {:?};", chain.iter().collect::<Vec<_>>())
                })
            }
            Self::Committed(commit) => write!(f, "{commit}"),
        }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, touched) = (self.units.len(), self.touched.len());
        let tombstones = if self.tombstones { " with claims" } else { "" };
        write!(f, "{} committed {units} units{tombstones}, {touched} keys noted", self.worker)?;
        for letter in &self.rejects {
            write!(f, ", dead letter {} of {}", letter.version.sequence, letter.key)?;
        }
        for Advance { partition, epoch, from, to, drained, .. } in &self.advances {
            let end = if *drained { ", its end" } else { "" };
            write!(f, "; {partition} epoch {epoch} {from} to {to}{end}")?;
        }
        self.discovered.iter().try_for_each(|shard| write!(f, "; found {}", shard.id))
    }
}
