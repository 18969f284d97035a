//! An in-memory ledger and sink over one shared state, with the contract of the Postgres ones.
//!
//! Each call is one transaction at one moment. Faults are drawn around it: before (nothing happened), after
//! (it happened, the answer is lost), or late (the caller died, the server did it all the same).

mod accept;
mod backfills;
mod crash;
mod damage;
mod faults;
mod histories;
mod journal;
mod ledger;
mod letters;
mod repair;
mod sink;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynaurora::apply::ports::Batch;
use dynaurora::engine::ports::{Clock, Gap, PartitionState};
use dynaurora::engine::tail::lineage::{Readiness, readiness};
use dynaurora::error::{Error, ErrorKind, Result};
use dynaurora::mapping::spec::TableSpec;
use dynaurora::model::{Cells, EpochMillis, PartitionId, Position, TableIndex, WorkerId};

use super::clock::{SimClock, pause};
use super::gate::Gate;
use crate::contract::StoredRow;
use faults::{Call, Fate, Faults};
pub use faults::{Knobs, Sabotage};
pub use histories::{Chain, Kept, history_of, shown, wrong_times};
pub use journal::{Commit, Entry, Event};
pub use letters::OpenLetter;
pub use sink::marked;
pub use state::Row;
use state::{GapState, State, StoredGap};

/// The text of a row's primary key.
pub type Key = Vec<Option<String>>;

/// One worker's connection to the shared state; clones share it, and stall together.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    gate: Gate,
}

struct Shared {
    specs: Vec<TableSpec>,
    clock: SimClock,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    /// Whose turn it is to write: a batch's, a sweep's, or a repair's for as long as it holds its lock.
    writers: tokio::sync::Mutex<()>,
}

impl Store {
    /// An empty store with these target tables and no faults.
    pub fn new(specs: Vec<TableSpec>, clock: SimClock) -> Self {
        let state = State::with_tables(specs.len());
        let shared = Shared {
            specs,
            clock,
            state: Mutex::new(state),
            faults: Mutex::new(Faults::default()),
            writers: tokio::sync::Mutex::new(()),
        };
        Self { shared: Arc::new(shared), gate: Gate::default() }
    }

    /// A connection whose calls stand still while the gate is shut: a stopped process.
    pub fn connect(&self, gate: Gate) -> Self {
        Self { shared: Arc::clone(&self.shared), gate }
    }

    /// Sets the faults from now on, drawn from `seed`.
    pub fn set_faults(&self, knobs: Knobs, seed: u64) {
        let mut faults = self.faults();
        let tally = std::mem::take(&mut faults.tally);
        *faults = Faults::new(knobs, seed);
        faults.tally = tally;
    }

