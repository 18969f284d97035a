//! A simulated process: the real engine over gated ports. It can be killed, stopped and left to finish.

use std::sync::{Arc, Mutex};

use dynaurora::engine::ports::{Clock, ListingPage, Page, ReadFrom, Source, StreamInfo};
use dynaurora::engine::tail::freshness::SourceState;
use dynaurora::engine::{self, Ports, SourceRun};
use dynaurora::error::Result;
use dynaurora::mapping::Mapper;
use dynaurora::model::{EpochMillis, PartitionId, ShardListing, WorkerId};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::SimClock;
use super::gate::Gate;
use super::north_pole::TABLE;
use super::plan::Plan;
use super::store::Store;
use crate::contract::SOURCE;
use crate::world::{World, WorldSource};

/// What all processes share.
pub struct Surroundings {
    pub plan: Plan,
    pub clock: SimClock,
    pub world: Arc<Mutex<World>>,
    pub store: Store,
    pub mapper: Arc<Mapper>,
}

/// One running process.
pub struct Process {
    gate: Gate,
    stop: CancellationToken,
    handle: AbortHandle,
}

impl Process {
    /// Starts the engine as a worker of a new name.
    pub fn start(
        around: &Surroundings,
        (slot, life): (usize, u32),
        tasks: &mut JoinSet<(usize, u32, Result<()>)>,
        seed: u64,
    ) -> Self {
        let gate = Gate::default();
        let clock = around.clock;
        let source = WorldSource::new(Arc::clone(&around.world), TABLE)
            .with_clock(move || clock.wall())
            .with_latency(around.plan.latency_max);
        let most = around.plan.skew_millis_max;
        let skew = fastrand::Rng::with_seed(seed).i64(-most..=most);
        let store = around.store.connect(gate.clone());
        let ports = Ports {
            source: Gated { inner: source, gate: gate.clone() },
            ledger: store.clone(),
            sink: store,
            clock: Gated { inner: clock.skewed(skew), gate: gate.clone() },
        };
        let stop = CancellationToken::new();
        let run = SourceRun {
            name: SOURCE.into(),
            worker: WorkerId::new(format!("worker-{slot}-{life}")),
            mapper: Arc::clone(&around.mapper),
            options: around.plan.options,
            seed,
            status: watch::Sender::new(SourceState::default()),
        };
        let engine = engine::run(Arc::new(ports), run, stop.clone());
        let handle = tasks.spawn(async move { (slot, life, engine.await) });
        Self { gate, stop, handle }
    }

    /// Ends it at whatever it was about to do.
    pub fn kill(&self) {
        self.handle.abort();
    }

    /// Asks it to finish.
    pub fn leave(&self) {
        self.stop.cancel();
        self.stall(false);
    }

    /// Stops it like SIGSTOP, or lets it go on.
    pub fn stall(&self, stalled: bool) {
        self.gate.shut(stalled);
    }
}

/// A port that stands still while its process is stopped.
#[derive(Clone)]
struct Gated<P> {
    inner: P,
    gate: Gate,
}

impl<P> Gated<P> {
    async fn pass(&self) {
        self.gate.pass().await;
    }
}

impl<P: Source> Source for Gated<P> {
    async fn describe(&self) -> Result<StreamInfo> {
        self.pass().await;
        let answer = self.inner.describe().await;
        self.pass().await;
        answer
    }

    async fn list_shards(
        &self,
        stream_arn: &str,
        after: Option<&PartitionId>,
    ) -> Result<ListingPage> {
        self.pass().await;
        let answer = self.inner.list_shards(stream_arn, after).await;
        self.pass().await;
        answer
    }

    async fn child_shards(
        &self,
        stream_arn: &str,
        parent: &PartitionId,
    ) -> Result<Vec<ShardListing>> {
        self.pass().await;
        let answer = self.inner.child_shards(stream_arn, parent).await;
        self.pass().await;
        answer
    }

    async fn read(&self, from: &ReadFrom) -> Result<Page> {
        self.pass().await;
        let answer = self.inner.read(from).await;
        self.pass().await;
        answer
    }
}

impl<P: Clock> Clock for Gated<P> {
    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wall(&self) -> EpochMillis {
        self.inner.wall()
    }

    async fn sleep_until(&self, until: Instant) {
        self.inner.sleep_until(until).await;
        self.pass().await;
    }
}
