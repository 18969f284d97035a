//! Tells what the worker does: events, and the published state of its source.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{PUBLISH_EVERY, Recurring, Worker};
use crate::apply::batch::Sealed;
use crate::apply::ports::Applied;
use crate::engine::lane::LaneId;
use crate::engine::ports::{Clock, PartitionRow, Seams};
use crate::engine::retry::{Directive, Stage, directive, explained, pause};
use crate::engine::tail::freshness::{self, ShardProgress, SourceStatus};
use crate::engine::tail::lineage::{Readiness, readiness};
use crate::error::{Error, Result};
use crate::telemetry::events;

impl<P: Seams> Worker<P> {
    /// The pause before another attempt, told as an event; the error itself where none may be made.
    pub(super) fn retry(&mut self, stage: Stage, error: Error, failures: u32) -> Result<Duration> {
        match directive(stage, error.kind()) {
            Directive::Retry | Directive::Reload | Directive::Rederive => {
                let delay = pause(failures, &mut self.random);
                let (source, label) = (&*self.run.name, stage.label());
                events::Retry { source, stage: label, error: &error, failures, delay }.emit();
                self.failing[stage as usize] = Some(format!("{label}: {}", error.chain()));
                Ok(delay)
            }
            Directive::Bisect | Directive::Gap(_) | Directive::Halt => Err(error),
        }
    }

    /// Ends a step of recurring work: its answer, or none where it failed and is due again after a
    /// pause; the error itself where no other attempt may be made.
    pub(super) fn ended<T>(&mut self, stage: Stage, result: Result<T>) -> Result<Option<T>> {
        let now = self.ports.clock().now();
        let work = self.recurring(stage);
        work.running = false;
        match result {
            Ok(answer) => {
                work.failures = 0;
                self.well(stage);
                Ok(Some(answer))
            }
            Err(error) => {
                work.failures += 1;
                let failures = work.failures;
                let delay = self.retry(stage, error, failures)?;
                self.recurring(stage).due = now + delay;
                Ok(None)
            }
        }
    }

    fn recurring(&mut self, stage: Stage) -> &mut Recurring {
        match stage {
            Stage::Discover => &mut self.discovery,
            Stage::Load => &mut self.loading,
            Stage::Ledger | Stage::Read | Stage::Apply => &mut self.upkeep,
        }
    }

    /// Takes note that a stage works again.
    pub(super) fn well(&mut self, stage: Stage) {
        self.failing[stage as usize] = None;
    }

    pub(super) fn tell_applied(&mut self, sealed: &Sealed, applied: &Applied, took: Duration) {
        let tables: Vec<(String, u64, u64, u64)> = (self.table_names.iter())
            .zip(&applied.tables)
            .zip(&sealed.superseded)
            .map(|((name, table), collapsed)| {
                (name.clone(), table.upserted, table.deleted, table.superseded + collapsed)
            })
            .collect();
        self.records += sealed.records.total();
        let advances = &sealed.batch.fence.advances;
        events::BatchApplied {
            source: &self.run.name,
            records: &sealed.records,
            tables: &tables,
            partitions: advances.len(),
            took,
            // What a load brings is as old as it is, and no lag.
            last_event_at: (advances.iter())
                .filter(|advance| advance.partition.is_shard())
                .filter_map(|advance| advance.last_event_at)
                .max(),
            now: self.ports.clock().wall(),
            rejected: &sealed.rejected(),
        }
        .emit();
    }

    /// Whether the ledger last showed a shard as this worker's that it reads no longer, as when the target is
    /// away: time goes on for it.
    fn has_lost(&self, row: &PartitionRow) -> bool {
        row.owner.as_ref() == Some(&self.run.worker)
            && !self.lanes[LaneId::Tail as usize].readers.contains(&row.id)
    }

    /// Says it when workers that live run another mapping than this one: what a row looks like then depends
    /// on who read its change. While a deployment rolls that is as it must be, so nothing is refused.
    fn compare_mappings(&mut self) -> Option<String> {
        let others = self.view.mappings.iter().filter(|other| **other != self.mapping).count();
        let warning = (others > 0).then(|| {
            format!(
                "workers run another mapping, or another version, than this one: {others}; what a \
                 row looks like depends on who read its change; let all run one config, then mend \
                 what differs with `dynaurora verify --repair`"
            )
        });
        if self.others_told != others {
            let (source, warning) = (&*self.run.name, warning.as_deref());
            events::MappingsDiffer { source, others, warning }.emit();
            self.others_told = others;
        }
        warning
    }

    /// Publishes the source's state, for status, readiness and metrics.
    pub(super) fn publish(&mut self, now: Instant) {
        self.publish_due = now + PUBLISH_EVERY;
        let wall = self.ports.clock().wall();
        let mut progress: Vec<_> = self.progress().into_iter().map(|(_, own)| own).collect();
        let readiness = readiness(&self.view.partitions);
        let mut shards = [("reading", 0), ("free", 0), ("waiting", 0), ("drained", 0)];
        for (row, readiness) in self.view.partitions.iter().zip(readiness) {
            let state = match readiness {
                Readiness::Readable if !row.id.is_shard() => usize::from(row.owner.is_none()),
                Readiness::Readable if row.owner.is_some() && !self.has_lost(row) => 0,
                Readiness::Readable => {
                    // What the whole source is synced up to holds for each of its shards; a quiet one may
                    // have had no change for days.
                    let last_event_at = row.last_event_at;
                    let synced_up_to = last_event_at.max(self.view.synced_up_to);
                    progress.push(ShardProgress {
                        last_event_at,
                        last_poll_at: None,
                        synced_up_to,
                    });
                    1
                }
                Readiness::Waiting => 2,
                Readiness::Drained | Readiness::Lost => 3,
            };
            shards[state].1 += 1;
        }
        let status = SourceStatus {
            turned_at: wall,
            generation: self.generation,
            halted: self.view.halted.as_deref().map(explained),
            warning: self.compare_mappings(),
            failing: self.failing.iter().flatten().next().cloned(),
            started: self.stream_arn.is_some() && self.view.generation > 0,
            synced_up_to: freshness::synced_up_to(&progress),
            last_event_at: progress.iter().filter_map(|shard| shard.last_event_at).max(),
            last_poll_at: progress.iter().filter_map(|shard| shard.last_poll_at).min(),
            retention_headroom: freshness::retention_headroom(&progress, wall),
            records: self.records,
            owned: self.lanes.iter().map(|lane| lane.readers.len()).sum(),
            view: Arc::clone(&self.view),
        };
        events::Freshness {
            source: &self.run.name,
            synced_up_to: status.synced_up_to,
            last_poll_at: status.last_poll_at,
            retention_headroom: status.retention_headroom,
            shards,
            dead_letters: self.view.dead_letters,
            gaps: self.view.gaps,
            verified: self.view.verified.map(|verified| (verified.mismatched, verified.at)),
            halted: status.halted.is_some(),
        }
        .emit();
        self.run.status.send_replace(status);
    }
}
