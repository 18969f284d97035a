//! Two daemons share the shards of one stream while it rolls over and splits, and one of them dies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynaurora::demo::santa::TABLE;
use dynaurora::engine::ports::{Clock, StreamView};
use dynaurora::model::Item;
use dynaurora::runtime::SystemClock;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::daemon::Daemon;
use super::stage::{Partition, SOON_SECS, Setting, Stage, pause, within};
use crate::world::{World, WorldServer};

/// Between two writes.
const WRITE_EVERY: Duration = Duration::from_millis(4);
/// Writes between two changes of the shards.
const WRITES_PER_ROTATION: u32 = 120;
/// As many shards as this are open at most; from then on they only roll over.
const OPEN_SHARDS_MAX: usize = 8;

#[tokio::test]
async fn two_share_the_shards_and_the_survivor_takes_them_over() {
    let mut life = Life::of(11, 3);
    {
        let mut world = life.server.world();
        world.faults.late_end = 0.5;
        world.faults.listing_delay_millis = 200;
    }
    let stage = Stage::with(Setting { endpoint: life.endpoint(), ..Setting::default() }).await;

    let mut one = stage.daemon();
    let mut other = stage.daemon();
    within(SOON_SECS, "both read shards", async || {
        one.still_runs();
        other.still_runs();
        let ledger = look(&stage).await;
        let has = |daemon: &Daemon| open(&ledger).any(|row| daemon.owns(row.owner.as_deref()));
        (has(&one) && has(&other)).then_some(())
    })
    .await;
    drained_more(&stage, 4).await;
    one.readyz(200).await;
    other.readyz(200).await;

    one.kill().await;
    within(SOON_SECS, "the survivor reads all that is open", async || {
        other.still_runs();
        let ledger = look(&stage).await;
        let mut owned = open(&ledger).filter(|row| row.owner.is_some());
        owned.all(|row| other.owns(row.owner.as_deref())).then_some(())
    })
    .await;
    drained_more(&stage, 3).await;

    let mut third = stage.daemon();
    within(SOON_SECS, "the newcomer gets its share", async || {
        third.still_runs();
        let ledger = look(&stage).await;
        open(&ledger).any(|row| third.owns(row.owner.as_deref())).then_some(())
    })
    .await;
    drained_more(&stage, 3).await;
    other.stop().await;
    life.end().await;
    let found = stage.converge().await;
    assert!(found.rows > 20, "{found:?}");
    assert_eq!(stage.number("select count(*) from dynaurora.gaps").await, 0);
    assert_eq!(stage.number("select count(*) from dynaurora.dead_letters").await, 0);
    third.readyz(200).await;
    third.stop().await;
    assert!(open(&look(&stage).await).all(|row| row.owner.is_none()));
}

/// The partitions that are read.
pub(super) fn open(ledger: &[Partition]) -> impl Iterator<Item = &Partition> {
    ledger.iter().filter(|row| row.state == "open")
}

/// The ledger; whenever it is looked at, no child is ahead of its parent's end (I3).
pub(super) async fn look(stage: &Stage) -> Vec<Partition> {
    let ledger = stage.ledger().await;
    if !ledger.is_empty() {
        let sql = "select count(*) from dynaurora.partitions child \
                   join dynaurora.partitions parent on parent.partition = child.parent \
                   where child.position like 'after:%' and parent.state = 'open'";
        assert_eq!(stage.number(sql).await, 0, "a child ran ahead of its parent");
    }
    ledger
}

/// Waits until so many more shards were read to their end.
async fn drained_more(stage: &Stage, more: usize) {
    let drained = async || look(stage).await.iter().filter(|row| row.state == "drained").count();
    let before = drained().await;
    within(SOON_SECS, &format!("{more} more shards are drained"), async || {
        (drained().await >= before + more).then_some(())
    })
    .await;
}

/// A world with one table that is written to and whose shards change, from its start to its end.
pub(super) struct Life {
    server: Arc<WorldServer>,
    ending: CancellationToken,
    living: JoinSet<()>,
}

impl Life {
    pub(super) fn of(seed: u64, shards: usize) -> Self {
        let mut world = World::new(seed);
        world.set_now(SystemClock.wall());
        world.initial_shards = shards;
        world.create_table(TABLE, &["pk", "sk"], StreamView::NewAndOldImages);
        let server = Arc::new(WorldServer::start(Arc::new(Mutex::new(world))));
        let ending = CancellationToken::new();
        let mut living = JoinSet::new();
        living.spawn(live(Arc::clone(&server), ending.clone()));
        Self { server, ending, living }
    }

    /// What a stage has as its endpoint.
    pub(super) fn endpoint(&self) -> Option<String> {
        Some(self.server.endpoint().to_owned())
    }

    /// Lets it come to rest; the server stays.
    pub(super) async fn end(&mut self) {
        self.ending.cancel();
        self.living.join_next().await.unwrap().unwrap();
    }
}

/// Writes, and lets the shards change, until it is told to stop.
async fn live(server: Arc<WorldServer>, stop: CancellationToken) {
    let mut random = fastrand::Rng::with_seed(5);
    let mut writes = 0_u32;
    while !stop.is_cancelled() {
        {
            let mut world = server.world();
            world.set_now(SystemClock.wall());
            write(&mut world, &mut random, writes);
            writes += 1;
            if writes.is_multiple_of(WRITES_PER_ROTATION) {
                change_shards(&mut world);
            }
        }
        pause(WRITE_EVERY).await;
    }
    // Time goes on, or what is delayed would never show.
    let mut world = server.world();
    world.advance(Duration::from_secs(1));
}

pub(super) fn change_shards(world: &mut World) {
    let stream = world.stream(TABLE).unwrap();
    let open: Vec<_> = stream.open_shards().map(|shard| shard.id.clone()).collect();
    if open.len() < OPEN_SHARDS_MAX {
        world.rotate(TABLE);
    } else {
        world.rollover(TABLE, &open[0]);
    }
}

fn write(world: &mut World, random: &mut fastrand::Rng, number: u32) {
    let pk = json!({ "S": format!("CHILD#{}", random.u8(0..50)) });
    let letter = random.bool();
    let sk = if letter { format!("LETTER#2026#{}", random.u8(0..3)) } else { "PROFILE".into() };
    let sk = json!({ "S": sk });
    if random.u8(0..6) == 0 {
        world.delete(TABLE, &item(json!({ "pk": pk, "sk": sk })));
        return;
    }
    let toys: Vec<_> = (0..random.u8(0..4))
        .map(|toy| json!({ "M": { "sku": { "S": format!("toy {toy} of {number}") } } }))
        .collect();
    let image = if letter {
        json!({ "pk": pk, "sk": sk, "sentAt": { "S": "2026-12-01T08:00:00Z" },
                "status": { "S": "P" }, "toys": { "L": toys } })
    } else {
        json!({ "pk": pk, "sk": sk, "name": { "S": format!("Noor {number}") },
                "upd": { "N": world.now().0.to_string() } })
    };
    world.put(TABLE, item(image));
}

pub(super) fn item(json: serde_json::Value) -> Item {
    serde_json::from_value(json).unwrap()
}
