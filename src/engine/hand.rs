//! What a worker has in hand: the partitions it reads, the pages it holds, and what it is done with.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::{Lane, LaneId};
use crate::model::{Epoch, PartitionId};

/// Both lanes, and what must be remembered beside them.
#[derive(Debug)]
pub(super) struct Hand {
    lanes: [Lane; 2],
    /// Changes whenever everything in hand is discarded, which makes earlier answers stale.
    era: u64,
    resume_at: Instant,
    /// Partitions that this worker is done with, and since when. An older view may still show them as its
    /// own; if a newer one does, the release failed.
    settled: HashMap<PartitionId, Instant>,
}

impl Hand {
    /// Nothing is in hand yet.
    pub(super) fn new(now: Instant) -> Self {
        let lanes = LaneId::ALL.map(Lane::new);
        Self { lanes, era: 0, resume_at: now, settled: HashMap::new() }
    }

    /// One lane.
    pub(super) fn lane(&self, id: LaneId) -> &Lane {
        &self.lanes[id as usize]
    }

    /// One lane.
    pub(super) fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        &mut self.lanes[id as usize]
    }

    /// The lane of a partition.
    pub(super) fn lane_of(&mut self, partition: &PartitionId) -> &mut Lane {
        self.lane_mut(LaneId::of(partition))
    }

    /// Which of the times between two losses of everything this is.
    pub(super) fn era(&self) -> u64 {
        self.era
    }

    /// Nothing is read, applied and given back before.
    pub(super) fn resume_at(&self) -> Instant {
        self.resume_at
    }

    /// How many partitions are read.
    pub(super) fn held(&self) -> usize {
        self.lanes.iter().map(|lane| lane.readers.len()).sum()
    }

    /// The leases.
    pub(super) fn leases(&self) -> Vec<(PartitionId, Epoch)> {
        self.lanes.iter().flat_map(|lane| lane.readers.leases()).collect()
    }

    /// Whether nothing is waiting to be applied.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    /// Whether nothing is read and nothing waits but what is being applied.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.readers.is_empty() && lane.filling.is_empty())
    }

    /// Whether pages wait that are not being applied yet.
    pub(super) fn holds_pages(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.filling.is_empty())
    }

    /// Whether a batch of before everything was thrown away may still be under way.
    pub(super) fn is_unsettled(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_applying() && lane.readers.is_empty())
    }

    /// Throws everything away; after `resume_at` the ledger says where to go on.
    pub(super) fn forget(&mut self, resume_at: Instant) {
        self.era += 1;
        self.lanes.iter_mut().for_each(Lane::forget);
        self.settled.clear();
        self.resume_at = resume_at;
    }

    /// Is done with a partition.
    pub(super) fn settle(&mut self, partition: &PartitionId, now: Instant) {
        self.lane_of(partition).readers.remove(partition);
        self.settled.insert(partition.clone(), now);
    }

    /// Whether it is done with a partition that a view shows as its own.
    pub(super) fn is_settled(&self, partition: &PartitionId) -> bool {
        self.settled.contains_key(partition)
    }

    /// Forgets what it was done with `within` ago, and what is not its `own` any more.
    pub(super) fn unsettle(
        &mut self,
        now: Instant,
        within: Duration,
        own: impl Fn(&PartitionId) -> bool,
    ) {
        self.settled.retain(|partition, since| now < *since + within && own(partition));
    }

    /// Takes the leases that were planned away and of which nothing is in hand, to be given back.
    pub(super) fn take_left(&mut self, now: Instant) -> Vec<(PartitionId, Epoch)> {
        let mut leases = Vec::new();
        for lane in &mut self.lanes {
            for partition in lane.left().cloned().collect::<Vec<_>>() {
                if let Some(epoch) = lane.readers.remove(&partition) {
                    self.settled.insert(partition.clone(), now);
                    leases.push((partition, epoch));
                }
            }
        }
        leases
    }
}
