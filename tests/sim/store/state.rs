//! The tables of the in-memory database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dynaurora::apply::ports::{Batch, DeadLetter, KeyHash};
use dynaurora::engine::ports::{BackfillView, Gap, PartitionState, SourceIdentity};
use dynaurora::error::{Error, ErrorKind, Result};
use dynaurora::model::{
    Cells, Epoch, EpochMillis, Generation, Halt, ItemTag, PartitionId, Position, SequenceNumber,
    ShardListing, TableIndex, Version, WorkerId,
};
use dynaurora::ops::ports::Verification;
use tokio::time::Instant;

use super::histories::Chain;
use super::{Entry, Event, Key};

/// All tables, and the database's own time at the current call.
#[derive(Default)]
pub struct State {
    pub sources: BTreeMap<Arc<str>, SourceState>,
    pub tables: Vec<BTreeMap<Key, Row>>,
    /// The newest deletes.
    pub tombstones: BTreeMap<(TableIndex, Key, Option<ItemTag>), Tombstone>,
    /// Rows that another item's row hides, where rows name their items.
    pub hidden: BTreeMap<(TableIndex, Key), BTreeMap<ItemTag, Row>>,
    /// The histories, by their table and the key of the row.
    pub histories: BTreeMap<(TableIndex, Key), Chain>,
    pub journal: Vec<Entry>,
    pub now: Option<Instant>,
    pub elapsed: Duration,
    /// Whether a repair keeps all writers off the tables.
    pub locked: bool,
    /// Counts the servers that took over from each other.
    pub incarnation: u64,
    /// What a replica has that lags behind since some moment, and since when.
    pub replica: Option<(Instant, Box<Self>)>,
    pub in_flight: Vec<(Instant, Batch)>,
}

/// The version of a delete; of a soft one with its cells.
pub type Tombstone = (Version, Option<Cells>);

/// A row of a target table and the child rows that hang on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub cells: Cells,
    pub version: Version,
    pub children: Vec<(TableIndex, Cells)>,
    /// The item, where rows name theirs.
    pub item: Option<ItemTag>,
}

impl Row {
    /// Whether it is known to be of another item.
    pub fn is_anothers(&self, item: Option<ItemTag>) -> bool {
        self.item.zip(item).is_some_and(|(own, other)| own != other)
    }
}

/// One source's rows of the ledger's tables.
#[derive(Clone)]
pub struct SourceState {
    pub identity: SourceIdentity,
    /// The stream that was registered last.
    pub stream_arn: Arc<str>,
    pub generation: Generation,
    pub halted: Option<Halt>,
    pub backfill: BackfillView,
    pub partitions: BTreeMap<PartitionId, Partition>,
    pub listed_at: Option<Instant>,
    pub discovery: Option<(WorkerId, Instant)>,
    pub workers: BTreeMap<String, Worker>,
    pub gaps: Vec<StoredGap>,
    pub dead_letters: Vec<StoredLetter>,
    /// While a load is active, the newest version of each item that a batch applied.
    pub touched: BTreeMap<KeyHash, Version>,
    /// What the journal says last of how far the source is.
    pub noted: Option<EpochMillis>,
    /// What the last verification found.
    pub verified: Option<Verification>,
}

/// A gap's row.
#[derive(Clone)]
pub struct StoredGap {
    pub gap: Gap,
    pub state: GapState,
}

/// What is done about a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapState {
    Open,
    Repairing,
    Repaired,
    /// Somebody lives with it.
    Accepted,
}

/// A partition's row.
#[derive(Clone)]
pub struct Partition {
    /// Empty for what belongs to no stream.
    pub stream_arn: Arc<str>,
    pub generation: Generation,
    pub parent: Option<PartitionId>,
    pub state: PartitionState,
    pub position: Position,
    pub records: u64,
    /// Where it was before a load rewound it; the innermost `None` is its end.
    pub replays_to: Option<Option<SequenceNumber>>,
    pub epoch: Epoch,
    /// Who holds the lease, alive or not.
    pub owner: Option<WorkerId>,
    pub last_event_at: Option<EpochMillis>,
    pub synced_up_to: Option<EpochMillis>,
    pub covered_epoch: Option<Epoch>,
    pub continued: bool,
    pub entered_at: Instant,
    pub drained_at: Option<Instant>,
}

