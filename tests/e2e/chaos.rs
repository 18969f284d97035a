//! A fleet of three under all faults of processes, network and database at once, amid writes at full speed
//! and shards that split; then quiet, and source and target are compared in full.
//!
//! `DYNAURORA_CHAOS_SECS=900` lets it go on for so long; `DYNAURORA_CHAOS_SEED` chooses the faults.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use dynaurora::demo::compare::full_comparison;
use dynaurora::demo::santa::TABLE;
use dynaurora::engine::ports::{Clock, StreamView};
use dynaurora::model::SequenceNumber;
use dynaurora::runtime::SystemClock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fleet::Fleet;
use super::kill::number;
use super::sharing::{change_shards, look};
use super::stage::{Setting, Stage, pause};
use crate::world::{Faults, World, WorldServer};

/// How long faults go on unless it is said.
const CHAOS_SECS: u64 = 20;
/// Between two faults, at most.
const FAULT_EVERY_MILLIS_MAX: u64 = 900;
/// Between two changes of the shards.
const SHARDS_EVERY: Duration = Duration::from_millis(1_500);
/// Between two looks of the world at the clock.
const WORLD_EVERY: Duration = Duration::from_millis(20);
/// Writers, each of which waits only for the answer to its last write.
const WRITERS: u64 = 3;
/// How much longer a shard may take that was omitted from listings.
const IN_STEP_WITHIN: Duration = Duration::from_secs(60);
/// Children that are written about: few, so that changes of one key often meet.
const CHILDREN: u32 = 400;

#[tokio::test]
async fn a_fleet_under_every_fault_at_once_converges() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let secs = number("DYNAURORA_CHAOS_SECS").unwrap_or(CHAOS_SECS);
    let seed = number("DYNAURORA_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(0..1 << 32));
    eprintln!("chaos test: seed {seed}, {secs} s");
    let dynamo = Arc::new(Mutex::new(world(seed)));
    let world = Arc::new(WorldServer::start(Arc::clone(&dynamo)));
    let server = Fleet::server().await;
    let endpoint = Some(world.endpoint().to_owned());
    let setting = Setting { endpoint, server: Some(Arc::clone(&server)), ..Setting::default() };
    let stage = Stage::with(setting).await;
    let mut life = Life::start(&stage, &world, seed);
    let mut fleet = Fleet::start(&stage, server, seed).await;
    let mut witness = Witness::default();
    fleet.settles(&stage).await;

    let mut random = fastrand::Rng::with_seed(!seed);
    let end = SystemClock.now() + Duration::from_secs(secs);
    while SystemClock.now() < end {
        pause(Duration::from_millis(random.u64(100..FAULT_EVERY_MILLIS_MAX))).await;
        fleet.tend(&stage).await;
        fleet.nothing_needs_a_person();
        fleet.strike(&stage).await;
        witness.looks(&stage).await;
    }
    let quiet = SystemClock.now();
    let applied = witness.records(&stage).await;
    let writes = life.stop_writing().await;
    fleet.rest(&stage).await;
    // Whoever compares has none of the daemons' patience.
    dynamo.lock().unwrap().faults = Faults::default();
    fleet.settles(&stage).await;
    let owned = quiet.elapsed();

    // The ledger's own word that all is there is the sign to look (I12).
    let promise = format!(
        "select dynaurora.wait_for('santa', clock_timestamp(), interval '{} s')::int::bigint",
        60 + secs
    );
    assert_eq!(stage.number(&promise).await, 1, "the fleet does not catch up");
    let caught_up = quiet.elapsed();
    // Whoever compares is not under test.
    world.world().faults = Faults::default();
    let (source, mapper) = (stage.source().await, &stage.plan().mapper);
    // A listing that omits a shard, as this service's do, may have made the ledger's word an early one.
    let mut found = full_comparison(&source, mapper, &stage.pool).await.unwrap();
    while found.mismatches > 0 && quiet.elapsed() < caught_up + IN_STEP_WITHIN {
        pause(WORLD_EVERY).await;
        found = full_comparison(&source, mapper, &stage.pool).await.unwrap();
    }
    assert_eq!(found.mismatches, 0, "{:#?}", found.examples);
    witness.looks(&stage).await;
    assert_eq!(stage.number("select count(*) from dynaurora.dead_letters").await, 0);
    assert_eq!(stage.number("select count(*) from dynaurora.gaps").await, 0);
    life.end().await;
    let faults = fleet.stop().await;
    let told = told(&stage);
    assert!(told.keys().all(|what| !what.starts_with("ERROR")), "{told:?}");
    eprintln!(
        "chaos test: seed {seed}: {} faults in {secs} s: {faults:?}\n\
         chaos test: the daemons noticed: {told:?}\n\
         chaos test: {writes} writes, {applied} applied amid the faults, {} shards; then every \
         shard owned after {:.1} s, all applied after {:.1} s; {} items, {} rows, {} mismatches",
        faults.values().sum::<u32>(),
        stage.ledger().await.len(),
        owned.as_secs_f64(),
        caught_up.as_secs_f64(),
        found.items,
        found.rows,
        found.mismatches
    );
}

/// A DynamoDB with a bad day of its own, whose delays are those of a test.
fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.set_now(SystemClock.wall());
    world.initial_shards = 3;
    world.faults =
        Faults { listing_delay_millis: 1_000, closing_delay_millis: 1_000, ..Faults::bad_day() };
    world.create_table(TABLE, &["pk", "sk"], StreamView::NewAndOldImages);
    world
}

