//! Publishes in the ledger how far the worker is, for those who query the target.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Done, Recurring, Worker};
use crate::engine::lane::LaneId;
use crate::engine::ports::{Clock, Ledger, Publication, Published, Seams};
use crate::engine::retry::Stage;
use crate::engine::tail::freshness::{ShardProgress, spoken_for};
use crate::error::Result;
use crate::model::{Epoch, EpochMillis, PartitionId};

/// How often a worker publishes: queries that wait for a caught-up shard wait for this and the margin.
const PUBLICATION_EVERY: Duration = Duration::from_secs(1);

type Leases = Arc<[(PartitionId, Epoch)]>;

/// What the worker has published, and the database's clock as its answers show it.
pub(super) struct Publishing {
    recurring: Recurring,
    number: u64,
    synced_up_to: Option<EpochMillis>,
    /// The leases that the ledger is known to have from us; `None` when an answer was lost.
    covers: Option<Leases>,
    /// The database's time, and a moment at which it was at least that.
    clock: Option<(Instant, EpochMillis)>,
}

/// How a publication ended.
pub(super) struct Answer {
    covers: Leases,
    at: Instant,
    result: Result<Published>,
}

impl Publishing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            recurring: Recurring { running: false, due: now, failures: 0 },
            number: 0,
            synced_up_to: None,
            covers: None,
            clock: None,
        }
    }

    /// What the database's clock shows now, or a little less; `None` before its first answer. The time of day
    /// here has no part in it: a clock that is wrong, or set, makes nothing look fresher than it is.
    pub(super) fn database_time(&self, now: Instant) -> Option<EpochMillis> {
        let (moment, time) = self.clock?;
        let since = now.saturating_duration_since(moment).as_millis();
        Some(EpochMillis(time.0.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))))
    }
}

impl<P: Seams> Worker<P> {
    /// When to publish next; nobody listens before the ledger knows the worker.
    pub(super) fn publication_due(&self) -> Option<Instant> {
        let known = self.view.generation > 0 && !self.publishing.recurring.running;
        known.then_some(self.publishing.recurring.due)
    }

    /// How far each shard is that this worker reads, with its lease.
    pub(super) fn progress(&mut self) -> Vec<((PartitionId, Epoch), ShardProgress)> {
        self.lanes[LaneId::Tail as usize].progress()
    }

    pub(super) fn start_publication(&mut self, now: Instant) {
        let progress = self.progress();
        let last_poll_at = progress.iter().filter_map(|(_, shard)| shard.last_poll_at).min();
        let own = &mut self.publishing;
        let (covers, synced_up_to) = spoken_for(progress, own.synced_up_to);
        let covers: Leases = covers.into();
        own.recurring.running = true;
        own.recurring.due = now + PUBLICATION_EVERY;
        own.number += 1;
        own.synced_up_to = synced_up_to;
        let (number, news) = (own.number, own.covers.as_ref() != Some(&covers));
        let (source, worker) = (Arc::clone(&self.run.name), self.run.worker.clone());
        let (ports, mapping) = (Arc::clone(&self.ports), self.mapping);
        self.tasks.spawn(async move {
            let publication = Publication {
                source: &source,
                worker: &worker,
                number,
                synced_up_to,
                last_poll_at,
                covers: news.then_some(&covers),
                mapping,
            };
            let result = ports.ledger().publish(&publication).await;
            Done::Published(Answer { covers, at: ports.clock().now(), result })
        });
    }

    pub(super) fn take_published(&mut self, answer: Answer) -> Result<()> {
        self.publishing.recurring.running = false;
        match answer.result {
            Ok(published) => {
                self.publishing.recurring.failures = 0;
                self.publishing.clock = Some((answer.at, published.now));
                self.publishing.covers = Some(answer.covers).filter(|_| published.taken);
            }
            Err(error) => {
                self.publishing.covers = None;
                self.publishing.recurring.failures += 1;
                let failures = self.publishing.recurring.failures;
                let delay = self.retry(Stage::Ledger, error, failures)?;
                self.publishing.recurring.due = self.ports.clock().now() + delay;
            }
        }
        Ok(())
    }
}
