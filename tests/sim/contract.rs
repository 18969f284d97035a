//! The contract suites over the in-memory store: what holds the simulator to the truth.

use std::time::Duration;

use dynaurora::mapping::spec::TableSpec;
use dynaurora::model::{RowOp, TableIndex};

use super::clock::{SimClock, pause};
use super::store::{Knobs, Store};
use crate::contract::repair::RepairRig;
use crate::contract::{self, Rig, StoredRow, tables};

struct Memory {
    store: Store,
    clock: SimClock,
}

impl Memory {
    fn fresh() -> Self {
        Self::with(tables())
    }

    fn with(tables: Vec<TableSpec>) -> Self {
        let clock = SimClock::start();
        let store = Store::new(tables, clock);
        let refuses = |op: &RowOp| op.cells.iter().nth(3) == Some(Some("heavy"));
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

    async fn forget(&self) {
        self.store.forget();
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

contract::freshness::cases!(
    #[tokio::test(start_paused = true)]
    super::Memory::fresh()
);
contract::ledger::cases!(
    #[tokio::test(start_paused = true)]
    super::Memory::fresh()
);
contract::enrolment::cases!(
    #[tokio::test(start_paused = true)]
    super::Memory::fresh()
);
contract::backfills::cases!(
    #[tokio::test(start_paused = true)]
    super::Memory::fresh()
);
contract::rewind::cases!(
    #[tokio::test(start_paused = true)]
    super::Memory::fresh()
);
contract::sink::cases!(
    #[tokio::test(start_paused = true)]
    super::Memory::fresh()
);
contract::histories::cases!(
    #[tokio::test(start_paused = true)]
    super::Memory::with(crate::contract::histories::tables())
);
contract::repair::cases!(
    #[tokio::test(start_paused = true)]
    super::Memory::fresh()
);
