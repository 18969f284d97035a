//! A lane: readers, the batch that they fill, and the batch that is being applied.
//!
//! A source has two, each with two buffers: the tail reads shards, the load reads the segments and files of a
//! backfill. They share nothing but the worker's state, so a load never makes the tail wait for its turn.

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
    Load,
}

impl LaneId {
    /// Both lanes, the more urgent first.
    pub(super) const ALL: [Self; 2] = [Self::Tail, Self::Load];

    /// The lane in which a partition is read.
    pub(super) fn of(partition: &PartitionId) -> Self {
        match partition.kind() {
            PartitionKind::Shard => Self::Tail,
            PartitionKind::Segment | PartitionKind::File => Self::Load,
        }
    }

    /// Reads in flight: each may bring another megabyte. Idle shards answer with next to nothing.
    fn limits(self) -> ReadLimits {
        match self {
            Self::Tail => ReadLimits { busy: 4, idle: 32 },
            Self::Load => ReadLimits { busy: 2, idle: 2 },
        }
    }
}

/// One pipeline from readers to batches.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) readers: Readers,
    pub(super) filling: Filling,
    /// The partitions of the batch that is being applied.
    pub(super) applying: HashSet<PartitionId>,
    pub(super) running: bool,
    /// Applies that failed in a row.
    pub(super) failures: u32,
}

impl Lane {
    pub(super) fn new(id: LaneId) -> Self {
        Self {
            readers: Readers::new(id.limits()),
            filling: Filling::default(),
            applying: HashSet::new(),
            running: false,
            failures: 0,
        }
    }

    /// Whether pages of this partition wait to be applied.
    pub(super) fn in_hand(&self, partition: &PartitionId) -> bool {
        self.filling.holds(partition) || self.applying.contains(partition)
    }

    /// How far each of its partitions is, with its lease.
    pub(super) fn progress(&mut self) -> Vec<((PartitionId, Epoch), ShardProgress)> {
        let Self { readers, filling, applying, .. } = self;
        readers.progress(|partition| filling.holds(partition) || applying.contains(partition))
    }

    /// Whether nothing waits to be applied.
    pub(super) fn is_idle(&self) -> bool {
        !self.running && self.filling.is_empty()
    }

    /// Forgets what was read and not applied.
    pub(super) fn forget(&mut self) {
        self.readers.clear();
        self.filling = Filling::default();
    }
}
