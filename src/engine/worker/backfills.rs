//! Backfills: begun and ended, as the ledger's view asks for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::{News, Worker};
use crate::engine::backfill::{self, BackfillOptions, Finish, Finished, Step, progress};
use crate::engine::jobs::Job;
use crate::engine::ports::Seams;
use crate::engine::retry::Stage;
use crate::telemetry::events;

/// How often a backfill that waits for an operator is checked again: each check counts its rows.
const WAIT_FOR_OPERATOR: Duration = Duration::from_secs(60);

impl<P: Seams> Worker<P> {
    /// Starts the next step of a backfill.
    pub(super) fn start_backfill_step(&mut self) {
        let (ports, source) = (Arc::clone(&self.ports), Arc::clone(&self.run.name));
        let (options, mapping) = (&self.run.options, self.tables.mapping);
        let (generation, backfill) = (self.view.generation, self.view.backfill);
        match self.backfilling.step() {
            Step::Rest => debug_assert!(false, "there is no step to do"),
            Step::Begin => {
                let (segments, rcu_max) = (options.segments, options.rcu_max);
                let options = BackfillOptions { segments, rcu_max, mapping };
                self.spawn(Job::BackfillStep, async move {
                    let begun = backfill::begin(&*ports, source, generation, &options).await;
                    begun.map(News::BackfillBegun)
                });
            }
            Step::Finish => {
                let finish = Finish {
                    source,
                    mapper: Arc::clone(&self.run.mapper),
                    generation,
                    remapped: backfill.mapping.is_some_and(|begun_with| begun_with != mapping),
                    sweeps: backfill.sweeps,
                    confirmed: backfill.sweep_confirmed,
                    share_max: options.sweep_share_max,
                };
                self.spawn(Job::BackfillStep, async move {
                    backfill::finish(&*ports, &finish).await.map(News::BackfillFinished)
                });
            }
        }
    }

    pub(super) fn take_backfill_begun(&mut self, begun: bool, now: Instant) {
        self.jobs.due_at(Job::Upkeep, now);
        if begun {
            self.backfilling.begun(&self.view);
            let (source, generation) = (&*self.run.name, self.view.generation + 1);
            events::BackfillBegun { source, generation }.emit();
        }
    }

    pub(super) fn take_backfill_finished(&mut self, finished: Finished, now: Instant) {
        self.jobs.due_at(Job::Upkeep, now);
        let (source, generation) = (&*self.run.name, self.view.generation);
        match finished {
            Finished::Ended { swept } => events::BackfillEnded { source, generation, swept }.emit(),
            Finished::Waits(why) => {
                self.jobs.due_at(Job::BackfillStep, now + WAIT_FOR_OPERATOR);
                events::BackfillWaits { source, why: &why }.emit();
                self.told.fails(Stage::Backfill, &why);
            }
            Finished::NotYet => {}
        }
    }

    /// Takes note of a new view.
    pub(super) fn follow_backfill(&mut self, now: Instant) {
        self.backfilling.follow(&self.view, now);
        if let Some(ratio) = progress(&self.view) {
            events::BackfillProgress { source: &self.run.name, ratio }.emit();
        }
    }
}
