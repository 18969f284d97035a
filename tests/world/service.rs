//! What a client can call, with the limits that the service documents.

use std::ops::Bound;
use std::sync::Arc;

use dynaurora::engine::ports::{StreamInfo, StreamView};
use dynaurora::model::{Item, PartitionId, SequenceNumber};

use super::{Fault, ItemKey, Operation, Record, Stream, World, WorldError, values};

/// How long an iterator is good for.
pub const ITERATOR_LIFE_MILLIS: i64 = 15 * 60 * 1000;
/// The most records in one page.
pub const PAGE_RECORDS_MAX: usize = 1000;
/// The most bytes in one page of records or items.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Where an iterator begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IteratorType {
    /// `TRIM_HORIZON`.
    Horizon,
    /// `AT_SEQUENCE_NUMBER`.
    At(SequenceNumber),
    /// `AFTER_SEQUENCE_NUMBER`.
    After(SequenceNumber),
}

/// One page of `DescribeStream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardsPage {
    /// Whether the stream is enabled.
    pub enabled: bool,
    /// What its records carry.
    pub view: StreamView,
    /// The shards.
    pub shards: Vec<ShardView>,
    /// Where the next page begins; nothing on the last.
    pub last_evaluated: Option<PartitionId>,
}

/// A shard as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardView {
    /// The shard.
    pub id: PartitionId,
    /// Its parent, listed or not.
    pub parent: Option<PartitionId>,
    /// Its first possible number.
    pub starting: SequenceNumber,
    /// Its last possible number, once it is seen to be closed.
    pub ending: Option<SequenceNumber>,
}

/// One page of `GetRecords`.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordsPage {
    /// The records in order.
    pub records: Vec<Arc<Record>>,
    /// What they carry.
    pub view: StreamView,
    /// Where to go on; nothing at the shard's end.
    pub next_iterator: Option<String>,
}

/// One page of `Scan`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanPage {
    /// The items.
    pub items: Vec<Item>,
    /// Where to go on; nothing at the segment's end.
    pub last_key: Option<Item>,
    /// The read units that it took.
    pub consumed: f64,
}

/// What a client asks of `Scan`.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    /// The segment, from 0.
    pub segment: u64,
    /// How many segments there are, at least 1.
    pub segments: u64,
    /// The key after which to go on.
    pub start: Option<Item>,
    /// The most items in the page.
    pub limit: Option<usize>,
    /// Whether the page must show every write that came before it.
    pub consistent: bool,
}

impl World {
    /// `DescribeTable`.
    pub fn describe_table(&mut self, name: &str) -> Result<StreamInfo, WorldError> {
        self.meet(Operation::DescribeTable)?;
        let table = self.tables.get(name).ok_or(WorldError::NotFound)?;
        let stream = table.stream.map(|index| &self.streams[index]);
        Ok(StreamInfo {
            items: Some(table.items.len() as u64),
            table_arn: Self::table_arn(name),
            table_id: table.id.clone(),
            stream_arn: stream.map(|stream| stream.arn.to_string()),
            enabled: stream.is_some_and(|stream| stream.enabled),
            view: stream.map_or(StreamView::KeysOnly, |stream| stream.view),
            key_attributes: table.key_attributes.clone(),
        })
    }

    /// The most `DescribeStream` calls that came within one second, whatever their stream; the service allows
    /// ten for each.
    pub fn listings_per_sec_max(&self) -> usize {
        self.listings_per_sec_max
    }

    fn count_listing(&mut self) {
        let now = self.now;
        self.listings.push_back(now);
        while self.listings.front().is_some_and(|at| at.0 <= now.0 - 1_000) {
            self.listings.pop_front();
        }
        self.listings_per_sec_max = self.listings_per_sec_max.max(self.listings.len());
    }

