//! The contract suites over the in-memory store: what holds the simulator to the truth.

use std::time::Duration;

use dynaurora::model::{RowOp, TableIndex};

use super::clock::{SimClock, pause};
use super::store::{Knobs, Store};
use crate::contract::repair::{self, RepairRig};
use crate::contract::{Rig, StoredRow, freshness, ledger, loads, rewind, sink, tables};

struct Memory {
    store: Store,
    clock: SimClock,
}

impl Memory {
    fn fresh() -> Self {
        let clock = SimClock::start();
        let store = Store::new(tables(), clock);
        let refuses = |op: &RowOp| op.cells.cell(3) == Some("heavy");
        store.set_faults(Knobs { refuses, ..Knobs::default() }, 0);
        Self { store, clock }
    }
}

impl Rig for Memory {
    type Ledger = Store;
    type Sink = Store;

    fn ledger(&self) -> &Store {
        &self.store
    }

    fn sink(&self) -> &Store {
        &self.store
    }

    async fn rows(&self, table: TableIndex) -> Vec<StoredRow> {
        self.store.rows(table)
    }

    async fn wait(&self, time: Duration) {
        pause(self.clock, time).await;
    }
}

impl RepairRig for Memory {
    type Target = Store;

    fn target(&self) -> &Store {
        &self.store
    }
}

#[tokio::test(start_paused = true)]
async fn the_store_is_verified_and_repaired_as_the_contract_says() {
    repair::suite(async || Memory::fresh()).await;
}

#[tokio::test(start_paused = true)]
async fn the_store_keeps_the_ledgers_contract() {
    ledger::suite(async || Memory::fresh()).await;
}

#[tokio::test(start_paused = true)]
async fn freshness_is_told_as_the_contract_says() {
    freshness::suite(async || Memory::fresh()).await;
}

#[tokio::test(start_paused = true)]
async fn the_store_keeps_the_sinks_contract() {
    sink::suite(async || Memory::fresh()).await;
}

#[tokio::test(start_paused = true)]
async fn the_store_keeps_the_contract_of_loads() {
    loads::suite(async || Memory::fresh()).await;
}

#[tokio::test(start_paused = true)]
async fn shards_are_rewound_as_the_contract_says() {
    rewind::suite(async || Memory::fresh()).await;
}
