//! Takes the answers of the worker's tasks: what each means for leases, readers and buffers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use tokio::time::Instant;

use super::{Done, Outcome, Worker};
use crate::apply::page::MappedPage;
use crate::engine::lane::{Lane, LaneId};
use crate::engine::ports::{
    Clock, Gap, GapReason, Lease, Ledger, LedgerView, PartitionRow, PartitionState, Seams,
};
use crate::engine::readers::Ticket;
use crate::engine::retry::{Directive, Stage, directive, explained};
use crate::engine::tail::upkeep::{Discovered, Upkept};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Epoch, Generation, PartitionId, ShardListing};
use crate::telemetry::events;

impl<P: Seams> Worker<P> {
    /// Takes the answer of one task.
    pub(super) fn take(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Discovered(result) => self.take_discovered(result),
            Done::Upkept { era, result } => self.take_upkept(era, result),
            Done::Read { ticket, result } => self.take_read(&ticket, result),
            Done::Applied { lane, era, outcome } => {
                let ended = &mut self.lanes[lane as usize];
                ended.running = false;
                ended.applying.clear();
                self.take_applied((lane, era), outcome)
            }
            Done::LoadStepped(result) => self.take_load_stepped(result),
            Done::GapRecorded(result) => self.take_gap_recorded(result),
            Done::Published(answer) => self.take_published(answer),
            Done::Released(Err(error)) => {
                // A later view shows it as ours still, and then it is taken up and given up again.
                self.upkeep.failures += 1;
                self.retry(Stage::Ledger, error, self.upkeep.failures).map(drop)
            }
            Done::Released(Ok(())) => Ok(()),
        }
    }

    fn take_discovered(&mut self, result: Result<Discovered>) -> Result<()> {
        let now = self.ports.clock().now();
        let Some(found) = self.ended(Stage::Discover, result)? else { return Ok(()) };
        self.discovery.due = now + self.discovery_every();
        if found.listed || self.stream_arn.is_none() {
            self.upkeep.due = now;
        }
        if let Some(gap) = found.gap {
            self.record_gap(gap, found.generation);
        }
        if self.stream_arn.is_none() {
            self.generation = found.generation;
            self.stream_arn = Some(found.stream_arn);
        }
        Ok(())
    }

    fn take_upkept(&mut self, era: u64, result: Result<Upkept>) -> Result<()> {
        let now = self.ports.clock().now();
        let Some(upkept) = self.ended(Stage::Ledger, result)? else {
            self.upkeep.due = self.upkeep.due.min(now + self.renew_every());
            return Ok(());
        };
        let Upkept { sent_at, view, leases, give_up } = upkept;
        let unsettled = |lane: &Lane| lane.running && lane.readers.is_empty();
        if era != self.era || self.lanes.iter().any(unsettled) {
            // Seen before everything in hand was thrown away, or while a last transaction of before may
            // still be under way: what it says of positions may be out of date.
            self.upkeep.due = now + self.run.options.pace.poll_min;
            return Ok(());
        }
        self.upkeep.due = now + self.renew_every();
        self.lease_deadline = sent_at + self.run.options.lease_ttl * 2 / 3;
        let same_stream = self.stream_arn.as_ref() == Some(&view.stream_arn);
        if view.generation != self.generation || !same_stream {
            // Shards are those of the stream that the ledger names: under another one's name they would seem
            // to have vanished. No lease of before is valid any more, and that is nobody's fault.
            let (source, generation) = (&*self.run.name, view.generation);
            events::GenerationChanged { source, generation }.emit();
            self.generation = view.generation;
            self.stream_arn = Some(Arc::clone(&view.stream_arn));
            self.reload(now);
            return Ok(());
        }
        self.drop_lost(&view, now);
        self.note_keys =
            view.dead_letters > 0 || self.rejected_at.is_some_and(|rejected| rejected >= sent_at);
        self.view = Arc::new(view);
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).share(self.view.workers);
        self.follow_halt(now);
        self.follow_load(now);
        if self.view.halted.is_none() && !self.draining {
            self.take_up(leases, now);
            for partition in give_up {
                self.lane(&partition).readers.leave(&partition);
            }
        }
        self.publish(now);
        Ok(())
    }

    /// Forgets the leases that are another's by now. One that ended with its partition, by a batch whose
    /// answer is on its way, is not lost.
    fn drop_lost(&mut self, view: &LedgerView, now: Instant) {
        let worker = Some(&self.run.worker);
        let kept: HashSet<(&PartitionId, Epoch)> = (view.partitions.iter())
            .filter(|row| row.owner.as_ref() == worker || row.state == PartitionState::Drained)
            .map(|row| (&row.id, row.epoch))
            .collect();
        let held = self.leases();
        let lost: Vec<_> =
            held.iter().filter(|(partition, epoch)| !kept.contains(&(partition, *epoch))).collect();
        if lost.is_empty() {
            return;
        }
        let (source, count) = (&*self.run.name, lost.len());
        events::LeasesLost { source, count, why: "another worker holds them" }.emit();
        if lost.iter().any(|(partition, _)| self.lane(partition).in_hand(partition)) {
            self.reload(now);
        } else {
            for (partition, _) in lost {
                self.lane(partition).readers.remove(partition);
            }
        }
    }

    /// Starts readers for new leases, and for leases that the ledger shows as ours though we do not read
    /// them: after a reload, or when the answer to a claim was lost.
    fn take_up(&mut self, leases: Vec<Lease>, now: Instant) {
        let view = Arc::clone(&self.view);
        let (worker, lease_ttl) = (self.run.worker.clone(), self.run.options.lease_ttl);
        let own = |row: &PartitionRow| {
            row.state == PartitionState::Open && row.owner.as_ref() == Some(&worker)
        };
        let rows: HashMap<_, _> = view.partitions.iter().map(|row| (&row.id, row)).collect();
        self.settled.retain(|partition, since| {
            now < *since + lease_ttl && rows.get(partition).is_some_and(|row| own(row))
        });
        let parents: HashSet<_> =
            view.partitions.iter().filter_map(|row| row.parent.as_ref()).collect();
        self.childless.retain(|partition| !parents.contains(partition));
        let again: Vec<Lease> = (view.partitions.iter())
            .filter(|row| own(row) && !self.settled.contains_key(&row.id))
            .filter(|row| !self.lanes[LaneId::of(&row.id) as usize].readers.contains(&row.id))
            .map(|row| Lease {
                partition: row.id.clone(),
                epoch: row.epoch,
                position: row.position.clone(),
            })
            .collect();
        for lease in again.into_iter().chain(leases) {
            // One round takes a few; there may be more.
            self.upkeep.due = now;
            let (source, partition) = (&*self.run.name, &lease.partition);
            events::PartitionEvent { source, partition, what: "acquired" }.emit();
            let last_event_at = rows.get(partition).and_then(|row| row.last_event_at);
            self.lane(&lease.partition).readers.insert(lease, last_event_at, now);
        }
    }

    fn take_read(
        &mut self,
        ticket: &Ticket,
        result: Result<(Box<MappedPage>, Vec<ShardListing>)>,
    ) -> Result<()> {
        let now = self.ports.clock().now();
        if self.draining {
            return Ok(());
        }
        match result {
            Ok((mapped, children)) => {
                self.well(Stage::Read);
                let at = (now, self.ports.clock().wall());
                let (page, pace) = (&mapped.page, self.run.options.pace);
                self.budget.take(page.consumed_capacity.unwrap_or(0.0), now);
                let lane = &mut self.lanes[LaneId::of(&ticket.partition) as usize];
                let Some(lease) = lane.readers.page_read(ticket, page, at, pace) else {
                    return Ok(());
                };
                let is_shard = LaneId::of(&ticket.partition) == LaneId::Tail;
                if page.end && is_shard && children.is_empty() {
                    self.childless.insert(ticket.partition.clone());
                    self.discovery.due = now;
                }
                if page.changes.is_empty() && !page.end {
                    return Ok(());
                }
                lane.filling.add(*mapped, children, &lease, self.note_keys);
                Ok(())
            }
            Err(error) => self.take_read_failure(ticket, error, now),
        }
    }

    fn take_read_failure(&mut self, ticket: &Ticket, error: Error, now: Instant) -> Result<()> {
        let Some(failures) = self.lane(&ticket.partition).readers.read_failed(ticket) else {
            return Ok(());
        };
        let partition = &ticket.partition;
        match directive(Stage::Read, error.kind()) {
            Directive::Rederive if failures == 1 => {
                self.lane(partition).readers.schedule(partition, now);
            }
            Directive::Rederive | Directive::Retry => {
                let delay = self.retry(Stage::Read, error, failures)?;
                self.lane(partition).readers.schedule(partition, now + delay);
            }
            Directive::Gap(reason) if LaneId::of(partition) == LaneId::Tail => {
                self.gap_at(partition, reason);
            }
            Directive::Gap(_) => return Err(error),
            Directive::Reload | Directive::Bisect | Directive::Halt => return Err(error),
        }
        Ok(())
    }

    fn take_applied(&mut self, (lane, era): (LaneId, u64), outcome: Outcome) -> Result<()> {
        let Outcome { sealed, took, result } = outcome;
        let now = self.ports.clock().now();
        let lane = lane as usize;
        let applied = match result {
            Ok(applied) => applied,
            Err(error) if directive(Stage::Apply, error.kind()) == Directive::Reload => {
                self.lanes[lane].failures += 1;
                let delay = self.retry(Stage::Apply, error, self.lanes[lane].failures)?;
                self.reload(now + delay);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.lanes[lane].failures = 0;
        self.well(Stage::Apply);
        self.tell_applied(&sealed, &applied, took);
        let rejected = sealed.batch.rows.rejects.len() as u64;
        if let Some(share) = self.rejects.note(sealed.records.total(), rejected) {
            let what = format!("{:.0} % of the last records became dead letters", share * 100.0);
            return Err(Error::new(ErrorKind::Config, what).with_hint(
                "see `dynaurora dead-letters list`, mend the mapping, then restart; \
                 worker.reject_share_max is the limit",
            ));
        }
        if rejected > 0 {
            self.note_keys = true;
            self.rejected_at = Some(now);
        }
        if era != self.era {
            return Ok(());
        }
        if sealed.refused() && self.lanes.iter().any(|lane| !lane.filling.is_empty()) {
            // The pages in hand were mapped without noting their keys, and one of them may supersede a
            // dead letter of this batch: read them again.
            self.reload(now);
        }
        for advance in &sealed.batch.fence.advances {
            self.lanes[lane].readers.applied(&advance.partition, advance.last_event_at);
            if advance.drained {
                self.lanes[lane].readers.remove(&advance.partition);
                self.settled.insert(advance.partition.clone(), now);
                self.upkeep.due = now;
                let (source, partition) = (&*self.run.name, &advance.partition);
                events::PartitionEvent { source, partition, what: "drained" }.emit();
            }
        }
        Ok(())
    }

    fn gap_at(&mut self, partition: &PartitionId, reason: GapReason) {
        self.lane(partition).readers.remove(partition);
        let now = self.ports.clock().now();
        self.settled.insert(partition.clone(), now);
        let row = self.view.partitions.iter().find(|row| row.id == *partition);
        let gap = Gap {
            reason,
            stream_arn: self.stream_arn.as_deref().unwrap_or_default().to_owned(),
            partition: Some(partition.clone()),
            after: row.map(|row| row.position.clone()),
            since: row.and_then(|row| row.last_event_at),
        };
        self.record_gap(gap, self.generation);
    }

    fn record_gap(&mut self, gap: Gap, found_in: Generation) {
        let (source, reason) = (&*self.run.name, gap.reason.label());
        let (partition, halts) =
            (gap.partition.as_ref(), self.run.options.on_gap.halts(gap.reason));
        events::GapFound { source, reason, partition, halts }.emit();
        let (ports, name) = (Arc::clone(&self.ports), Arc::clone(&self.run.name));
        self.tasks.spawn(async move {
            Done::GapRecorded(ports.ledger().record_gap(&name, found_in, &gap, halts).await)
        });
    }

    fn take_gap_recorded(&mut self, result: Result<()>) -> Result<()> {
        let now = self.ports.clock().now();
        self.upkeep.due = now;
        let Err(error) = result else { return Ok(()) };
        // What showed the gap will show it again.
        self.upkeep.failures += 1;
        let delay = self.retry(Stage::Ledger, error, self.upkeep.failures)?;
        self.reload(now + delay);
        self.discovery.due = now + delay;
        Ok(())
    }

    /// Lets go of everything when the ledger says that the source is halted.
    fn follow_halt(&mut self, now: Instant) {
        let Some(reason) = self.view.halted.clone() else {
            self.halt_told = false;
            return;
        };
        if !self.halt_told {
            let reason = explained(&reason);
            events::Halted { source: &self.run.name, reason: &reason }.emit();
            self.halt_told = true;
        }
        if self.lanes.iter().any(|lane| !lane.readers.is_empty() || !lane.filling.is_empty()) {
            self.reload(now);
            self.upkeep.due = now + self.renew_every();
        }
    }
}
