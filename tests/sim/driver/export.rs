//! An operator loads an export of the table: checked against the stream of that time, begun some time later.

use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::backfill::rewind::{self, DatedBackfill};
use dynaurora::engine::ports::{Clock, Ledger, Ports};
use dynaurora::engine::tail::freshness::MARGIN;
use dynaurora::error::{ErrorKind, Result};
use dynaurora::model::{EpochMillis, PartitionId, PartitionKind};

use super::Simulation;
use crate::contract::SOURCE;
use crate::sim::clock::{SimClock, pause};
use crate::sim::gate::Gate;
use crate::sim::north_pole::TABLE;
use crate::sim::store::Store;
use crate::world::WorldSource;

/// How long after its check an export's load may begin: somebody reads what the command says, or the shards
/// are not listed yet.
const BEGINS_WITHIN: Duration = Duration::from_secs(15);

impl Simulation {
    /// The table is exported as it is now, and the load of that begins after a while.
    pub(super) fn export(&mut self) {
        let after = BEGINS_WITHIN.mul_f64(self.rng.f64());
        let around = &self.around;
        let mut world = around.world.lock().unwrap();
        world.set_now(around.clock.wall());
        let Some(stream) = world.stream(TABLE) else { return };
        // Times of the stream are whole seconds.
        let margin = i64::try_from(MARGIN.as_millis()).unwrap();
        let as_of = EpochMillis(world.now().0 - margin);
        let (stream_arn, since) = (Arc::clone(&stream.arn), stream.created_at());
        if as_of < since {
            // What the check refuses.
            return;
        }
        let items: Vec<_> = world.table(TABLE).items.values().cloned().collect();
        let count = items.len() as u64;
        let number = world.exports.len();
        let name = format_args!("{count}/-/s3://exports/{number}.json.gz");
        let file = PartitionId::of_backfill(PartitionKind::File, name);
        world.exports.insert(file.clone(), items);
        drop(world);
        let mapping = around.mapper.fingerprint();
        let backfill =
            DatedBackfill { partitions: vec![file], items: count, as_of, stream_arn, mapping };
        let clock = around.clock;
        let source = WorldSource::new(Arc::clone(&around.world), TABLE)
            .with_clock(move || clock.wall())
            .with_latency(around.plan.latency_max);
        let store = around.store.connect(Gate::default());
        let ports = Ports { source, ledger: store.clone(), sink: store, clock };
        let store = ports.ledger.clone();
        self.exports.spawn(async move {
            pause(clock, after).await;
            // What is refused, or fails, is the operator's to try again.
            match begin(&ports, backfill).await {
                Ok(true) => store.count("loads of exports begun"),
                Err(error) if error.kind() == ErrorKind::Config => {
                    store.count("exports refused for the stream that they met");
                }
                Ok(false) | Err(_) => {}
            }
        });
    }
}

async fn begin(
    ports: &Ports<WorldSource, Store, Store, SimClock>,
    backfill: DatedBackfill,
) -> Result<bool> {
    let view = ports.ledger.view(SOURCE).await?;
    if view.backfill.active {
        return Ok(false);
    }
    rewind::begin(ports, SOURCE.into(), view.generation, backfill).await
}
