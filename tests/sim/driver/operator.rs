//! An operator beside the daemons: somebody damages rows, and verifications find and repair it.

use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::ports::{Clock, PartitionState};
use dynaurora::error::Result;
use dynaurora::ops::ports::Parties;
use dynaurora::ops::verify::context::{Context, Subject};
use dynaurora::ops::verify::{self, Options, Verified};

use super::Simulation;
use crate::contract::SOURCE;
use crate::sim::checker::{Invariant, Violation};
use crate::sim::gate::Gate;
use crate::sim::north_pole::TABLE;
use crate::sim::process::Surroundings;
use crate::world::WorldSource;

/// How often the last repair is tried: a row may move, or a lock not be had.
const REPAIRS_MAX: u32 = 5;

impl Simulation {
    /// Somebody changes a row by hand.
    pub(super) fn damage(&mut self) {
        let nameless = !self.around.plan.oddities.rejects;
        self.around.store.damage(&mut self.rng, nameless);
    }

    /// Somebody runs `verify --repair`, and may kill it in the middle.
    pub(super) fn verify(&mut self) {
        let seed = self.rng.u64(..);
        let killed_after =
            (self.rng.u8(..3) == 0).then(|| Duration::from_millis(self.rng.u64(10..8_000)));
        let verifying = verified(&self.around, true, seed);
        let operation = async move {
            // What ended it, a failure or somebody's hand, is no matter: nothing may be left half done.
            match killed_after {
                Some(after) => drop(tokio::time::timeout(after, verifying).await),
                None => drop(verifying.await),
            }
        };
        self.operators.spawn(operation);
    }

    /// All is well and in step: what was damaged is repaired, and then nothing is found any more.
    pub(super) async fn last_verification(&mut self) {
        while self.operators.join_next().await.is_some() {}
        if self.unreadable() {
            return;
        }
        if self.around.plan.every.damage.is_some() {
            for _ in 0..REPAIRS_MAX {
                let seed = self.rng.u64(..);
                let verified = verified(&self.around, true, seed).await;
                if verified.is_ok_and(|own| own.found.mismatched() == own.found.repaired()) {
                    break;
                }
            }
        }
        let what = match verified(&self.around, false, self.rng.u64(..)).await {
            Err(error) => format!("the last verification failed: {}", error.chain()),
            Ok(Verified { found, .. }) => {
                let (differ, undecided) = (found.mismatched(), found.settled.undecided);
                if differ + undecided == 0 {
                    return;
                }
                let drift = found.settled.drift.first();
                format!("{differ} rows differ and {undecided} are undecided: {drift:?}")
            }
        };
        self.violations.push(Violation { invariant: Invariant::Convergence, entry: None, what });
    }

    /// Whether there were records that nobody could read, and no load has read their items.
    fn unreadable(&self) -> bool {
        let store = &self.around.store;
        let positions = store.positions(SOURCE);
        let unseen = self.truth.shards.iter().any(|(id, shard)| {
            let known = positions.get(id).is_some_and(|(_, state)| *state != PartitionState::Lost);
            !shard.records.is_empty() && !known
        });
        unseen && !store.loaded(SOURCE)
    }
}

/// One verification, over connections of its own.
fn verified(
    around: &Surroundings,
    repair: bool,
    seed: u64,
) -> impl Future<Output = Result<Verified>> + Send + use<> {
    let clock = around.clock;
    let items = WorldSource::new(Arc::clone(&around.world), TABLE)
        .with_clock(move || clock.wall())
        .with_latency(around.plan.latency_max);
    let store = around.store.connect(Gate::default());
    let sides = Parties { items, ledger: store.clone(), target: store, clock };
    let mapper = Arc::clone(&around.mapper);
    let subject = Subject { name: SOURCE.into(), mapper, max_rcu: None, seed };
    async move {
        let context = Arc::new(Context::open(sides, subject).await?);
        let options = Options {
            table: None,
            sample: None,
            repair,
            segments: 2,
            lag: Duration::from_millis(500),
        };
        verify::verify(&context, &options, &()).await
    }
}
