//! A DynamoDB world of our own: plain, synchronous and deterministic for a seed.
//!
//! It has what no emulator has: shards that roll over and split, parents, iterators that expire, records
//! that are trimmed after 24 hours, listings that omit, repeat and lag, streams that are disabled and
//! enabled again. Time stands still until somebody moves it.
//!
//! Read: this file for tables and writes; [`streams`] for shards, rotation and retention; [`service`] for
//! what a client can call; [`faults`] for what can go wrong; [`source`] for the port's adapter; [`http`]
//! for the face that the real SDK talks to; [`replay`] for a cheap server of pages for benchmarks.

pub mod faults;
pub mod http;
pub mod replay;
pub mod server;
pub mod service;
pub mod source;
pub mod streams;
pub mod values;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::ports::StreamView;
use dynaurora::model::{ChangeOp, EpochMillis, Item, PartitionId};

pub use faults::{Fault, Faults, Operation, WorldError};
pub use http::WorldServer;
pub use replay::ReplayServer;
pub use service::{IteratorType, RecordsPage, ScanPage, ScanRequest, ShardsPage};
pub use source::WorldSource;
pub use streams::{Record, Stream};
pub use values::ItemKey;

/// When a new world begins: 2025-12-01T06:00:00Z.
pub const BEGINNING: EpochMillis = EpochMillis(1_764_568_800_000);

/// Every table, stream and shard there is, the time, and the faults that calls meet.
#[derive(Debug)]
pub struct World {
    /// What may go wrong, with which probability; nothing by default.
    pub faults: Faults,
    /// How often each thing went wrong by chance.
    pub tally: BTreeMap<&'static str, u64>,
    /// Decides everything that is left to chance.
    pub rng: fastrand::Rng,
    /// How many digits the sequence numbers of streams created from now on begin with: 21 to 40.
    pub sequence_digits: usize,
    /// How many shards a stream created from now on begins with.
    pub initial_shards: usize,
    /// After how long a shard is rotated by itself; AWS is seen to do it about every four hours.
    pub rotate_every: Option<Duration>,
    /// What the files of exports hold, by their partitions.
    pub exports: BTreeMap<PartitionId, Vec<Item>>,
    now: EpochMillis,
    tables: BTreeMap<String, Table>,
    streams: Vec<Stream>,
    orders: Vec<(Operation, Fault)>,
    calls: BTreeMap<Operation, u64>,
    /// When `DescribeStream` was called within the last second.
    listings: VecDeque<EpochMillis>,
    listings_per_sec_max: usize,
}

/// A table: its items and its history.
#[derive(Debug)]
pub struct Table {
    /// The table's name.
    pub name: String,
    /// Changes when the table is deleted and created again.
    pub id: String,
    /// The names of the key attributes, the partition key first.
    pub key_attributes: Vec<String>,
    /// The items as a consistent read sees them.
    pub items: BTreeMap<ItemKey, Item>,
    /// Every record that the table's streams ever got, in the order of the writes.
    pub history: Vec<Arc<Record>>,
    /// The newest stream, as an index into the world's streams.
    stream: Option<usize>,
    /// The image before the newest write of a key, and when that write was.
    previous: BTreeMap<ItemKey, (Option<Item>, EpochMillis)>,
}

