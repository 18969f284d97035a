//! The tables of the in-memory database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::ports::{
    Batch, DeadLetter, Gap, LoadView, PartitionState, ShardListing, SourceIdentity, WorkerId,
};
use dynaurora::error::{Error, ErrorKind, Result};
use dynaurora::model::{
    Cells, Epoch, EpochMillis, Generation, PartitionId, Position, TableIndex, Version,
};
use tokio::time::Instant;

use super::{Entry, Event, Key};

/// All tables, and the database's own time at the current call.
#[derive(Default)]
pub struct State {
    pub sources: BTreeMap<Arc<str>, SourceState>,
    pub tables: Vec<BTreeMap<Key, Row>>,
    pub claims: BTreeMap<(TableIndex, Key), Version>,
    pub journal: Vec<Entry>,
    pub now: Option<Instant>,
    pub elapsed: Duration,
    in_flight: Vec<(Instant, Batch)>,
}

/// A row of a target table and the child rows that hang on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub cells: Cells,
    pub version: Version,
    pub children: Vec<(TableIndex, Cells)>,
}

/// One source's rows of the ledger's tables.
pub struct SourceState {
    pub identity: SourceIdentity,
    /// The stream that was registered last.
    pub stream_arn: Arc<str>,
    pub generation: Generation,
    pub halted: Option<String>,
    pub load: LoadView,
    pub partitions: BTreeMap<PartitionId, Partition>,
    pub listed_at: Option<Instant>,
    pub discovery: Option<(WorkerId, Instant)>,
    /// Until when each worker counts as alive.
    pub workers: BTreeMap<String, Instant>,
    pub gaps: Vec<StoredGap>,
    pub dead_letters: Vec<StoredLetter>,
}

/// A gap's row.
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
}

/// A partition's row.
pub struct Partition {
    /// Empty for what belongs to no stream.
    pub stream_arn: Arc<str>,
    pub generation: Generation,
    pub parent: Option<PartitionId>,
    pub state: PartitionState,
    pub position: Position,
    pub records: u64,
    pub epoch: Epoch,
    pub lease: Option<(WorkerId, Instant)>,
    pub last_event_at: Option<EpochMillis>,
    pub last_poll_at: Option<EpochMillis>,
}

/// A dead letter's row.
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
        let unknown = || Error::new(ErrorKind::Unknown, "the source was never enrolled");
        self.sources.get_mut(source).ok_or_else(unknown)
    }

    /// Adds to the journal.
    pub fn record(&mut self, event: Event) {
        self.journal.push(Entry { at: self.elapsed, event });
    }

    /// Leaves a batch to the server, which commits it after its caller's death.
    pub fn leave_in_flight(&mut self, due: Instant, batch: Batch) {
        self.in_flight.push((due, batch));
    }

    /// The batches in flight that are due, in the order in which they are.
    pub fn take_due(&mut self) -> Vec<Batch> {
        if self.in_flight.is_empty() {
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
            load: LoadView::default(),
            partitions: BTreeMap::new(),
            listed_at: None,
            discovery: None,
            workers: BTreeMap::new(),
            gaps: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    /// Enters shards that are new, or known from another stream only.
    pub fn add_shards(&mut self, stream_arn: &Arc<str>, shards: &[ShardListing]) {
        self.stream_arn = Arc::clone(stream_arn);
        for shard in shards {
            let known = self.partitions.get(&shard.id);
            if known.is_some_and(|known| known.stream_arn == *stream_arn) {
                continue;
            }
            let epoch = known.map_or(0, |known| known.epoch);
            let fresh = Partition {
                stream_arn: Arc::clone(stream_arn),
                generation: self.generation,
                parent: shard.parent.clone(),
                state: PartitionState::Open,
                position: shard.start(),
                records: 0,
                epoch,
                lease: None,
                last_event_at: None,
                last_poll_at: None,
            };
            self.partitions.insert(shard.id.clone(), fresh);
        }
    }
}

impl Partition {
    /// Who holds an unexpired lease.
    pub fn owner(&self, now: Instant) -> Option<&WorkerId> {
        self.lease.as_ref().filter(|(_, until)| *until > now).map(|(owner, _)| owner)
    }

    /// Whether this worker's lease of this epoch is the newest one, expired or not.
    pub fn held_by(&self, worker: &WorkerId, epoch: Epoch) -> bool {
        self.epoch == epoch && self.lease.as_ref().is_some_and(|(owner, _)| owner == worker)
    }
}
