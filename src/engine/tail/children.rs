//! The children of ended shards: who may ask for them when, and which shards have none that is known.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::ports::{Clock, ReadFrom, Seams, Source};
use crate::model::{PartitionId, ShardListing};

/// Lookups of the children of an ended shard; after that the periodic listing finds them.
const CHILD_LOOKUPS: u32 = 3;
/// The pause between two lookups of children, times the workers alive.
const CHILDREN_EVERY: Duration = Duration::from_millis(250);
/// With more workers nobody looks up children; they then come with the next listing.
const WORKERS_ASKING_MAX: usize = 5;
/// The longest wait of a read for its turn to look up children.
const TURN_WAIT_MAX: Duration = Duration::from_secs(1);

/// What one worker knows of the children of ended shards.
#[derive(Debug, Default)]
pub(crate) struct Children {
    childless: HashSet<PartitionId>,
    turns: Arc<Mutex<Turns>>,
}

impl Children {
    /// The turns at which its reads may ask.
    pub(crate) fn turns(&self) -> Arc<Mutex<Turns>> {
        Arc::clone(&self.turns)
    }

    /// Shares the questions among so many workers.
    pub(crate) fn share(&self, workers: usize) {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).share(workers);
    }

    /// A shard has ended, and no child of it is known yet.
    pub(crate) fn miss(&mut self, parent: PartitionId) {
        self.childless.insert(parent);
    }

    /// These are the parents of known shards.
    pub(crate) fn found(&mut self, parents: &HashSet<&PartitionId>) {
        self.childless.retain(|partition| !parents.contains(partition));
    }

    /// Whether a shard has ended of which no child is known.
    pub(crate) fn are_missing(&self) -> bool {
        !self.childless.is_empty()
    }
}

/// The children of a shard at its end; none where none are known yet, or it is nobody's turn to ask.
pub(crate) async fn look_up<P: Seams>(
    ports: &P,
    from: &ReadFrom,
    turns: &Mutex<Turns>,
) -> Vec<ShardListing> {
    for _ in 0..CHILD_LOOKUPS {
        let now = ports.clock().now();
        let turn = turns.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        let Some(turn) = turn else { break };
        ports.clock().sleep_until(turn).await;
        let answer = ports.source().child_shards(&from.stream_arn, &from.partition).await;
        let children = answer.unwrap_or_default();
        if !children.is_empty() {
            return children;
        }
    }
    Vec::new()
}

/// Limits how often one worker looks up the children of ended shards.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// The pause between two turns; `None` if nobody looks up children.
    pause: Option<Duration>,
    last: Option<Instant>,
}

impl Turns {
    fn share(&mut self, workers: usize) {
        let few = u32::try_from(workers.max(1)).ok().filter(|_| workers <= WORKERS_ASKING_MAX);
        self.pause = few.map(|workers| CHILDREN_EVERY * workers);
    }

    /// Takes the next turn and returns its time; `None` if the wait would be too long.
    fn take(&mut self, now: Instant) -> Option<Instant> {
        let pause = self.pause?;
        let turn = self.last.map_or(now, |last| now.max(last + pause));
        if turn > now + TURN_WAIT_MAX {
            return None;
        }
        self.last = Some(turn);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn a_fleet_asks_for_children_six_times_a_second_at_most() {
        let now = Instant::now();
        for workers in 1..=8 {
            let mut asked: Vec<Instant> = Vec::new();
            for _ in 0..workers {
                let mut turns = Turns::default();
                turns.share(workers);
                asked.extend((0..40).filter_map(|tenth| turns.take(now + TENTH * tenth)));
            }
            let first = asked.first().copied();
            assert_eq!(first.is_some(), workers <= WORKERS_ASKING_MAX, "{workers}");
            for from in &asked {
                let within = |at: &&Instant| (*from..*from + TENTH * 10).contains(*at);
                assert!(asked.iter().filter(within).count() <= 6, "{workers} workers");
            }
        }
    }

    const TENTH: Duration = Duration::from_millis(100);
}