/// What the daemons logged beside their ordinary work, by what it was.
fn told(stage: &Stage) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for event in stage.events() {
        let own = event["target"].as_str().is_some_and(|target| target.starts_with("dynaurora"));
        let what = match event["level"].as_str() {
            Some("ERROR") if own => format!("ERROR: {event}"),
            _ => match event["message"].as_str() {
                Some("attempt failed, retrying") => event["kind"].as_str().unwrap().to_owned(),
                Some("leases lost") => "leases lost".to_owned(),
                _ => continue,
            },
        };
        *counts.entry(what).or_insert(0) += 1;
    }
    counts
}

/// Those who write, and the world's time, with which shards come and go.
struct Life {
    written: Arc<AtomicU64>,
    stop_writing: CancellationToken,
    writers: JoinSet<()>,
    time: JoinSet<()>,
}

impl Life {
    fn start(stage: &Stage, world: &Arc<WorldServer>, seed: u64) -> Self {
        let (written, stop_writing) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let (mut writers, mut time) = (JoinSet::new(), JoinSet::new());
        for number in 0..WRITERS {
            let random = fastrand::Rng::with_seed(seed ^ (number << 40));
            let mut writer = Writer { client: stage.client.clone(), random };
            let (written, stop) = (Arc::clone(&written), stop_writing.clone());
            writers.spawn(async move {
                while !stop.is_cancelled() {
                    written.fetch_add(writer.write().await, Ordering::Relaxed);
                }
            });
        }
        let (world, stop) = (Arc::clone(world), stop_writing.clone());
        time.spawn(async move {
            let mut changes_at = SystemClock.now();
            loop {
                world.world().set_now(SystemClock.wall());
                if changes_at <= SystemClock.now() && !stop.is_cancelled() {
                    change_shards(&mut world.world());
                    changes_at += SHARDS_EVERY;
                }
                pause(WORLD_EVERY).await;
            }
        });
        Self { written, stop_writing, writers, time }
    }

    /// Waits for the last writes, and answers how many there were; the world's time goes on.
    async fn stop_writing(&mut self) -> u64 {
        self.stop_writing.cancel();
        while let Some(done) = self.writers.join_next().await {
            done.unwrap();
        }
        self.written.load(Ordering::Relaxed)
    }

    async fn end(mut self) {
        self.time.shutdown().await;
    }
}

/// Writes through the real SDK, mostly new and changed items, one or many at once.
struct Writer {
    client: Client,
    random: fastrand::Rng,
}

impl Writer {
    async fn write(&mut self) -> u64 {
        let item = self.item();
        match self.random.u8(0..8) {
            0 => {
                let delete = self.client.delete_item().table_name(TABLE);
                let delete = delete.key("pk", item["pk"].clone()).key("sk", item["sk"].clone());
                delete.send().await.unwrap();
                1
            }
            1 => {
                let items = (0..10).map(|_| self.item());
                let items: HashMap<_, _> =
                    items.map(|item| ((text(&item["pk"]), text(&item["sk"])), item)).collect();
                let count = items.len() as u64;
                let puts = items.into_values().map(|item| {
                    let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
                    WriteRequest::builder().put_request(put).build()
                });
                let write = self.client.batch_write_item().request_items(TABLE, puts.collect());
                write.send().await.unwrap();
                count
            }
            _ => {
                let put = self.client.put_item().table_name(TABLE).set_item(Some(item));
                put.send().await.unwrap();
                1
            }
        }
    }

    fn item(&mut self) -> HashMap<String, AttributeValue> {
        let random = &mut self.random;
        let s = |text: String| AttributeValue::S(text);
        let mut item = HashMap::new();
        item.insert("pk".to_owned(), s(format!("CHILD#{}", random.u32(..CHILDREN))));
        if random.bool() {
            item.insert("sk".to_owned(), s("PROFILE".to_owned()));
            item.insert("name".to_owned(), s(format!("Noor {}", random.u32(..))));
            item.insert("upd".to_owned(), AttributeValue::N(SystemClock.wall().0.to_string()));
            return item;
        }
        let toys = (0..random.u8(0..4)).map(|_| {
            let sku = s(format!("toy {}", random.u16(..)));
            AttributeValue::M(HashMap::from([("sku".to_owned(), sku)]))
        });
        item.insert("toys".to_owned(), AttributeValue::L(toys.collect()));
        item.insert("sk".to_owned(), s(format!("LETTER#2026#{}", random.u8(0..3))));
        item.insert("sentAt".to_owned(), s("2026-12-01T08:00:00Z".to_owned()));
        item.insert("status".to_owned(), s("P".to_owned()));
        item
    }
}

fn text(value: &AttributeValue) -> String {
    value.as_s().unwrap().clone()
}

/// Sees that each shard's position and epoch only grow, and that no child runs ahead of its parent (I3).
#[derive(Default)]
struct Witness {
    seen: HashMap<String, (SequenceNumber, i64)>,
}

impl Witness {
    async fn looks(&mut self, stage: &Stage) {
        for shard in look(stage).await {
            let now = (number(&shard.position), shard.epoch);
            let was = self.seen.insert(shard.name.clone(), now);
            let grew = was.is_none_or(|was| was.0 <= now.0 && was.1 <= now.1);
            assert!(grew, "{was:?} became {shard:?}");
        }
    }

    /// How many records were applied so far.
    async fn records(&mut self, stage: &Stage) -> i64 {
        self.looks(stage).await;
        stage.number("select sum(records)::bigint from dynaurora.partitions").await
    }
}
