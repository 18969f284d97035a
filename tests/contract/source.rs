//! The contract of `Source`: what holds for the world behind the port, for the real SDK before the world's
//! HTTP face, and, as far as it goes, for the real SDK before an emulator.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynaurora::engine::ports::{Clock, Listing, Page, ReadFrom, Source, StreamView};
use dynaurora::engine::tail::listing;
use dynaurora::error::{ErrorKind, Result};
use dynaurora::model::{
    Change, ChangeOp, EpochMillis, Item, PartitionId, Position, Segment, SequenceNumber,
};
use dynaurora::runtime::SystemClock;
use dynaurora::source::{ConnectOptions, DynamoSource, SourceOptions, connect};
use tokio::time::Instant;

use crate::rig::item;
use crate::world::{World, WorldServer, WorldSource};

pub(super) const TABLE: &str = "letters";

/// A source and the means to write to its table.
pub(super) trait Subject {
    type Source: Source;
    fn source(&self) -> &Self::Source;
    async fn put(&self, item: Item);
    async fn delete(&self, key: Item);
}

pub(super) struct InWorld<S> {
    pub(super) source: S,
    pub(super) world: Arc<Mutex<World>>,
    _server: Option<WorldServer>,
}

impl<S: Source> Subject for InWorld<S> {
    type Source = S;

    fn source(&self) -> &S {
        &self.source
    }

    async fn put(&self, item: Item) {
        self.world.lock().unwrap().put(TABLE, item);
    }

    async fn delete(&self, key: Item) {
        self.world.lock().unwrap().delete(TABLE, &key);
    }
}

fn new_world() -> Arc<Mutex<World>> {
    let mut world = World::new(7);
    world.create_table(TABLE, &["pk", "sk"], StreamView::NewAndOldImages);
    // Shards that open from now on come after the first in a listing.
    world.advance(Duration::from_secs(1));
    Arc::new(Mutex::new(world))
}

/// The world behind the port.
pub(super) fn plain() -> InWorld<WorldSource> {
    let world = new_world();
    InWorld { source: WorldSource::new(Arc::clone(&world), TABLE), world, _server: None }
}

/// The world before the real SDK.
pub(super) async fn over_http() -> InWorld<DynamoSource> {
    let world = new_world();
    let server = WorldServer::start(Arc::clone(&world));
    let source = dynamo_source(server.endpoint(), SourceOptions::default()).await;
    InWorld { source, world, _server: Some(server) }
}

pub(super) async fn dynamo_source(endpoint: &str, options: SourceOptions) -> DynamoSource {
    let endpoint = Some(endpoint.to_owned());
    let config = connect(&ConnectOptions { endpoint, ..ConnectOptions::default() }).await.unwrap();
    DynamoSource::new(TABLE, &config, options)
}

pub(super) fn letter(child: u32, wishes: u32) -> Item {
    item(&format!(
        r#"{{"pk":{{"S":"CHILD#{child}"}},"sk":{{"S":"LETTER"}},"wishes":{{"N":"{wishes}"}}}}"#
    ))
}

