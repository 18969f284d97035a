//! Streams and shards: how records get their numbers, how shards rotate, and what is trimmed.

use std::collections::VecDeque;
use std::sync::Arc;

use dynaurora::engine::ports::StreamView;
use dynaurora::model::{Change, ChangeOp, EpochMillis, Item, PartitionId, SequenceNumber};

use super::{ItemKey, World};

/// How long a record stays in its stream.
pub const RETENTION_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// One record of a stream, with both images whatever the stream's view.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What happened.
    pub op: ChangeOp,
    /// The number, increasing within a shard and from parent to child.
    pub sequence: SequenceNumber,
    /// The key attributes.
    pub keys: Item,
    /// The item after the write.
    pub new_image: Option<Item>,
    /// The item before the write.
    pub old_image: Option<Item>,
    /// When it was written, to the millisecond.
    pub written_at: EpochMillis,
    /// Whether the service itself deleted the item.
    pub expired: bool,
    /// The size.
    pub bytes: usize,
    /// The stream.
    pub stream_arn: Arc<str>,
    /// The shard.
    pub shard: PartitionId,
}

impl Record {
    /// A record still without a place in a stream.
    pub(super) fn blank() -> Self {
        Self {
            op: ChangeOp::Insert,
            sequence: SequenceNumber::ZERO,
            keys: Item::default(),
            new_image: None,
            old_image: None,
            written_at: EpochMillis(0),
            expired: false,
            bytes: 0,
            stream_arn: Arc::from(""),
            shard: PartitionId::new(""),
        }
    }

    /// When it was written, as a client learns it: in whole seconds, rounded down.
    pub fn seconds(&self) -> i64 {
        self.written_at.0.div_euclid(1000)
    }

    /// The record as a source delivers it, with the images that the view lets through.
    pub fn change(&self, view: StreamView) -> Change {
        let has_new = matches!(view, StreamView::NewImage | StreamView::NewAndOldImages);
        let has_old = matches!(view, StreamView::OldImage | StreamView::NewAndOldImages);
        Change {
            op: self.op,
            sequence: self.sequence,
            keys: self.keys.clone(),
            new_image: self.new_image.clone().filter(|_| has_new),
            old_image: self.old_image.clone().filter(|_| has_old),
            changed_at: Some(EpochMillis(self.seconds() * 1000)),
            expired: self.expired,
            bytes: self.bytes,
        }
    }
}

/// One stream of a table, alive or not.
#[derive(Debug)]
pub struct Stream {
    /// The ARN, which ends in the time of the stream's creation.
    pub arn: Arc<str>,
    /// The table's name.
    pub table: String,
    /// The images in the records.
    pub view: StreamView,
    /// Whether writes still arrive here.
    pub enabled: bool,
    /// The shards that are not trimmed yet, oldest first.
    pub shards: Vec<Shard>,
}

/// One shard: a part of the ring of hashes for some time.
#[derive(Debug)]
pub struct Shard {
    /// The id, which begins with the time of creation.
    pub id: PartitionId,
    /// The shard that it continues.
    pub parent: Option<PartitionId>,
    /// The first number that it can hold.
    pub starting: SequenceNumber,
    /// The records that are not trimmed yet.
    pub records: VecDeque<Arc<Record>>,
    /// How many records were trimmed.
    pub trimmed: usize,
    /// The number of the last trimmed record.
    pub trimmed_through: Option<SequenceNumber>,
    /// When it was closed, and its last possible number.
    pub closed: Option<(EpochMillis, SequenceNumber)>,
    /// The hashes that it takes, both ends included.
    pub hashes: (u64, u64),
    /// When listings begin to show it.
    pub(super) listed_from: EpochMillis,
    /// When reads and listings begin to show that it is closed.
    pub(super) closed_from: EpochMillis,
    /// The empty pages that were given in a row though there may be records.
    pub(super) empty_pages: u32,
    opened_at: EpochMillis,
    counter: Counter,
}

impl Shard {
    /// Whether a client can see by now that it is closed.
    pub(super) fn seen_closed(&self, now: EpochMillis) -> bool {
        self.closed.is_some() && self.closed_from <= now
    }
}

impl Stream {
    /// When it was created, as its label says.
    pub fn created_at(&self) -> EpochMillis {
        let label = self.arn.rsplit('/').next().and_then(|label| label.parse().ok());
        EpochMillis(label.expect("a label is a time"))
    }