    /// How often each thing went wrong.
    pub fn tally(&self) -> BTreeMap<&'static str, u64> {
        self.faults().tally.clone()
    }

    /// Counts what happened to somebody's command.
    pub fn count(&self, what: &'static str) {
        *self.faults().tally.entry(what).or_insert(0) += 1;
    }

    /// Refuses every connection for a while.
    pub fn outage(&self, lasting: Duration) {
        let until = self.shared.clock.now() + lasting;
        self.faults().outage_until = Some(until);
    }

    /// Everything that was committed, in order; what the server still had in flight is done first.
    pub fn journal(&self) -> Vec<Entry> {
        self.state().journal.clone()
    }

    /// The rows of a table as Postgres would print them, by key.
    pub fn rows(&self, table: TableIndex) -> Vec<StoredRow> {
        let state = self.state();
        let Some(parent) = self.shared.specs[usize::from(table.0)].parent else {
            let rows = state.tables[usize::from(table.0)].values();
            return rows
                .map(|row| StoredRow { cells: row.cells.clone(), version: Some(row.version) })
                .collect();
        };
        let of_table = |(at, cells): &(TableIndex, Cells)| (*at == table).then(|| cells.clone());
        let mut rows: Vec<StoredRow> = state.tables[usize::from(parent.table.0)]
            .values()
            .flat_map(|row| row.children.iter().filter_map(of_table))
            .map(|cells| StoredRow { cells, version: None })
            .collect();
        rows.sort_by_key(|row| key_of(&row.cells, row.cells.len()));
        rows
    }

    /// The rows of every table with their children, by table and key.
    pub fn contents(&self) -> BTreeMap<(TableIndex, Key), Row> {
        let state = self.state();
        let tables = state.tables.iter().zip(0..);
        tables
            .flat_map(|(rows, at)| {
                rows.iter().map(move |(key, row)| ((TableIndex(at), key.clone()), row.clone()))
            })
            .collect()
    }

    /// Every partition's position and state.
    pub fn positions(&self, source: &str) -> BTreeMap<PartitionId, (Position, PartitionState)> {
        let state = self.state();
        let Some(source) = state.sources.get(source) else { return BTreeMap::new() };
        let rows = source.partitions.iter();
        rows.map(|(id, row)| (id.clone(), (row.position.clone(), row.state))).collect()
    }

    /// How many partitions that can be read each living worker has, after how many are free.
    pub fn shares(&self, source: &str) -> Vec<usize> {
        let state = self.state();
        let Some(source) = state.sources.get(source) else { return Vec::new() };
        let view = source.view(state.now());
        let mut shares = vec![0; view.workers + 1];
        let mut seats = BTreeMap::new();
        for (row, readiness) in view.partitions.iter().zip(readiness(&view.partitions)) {
            if readiness == Readiness::Readable {
                let next = seats.len() + 1;
                let seat = |owner: &WorkerId| *seats.entry(owner.to_string()).or_insert(next);
                shares[row.owner.as_ref().map_or(0, seat)] += 1;
            }
        }
        shares
    }

    /// What is said of how far a source is.
    pub fn synced_up_to(&self, source: &str) -> Option<EpochMillis> {
        self.state().sources.get(source)?.synced_up_to()
    }

    /// Whether a load is active.
    pub fn loads(&self, source: &str) -> bool {
        self.state().sources.get(source).is_some_and(|source| source.backfill.active)
    }

    /// Whether a load has ended.
    pub fn loaded(&self, source: &str) -> bool {
        self.state().sources.get(source).is_some_and(|source| source.backfill.loaded)
    }

    /// The gaps of a source that no load has repaired.
    pub fn gaps(&self, source: &str) -> Vec<Gap> {
        let state = self.state();
        let gaps = state.sources.get(source).map(|source| source.gaps.as_slice());
        let unrepaired = |stored: &&StoredGap| stored.state != GapState::Repaired;
        let gaps = gaps.unwrap_or_default().iter().filter(unrepaired);
        gaps.map(|stored| stored.gap.clone()).collect()
    }

    /// The open dead letters of a source.
    pub fn dead_letters(&self, source: &str) -> Vec<OpenLetter> {
        let state = self.state();
        let letters = state.sources.get(source).map(|source| source.dead_letters.as_slice());
        let open = letters.unwrap_or_default().iter().filter(|letter| letter.open);
        open.map(|letter| OpenLetter::of(&letter.letter)).collect()
    }

    /// One call: drawn faults around one transaction.
    async fn call<T>(&self, call: Call, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.stand_still().await;
        let fate = self.faults().draw(call);
        self.reach(&fate).await?;
        let result = {
            let mut state = self.state();
            let result = work(&mut state);
            state.note_synced();
            result
        };
        self.answer(&fate).await?;
        result
    }

    /// The way to the server: slow, refused, or fine.
    async fn reach(&self, fate: &Fate) -> Result<()> {
        if let Some(time) = fate.before {
            pause(self.shared.clock, time).await;
        }
        if let Some(time) = fate.freeze {
            self.gate.shut(true);
            pause(self.shared.clock, time).await;
            self.gate.shut(false);
        }
        if fate.held_back {
            self.stand_still().await;
        }
        self.connected("connect to the simulated database")?;
        match fate.fails {
            Some(kind) => Err(Error::new(kind, "the simulated database failed before commit")),
            None => Ok(()),
        }
    }

    /// The way back: slow, lost, or fine.
    async fn answer(&self, fate: &Fate) -> Result<()> {
        if let Some(time) = fate.after {
            pause(self.shared.clock, time).await;
        }
        self.stand_still().await;
        if fate.lost {
            return Err(Error::new(ErrorKind::Unreachable, "the simulated answer was lost"));
        }
        self.connected("await the simulated answer")
    }

    fn connected(&self, what: &str) -> Result<()> {
        let now = self.shared.clock.now();
        if self.faults().outage_until.is_some_and(|until| now < until) {
            return Err(Error::new(ErrorKind::Unreachable, what));
        }
        Ok(())
    }

    /// Waits while the worker's process is stopped.
    async fn stand_still(&self) {
        self.gate.pass().await;
    }

    /// The state, with everything done that the server had in flight and that is due by now.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = Some(self.shared.clock.now());
        state.elapsed = self.shared.clock.elapsed();
        let due: Vec<Batch> = state.take_due();
        for batch in due {
            // The caller is dead: nobody hears the outcome.
            drop(sink::commit(&self.shared, &mut state, &batch));
            state.note_synced();
        }
        state
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Counts what has happened.
    fn tell(&self, what: &'static str) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        *faults.tally.entry(what).or_insert(0) += 1;
    }

    /// What goes wrong just now.
    fn knobs(&self) -> Knobs {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).knobs
    }

    /// Counts what happened.
    fn count(&self, what: &'static str, count: u64) {
        if count == 0 {
            return;
        }
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        *faults.tally.entry(what).or_insert(0) += count;
    }
}

/// The first `columns` cells as an ordered key.
pub fn key_of(cells: &Cells, columns: usize) -> Key {
    cells.iter().take(columns).map(|cell| cell.map(str::to_owned)).collect()
}
