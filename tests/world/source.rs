//! The world behind the engine's `Source` port, for the simulator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dynaurora::engine::ports::{ListingPage, Page, ReadFrom, ShardIterator, Source, StreamInfo};
use dynaurora::error::{Error, ErrorKind, Result};
use dynaurora::model::{
    Change, EpochMillis, Item, KeyType, PartitionId, PartitionKind, Position, Segment, ShardListing,
};
use dynaurora::ops::ports::Items;

use super::service::ShardView;
use super::{IteratorType, ScanRequest, World, WorldError, values};

/// Lines of a file in one page.
const LINES: usize = 5;

/// One table of a world, as the engine sees it.
pub struct WorldSource {
    world: Arc<Mutex<World>>,
    table: String,
    clock: Option<Arc<dyn Fn() -> EpochMillis + Send + Sync>>,
    latency_max: Duration,
}

impl WorldSource {
    /// A source for this table. Time stands where the world has it and calls take none.
    pub fn new(world: Arc<Mutex<World>>, table: &str) -> Self {
        Self { world, table: table.to_owned(), clock: None, latency_max: Duration::ZERO }
    }

    /// Each call first moves the world to the time that the clock shows.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> EpochMillis + Send + Sync + 'static) -> Self {
        Self { clock: Some(Arc::new(clock)), ..self }
    }

    /// Each call takes up to so much of tokio's time before it reaches the world, and again before its answer
    /// reaches the caller.
    #[must_use]
    pub fn with_latency(self, latency_max: Duration) -> Self {
        Self { latency_max, ..self }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().expect("the world is whole");
        if let Some(clock) = &self.clock {
            world.set_now(clock());
        }
        world
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&mut World) -> Result<T, WorldError> + Send,
    ) -> Result<T> {
        self.travel().await;
        let answer = call(&mut self.world());
        self.travel().await;
        answer.map_err(|error| translate(operation, error))
    }

    #[expect(clippy::disallowed_methods, reason = "simulated latency is simulated time")]
    async fn travel(&self) {
        if self.latency_max > Duration::ZERO {
            let share = self.world().rng.f64();
            tokio::time::sleep(self.latency_max.mul_f64(share)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }

    async fn read_segment(&self, segment: Segment, from: &ReadFrom) -> Result<Page> {
        let start = match &from.position {
            Position::Start => None,
            Position::Key(text) => Some(serde_json::from_str(text).expect("a key")),
            other => return Err(misplaced(other)),
        };
        let request = ScanRequest {
            segment: segment.index.into(),
            segments: segment.total.into(),
            start,
            limit: None,
            consistent: true,
        };
        let page = self.call("Scan", |world| world.scan(&self.table, &request)).await?;
        let names = self.world().table(&self.table).key_attributes.clone();
        let changes: Vec<_> = page.items.into_iter().map(|item| scanned(item, &names)).collect();
        let last = page.last_key.as_ref().or(changes.last().map(|change| &change.keys));
        let next = last.map_or_else(
            || from.position.clone(),
            |key| Position::Key(serde_json::to_string(key).expect("a key").into()),
        );
        let consumed_capacity = Some(page.consumed);
        Ok(Page { changes, next, iterator: None, end: page.last_key.is_none(), consumed_capacity })
    }

    /// A few lines of a file.
    async fn read_file(&self, from: &ReadFrom) -> Result<Page> {
        let read = match from.position {
            Position::Start => 0,
            Position::Line(line) => line,
            ref other => return Err(misplaced(other)),
        };
        let page = self.call("GetObject", |world| {
            let items = world.exports.get(&from.partition).ok_or(WorldError::NotFound)?;
            let skipped = usize::try_from(read).expect("a short file");
            let lines = items.iter().skip(skipped).take(LINES).cloned();
            Ok((lines.collect::<Vec<_>>(), skipped + LINES >= items.len()))
        });
        let (items, end) = page.await?;
        let names = self.world().table(&self.table).key_attributes.clone();
        let next = Position::Line(read + items.len() as u64);
        let changes = items.into_iter().map(|item| scanned(item, &names)).collect();
        Ok(Page { changes, next, iterator: None, end, consumed_capacity: None })
    }

    async fn iterator(&self, from: &ReadFrom) -> Result<String> {
        if let Some(iterator) = &from.iterator {
            return Ok(iterator.0.clone());
        }
        let at = match &from.position {
            Position::Horizon => IteratorType::Horizon,
            Position::At(number) => IteratorType::At(*number),
            Position::After(number) => IteratorType::After(*number),
            other => return Err(misplaced(other)),
        };
        self.call("GetShardIterator", |world| {
            world.shard_iterator(&from.stream_arn, &from.partition, at)
        })
        .await
    }

    async fn page(
        &self,
        stream_arn: &str,
        after: Option<&PartitionId>,
        parent: Option<&PartitionId>,
    ) -> Result<ListingPage> {
        let call = |world: &mut World| world.describe_stream(stream_arn, after, parent);
        let page = self.call("DescribeStream", call).await?;
        let listing = |shard: ShardView| {
            let starting = Some(shard.starting);
            ShardListing { id: shard.id, parent: shard.parent, starting }
        };
        let shards = page.shards.into_iter().map(listing).collect();
        Ok(ListingPage { shards, next: page.last_evaluated })
    }
}

impl Items for WorldSource {
    async fn key_schema(&self) -> Result<Vec<(String, KeyType)>> {
        // Every key of a world is text.
        let names = self.call("DescribeTable", |world| world.describe_table(&self.table)).await?;
        Ok(names.key_attributes.into_iter().map(|name| (name, KeyType::S)).collect())
    }

    async fn item(&self, key: &Item) -> Result<(Option<Item>, Option<f64>)> {
        let item = self.call("GetItem", |world| world.get_item(&self.table, key)).await?;
        Ok((item, Some(1.0)))
    }
}

impl Source for WorldSource {
    async fn describe(&self) -> Result<StreamInfo> {
        self.call("DescribeTable", |world| world.describe_table(&self.table)).await
    }

    async fn list_shards(
        &self,
        stream_arn: &str,
        after: Option<&PartitionId>,
    ) -> Result<ListingPage> {
        self.page(stream_arn, after, None).await
    }

    async fn child_shards(
        &self,
        stream_arn: &str,
        parent: &PartitionId,
    ) -> Result<Vec<ShardListing>> {
        let (mut children, mut after) = (BTreeMap::new(), None);
        loop {
            let page = self.page(stream_arn, after.as_ref(), Some(parent)).await?;
            let own = page.shards.into_iter().filter(|shard| shard.parent.as_ref() == Some(parent));
            children.extend(own.map(|shard| (shard.id.clone(), shard)));
            after = page.next;
            if after.is_none() {
                return Ok(children.into_values().collect());
            }
        }
    }

    async fn read(&self, from: &ReadFrom) -> Result<Page> {
        if let PartitionId::Segment(_, segment) = from.partition {
            return self.read_segment(segment, from).await;
        }
        if from.partition.kind() == PartitionKind::File {
            return self.read_file(from).await;
        }
        let iterator = self.iterator(from).await?;
        let page = self.call("GetRecords", |world| world.get_records(&iterator, 1000)).await?;
        let changes: Vec<_> = page.records.iter().map(|record| record.change(page.view)).collect();
        let next = changes.last().map(|change| Position::After(change.sequence));
        Ok(Page {
            changes,
            next: next.unwrap_or_else(|| from.position.clone()),
            end: page.next_iterator.is_none(),
            iterator: page.next_iterator.map(ShardIterator),
            consumed_capacity: None,
        })
    }
}

fn scanned(item: Item, key_attributes: &[String]) -> Change {
    let (keys, bytes) = (values::project(&item, key_attributes), values::item_bytes(&item));
    Change { bytes, ..Change::scanned(keys, item) }
}

fn misplaced(position: &Position) -> Error {
    Error::new(ErrorKind::Unknown, format!("position {position} is no place in this partition"))
}

fn translate(operation: &str, error: WorldError) -> Error {
    let kind = match error {
        WorldError::LimitExceeded | WorldError::Throughput => ErrorKind::Throttled,
        WorldError::Internal => ErrorKind::Unavailable,
        WorldError::Unreachable => ErrorKind::Unreachable,
        WorldError::ExpiredIterator => ErrorKind::Expired,
        WorldError::Trimmed => ErrorKind::Trimmed,
        WorldError::NotFound => ErrorKind::Gone,
        WorldError::Denied => ErrorKind::Denied,
        WorldError::Invalid => ErrorKind::Unknown,
    };
    let ours = Error::new(kind, format!("{operation} in the world"));
    match error.code() {
        Some(code) => ours.with_code(code),
        None => ours,
    }
}