pub(super) fn key(child: u32) -> Item {
    item(&format!(r#"{{"pk":{{"S":"CHILD#{child}"}},"sk":{{"S":"LETTER"}}}}"#))
}

/// A read of the table's stream at a position.
pub(super) async fn at<S: Source>(source: &S, shard: &PartitionId, position: Position) -> ReadFrom {
    let stream = source.describe().await.unwrap().stream_arn.unwrap();
    ReadFrom { stream_arn: stream.into(), partition: shard.clone(), position, iterator: None }
}

/// All shards, by a clock that makes nobody wait.
pub(super) async fn listed<S: Source>(source: &S, stream: &str) -> Result<Listing> {
    listing::list(source, &Hasty, stream).await
}

#[derive(Clone)]
struct Hasty;

impl Clock for Hasty {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn wall(&self) -> EpochMillis {
        SystemClock.wall()
    }

    async fn sleep_until(&self, _: Instant) {}
}

pub(super) async fn shards<S: Source>(source: &S) -> Vec<(PartitionId, Position)> {
    let stream = source.describe().await.unwrap().stream_arn.unwrap();
    let listing = listed(source, &stream).await.unwrap();
    assert!(listing.complete);
    listing.shards.iter().map(|shard| (shard.id.clone(), shard.start())).collect()
}

/// Reads on until there are as many changes, or the end, by iterators where `fresh` is false and by the
/// positions alone where it is true.
pub(super) async fn drain<S: Source>(
    source: &S,
    mut from: ReadFrom,
    count: usize,
    fresh: bool,
) -> (Vec<Change>, Page) {
    let mut changes = Vec::new();
    loop {
        let mut page = source.read(&from).await.unwrap();
        if let Some(last) = page.changes.last() {
            assert_eq!(page.next, Position::After(last.sequence));
        } else {
            assert_eq!(page.next, from.position);
        }
        assert_eq!(page.end, page.iterator.is_none(), "an end, and only an end, has no iterator");
        changes.append(&mut page.changes);
        from.position = page.next.clone();
        from.iterator = page.iterator.clone().filter(|_| !fresh);
        if page.end || changes.len() >= count {
            return (changes, page);
        }
    }
}

/// What holds for every source, whatever serves it, each case over an empty table.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { source [
            a_table_is_described
            changes_arrive_whole_and_in_order
            a_scan_brings_every_item_once
            what_is_gone_is_said_to_be_gone
        ] $($how)* }
    };
}
pub(crate) use cases;

pub async fn a_table_is_described(subject: &impl Subject) {
    let source = subject.source();
    let info = source.describe().await.unwrap();
    assert_eq!(info.key_attributes, ["pk", "sk"]);
    assert_eq!(info.view, StreamView::NewAndOldImages);
    assert!(info.enabled);
    assert!(!info.table_id.is_empty());
    assert!(info.table_arn.ends_with(&format!("table/{TABLE}")), "{}", info.table_arn);
    let stream = info.stream_arn.unwrap();
    assert!(stream.starts_with(&info.table_arn), "{stream}");
    let listing = listed(source, &stream).await.unwrap();
    assert!(listing.complete);
    assert!(!listing.shards.is_empty());
    assert!(listing.shards.iter().all(|shard| shard.parent.is_none()));
    for shard in &listing.shards {
        assert!(source.child_shards(&stream, &shard.id).await.unwrap().is_empty());
    }
}

pub async fn changes_arrive_whole_and_in_order(subject: &impl Subject) {
    let rich = item(
        r#"{"pk":{"S":"CHILD#0"},"sk":{"S":"LETTER"},"n":{"N":"-1.5"},"b":{"B":"AP8="},
            "yes":{"BOOL":true},"nothing":{"NULL":true},"ss":{"SS":["a","b"]},"empty":{"S":""},
            "deep":{"M":{"l":{"L":[{"N":"1"},{"M":{}}]}}}}"#,
    );
    subject.put(rich.clone()).await;
    subject.put(letter(0, 2)).await;
    subject.delete(key(0)).await;
    subject.put(letter(0, 3)).await;

    let source = subject.source();
    let (shard, start) = shards(source).await.remove(0);
    let from = at(source, &shard, start.clone()).await;
    let (changes, page) = drain(source, from.clone(), 4, false).await;
    let ops: Vec<_> = changes.iter().map(|change| change.op).collect();
    assert_eq!(ops, [ChangeOp::Insert, ChangeOp::Modify, ChangeOp::Remove, ChangeOp::Insert]);
    assert!(changes.is_sorted_by(|one, other| one.sequence < other.sequence));
    assert!(changes.iter().all(|change| change.keys == key(0)));
    assert!(changes.iter().all(|change| change.bytes > 0 && !change.expired));
    assert!(changes.iter().all(|change| change.changed_at.unwrap().0 % 1000 == 0));
    assert_eq!(changes[0].new_image, Some(rich.clone()));
    assert_eq!(changes[0].old_image, None);
    assert_eq!(changes[1].old_image, Some(rich));
    assert_eq!(changes[2].new_image, None);
    assert_eq!(changes[2].old_image, Some(letter(0, 2)));
    assert!(!page.end, "the shard is open");

    // The same records again, whatever way leads there, and from the middle on.
    let numbers = |changes: &[Change]| changes.iter().map(|own| own.sequence).collect::<Vec<_>>();
    for position in [Position::Horizon, start, Position::At(changes[0].sequence)] {
        let (again, _) = drain(source, ReadFrom { position, ..from.clone() }, 4, true).await;
        assert_eq!(numbers(&again), numbers(&changes));
    }
    let position = Position::After(changes[1].sequence);
    let (rest, page) = drain(source, ReadFrom { position, ..from.clone() }, 2, true).await;
    assert_eq!(numbers(&rest), numbers(&changes[2..]));
    assert_eq!(page.next, Position::After(changes[3].sequence));
    let tip = ReadFrom { position: page.next, ..from };
    let page = source.read(&tip).await.unwrap();
    assert!(page.changes.is_empty() && !page.end && page.iterator.is_some());
    assert_eq!(page.next, tip.position);
}

