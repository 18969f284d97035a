//! Whole days in the world: shards roll over and split by themselves, calls fail, listings lie; whoever
//! follows the contract still reads every record, and each key's in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynaurora::engine::ports::{ReadFrom, Source, StreamView};
use dynaurora::error::{Error, ErrorKind};
use dynaurora::model::{PartitionId, Position, SequenceNumber, ShardListing};

use super::source::{InWorld, TABLE, key, letter, listed, over_http, plain};
use crate::world::{Faults, World};

/// A reader as plain as can be: a position per shard, parents before children, no iterator kept.
#[derive(Default)]
struct Reader {
    shards: BTreeMap<PartitionId, (Option<PartitionId>, Position)>,
    drained: BTreeSet<PartitionId>,
    seen: BTreeMap<String, Vec<SequenceNumber>>,
}

impl Reader {
    fn enter(&mut self, listed: Vec<ShardListing>) {
        for shard in listed {
            let start = shard.start();
            self.shards.entry(shard.id).or_insert((shard.parent, start));
        }
    }

    async fn turn<S: Source>(&mut self, source: &S, stream: &Arc<str>) {
        let listing = patient(async || listed(source, stream).await).await;
        self.enter(listing.shards);
        let readable = |(id, (parent, _)): &(&PartitionId, &(Option<PartitionId>, Position))| {
            let drained = |shard: &PartitionId| self.drained.contains(shard);
            !drained(id) && parent.as_ref().is_none_or(drained)
        };
        let turns: Vec<_> = self
            .shards
            .iter()
            .filter(readable)
            .map(|(id, (_, position))| (id.clone(), position.clone()))
            .collect();
        for (id, position) in turns {
            let from = ReadFrom {
                stream_arn: Arc::clone(stream),
                partition: id.clone(),
                position,
                iterator: None,
            };
            let page = patient(async || source.read(&from).await).await;
            for change in page.changes {
                let key = serde_json::to_string(&change.keys).unwrap();
                self.seen.entry(key).or_default().push(change.sequence);
            }
            if page.end {
                self.drained.insert(id.clone());
                let children = patient(async || source.child_shards(stream, &id).await).await;
                self.enter(children);
            }
            self.shards.get_mut(&id).unwrap().1 = page.next;
        }
    }
}

/// Tries again whatever the contract says may pass.
async fn patient<T>(mut call: impl AsyncFnMut() -> Result<T, Error>) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Throttled
                        | ErrorKind::Unavailable
                        | ErrorKind::Unreachable
                        | ErrorKind::Expired
                ),
                "{}",
                error.chain()
            ),
        }
    }
}

fn busy_hour(world: &mut World) {
    for _ in 0..40 {
        let child = world.rng.u32(0..25);
        match world.rng.u8(0..6) {
            0 => drop(world.delete(TABLE, &key(child))),
            1 => drop(world.expire(TABLE, &key(child))),
            wishes => drop(world.put(TABLE, letter(child, wishes.into()))),
        }
        let pause = world.rng.u64(0..180);
        world.advance(Duration::from_secs(pause));
    }
}

fn history(world: &Mutex<World>) -> BTreeMap<String, Vec<SequenceNumber>> {
    let mut truth = BTreeMap::<String, Vec<_>>::new();
    for record in &world.lock().unwrap().table(TABLE).history {
        let key = serde_json::to_string(&record.keys).unwrap();
        truth.entry(key).or_default().push(record.sequence);
    }
    truth
}

async fn bad_days<S: Source>(subject: &InWorld<S>, seed: u64, hours: usize) {
    {
        let mut world = subject.world.lock().unwrap();
        world.rng.seed(seed);
        world.faults = Faults::bad_day();
        world.rotate_every = Some(Duration::from_secs(4 * 60 * 60));
        world.initial_shards = 3;
        world.enable_stream(TABLE, StreamView::NewAndOldImages);
    }
    let stream = patient(async || subject.source.describe().await).await.stream_arn.unwrap();
    let stream = Arc::<str>::from(stream);
    let mut reader = Reader::default();
    for _ in 0..hours {
        busy_hour(&mut subject.world.lock().unwrap());
        reader.turn(&subject.source, &stream).await;
    }
    let truth = history(&subject.world);
    for _ in 0..1000 {
        if reader.seen == truth {
            break;
        }
        subject.world.lock().unwrap().advance(Duration::from_secs(10));
        reader.turn(&subject.source, &stream).await;
    }
    assert_eq!(reader.seen, truth, "seed {seed}");
    assert!(truth.values().all(|numbers| numbers.is_sorted_by(|one, other| one < other)));
    assert!(reader.drained.len() > 3, "shards ended");
}

#[tokio::test]
async fn bad_days_in_the_world_lose_nothing() {
    for seed in 0..8 {
        bad_days(&plain(), seed, 72).await;
    }
}

#[tokio::test]
async fn bad_days_before_the_sdk_lose_nothing() {
    bad_days(&over_http().await, 1, 12).await;
}

#[tokio::test]
async fn equal_seeds_make_equal_days() {
    let mut days = Vec::new();
    for _ in 0..2 {
        let subject = plain();
        bad_days(&subject, 3, 24).await;
        let world = subject.world.lock().unwrap();
        let ids = world.stream(TABLE).unwrap().shards.iter().map(|shard| shard.id.clone());
        days.push((ids.collect::<Vec<_>>(), world.table(TABLE).history.clone(), world.now()));
    }
    assert_eq!(days[0], days[1]);
}