    /// `DescribeStream`: a page of all shards, or of the children of one.
    pub fn describe_stream(
        &mut self,
        arn: &str,
        after: Option<&PartitionId>,
        children_of: Option<&PartitionId>,
    ) -> Result<ShardsPage, WorldError> {
        self.count_listing();
        self.meet(Operation::DescribeStream)?;
        let children_of = children_of.filter(|_| !self.faults.ignores_shard_filter);
        let (now, omitted) = (self.now, self.faults.omitted_shard);
        let stream = self.streams.iter().position(|stream| *stream.arn == *arn);
        let stream = &self.streams[stream.ok_or(WorldError::NotFound)?];
        let mut listed: Vec<_> = stream
            .shards
            .iter()
            .filter(|shard| shard.listed_from <= now)
            .filter(|shard| after.is_none_or(|after| shard.id > *after))
            .filter(|shard| children_of.is_none_or(|parent| shard.parent.as_ref() == Some(parent)))
            .map(|shard| ShardView {
                id: shard.id.clone(),
                parent: shard.parent.clone(),
                starting: shard.starting,
                ending: shard.closed.map(|(_, ending)| ending).filter(|_| shard.seen_closed(now)),
            })
            .collect();
        let (enabled, view) = (stream.enabled, stream.view);
        listed.sort_by(|one, other| one.id.cmp(&other.id));
        let more = listed.len() > self.faults.listing_page_max;
        listed.truncate(self.faults.listing_page_max);
        let mut last_evaluated = listed.last().filter(|_| more).map(|shard| shard.id.clone());
        if let Some(after) = after
            && more
            && self.strikes("repeated pages of a listing", self.faults.repeated_page)
        {
            last_evaluated = Some(after.clone());
        }
        listed.retain(|_| !self.strikes("omitted shards", omitted));
        Ok(ShardsPage { enabled, view, shards: listed, last_evaluated })
    }

    /// `GetShardIterator`.
    pub fn shard_iterator(
        &mut self,
        arn: &str,
        shard: &PartitionId,
        at: IteratorType,
    ) -> Result<String, WorldError> {
        self.meet(Operation::ShardIterator)?;
        let strict = self.faults.strict_trimming;
        let index = self.streams.iter().position(|stream| *stream.arn == *arn);
        let index = index.ok_or(WorldError::NotFound)?;
        let own = find(&self.streams[index], shard.as_str())?;
        let lost = own.trimmed_through.is_some_and(|trimmed| match at {
            IteratorType::Horizon => false,
            IteratorType::At(number) => number <= trimmed,
            IteratorType::After(number) => number < trimmed || (strict && number == trimmed),
        });
        if lost {
            return Err(WorldError::Trimmed);
        }
        let before = own.records.partition_point(|record| match at {
            IteratorType::Horizon => false,
            IteratorType::At(number) => record.sequence < number,
            IteratorType::After(number) => record.sequence <= number,
        });
        Ok(self.issue(index, shard.as_str(), own.trimmed + before))
    }

    /// `GetRecords`.
    pub fn get_records(&mut self, iterator: &str, limit: usize) -> Result<RecordsPage, WorldError> {
        let met = self.meet(Operation::Records)?;
        if limit > PAGE_RECORDS_MAX {
            return Err(WorldError::LimitExceeded);
        }
        let token = Token::parse(iterator).ok_or(WorldError::Invalid)?;
        let expired = self.strikes("expired iterators", self.faults.expired);
        if expired || token.issued_at + ITERATOR_LIFE_MILLIS < self.now.0 {
            return Err(WorldError::ExpiredIterator);
        }
        let empty =
            self.strikes("empty pages", self.faults.empty_page) || met == Some(Fault::EmptyPage);
        let short = self.strikes("short pages", self.faults.short_page);
        let limit = if short { self.rng.usize(1..=limit.clamp(1, 20)) } else { limit };
        let late_end = self.strikes("late ends", self.faults.late_end);

        let empty_pages_max = self.faults.empty_pages_max;
        let stream = self.streams.get_mut(token.stream).ok_or(WorldError::NotFound)?;
        let (view, shards) = (stream.view, &mut stream.shards);
        let shard = shards.iter_mut().find(|own| own.id.as_str() == token.shard);
        let shard = shard.ok_or(WorldError::NotFound)?;
        let empty = empty && (met.is_some() || shard.empty_pages < empty_pages_max);
        let none = empty || token.index >= shard.trimmed + shard.records.len();
        shard.empty_pages = if none { shard.empty_pages.saturating_add(1) } else { 0 };
        let shard = &*shard;
        let skipped = token.index.checked_sub(shard.trimmed).ok_or(WorldError::Trimmed)?;
        if empty {
            let next_iterator = Some(self.issue(token.stream, token.shard, token.index));
            return Ok(RecordsPage { records: Vec::new(), view, next_iterator });
        }
        let mut bytes = 0;
        let fits = |record: &&Arc<Record>| {
            let first = bytes == 0;
            bytes += record.bytes;
            first || bytes <= PAGE_BYTES_MAX
        };
        let rest = shard.records.iter().skip(skipped).take(limit);
        let records: Vec<_> = rest.take_while(fits).cloned().collect();
        let index = token.index + records.len();
        let done = shard.seen_closed(self.now) && index == shard.trimmed + shard.records.len();
        let ends = done && (records.is_empty() || !late_end);
        let next_iterator = (!ends).then(|| self.issue(token.stream, token.shard, index));
        Ok(RecordsPage { records, view, next_iterator })
    }

