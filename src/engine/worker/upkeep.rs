//! Upkeep: leases renewed, taken and given back, and what the ledger's view asks for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::state::{Done, News, Worker};
use crate::engine::jobs::Job;
use crate::engine::lane::LaneId;
use crate::engine::phase::Stream;
use crate::engine::ports::{Lease, Ledger, LedgerView, PartitionRow, PartitionState, Seams};
use crate::engine::retry::{Stage, explained};
use crate::engine::tail::leases::{Ask, Upkept, keep_up};
use crate::error::Result;
use crate::model::{Epoch, PartitionId};
use crate::telemetry::events;

impl<P: Seams> Worker<P> {
    pub(super) fn start_upkeep(&mut self, now: Instant) {
        let options = &self.run.options;
        let ask = Ask {
            source: Arc::clone(&self.run.name),
            worker: self.run.worker.clone(),
            lease_ttl: options.lease_ttl,
            partitions_max: options.partitions_max,
            acquire: !self.phase.is_draining() && now >= self.hand.resume_at(),
        };
        let (ports, era) = (Arc::clone(&self.ports), self.hand.era());
        self.spawn(Job::Upkeep, async move {
            let upkept = Box::new(keep_up(&*ports, ask).await?);
            Ok(News::Upkept { era, upkept })
        });
    }

    pub(super) fn take_upkept(&mut self, era: u64, upkept: Upkept, now: Instant) {
        let Upkept { sent_at, view, leases, give_up } = upkept;
        if era != self.hand.era() || self.hand.is_unsettled() {
            // Seen before everything in hand was discarded, or while an earlier transaction may still be
            // running: its positions may be out of date.
            self.jobs.due_at(Job::Upkeep, now + self.run.options.pace.poll_min);
            return;
        }
        if self.publishing.seen(&view.incarnation) {
            // The ledger's positions may have gone back, and nothing but they say what is in the tables.
            events::ServerChanged { source: &self.run.name }.emit();
            self.reload(now);
            return;
        }
        self.lease_deadline = sent_at + self.run.options.lease_ttl * 2 / 3;
        let shown = Stream { arn: Arc::clone(&view.stream_arn), generation: view.generation };
        if self.phase.stream() != Some(&shown) {
            // The ledger names another stream, under which our shards would seem to have vanished. All
            // earlier leases are void, which is not a failure.
            let (source, generation) = (&*self.run.name, shown.generation);
            events::GenerationChanged { source, generation }.emit();
            self.phase.follow(shown);
            self.reload(now);
            return;
        }
        self.drop_lost(&view, now);
        self.rejects.seen(view.dead_letters, sent_at);
        self.view = Arc::new(view);
        self.children.share(self.view.workers);
        self.follow_halt(now);
        self.follow_backfill(now);
        if self.phase.reads() {
            self.take_up(leases, now);
            for partition in give_up {
                self.hand.lane_of(&partition).readers.leave(&partition);
            }
        }
        self.tell_status(now);
    }

    /// Drops the leases that others have now. A lease that ended with its partition, in a batch whose answer
    /// is still to come, is not lost.
    fn drop_lost(&mut self, view: &LedgerView, now: Instant) {
        let worker = Some(&self.run.worker);
        let kept: HashSet<(&PartitionId, Epoch)> = (view.partitions.iter())
            .filter(|row| row.owner.as_ref() == worker || row.state == PartitionState::Drained)
            .map(|row| (&row.id, row.epoch))
            .collect();
        let held = self.hand.leases();
        let lost: Vec<_> =
            held.iter().filter(|(partition, epoch)| !kept.contains(&(partition, *epoch))).collect();
        if lost.is_empty() {
            return;
        }
        let (source, count) = (&*self.run.name, lost.len());
        events::LeasesLost { source, count, why: "another worker holds them" }.emit();
        if lost.iter().any(|(partition, _)| self.hand.lane_of(partition).in_hand(partition)) {
            self.reload(now);
        } else {
            for (partition, _) in lost {
                self.hand.lane_of(partition).readers.remove(partition);
            }
        }
    }

    /// Releases everything when the ledger says that the source is halted.
    fn follow_halt(&mut self, now: Instant) {
        let Some(reason) = &self.view.halted else { return self.phase.resume() };
        if self.phase.halt() {
            let reason = explained(reason);
            events::Halted { source: &self.run.name, reason: &reason }.emit();
        }
        if !self.hand.is_empty() {
            self.hand.forget(now);
        }
    }

    /// Starts readers for new leases, and for leases that are ours in the ledger but not read: after a
    /// reload, or when the answer to a request was lost.
    fn take_up(&mut self, leases: Vec<Lease>, now: Instant) {
        let view = Arc::clone(&self.view);
        let (worker, lease_ttl) = (self.run.worker.clone(), self.run.options.lease_ttl);
        let own = |row: &PartitionRow| {
            row.state == PartitionState::Open && row.owner.as_ref() == Some(&worker)
        };
        let rows: HashMap<_, _> = view.partitions.iter().map(|row| (&row.id, row)).collect();
        let is_own = |partition: &PartitionId| rows.get(partition).is_some_and(|row| own(row));
        self.hand.unsettle(now, lease_ttl, is_own);
        self.children
            .found(&view.partitions.iter().filter_map(|row| row.parent.as_ref()).collect());
        let again: Vec<Lease> = (view.partitions.iter())
            .filter(|row| own(row) && !self.hand.is_settled(&row.id))
            .filter(|row| !self.hand.lane(LaneId::of(&row.id)).readers.contains(&row.id))
            .map(|row| Lease {
                partition: row.id.clone(),
                epoch: row.epoch,
                position: row.position.clone(),
            })
            .collect();
        if !(again.is_empty() && leases.is_empty()) {
            self.rejects.took_over(now);
        }
        for lease in again.into_iter().chain(leases) {
            // One round takes only a few; there may be more.
            self.jobs.due_at(Job::Upkeep, now);
            let (source, partition) = (&*self.run.name, &lease.partition);
            events::PartitionEvent { source, partition, what: "acquired" }.emit();
            let last_event_at = rows.get(partition).and_then(|row| row.last_event_at);
            self.hand.lane_of(&lease.partition).readers.insert(lease, last_event_at, now);
        }
    }

    /// Throws everything away that is held by leases which were not renewed in time.
    pub(super) fn lose_leases(&mut self, now: Instant) {
        let (source, count) = (&*self.run.name, self.hand.held());
        events::LeasesLost { source, count, why: "no renewal in time" }.emit();
        self.reload(now);
    }

    /// Releases the leases that the plan gives up, once nothing of them is in hand.
    pub(super) fn give_back_left(&mut self, now: Instant) {
        let leases = self.hand.take_left(now);
        debug_assert!(!leases.is_empty(), "there were leases to give back");
        let (name, worker) = (Arc::clone(&self.run.name), self.run.worker.clone());
        let ports = Arc::clone(&self.ports);
        self.tasks.spawn(async move {
            Done::Released(ports.ledger().release(&name, &worker, &leases, false).await)
        });
    }

    pub(super) fn take_released(&mut self, result: Result<()>) -> Result<()> {
        let Err(error) = result else { return Ok(()) };
        // A later view still shows it as ours, so it is taken up and given up again.
        let failures = self.jobs.failed(Job::Upkeep);
        self.retry(Stage::Ledger, error, failures).map(drop)
    }
}
