//! What one worker does about backfills: what comes next, and the read units that it may take.

use tokio::time::Instant;

use super::backfill::budget::RateBudget;
use super::backfill::{Step, next_step};
use super::options::{Backfill, OnGap};
use super::ports::LedgerView;
use crate::model::Generation;

/// Its wish for a backfill, the next step, and its share of the read units.
#[derive(Debug)]
pub(super) struct Backfilling {
    /// What this worker still wants to backfill by itself.
    wish: Backfill,
    /// The generation that the backfill of this worker replaces, once the ledger has said that it began.
    replaces: Option<Generation>,
    on_gap: OnGap,
    step: Step,
    share: Option<f64>,
    budget: RateBudget,
}

impl Backfilling {
    /// Nothing is known of the ledger yet.
    pub(super) fn new(wish: Backfill, on_gap: OnGap, now: Instant) -> Self {
        let budget = RateBudget::new(None, now);
        Self { wish, replaces: None, on_gap, step: Step::Rest, share: None, budget }
    }

    /// What comes next, as the newest view shows it.
    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// Takes a new view: if another worker began a backfill, we need not, and the living workers share the
    /// budget of read units.
    pub(super) fn follow(&mut self, view: &LedgerView, now: Instant) {
        let begun = self.replaces.is_some_and(|replaced| view.generation > replaced);
        if self.wish == Backfill::Force && (begun || view.backfill.active) {
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

    /// This worker has begun a backfill. Its wish is fulfilled once a view shows that: a database that fails
    /// over may lose the commit, and then the backfill is begun again.
    pub(super) fn begun(&mut self, view: &LedgerView) {
        self.replaces = Some(view.generation);
        self.step = Step::Rest;
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;
    use crate::engine::ports::BackfillView;

    fn view(generation: Generation, backfill: BackfillView) -> LedgerView {
        LedgerView { generation, listed: true, backfill, ..LedgerView::default() }
    }

    #[test]
    fn a_begin_that_the_database_lost_is_made_again_and_one_that_holds_is_not() {
        let now = Instant::now();
        let none = BackfillView::default();
        for wish in [Backfill::Auto, Backfill::Force] {
            let mut own = Backfilling::new(wish, OnGap::Halt, now);
            own.follow(&view(1, none), now);
            assert_eq!(own.step(), Step::Begin);
            own.begun(&view(1, none));
            assert_eq!(own.step(), Step::Rest);
            own.follow(&view(1, none), now);
            assert_eq!(own.step(), Step::Begin, "{wish:?}: the ledger does not know of it");
            own.begun(&view(1, none));
            let ended = BackfillView { loaded: true, ..none };
            own.follow(&view(2, ended), now);
            assert_eq!(own.step(), Step::Rest, "{wish:?}: it began, and was over before we looked");
        }
    }
}
