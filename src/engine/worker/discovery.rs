//! Discovery: what the stream is, and which shards it has.

use std::sync::Arc;

use tokio::time::Instant;

use super::state::{News, Worker};
use crate::engine::jobs::Job;
use crate::engine::phase::{Phase, Stream};
use crate::engine::ports::{PartitionState, Seams};
use crate::engine::retry::Stage;
use crate::engine::tail::discovery::{Discovered, Survey, discover};
use crate::telemetry::events;

impl<P: Seams> Worker<P> {
    pub(super) fn start_discovery(&mut self) {
        let survey = Survey {
            source: Arc::clone(&self.run.name),
            worker: self.run.worker.clone(),
            mapper: Arc::clone(&self.run.mapper),
            stream_arn: self.phase.stream().map(|stream| Arc::clone(&stream.arn)),
            generation: self.phase.generation(),
            drained: self.is_drained(),
            every: (Job::Discovery.row().every)(&self.rhythm()),
            lease_ttl: self.run.options.lease_ttl,
            on_gap: self.run.options.on_gap,
        };
        let ports = Arc::clone(&self.ports);
        self.spawn(
            Job::Discovery,
            async move { discover(&*ports, survey).await.map(News::Discovered) },
        );
    }

    /// The ledger knows nothing of the source: it is enrolled again, like a new one.
    pub(super) fn begin_again(&mut self, resume_at: Instant) {
        self.phase.restart();
        self.view = Arc::default();
        self.reload(resume_at);
        self.jobs.due_at(Job::Discovery, resume_at);
    }

    pub(super) fn take_discovered(&mut self, found: Discovered, now: Instant) {
        let Discovered { stream_arn, generation, listed, gap, ended } = found;
        let starting = self.phase == Phase::Starting;
        if listed || starting {
            self.jobs.due_at(Job::Upkeep, now);
        }
        if let Some(gap) = gap {
            self.record_gap(gap, generation);
        }
        if let Some(why) = &ended {
            self.told.fails(Stage::Discover, why);
        }
        if self.told.ends(ended.is_some()) {
            let (source, why) = (&*self.run.name, ended.as_deref());
            events::StreamEnded { source, why }.emit();
        }
        if starting {
            self.phase.begin(Stream { arn: stream_arn, generation });
        }
    }

    /// Whether every known shard is at its end: so it is for a moment where a single shard rolls over, and
    /// for good where the stream is disabled.
    fn is_drained(&self) -> bool {
        let mut shards = self.view.partitions.iter().filter(|row| row.id.is_shard()).peekable();
        shards.peek().is_some() && shards.all(|row| row.state != PartitionState::Open)
    }
}