    /// The record takes its place in the one open shard of its key; none where the stream is disabled.
    pub(super) fn append(
        &mut self,
        key: &ItemKey,
        record: Record,
        rng: &mut fastrand::Rng,
    ) -> Option<Arc<Record>> {
        let takes = |shard: &&mut Shard| {
            shard.closed.is_none() && (shard.hashes.0..=shard.hashes.1).contains(&key.hash)
        };
        let shard = self.shards.iter_mut().find(takes)?;
        let record = Arc::new(Record {
            sequence: shard.counter.next(rng),
            stream_arn: Arc::clone(&self.arn),
            shard: shard.id.clone(),
            ..record
        });
        shard.records.push_back(Arc::clone(&record));
        Some(record)
    }

    /// The shards that take writes.
    pub fn open_shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(|shard| shard.closed.is_none())
    }
}

/// Decimal digits that only grow: by small steps, and by a digit when they overflow or are widened.
#[derive(Debug, Clone)]
struct Counter(Vec<u8>);

impl Counter {
    fn new(digits: usize, rng: &mut fastrand::Rng) -> Self {
        assert!((1..=SequenceNumber::DIGITS_MAX).contains(&digits), "{digits} digits");
        // The first digits are alike, as on AWS, where they change with the years.
        let mut counter = vec![0; digits];
        counter[0] = 1;
        for digit in counter.iter_mut().skip(3) {
            *digit = rng.u8(0..10);
        }
        Self(counter)
    }

    /// The next number: larger, but not by one.
    fn next(&mut self, rng: &mut fastrand::Rng) -> SequenceNumber {
        let mut carry = rng.u64(1..5000);
        for digit in self.0.iter_mut().rev() {
            let sum = u64::from(*digit) + carry;
            *digit = u8::try_from(sum % 10).expect("a digit");
            carry = sum / 10;
        }
        if carry > 0 {
            self.0.insert(0, u8::try_from(carry).expect("a digit"));
        }
        self.number()
    }

    fn widen(&mut self) {
        let digits = self.0.len() + 1;
        self.0 = vec![0; digits];
        self.0[0] = 1;
    }

    fn number(&self) -> SequenceNumber {
        let text: String = self.0.iter().map(|digit| char::from(b'0' + digit)).collect();
        SequenceNumber::parse(&text).expect("at most 40 digits")
    }
}

impl World {
    /// Gives the table a new stream; one that is enabled is disabled first.
    pub fn enable_stream(&mut self, table: &str, view: StreamView) {
        self.disable_stream(table);
        // A stream's label is its time of creation, and two streams never share one.
        let label = self.now.0 + i64::try_from(self.streams.len()).expect("few streams");
        let arn = format!("{}/stream/{label}", Self::table_arn(table));
        self.streams.push(Stream {
            arn: arn.into(),
            table: table.to_owned(),
            view,
            enabled: true,
            shards: Vec::new(),
        });
        let stream = self.streams.len() - 1;
        let count = u64::try_from(self.initial_shards).expect("few shards");
        for part in split((0, u64::MAX), count) {
            let counter = Counter::new(self.sequence_digits, &mut self.rng);
            self.open_shard(stream, None, part, counter);
        }
        self.tables.get_mut(table).unwrap_or_else(|| panic!("no table {table}")).stream =
            Some(stream);
    }

    /// Disables the table's stream: its shards close, its records stay for 24 hours.
    pub fn disable_stream(&mut self, table: &str) {
        let Some(stream) = self.table(table).stream else { return };
        self.streams[stream].enabled = false;
        for index in 0..self.streams[stream].shards.len() {
            self.close_shard(stream, index);
        }
    }

    /// Closes an open shard of the table's stream and continues it in one new one.
    pub fn rollover(&mut self, table: &str, shard: &PartitionId) {
        self.replace(table, shard, 1);
    }

    /// Closes an open shard of the table's stream and divides its keys between two new ones.
    pub fn split(&mut self, table: &str, shard: &PartitionId) {
        self.replace(table, shard, 2);
    }

    /// Rolls over or splits one open shard of the table's stream, as chance has it.
    pub fn rotate(&mut self, table: &str) {
        let Some(stream) = self.stream(table) else { return };
        let open: Vec<_> = stream.open_shards().map(|shard| shard.id.clone()).collect();
        if let Some(shard) = self.rng.choice(open) {
            let children = self.rng.u64(1..=2);
            self.replace(table, &shard, children);
        }
    }

    /// From now on the table's sequence numbers have one digit more.
    pub fn widen_sequence_numbers(&mut self, table: &str) {
        let Some(stream) = self.table(table).stream else { return };
        for shard in &mut self.streams[stream].shards {
            if shard.closed.is_none() {
                shard.counter.widen();
            }
        }
    }