/// A worker's row.
#[derive(Clone)]
pub struct Worker {
    pub alive_until: Instant,
    pub publication: u64,
    pub synced_up_to: Option<EpochMillis>,
    pub mapping: Option<i64>,
}

/// A dead letter's row.
#[derive(Clone)]
pub struct StoredLetter {
    pub letter: DeadLetter,
    pub open: bool,
}

impl State {
    /// An empty database with so many target tables.
    pub fn with_tables(tables: usize) -> Self {
        Self { tables: vec![BTreeMap::new(); tables], ..Self::default() }
    }

    /// The database's time.
    pub fn now(&self) -> Instant {
        self.now.expect("every call sets the time")
    }

    /// The source's rows.
    pub fn source(&mut self, source: &str) -> Result<&mut SourceState> {
        let unknown = || Error::new(ErrorKind::NotEnrolled, "the source was never enrolled");
        self.sources.get_mut(source).ok_or_else(unknown)
    }

    /// Adds to the journal.
    pub fn record(&mut self, event: Event) {
        self.journal.push(Entry { at: self.elapsed, event });
    }

    /// Notes in the journal what is now said of how far each source is, where that is new.
    pub fn note_synced(&mut self) {
        for source in self.sources.values_mut() {
            let synced_up_to = source.synced_up_to();
            if std::mem::replace(&mut source.noted, synced_up_to) != synced_up_to {
                self.journal
                    .push(Entry { at: self.elapsed, event: Event::Synced { synced_up_to } });
            }
        }
    }

    /// Leaves a batch to the server, which commits it after its caller's death.
    pub fn leave_in_flight(&mut self, due: Instant, batch: Batch) {
        self.in_flight.push((due, batch));
    }

    /// The batches in flight that are due, in the order in which they are.
    pub fn take_due(&mut self) -> Vec<Batch> {
        if self.locked || self.in_flight.is_empty() {
            return Vec::new();
        }
        let now = self.now();
        let (mut due, rest): (Vec<_>, Vec<_>) =
            self.in_flight.drain(..).partition(|(at, _)| *at <= now);
        self.in_flight = rest;
        due.sort_by_key(|(at, _)| *at);
        due.into_iter().map(|(_, batch)| batch).collect()
    }
}

impl SourceState {
    pub fn new(identity: &SourceIdentity) -> Self {
        Self {
            identity: identity.clone(),
            stream_arn: identity.stream_arn.as_str().into(),
            generation: 1,
            halted: None,
            backfill: BackfillView::default(),
            partitions: BTreeMap::new(),
            listed_at: None,
            discovery: None,
            workers: BTreeMap::new(),
            gaps: Vec::new(),
            dead_letters: Vec::new(),
            touched: BTreeMap::new(),
            noted: None,
            verified: None,
        }
    }

    /// Enters shards that are new, or known from another stream only.
    pub fn add_shards(&mut self, stream_arn: &Arc<str>, shards: &[ShardListing], now: Instant) {
        if self.stream_arn != *stream_arn {
            self.stream_arn = Arc::clone(stream_arn);
            self.listed_at = None;
        }
        for shard in shards {
            let known = self.partitions.get(&shard.id);
            if known.is_some_and(|known| known.stream_arn == *stream_arn) {
                continue;
            }
            let epoch = known.map_or(0, |known| known.epoch);
            let fresh = Partition {
                stream_arn: Arc::clone(stream_arn),
                parent: shard.parent.clone(),
                position: shard.start(),
                ..Partition::fresh(self.generation, epoch, now)
            };
            self.partitions.insert(shard.id.clone(), fresh);
        }
    }
}

impl SourceState {
    /// Every change before this time is in the target: what the view `dynaurora.freshness` says.
    pub fn synced_up_to(&self) -> Option<EpochMillis> {
        let shards = self.partitions.iter().filter(|(_, own)| own.stream_arn == self.stream_arn);
        let mut reached = Vec::new();
        for (id, shard) in shards {
            let parent = self.parent_of(shard);
            let counts = match shard.state {
                PartitionState::Open => {
                    shard.is_covered()
                        || parent.is_none_or(|parent| parent.state != PartitionState::Open)
                }
                PartitionState::Drained => !shard.continued,
                PartitionState::Lost => self.gaps.iter().any(|gap| {
                    gap.state == GapState::Open && gap.gap.partition.as_ref() == Some(id)
                }),
            };
            if counts {
                let of_parent = parent.and_then(|parent| parent.synced_up_to);
                let said = if shard.is_covered() { self.covered(shard) } else { of_parent };
                reached.push(said.max(shard.synced_up_to).max(shard.last_event_at));
            }
        }
        let listed = self.listed_at.is_some();
        reached.into_iter().min().flatten().filter(|_| listed && !self.backfill.active)
    }

