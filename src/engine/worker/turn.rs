//! The loop. Each turn starts all that the table of timers says is due, then waits.
//!
//! Priorities, highest first: 1. the stop signal; 2. answers of tasks; 3. the next due time.

use std::future::pending;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::state::{Done, Worker};
use crate::engine::agenda::{Agenda, LaneAgenda};
use crate::engine::jobs::Conditions;
use crate::engine::lane::LaneId;
use crate::engine::ports::{Clock, Ledger, LedgerView, Seams};
use crate::engine::retry::remedy;
use crate::engine::timers::Timer;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Halt;
use crate::telemetry::{events, metrics};

/// What a turn of the loop came to.
struct Started {
    /// How many things were begun.
    count: usize,
    /// When the loop must turn even without an answer.
    wake: Option<Instant>,
}

impl<P: Seams> Worker<P> {
    /// Runs the source until `stop` is cancelled and what is in hand is applied, or until it halts.
    pub(crate) async fn drive(mut self, stop: CancellationToken) -> Result<()> {
        metrics::start(&self.run.name, &self.tables.names);
        let mut woken = false;
        loop {
            let now = self.ports.clock().now();
            let Started { count, wake } = self.start_due(now);
            debug_assert!(count > 0 || !woken, "the loop woke by itself and nothing was due");
            if self.phase.is_draining() && self.hand.is_idle() {
                return self.leave().await;
            }
            woken = false;
            let turned = tokio::select! {
                biased;
                () = stop.cancelled(), if !self.phase.is_draining() => {
                    self.phase.drain();
                    Ok(())
                }
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.take(done),
                    Err(panic) => Err(Error::new(ErrorKind::Unknown, "a task of the worker died")
                        .with_source(panic)),
                },
                () = sleep(self.ports.clock(), wake) => {
                    woken = true;
                    Ok(())
                }
            };
            if let Err(error) = turned {
                return self.halt(error).await;
            }
        }
    }

    /// Starts all that is due; one table says what that is, and when there will be more.
    fn start_due(&mut self, now: Instant) -> Started {
        let mut count = 0;
        loop {
            let timers = self.agenda(now).timers();
            let Some(timer) = timers.expired(now).next() else {
                return Started { count, wake: timers.next_due() };
            };
            if !self.start(timer, now) {
                debug_assert!(false, "{timer:?} was due, and could not start");
                return Started { count, wake: timers.next_due() };
            }
            count += 1;
        }
    }

    fn agenda(&self, now: Instant) -> Agenda<'_> {
        let (seen, step) = (self.view.generation > 0, self.backfilling.step());
        Agenda {
            conditions: Conditions { phase: &self.phase, seen, step },
            jobs: &self.jobs,
            resume_at: self.hand.resume_at(),
            lease_deadline: self.lease_deadline,
            lanes: LaneId::ALL.map(|id| self.lane_agenda(id, now)),
        }
    }

    fn lane_agenda(&self, id: LaneId, now: Instant) -> LaneAgenda {
        let (lane, limits) = (self.hand.lane(id), self.run.options.limits);
        let reads_at = lane.readers.next_due().filter(|_| !lane.filling.is_full(limits));
        LaneAgenda {
            held: !lane.readers.is_empty(),
            left: lane.left().next().is_some(),
            applies: lane.can_apply(),
            reads_at: match id {
                LaneId::Tail => reads_at,
                // While the tail has as much in hand as it may, its batches go first.
                LaneId::Backfill => {
                    let tail = self.hand.lane(LaneId::Tail);
                    let stands_back = tail.is_applying() && tail.filling.is_full(limits);
                    let due = reads_at.filter(|_| !stands_back);
                    due.map(|due| due.max(self.backfilling.ready_at(now)))
                }
            },
        }
    }

    /// Starts what is due, which ends what its timer stood for. Whether it could be started.
    fn start(&mut self, timer: Timer, now: Instant) -> bool {
        match timer {
            Timer::LeaseDeadline => self.lose_leases(now),
            Timer::Job(job) => self.start_job(job, now),
            Timer::GiveBack => self.give_back_left(now),
            Timer::Apply(id) => return self.start_apply(id),
            Timer::Read(id) => return self.start_read(id, now),
        }
        true
    }

    /// Takes the answer of one task.
    fn take(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Job(job, result) => self.take_job(job, result),
            Done::Read { ticket, result } => self.take_read(&ticket, result),
            Done::Applied(lane, ended) => self.take_applied(lane, ended),
            Done::GapRecorded(result) => self.take_gap_recorded(result),
            Done::Released(result) => self.take_released(result),
        }
    }

    /// Ends a drain: releases everything. If that fails, the leases expire.
    async fn leave(&mut self) -> Result<()> {
        self.tasks.abort_all();
        self.tell_status(self.ports.clock().now());
        let leases = self.hand.leases();
        let (name, worker) = (&self.run.name, &self.run.worker);
        if let Err(error) = self.ports.ledger().release(name, worker, &leases, true).await {
            tracing::warn!(error = %error.chain(), "leases were not released and will expire");
        }
        Ok(())
    }

    /// Ends the source: says why, and shows others that its leases are free.
    async fn halt(mut self, error: Error) -> Result<()> {
        let remedy = error.hint().unwrap_or_else(|| remedy(error.kind()));
        let reason = format!("{}; {remedy}", error.chain());
        events::Halted { source: &self.run.name, reason: &reason }.emit();
        // The last publication must still show the halt.
        let halted = Some(Halt::Other(reason.clone()));
        self.view = Arc::new(LedgerView { halted, ..(*self.view).clone() });
        self.leave().await?;
        let (name, worker) = (&self.run.name, &self.run.worker);
        if let Err(error) = self.ports.ledger().note_halt(name, worker, &reason).await {
            tracing::warn!(error = %error.chain(), "the ledger does not know of the halt");
        }
        Err(error)
    }
}

async fn sleep<C: Clock>(clock: &C, wake: Option<Instant>) {
    match wake {
        Some(wake) => clock.sleep_until(wake).await,
        None => pending().await,
    }
}