impl World {
    /// An empty world; equal seeds and equal calls give equal answers.
    pub fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            tally: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            sequence_digits: 21,
            initial_shards: 1,
            rotate_every: None,
            exports: BTreeMap::new(),
            now: BEGINNING,
            tables: BTreeMap::new(),
            streams: Vec::new(),
            orders: Vec::new(),
            calls: BTreeMap::new(),
            listings: VecDeque::new(),
            listings_per_sec_max: 0,
        }
    }

    /// The time.
    pub fn now(&self) -> EpochMillis {
        self.now
    }

    /// Moves the time on, never back; shards rotate and records are trimmed as they come of age.
    pub fn set_now(&mut self, now: EpochMillis) {
        if now > self.now {
            self.now = now;
            self.rotate_aged();
            self.trim();
        }
    }

    /// Moves the time on by this much.
    pub fn advance(&mut self, by: Duration) {
        let by = i64::try_from(by.as_millis()).expect("a sensible duration");
        self.set_now(EpochMillis(self.now.0 + by));
    }

    /// The next call of this operation meets this fault; several orders are met in turn.
    pub fn order(&mut self, operation: Operation, fault: Fault) {
        self.orders.push((operation, fault));
    }

    /// How often this operation was called so far.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.calls.get(&operation).copied().unwrap_or(0)
    }

    /// Creates a table with an enabled stream.
    pub fn create_table(&mut self, name: &str, key_attributes: &[&str], view: StreamView) {
        self.create_table_without_stream(name, key_attributes);
        self.enable_stream(name, view);
    }

    /// Creates a table that has no stream.
    pub fn create_table_without_stream(&mut self, name: &str, key_attributes: &[&str]) {
        let table = Table {
            name: name.to_owned(),
            id: format!("{:08x}-0000-4000-8000-{:012x}", self.rng.u32(..), self.rng.u32(..)),
            key_attributes: key_attributes.iter().map(|name| (*name).to_owned()).collect(),
            items: BTreeMap::new(),
            history: Vec::new(),
            stream: None,
            previous: BTreeMap::new(),
        };
        let earlier = self.tables.insert(name.to_owned(), table);
        assert!(earlier.is_none(), "table {name} is there already");
    }

    /// Deletes the table; its stream closes and stays readable for 24 hours.
    pub fn delete_table(&mut self, name: &str) {
        self.disable_stream(name);
        self.tables.remove(name);
    }

    /// Whether there is a table of this name.
    pub fn has_table(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// The table, which must exist.
    pub fn table(&self, name: &str) -> &Table {
        self.tables.get(name).unwrap_or_else(|| panic!("no table {name}"))
    }

    /// The newest stream of the table, enabled or not.
    pub fn stream(&self, table: &str) -> Option<&Stream> {
        self.table(table).stream.map(|index| &self.streams[index])
    }

    /// Puts an item, replacing the one with its key. A put that changes nothing leaves no record.
    pub fn put(&mut self, table: &str, item: Item) -> Option<Arc<Record>> {
        let key = ItemKey::of(&item, &self.table(table).key_attributes);
        self.write(table, key, Some(item), false)
    }

    /// Sets some attributes of an item, which is created where it is not there.
    pub fn update(&mut self, table: &str, key: &Item, changes: Item) -> Option<Arc<Record>> {
        let own = self.table(table);
        let item_key = ItemKey::of(key, &own.key_attributes);
        let before = own.items.get(&item_key).unwrap_or(key);
        let kept = before.iter().filter(|(name, _)| changes.attribute(name).is_none());
        let all = kept.chain(changes.iter());
        let after = all.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        self.write(table, item_key, Some(after), false)
    }

    /// Deletes an item; `key` may hold more than the key attributes. An absent item leaves no record.
    pub fn delete(&mut self, table: &str, key: &Item) -> Option<Arc<Record>> {
        let key = ItemKey::of(key, &self.table(table).key_attributes);
        self.write(table, key, None, false)
    }

    /// Deletes an item in the service's name, as when its time to live has passed.
    pub fn expire(&mut self, table: &str, key: &Item) -> Option<Arc<Record>> {
        let key = ItemKey::of(key, &self.table(table).key_attributes);
        self.write(table, key, None, true)
    }

    /// The item as a consistent read sees it.
    pub fn item(&self, table: &str, key: &Item) -> Option<&Item> {
        let table = self.table(table);
        table.items.get(&ItemKey::of(key, &table.key_attributes))
    }

    fn write(
        &mut self,
        table: &str,
        key: ItemKey,
        after: Option<Item>,
        expired: bool,
    ) -> Option<Arc<Record>> {
        let now = self.now;
        let table = self.tables.get_mut(table).unwrap_or_else(|| panic!("no table {table}"));
        let before = match &after {
            Some(item) => table.items.insert(key.clone(), item.clone()),
            None => table.items.remove(&key),
        };
        if before == after {
            return None;
        }
        if self.faults.stale_millis > 0 {
            table.previous.insert(key.clone(), (before.clone(), now));
        }
        let image = after.as_ref().or(before.as_ref())?;
        let record = Record {
            op: match (&before, &after) {
                (None, _) => ChangeOp::Insert,
                (Some(_), Some(_)) => ChangeOp::Modify,
                (Some(_), None) => ChangeOp::Remove,
            },
            keys: values::project(image, &table.key_attributes),
            bytes: before.iter().chain(&after).map(values::item_bytes).sum(),
            new_image: after,
            old_image: before,
            written_at: now,
            expired,
            ..Record::blank()
        };
        let stream = table.stream.map(|index| &mut self.streams[index])?;
        let record = stream.append(&key, record, &mut self.rng)?;
        table.history.push(Arc::clone(&record));
        Some(record)
    }
}
