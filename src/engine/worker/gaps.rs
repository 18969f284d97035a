//! Gaps: what was lost is recorded in the ledger before anything else follows from it.

use std::sync::Arc;

use tokio::time::Instant;

use super::state::{Done, Worker};
use crate::engine::jobs::Job;
use crate::engine::ports::{Clock, Gap, GapReason, Ledger, Seams};
use crate::engine::retry::Stage;
use crate::error::Result;
use crate::model::{Generation, PartitionId};
use crate::telemetry::events;

impl<P: Seams> Worker<P> {
    /// The stream no longer holds what comes next of a shard.
    pub(super) fn gap_at(&mut self, partition: &PartitionId, reason: GapReason, now: Instant) {
        self.hand.settle(partition, now);
        let row = self.view.partitions.iter().find(|row| row.id == *partition);
        let stream = self.phase.stream();
        let gap = Gap {
            reason,
            stream_arn: stream.map(|stream| stream.arn.to_string()).unwrap_or_default(),
            partition: Some(partition.clone()),
            after: row.map(|row| row.position.clone()),
            since: row.and_then(|row| row.last_event_at),
        };
        self.record_gap(gap, self.phase.generation());
    }

    pub(super) fn record_gap(&mut self, gap: Gap, found_in: Generation) {
        let (source, reason) = (&*self.run.name, gap.reason.label());
        let (partition, halts) =
            (gap.partition.as_ref(), self.run.options.on_gap.halts(gap.reason));
        events::GapFound { source, reason, partition, halts }.emit();
        let (ports, name) = (Arc::clone(&self.ports), Arc::clone(&self.run.name));
        self.tasks.spawn(async move {
            Done::GapRecorded(ports.ledger().record_gap(&name, found_in, &gap, halts).await)
        });
    }

    pub(super) fn take_gap_recorded(&mut self, result: Result<()>) -> Result<()> {
        let now = self.ports.clock().now();
        self.jobs.due_at(Job::Upkeep, now);
        let Err(error) = result else { return Ok(()) };
        // The gap will be found again.
        let failures = self.jobs.failed(Job::Upkeep);
        let delay = self.retry(Stage::Ledger, error, failures)?;
        self.reload(now + delay);
        self.jobs.due_at(Job::Discovery, now + delay);
        Ok(())
    }
}
