//! Begins and ends loads, as the ledger's view asks for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Done, Worker};
use crate::engine::backfill::budget::RateBudget;
use crate::engine::backfill::{
    self, Backfill, Finish, Finished, LoadOptions, Step, next_step, progress,
};
use crate::engine::lane::{Lane, LaneId};
use crate::engine::ports::{Clock, Seams};
use crate::engine::retry::Stage;
use crate::error::Result;
use crate::telemetry::events;

/// How often a load that waits for an operator is looked at again: each time counts its rows.
const WAIT_FOR_OPERATOR: Duration = Duration::from_secs(60);

/// What a step of a load came to.
pub(super) enum LoadStepped {
    Begun(bool),
    Finished(Finished),
}

impl<P: Seams> Worker<P> {
    /// Starts the next step of a load, where the ledger's view shows one.
    pub(super) fn start_load_step(&mut self, now: Instant) {
        if self.draining || self.loading.running || now < self.loading.due {
            return;
        }
        let options = &self.run.options;
        let step = next_step(&self.view, self.backfill, options.on_gap);
        if step == Step::Rest {
            return;
        }
        self.loading.running = true;
        let (ports, source) = (Arc::clone(&self.ports), Arc::clone(&self.run.name));
        let generation = self.view.generation;
        if step == Step::Begin {
            let (segments, rcu_max) = (options.segments, options.rcu_max);
            let options = LoadOptions { segments, rcu_max, mapping: self.mapping };
            self.tasks.spawn(async move {
                let begun = backfill::begin(&*ports, source, generation, &options).await;
                Done::LoadStepped(begun.map(LoadStepped::Begun))
            });
            return;
        }
        let finish = Finish {
            source,
            mapper: Arc::clone(&self.run.mapper),
            generation,
            remapped: self.view.load.mapping.is_some_and(|mapping| mapping != self.mapping),
            sweeps: self.view.load.sweeps,
            confirmed: self.view.load.sweep_confirmed,
            share_max: options.sweep_share_max,
        };
        self.tasks.spawn(async move {
            let finished = backfill::finish(&*ports, &finish).await;
            Done::LoadStepped(finished.map(LoadStepped::Finished))
        });
    }

    pub(super) fn take_load_stepped(&mut self, result: Result<LoadStepped>) -> Result<()> {
        let now = self.ports.clock().now();
        let Some(stepped) = self.ended(Stage::Load, result)? else { return Ok(()) };
        // What was done shows in the ledger's next view, and until then the old one asks for it again.
        self.loading.due = now + self.renew_every();
        self.upkeep.due = now;
        let source = &*self.run.name;
        match stepped {
            LoadStepped::Begun(true) => {
                self.backfill = Backfill::Never;
                let generation = self.view.generation + 1;
                events::LoadBegun { source, generation }.emit();
            }
            LoadStepped::Finished(Finished::Ended { swept }) => {
                let generation = self.view.generation;
                events::LoadEnded { source, generation, swept }.emit();
            }
            LoadStepped::Finished(Finished::Waits(why)) => {
                self.loading.due = now + WAIT_FOR_OPERATOR;
                events::LoadWaits { source, why: &why }.emit();
                self.failing[Stage::Load as usize] = Some(format!("load: {why}"));
            }
            LoadStepped::Begun(false) | LoadStepped::Finished(Finished::NotYet) => {}
        }
        Ok(())
    }

    /// Takes note of a new view: a load that another worker began needs none of ours, and the budget of read
    /// units is shared by the workers alive.
    pub(super) fn follow_load(&mut self, now: Instant) {
        let load = self.view.load;
        if load.active && self.backfill == Backfill::Force {
            self.backfill = Backfill::Never;
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few workers")]
        let share = load.rcu_max.map(|units| units / self.view.workers.max(1) as f64);
        if self.budget_share != share {
            self.budget_share = share;
            self.budget = RateBudget::new(share, now);
        }
        if let Some(ratio) = progress(&self.view) {
            events::LoadProgress { source: &self.run.name, ratio }.emit();
        }
    }

    /// When a lane may start its next read. The tail reads whenever it can; the load waits for its budget.
    pub(super) fn reads_from(&mut self, id: LaneId, now: Instant) -> Instant {
        match id {
            LaneId::Tail => now,
            LaneId::Load => self.budget.ready_at(now),
        }
    }

    /// Whether the load stands back: while the tail has as much in hand as it may, its batches go first.
    pub(super) fn stands_back(&self, id: LaneId) -> bool {
        let tail: &Lane = &self.lanes[LaneId::Tail as usize];
        id == LaneId::Load && tail.running && tail.filling.is_full(self.run.options.limits)
    }
}
