//! Reports the worker's work: events, and the published state of its source.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::Worker;
use crate::apply::batch::Sealed;
use crate::apply::ports::Applied;
use crate::engine::jobs::Job;
use crate::engine::lane::LaneId;
use crate::engine::ports::{BackfillView, Clock, PartitionRow, Seams};
use crate::engine::retry::explained;
use crate::engine::tail::freshness::{self, ShardProgress, SourceState};
use crate::engine::tail::lineage::{Readiness, readiness};
use crate::telemetry::events;

impl<P: Seams> Worker<P> {
    pub(super) fn tell_applied(&mut self, sealed: &Sealed, applied: &Applied, took: Duration) {
        let tables: Vec<(String, u64, u64, u64)> = (self.tables.names.iter())
            .zip(&applied.tables)
            .zip(&sealed.superseded)
            .map(|((name, table), collapsed)| {
                (name.clone(), table.upserted, table.deleted, table.superseded + collapsed)
            })
            .collect();
        self.told.records += sealed.records.total();
        let advances = &sealed.batch.fence.advances;
        events::BatchApplied {
            source: &self.run.name,
            records: &sealed.records,
            tables: &tables,
            partitions: advances.len(),
            took,
            // Items of a backfill are as old as they are; that is not lag.
            last_event_at: (advances.iter())
                .filter(|advance| advance.partition.is_shard())
                .filter_map(|advance| advance.last_event_at)
                .max(),
            now: self.ports.clock().wall(),
            rejected: &sealed.rejected(),
        }
        .emit();
    }

    /// Whether the ledger last showed a shard as this worker's that it no longer reads, for example because
    /// the target is down: its lag keeps growing.
    fn has_lost(&self, row: &PartitionRow) -> bool {
        row.owner.as_ref() == Some(&self.run.worker)
            && !self.hand.lane(LaneId::Tail).readers.contains(&row.id)
    }

    /// Reports living workers with another mapping than this one: a row then depends on who read its change.
    /// A rolling deployment does this on purpose, so nothing is refused.
    fn compare_mappings(&mut self) -> Option<String> {
        let others =
            self.view.mappings.iter().filter(|other| **other != self.tables.mapping).count();
        let warning = (others > 0).then(|| {
            format!(
                "workers run another mapping, or another version, than this one: {others}; each \
                 row follows the mapping of the worker that read its change; let all run one \
                 config, then fix the differences with `dynaurora verify --repair`"
            )
        });
        if self.told.differ(others) {
            let (source, warning) = (&*self.run.name, warning.as_deref());
            events::MappingsDiffer { source, others, warning }.emit();
        }
        warning
    }

    /// Rows of an earlier ledger that no backfill has held against the table.
    fn leftovers(&self) -> Option<String> {
        let BackfillView { active, loaded, sweeps, .. } = self.view.backfill;
        (sweeps && !loaded && !active).then(|| {
            "the ledger began anew over rows that were there, and some may be out of date or gone \
             from the table: `dynaurora backfill` mends them"
                .to_owned()
        })
    }

    /// Tells the source's state, for status, readiness and metrics.
    pub(super) fn tell_status(&mut self, now: Instant) {
        self.jobs.due_at(Job::Status, now + (Job::Status.row().every)(&self.rhythm()));
        let wall = self.ports.clock().wall();
        let mut progress: Vec<_> = self.progress().into_iter().map(|(_, own)| own).collect();
        let readiness = readiness(&self.view.partitions);
        let mut shards = [("reading", 0), ("free", 0), ("waiting", 0), ("drained", 0)];
        for (row, readiness) in self.view.partitions.iter().zip(readiness) {
            let state = match readiness {
                Readiness::Readable if !row.id.is_shard() => usize::from(row.owner.is_none()),
                Readiness::Readable if row.owner.is_some() && !self.has_lost(row) => 0,
                Readiness::Readable => {
                    // The source's time holds for each of its shards; a quiet shard may have had no change
                    // for days.
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
        let status = SourceState {
            turned_at: wall,
            generation: self.phase.generation(),
            halted: self.view.halted.as_ref().map(explained),
            warning: self.compare_mappings().or_else(|| self.leftovers()),
            failing: self.told.failing(),
            started: self.phase.stream().is_some() && self.view.generation > 0,
            synced_up_to: freshness::synced_up_to(&progress),
            last_event_at: progress.iter().filter_map(|shard| shard.last_event_at).max(),
            last_poll_at: progress.iter().filter_map(|shard| shard.last_poll_at).min(),
            retention_headroom: freshness::retention_headroom(&progress, wall),
            records: self.told.records,
            owned: self.hand.held(),
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