    /// `GetItem`, read consistently.
    pub fn get_item(&mut self, name: &str, key: &Item) -> Result<Option<Item>, WorldError> {
        self.meet(Operation::GetItem)?;
        if !self.has_table(name) {
            return Err(WorldError::NotFound);
        }
        Ok(self.item(name, key).cloned())
    }

    /// `Scan` of one segment.
    pub fn scan(&mut self, name: &str, request: &ScanRequest) -> Result<ScanPage, WorldError> {
        self.meet(Operation::Scan)?;
        let short = self.strikes("short pages", self.faults.short_page);
        let limit = request.limit.unwrap_or(usize::MAX);
        let limit = if short { self.rng.usize(1..=limit.clamp(1, 20)) } else { limit };
        let table = self.tables.get(name).ok_or(WorldError::NotFound)?;
        let stale_from = self.now.0 - self.faults.stale_millis;
        let start = request.start.as_ref().map(|key| ItemKey::of(key, &table.key_attributes));
        let first = ItemKey { hash: first_hash(request), text: String::new() };
        let start = start.map_or(Bound::Included(first), Bound::Excluded);

        let (mut items, mut bytes, mut last_key) = (Vec::new(), 0, None);
        for (key, item) in table.items.range((start, Bound::Unbounded)) {
            if segment_of(key.hash, request.segments) != request.segment {
                break;
            }
            if items.len() >= limit || bytes >= PAGE_BYTES_MAX {
                last_key = items.last().map(|item| values::project(item, &table.key_attributes));
                break;
            }
            let before = table.previous.get(key).filter(|(_, at)| at.0 > stale_from);
            let seen = match before {
                Some((before, _)) if !request.consistent => before.as_ref(),
                _ => Some(item),
            };
            if let Some(item) = seen {
                bytes += values::item_bytes(item);
                items.push(item.clone());
            }
        }
        let units = f64::from(u32::try_from(bytes.div_ceil(4096)).expect("a page"));
        let consumed = if request.consistent { units } else { units / 2.0 };
        Ok(ScanPage { items, last_key, consumed })
    }

    /// An iterator issued now. The text is a client's to carry, not to understand.
    fn issue(&self, stream: usize, shard: &str, index: usize) -> String {
        format!("iterator/{stream}/{shard}/{index}/{}", self.now.0)
    }
}

struct Token<'a> {
    stream: usize,
    shard: &'a str,
    index: usize,
    issued_at: i64,
}

impl<'a> Token<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix("iterator/")?.split('/');
        Some(Self {
            stream: parts.next()?.parse().ok()?,
            shard: parts.next()?,
            index: parts.next()?.parse().ok()?,
            issued_at: parts.next()?.parse().ok()?,
        })
    }
}

fn find<'a>(stream: &'a Stream, shard: &str) -> Result<&'a super::streams::Shard, WorldError> {
    stream.shards.iter().find(|own| own.id.as_str() == shard).ok_or(WorldError::NotFound)
}

/// The segment of a hash among so many.
fn segment_of(hash: u64, segments: u64) -> u64 {
    let scaled = (u128::from(hash) * u128::from(segments.max(1))) >> 64;
    u64::try_from(scaled).expect("less than the number of segments")
}

/// The first hash of the requested segment.
fn first_hash(request: &ScanRequest) -> u64 {
    let segments = u128::from(request.segments.max(1));
    let first = (u128::from(request.segment) << 64).div_ceil(segments);
    u64::try_from(first).unwrap_or(u64::MAX)
}
