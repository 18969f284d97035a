//! What one worker does about loads: what comes next, and the read units that it may take.

use tokio::time::Instant;

use super::backfill::budget::RateBudget;
use super::backfill::{Step, next_step};
use super::options::{Backfill, OnGap};
use super::ports::LedgerView;

/// Its wish for a backfill, the next step, and its share of the read units.
#[derive(Debug)]
pub(super) struct Backfilling {
    /// What this worker still wants to backfill by itself.
    wish: Backfill,
    on_gap: OnGap,
    step: Step,
    share: Option<f64>,
    budget: RateBudget,
}

impl Backfilling {
    /// Nothing is known of the ledger yet.
    pub(super) fn new(wish: Backfill, on_gap: OnGap, now: Instant) -> Self {
        let budget = RateBudget::new(None, now);
        Self { wish, on_gap, step: Step::Rest, share: None, budget }
    }

    /// What comes next, as the newest view shows it.
    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// Takes a new view: if another worker began a backfill, we need not, and the living workers share the
    /// budget of read units.
    pub(super) fn follow(&mut self, view: &LedgerView, now: Instant) {
        if view.backfill.active && self.wish == Backfill::Force {
            self.wish = Backfill::Never;
        }
        self.step = next_step(view, self.wish, self.on_gap);
        #[expect(clippy::cast_precision_loss, reason = "there are few workers")]
        let share = view.backfill.rcu_max.map(|units| units / view.workers.max(1) as f64);
        if self.share != share {
            self.share = share;
            self.budget = RateBudget::new(share, now);
        }
    }

    /// This worker has begun a backfill: its wish is fulfilled.
    pub(super) fn begun(&mut self, view: &LedgerView) {
        self.wish = Backfill::Never;
        self.step = next_step(view, self.wish, self.on_gap);
    }

    /// When the next page may be asked for.
    pub(super) fn ready_at(&self, now: Instant) -> Instant {
        self.budget.ready_at(now)
    }

    /// Takes what a page consumed.
    pub(super) fn take(&mut self, units: f64, now: Instant) {
        self.budget.take(units, now);
    }
}