    /// The ARN of a table of this name.
    pub fn table_arn(table: &str) -> String {
        format!("arn:aws:dynamodb:us-east-1:000000000000:table/{table}")
    }

    fn replace(&mut self, table: &str, shard: &PartitionId, children: u64) {
        let stream = self.table(table).stream.expect("a stream");
        let shards = &self.streams[stream].shards;
        let index = shards.iter().position(|own| own.id == *shard).expect("a shard");
        assert!(shards[index].closed.is_none(), "{shard} is closed");
        self.close_shard(stream, index);
        let old = &self.streams[stream].shards[index];
        let (hashes, counter) = (old.hashes, old.counter.clone());
        for part in split(hashes, children) {
            self.open_shard(stream, Some(shard.clone()), part, counter.clone());
        }
    }

    fn open_shard(
        &mut self,
        stream: usize,
        parent: Option<PartitionId>,
        hashes: (u64, u64),
        mut counter: Counter,
    ) {
        let delay = if parent.is_some() { self.faults.listing_delay_millis } else { 0 };
        let id = format!("shardId-{:020}-{:08x}", self.now.0, self.rng.u32(..));
        let shard = Shard {
            id: PartitionId::new(id),
            parent,
            starting: counter.next(&mut self.rng),
            records: VecDeque::new(),
            trimmed: 0,
            trimmed_through: None,
            closed: None,
            hashes,
            listed_from: EpochMillis(self.now.0 + self.rng.i64(0..=delay)),
            closed_from: self.now,
            empty_pages: 0,
            opened_at: self.now,
            counter,
        };
        self.streams[stream].shards.push(shard);
    }

    fn close_shard(&mut self, stream: usize, index: usize) {
        let shard = &mut self.streams[stream].shards[index];
        if shard.closed.is_none() {
            shard.closed = Some((self.now, shard.counter.next(&mut self.rng)));
            let delay = self.rng.i64(0..=self.faults.closing_delay_millis);
            shard.closed_from = EpochMillis(self.now.0 + delay);
        }
    }

    /// Rotates the shards that are old enough.
    pub(super) fn rotate_aged(&mut self) {
        let Some(every) = self.rotate_every else { return };
        let every = i64::try_from(every.as_millis()).expect("a sensible duration");
        let aged: Vec<_> = self
            .streams
            .iter()
            .filter(|stream| stream.enabled)
            .flat_map(|stream| stream.open_shards().map(|shard| (stream.table.clone(), shard)))
            .filter(|(_, shard)| shard.opened_at.0 + every <= self.now.0)
            .map(|(table, shard)| (table, shard.id.clone()))
            .collect();
        for (table, shard) in aged {
            let children = if self.rng.u8(0..4) == 0 { 2 } else { 1 };
            self.replace(&table, &shard, children);
        }
    }

    /// Removes the records that are older than the retention, and the shards that ended before it.
    pub(super) fn trim(&mut self) {
        let oldest = EpochMillis(self.now.0 - RETENTION_MILLIS);
        for stream in &mut self.streams {
            for shard in &mut stream.shards {
                while let Some(record) = shard.records.pop_front_if(|own| own.written_at < oldest) {
                    shard.trimmed += 1;
                    shard.trimmed_through = Some(record.sequence);
                }
            }
            stream.shards.retain(|shard| shard.closed.is_none_or(|(at, _)| at >= oldest));
        }
    }

    /// Removes all records of the table's stream, and its closed shards, as if they had come of age.
    pub fn trim_all(&mut self, table: &str, but: impl Fn(&PartitionId) -> bool) {
        let Some(stream) = self.table(table).stream else { return };
        let stream = &mut self.streams[stream];
        for shard in stream.shards.iter_mut().filter(|shard| !but(&shard.id)) {
            shard.trimmed += shard.records.len();
            if let Some(last) = shard.records.drain(..).next_back() {
                shard.trimmed_through = Some(last.sequence);
            }
        }
        stream.shards.retain(|shard| shard.closed.is_none() || but(&shard.id));
    }
}

/// Divides a range of hashes, both ends included, into equal parts.
fn split((low, high): (u64, u64), parts: u64) -> impl Iterator<Item = (u64, u64)> {
    let step = (high - low) / parts;
    (0..parts).map(move |part| {
        let end = if part + 1 == parts { high } else { low + step * (part + 1) - 1 };
        (low + step * part, end)
    })
}
