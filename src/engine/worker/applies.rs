//! Applies: a lane's batch, in one transaction with its positions.

use std::sync::Arc;

use tokio::time::Instant;

use super::state::{ApplyEnded, Done, Worker};
use crate::apply::apply_whole;
use crate::apply::batch::{Label, Sealed};
use crate::engine::jobs::Job;
use crate::engine::lane::LaneId;
use crate::engine::ports::{Clock, Seams};
use crate::engine::retry::{Directive, Stage, directive};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::events;

impl<P: Seams> Worker<P> {
    /// Starts to apply what the lane holds. Whether there was a stream to apply it under.
    pub(super) fn start_apply(&mut self, id: LaneId) -> bool {
        let Some(stream) = self.phase.stream() else { return false };
        let era = self.hand.era();
        let filling = self.hand.lane_mut(id).begin_apply(era);
        if filling.has_rejects() {
            self.rejects.sent(id);
        }
        let label = Label {
            source: Arc::clone(&self.run.name),
            stream_arn: Arc::clone(&stream.arn),
            generation: stream.generation,
            worker: self.run.worker.clone(),
            backfilling: self.view.backfill.active,
        };
        let tables = Arc::clone(&self.tables.key_columns);
        let ports = Arc::clone(&self.ports);
        self.tasks.spawn(async move {
            let mut sealed = Box::new(filling.seal(label, &tables));
            let started = ports.clock().now();
            let result = apply_whole(ports.sink(), &mut sealed).await;
            let took = ports.clock().now().saturating_duration_since(started);
            Done::Applied(id, ApplyEnded { sealed, took, result })
        });
        true
    }

    pub(super) fn take_applied(&mut self, id: LaneId, ended: ApplyEnded) -> Result<()> {
        let ApplyEnded { sealed, took, result } = ended;
        let now = self.ports.clock().now();
        self.rejects.ended(id, now);
        let lane = self.hand.lane_mut(id);
        let era = lane.end_apply();
        let applied = match result {
            Ok(applied) => applied,
            Err(error) if directive(Stage::Apply, error.kind()) == Directive::Reload => {
                let failures = lane.applied(false);
                let delay = self.retry(Stage::Apply, error, failures)?;
                self.reload(now + delay);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        lane.applied(true);
        self.told.well(Stage::Apply);
        self.tell_applied(&sealed, &applied, took);
        let rejected = sealed.batch.rows.rejects.len() as u64;
        if let Some(share) = self.rejects.applied(sealed.records.total(), rejected, now) {
            return Err(misfit(share));
        }
        if era != self.hand.era() {
            return Ok(());
        }
        if sealed.refused() && self.hand.holds_pages() {
            // The pages in hand were mapped without their keys, and one of them may supersede a dead letter
            // of this batch: read them again.
            self.reload(now);
        }
        self.advance(id, &sealed, now);
        Ok(())
    }

    /// Takes note of how far the partitions of an applied batch are.
    fn advance(&mut self, id: LaneId, sealed: &Sealed, now: Instant) {
        for advance in &sealed.batch.fence.advances {
            let partition = &advance.partition;
            self.hand.lane_mut(id).readers.applied(partition, advance.last_event_at);
            if advance.drained {
                self.hand.settle(partition, now);
                self.jobs.due_at(Job::Upkeep, now);
                let source = &*self.run.name;
                events::PartitionEvent { source, partition, what: "drained" }.emit();
            }
        }
    }
}

fn misfit(share: f64) -> Error {
    let what = format!("{:.0} % of the last records became dead letters", share * 100.0);
    Error::new(ErrorKind::Config, what).with_hint(
        "see `dynaurora dead-letters list`, fix the mapping, then restart; \
         worker.reject_share_max is the limit",
    )
}
