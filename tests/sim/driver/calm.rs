//! The end of a run: nothing fails any more and nobody writes; how long until all is in step, and shared.

use std::time::Duration;

use dynaurora::engine::OnGap;
use dynaurora::engine::backfill::Backfill;
use dynaurora::engine::ports::{Clock, PartitionState};
use dynaurora::model::Position;
use tokio::time::Instant;

use super::Simulation;
use crate::contract::SOURCE;
use crate::sim::checker::{Invariant, Violation};
use crate::sim::store::{Knobs, Store};
use crate::world::Faults;

impl Simulation {
    /// Everything is well again and nobody writes: the target must come in step within the bound.
    pub(super) async fn calm(&mut self) -> (Duration, Option<Duration>) {
        let plan = &self.around.plan;
        let knobs = plan.store;
        self.around.store.set_faults(
            Knobs {
                refuses: knobs.refuses,
                sabotage: knobs.sabotage,
                page_waits: knobs.page_waits,
                ..Knobs::default()
            },
            0,
        );
        self.world(|world| world.faults = Faults::default());
        for slot in 0..self.slots.len() {
            match &self.slots[slot].1 {
                Some(process) => process.stall(false),
                None => self.start(slot),
            }
        }
        // What is to begin has begun.
        while self.exports.join_next().await.is_some() {}
        self.observe(true);
        let began = self.around.clock.now();
        let end = began + self.around.plan.calm_max;
        let quiet_since = Some(self.around.clock.wall());
        let told = |store: &Store| store.synced_up_to(SOURCE) > quiet_since;
        while !(self.in_step() && told(&self.around.store)) && self.around.clock.now() < end {
            let next = self.around.clock.now() + Duration::from_millis(500);
            self.around.clock.sleep_until(next).await;
            self.gather();
            if !self.violations.is_empty() || self.is_halted() {
                break;
            }
        }
        let lag = self.around.clock.now() - began;
        let balanced = self.balance(began).await;
        if self.violations.is_empty() && self.in_step() && !self.is_halted() {
            self.last_verification().await;
        }
        if !told(&self.around.store) && !self.is_halted() {
            let what = "in step, but it is not said so".to_owned();
            self.violations.push(Violation { invariant: Invariant::Fresh, entry: None, what });
        }
        for (_, process) in &self.slots {
            if let Some(process) = process {
                process.leave();
            }
        }
        let bound = self.around.clock.now() + self.around.plan.calm_max;
        while !self.tasks.is_empty() && self.around.clock.now() < bound {
            let next = self.around.clock.now() + Duration::from_millis(100);
            self.around.clock.sleep_until(next).await;
            self.gather();
        }
        if !self.tasks.is_empty() {
            let what = "a worker did not leave when it was asked to".to_owned();
            self.violations.push(Violation {
                invariant: Invariant::Convergence,
                entry: None,
                what,
            });
        }
        (lag, balanced)
    }

    /// Waits until every worker has its share and nothing is free; I11.
    async fn balance(&mut self, since: Instant) -> Option<Duration> {
        let within = self.around.plan.balanced_within?;
        loop {
            let shares = self.around.store.shares(SOURCE);
            let workers = shares.len().saturating_sub(1);
            let share = shares.iter().sum::<usize>().div_ceil(workers.max(1));
            let fair = shares.first() == Some(&0) && shares.iter().all(|own| *own <= share);
            let took = self.around.clock.now() - since;
            if fair && workers == self.slots.len() {
                return Some(took);
            }
            if took > within {
                let what = format!("after {took:?} the workers have {shares:?}");
                let violation = Violation { invariant: Invariant::Convergence, entry: None, what };
                self.violations.push(violation);
                return None;
            }
            let next = self.around.clock.now() + Duration::from_millis(500);
            self.around.clock.sleep_until(next).await;
        }
    }

    /// Whether a gap has ended the run: one that no load repairs.
    fn is_halted(&self) -> bool {
        let halts = self.around.plan.options.on_gap == OnGap::Halt;
        halts && !self.around.store.gaps(SOURCE).is_empty()
    }

    /// Whether every shard is applied to its end, and no load is under way.
    fn in_step(&self) -> bool {
        let store = &self.around.store;
        let positions = store.positions(SOURCE);
        let wants_load = self.around.plan.options.backfill == Backfill::Auto;
        let backfilling_state = store.loads(SOURCE) || (wants_load && !store.loaded(SOURCE));
        if backfilling_state || !(store.gaps(SOURCE).is_empty() || self.is_halted()) {
            return false;
        }
        self.truth.shards.iter().all(|(id, shard)| {
            if store.loaded(SOURCE) && shard.dropped_at.is_some() {
                return true;
            }
            let Some((position, state)) = positions.get(id) else {
                return shard.dropped_at.is_some();
            };
            let read = match (shard.records.last(), position) {
                (None, _) => true,
                (Some(last), Position::After(done)) => *done >= last.sequence,
                (Some(_), _) => false,
            };
            read && (!shard.closed || *state != PartitionState::Open)
        })
    }
}
