//! Publication: the ledger is told how far the worker is, for those who query the target.

use std::sync::Arc;

use tokio::time::Instant;

use super::state::{News, Worker};
use crate::engine::jobs::Job;
use crate::engine::lane::LaneId;
use crate::engine::ports::{Clock, Ledger, Publication, Seams};
use crate::engine::publishing::{NextPublication, PublicationEnded};
use crate::engine::tail::freshness::ShardProgress;
use crate::model::{Epoch, PartitionId};

impl<P: Seams> Worker<P> {
    /// The progress of each shard that this worker reads, with its lease.
    pub(super) fn progress(&mut self) -> Vec<((PartitionId, Epoch), ShardProgress)> {
        self.hand.lane_mut(LaneId::Tail).progress()
    }

    pub(super) fn start_publication(&mut self) {
        let progress = self.progress();
        let NextPublication { number, synced_up_to, last_poll_at, covers, changed, incarnation } =
            self.publishing.next(progress);
        let (source, worker) = (Arc::clone(&self.run.name), self.run.worker.clone());
        let (ports, mapping) = (Arc::clone(&self.ports), self.tables.mapping);
        self.spawn(Job::Publication, async move {
            let publication = Publication {
                source: &source,
                worker: &worker,
                number,
                synced_up_to,
                last_poll_at,
                covers: changed.then_some(&covers),
                mapping,
                incarnation: &incarnation,
            };
            let published = ports.ledger().publish(&publication).await?;
            Ok(News::Published(PublicationEnded { covers, at: ports.clock().now(), published }))
        });
    }

    /// A ledger that did not take it may be another server's, which has lost commits: it is looked at.
    pub(super) fn take_published(&mut self, ended: PublicationEnded, now: Instant) {
        if !self.publishing.answered(ended) {
            self.jobs.due_at(Job::Upkeep, now);
        }
    }
}
