//! A lane: readers, the batch that they fill, and the batch that is being applied.
//!
//! A source has two lanes, each with two buffers: the tail reads shards, the other reads a backfill's
//! segments and files. They share only the worker's state, so a backfill never makes the tail wait.

use std::collections::HashSet;

use super::readers::{ReadLimits, Readers};
use super::tail::freshness::ShardProgress;
use crate::apply::batch::Filling;
use crate::model::{Epoch, PartitionId, PartitionKind};

/// Which of a source's two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneId {
    /// The stream's shards.
    Tail,
    /// The segments and files of a backfill.
    Backfill,
}

impl LaneId {
    /// Both lanes, the more urgent first.
    pub(super) const ALL: [Self; 2] = [Self::Tail, Self::Backfill];

    /// The lane in which a partition is read.
    pub(super) fn of(partition: &PartitionId) -> Self {
        match partition.kind() {
            PartitionKind::Shard => Self::Tail,
            PartitionKind::Segment | PartitionKind::File => Self::Backfill,
        }
    }

    /// The limit of reads in flight: each may bring another megabyte. Idle shards bring almost nothing.
    fn limits(self) -> ReadLimits {
        match self {
            Self::Tail => ReadLimits { busy: 4, idle: 32 },
            Self::Backfill => ReadLimits { busy: 2, idle: 2 },
        }
    }
}

/// One pipeline from readers to batches.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) readers: Readers,
    pub(super) filling: Filling,
    apply: Apply,
    /// Applies that failed in a row.
    failures: u32,
}

/// The applying side of a lane.
#[derive(Debug)]
enum Apply {
    Idle,
    /// A batch of these partitions, filled in this era, is being applied.
    Applying {
        partitions: HashSet<PartitionId>,
        era: u64,
    },
}

impl Lane {
    pub(super) fn new(id: LaneId) -> Self {
        Self {
            readers: Readers::new(id.limits()),
            filling: Filling::default(),
            apply: Apply::Idle,
            failures: 0,
        }
    }

    /// Takes the batch that was filled, to be applied.
    pub(super) fn begin_apply(&mut self, era: u64) -> Filling {
        debug_assert!(!self.is_applying(), "a lane applies one batch at a time");
        debug_assert!(!self.filling.is_empty(), "an empty batch is not applied");
        let filling = std::mem::take(&mut self.filling);
        self.apply = Apply::Applying { partitions: filling.partitions().cloned().collect(), era };
        filling
    }

    /// The apply has ended. In which era it began.
    pub(super) fn end_apply(&mut self) -> u64 {
        match std::mem::replace(&mut self.apply, Apply::Idle) {
            Apply::Applying { era, .. } => era,
            Apply::Idle => {
                debug_assert!(false, "an apply ended that was not begun");
                0
            }
        }
    }

    /// Takes note of how an apply ended: how many failed in a row.
    pub(super) fn applied(&mut self, well: bool) -> u32 {
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        self.failures
    }

    /// Whether a batch is being applied.
    pub(super) fn is_applying(&self) -> bool {
        matches!(self.apply, Apply::Applying { .. })
    }

    /// Whether pages wait, and no batch is being applied.
    pub(super) fn can_apply(&self) -> bool {
        !self.is_applying() && !self.filling.is_empty()
    }

    /// Whether pages of this partition wait to be applied.
    pub(super) fn in_hand(&self, partition: &PartitionId) -> bool {
        self.filling.holds(partition) || self.apply.holds(partition)
    }

    /// The partitions that are read no further and of which nothing is in hand.
    pub(super) fn left(&self) -> impl Iterator<Item = &PartitionId> {
        self.readers.left().filter(|partition| !self.in_hand(partition))
    }

    /// The progress of each of its partitions, with its lease.
    pub(super) fn progress(&mut self) -> Vec<((PartitionId, Epoch), ShardProgress)> {
        let Self { readers, filling, apply, .. } = self;
        readers.progress(|partition| filling.holds(partition) || apply.holds(partition))
    }

    /// Whether nothing is waiting to be applied.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_applying() && self.filling.is_empty()
    }

    /// Forgets everything read but not applied.
    pub(super) fn forget(&mut self) {
        self.readers.clear();
        self.filling = Filling::default();
    }
}

impl Apply {
    fn holds(&self, partition: &PartitionId) -> bool {
        match self {
            Self::Idle => false,
            Self::Applying { partitions, .. } => partitions.contains(partition),
        }
    }
}