pub async fn a_scan_brings_every_item_once(subject: &impl Subject) {
    for child in 1..=60 {
        subject.put(letter(child, child)).await;
    }
    let mut seen = BTreeMap::new();
    for index in 0..3 {
        let partition = Segment { index, total: 3 }.partition();
        let mut from = at(subject.source(), &partition, Position::Start).await;
        loop {
            let page = subject.source().read(&from).await.unwrap();
            for change in &page.changes {
                assert_eq!((change.op, change.sequence), (ChangeOp::Scan, SequenceNumber::ZERO));
                assert_eq!(change.keys.len(), 2);
                let image = serde_json::to_string(&change.new_image).unwrap();
                let key = serde_json::to_string(&change.keys).unwrap();
                assert!(seen.insert(key, image).is_none(), "an item came twice");
            }
            assert!(page.consumed_capacity.is_some());
            assert!(page.changes.is_empty() || matches!(page.next, Position::Key(_)));
            from.position = page.next;
            if page.end {
                break;
            }
        }
    }
    assert_eq!(seen.len(), 60);
    let key = serde_json::to_string(&key(42)).unwrap();
    assert_eq!(seen[&key], serde_json::to_string(&letter(42, 42)).unwrap());
}

pub async fn what_is_gone_is_said_to_be_gone(subject: &impl Subject) {
    let source = subject.source();
    let stream = source.describe().await.unwrap().stream_arn.unwrap();
    let unknown = stream.replace(TABLE, "no-such-table");
    let error = source.list_shards(&unknown, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{}", error.chain());
    assert_eq!(error.code(), Some("ResourceNotFoundException"));
}

#[tokio::test]
async fn a_replay_serves_full_pages_and_stays_open() {
    let server = crate::world::ReplayServer::start(2, 3, 50);
    let source = dynamo_source(&server.endpoint, SourceOptions::default()).await;
    let mut keys = HashSet::new();
    for (shard, start) in shards(&source).await {
        let from = at(&source, &shard, start).await;
        let (changes, _) = drain(&source, from, 150, false).await;
        assert_eq!(changes.len(), 150);
        assert!(changes.is_sorted_by(|one, other| one.sequence < other.sequence));
        keys.extend(changes.iter().map(|own| serde_json::to_string(&own.keys).unwrap()));
        let position = Position::After(changes[99].sequence);
        let (rest, page) = drain(&source, at(&source, &shard, position).await, 50, true).await;
        assert_eq!(rest.first().map(|own| own.sequence), Some(changes[100].sequence));
        let tip = at(&source, &shard, page.next).await;
        let page = source.read(&tip).await.unwrap();
        assert!(page.changes.is_empty() && !page.end);
    }
    assert_eq!(keys.len(), 300);
}