    /// What the owner has published, where that speaks for this shard.
    pub fn covered(&self, shard: &Partition) -> Option<EpochMillis> {
        let worker = self.workers.get(shard.owner.as_ref()?.as_str())?;
        worker.synced_up_to.filter(|_| shard.is_covered())
    }

    /// Notes of the parents of these shards that all of their children are known.
    pub fn note_continued(&mut self, shards: &[ShardListing]) {
        for parent in shards.iter().filter_map(|shard| shard.parent.as_ref()) {
            let own = self.partitions.get_mut(parent);
            if let Some(own) = own.filter(|own| own.stream_arn == self.stream_arn) {
                own.continued = true;
            }
        }
    }

    /// Notes that what no listing has any more, a day after its end, is continued by nothing unlisted.
    pub fn note_gone(&mut self, listed: &[ShardListing], now: Instant) {
        let (arn, day) = (Arc::clone(&self.stream_arn), Duration::from_secs(24 * 3600));
        for (id, own) in self.partitions.iter_mut().filter(|(_, own)| own.stream_arn == arn) {
            let gone = own.state == PartitionState::Drained
                && !listed.iter().any(|shard| shard.id == *id)
                && own.drained_at.is_some_and(|at| now.saturating_duration_since(at) > day);
            own.continued |= gone;
        }
    }

    /// Ends the cover of a shard: what was published last stays its own.
    pub fn uncover(&mut self, id: &PartitionId) {
        let published = self.partitions.get(id).and_then(|shard| self.covered(shard));
        if let Some(shard) = self.partitions.get_mut(id) {
            shard.synced_up_to = shard.synced_up_to.max(published);
            shard.covered_epoch = None;
        }
    }

    /// Ends the lease of a shard that is at its end, and notes how far it had come.
    pub fn end(&mut self, id: &PartitionId, now: Instant) {
        self.uncover(id);
        self.follow_parent(id);
        if let Some(shard) = self.partitions.get_mut(id) {
            shard.synced_up_to = shard.synced_up_to.max(shard.last_event_at);
            shard.state = PartitionState::Drained;
            shard.drained_at = Some(now);
            shard.owner = None;
        }
    }

    /// A shard begins where its parent ended.
    pub fn follow_parent(&mut self, id: &PartitionId) {
        let shard = self.partitions.get(id);
        let parent = shard.and_then(|shard| self.parent_of(shard)?.synced_up_to);
        if let Some(shard) = self.partitions.get_mut(id) {
            shard.synced_up_to = shard.synced_up_to.max(parent);
        }
    }

    fn parent_of(&self, shard: &Partition) -> Option<&Partition> {
        let parent = self.partitions.get(shard.parent.as_ref()?)?;
        (parent.stream_arn == shard.stream_arn).then_some(parent)
    }
}

impl Partition {
    /// A partition of no stream that nobody has read.
    pub fn fresh(generation: Generation, epoch: i64, now: Instant) -> Self {
        Self {
            stream_arn: Arc::from(""),
            generation,
            parent: None,
            state: PartitionState::Open,
            position: Position::Start,
            records: 0,
            replays_to: None,
            epoch,
            owner: None,
            last_event_at: None,
            synced_up_to: None,
            covered_epoch: None,
            continued: false,
            entered_at: now,
            drained_at: None,
        }
    }

    /// Whether it is not back where it was before a load rewound it.
    pub fn is_replaying(&self) -> bool {
        let back = match (&self.position, self.replays_to) {
            (_, None) => true,
            (Position::After(at), Some(Some(to))) => *at >= to,
            _ => false,
        };
        self.state == PartitionState::Open && !back
    }

    /// Whether what the owner publishes is true of it.
    pub fn is_covered(&self) -> bool {
        self.covered_epoch == Some(self.epoch)
    }

    /// Whether this worker's lease of this epoch is the newest one, the worker being alive or not.
    pub fn held_by(&self, worker: &WorkerId, epoch: Epoch) -> bool {
        self.epoch == epoch && self.owner.as_ref() == Some(worker)
    }
}
