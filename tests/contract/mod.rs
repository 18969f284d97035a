//! The contract of the engine's ledger and sink, sentence by sentence, for any implementation.
//!
//! Each suite lists its cases once, in the macro `cases!`, and every implementation makes one test of
//! each: `ledger::cases!(#[tokio::test] super::fresh().await)`. A case gets a [`Rig`] with an empty ledger
//! and empty tables. It assumes nothing that the traits' docs do not say, and it polls for what time brings
//! about rather than trusting a sleep.

/// Makes one test of each case of a suite, in a module of the suite's name.
macro_rules! tests {
    ($suite:ident [$($case:ident)*] #[$test:meta] $fresh:expr) => {
        mod $suite { $(
            #[$test]
            async fn $case() {
                $crate::contract::$suite::$case(&$fresh).await;
            }
        )* }
    };
}
pub(crate) use tests;

#[deny(dead_code, reason = "a case that is not in its suite's list")]
pub mod backfills;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
pub mod enrolment;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
pub mod freshness;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
pub mod histories;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
pub mod ledger;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
pub mod repair;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
pub mod rewind;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
pub mod sink;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
mod source;
mod source_days;
#[cfg(feature = "demo")]
mod source_emulator;
#[deny(dead_code, reason = "a case that is not in its suite's list")]
mod source_faults;

/// The world behind the port.
mod in_the_world {
    super::source::cases!(
        #[tokio::test]
        crate::contract::source::plain()
    );
    super::source_faults::cases!(
        #[tokio::test]
        crate::contract::source::plain()
    );
}

/// The world before the real SDK.
mod before_the_sdk {
    super::source::cases!(
        #[tokio::test]
        crate::contract::source::over_http().await
    );
    super::source_faults::cases!(
        #[tokio::test]
        crate::contract::source::over_http().await
    );
}

use std::time::Duration;

use dynaurora::apply::ports::Unit;
use dynaurora::engine::ports::{
    Lease, LeaseRequest, Ledger, LedgerView, Listing, PartitionRow, Target,
};
use dynaurora::mapping::spec::{ColumnType, TableSpec};
use dynaurora::model::{Cells, ItemTag, RowAction, ShardListing, TableIndex, Version, WorkerId};

use crate::rig::tables::{Build, table};
use crate::rig::{self, unit};
pub use crate::rig::{
    LETTERS, SEATS, SOURCE, STREAM, TOYS, advance, batch, identity, moved, partition, sequence,
    version, worker,
};

/// A lease that outlives every case.
pub const LONG: Duration = Duration::from_secs(600);
/// A lease whose end a case awaits.
pub const SHORT: Duration = Duration::from_millis(150);

/// An implementation under test: an empty ledger and the empty tables of [`tables`].
pub trait Rig {
    /// The ledger.
    type Ledger: Ledger;
    /// The sink into the same database.
    type Sink: Target;

    /// The ledger.
    fn ledger(&self) -> &Self::Ledger;

    /// The sink.
    fn sink(&self) -> &Self::Sink;

    /// The rows of a target table as text, sorted by their cells' text.
    async fn rows(&self, table: TableIndex) -> Vec<StoredRow>;

    /// Loses the ledger; the target tables stay.
    async fn forget(&self);

    /// Lets time pass for the database.
    async fn wait(&self, time: Duration);
}

/// A row of a target table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// Its cells in the order of the table's columns, as Postgres prints them.
    pub cells: Cells,
    /// Its version; `None` in a table of child rows.
    pub version: Option<Version>,
}

/// The target tables of every case.
pub fn tables() -> Vec<TableSpec> {
    let letters = table("letters")
        .key("child", ColumnType::Text)
        .key("number", ColumnType::BigInt)
        .column("body", ColumnType::Text)
        .column("weight", ColumnType::Numeric(None));
    let toys = table("toys")
        .key("child", ColumnType::Text)
        .key("number", ColumnType::BigInt)
        .key("position", ColumnType::BigInt)
        .column("sku", ColumnType::Text);
    let mut seats = table("seats").key("seat", ColumnType::Text).column("elf", ColumnType::Text);
    seats.names_items = true;
    vec![letters, toys.below(LETTERS, 2), seats]
}

/// A shard as a listing shows it.
pub fn shard(name: &str, parent: Option<&str>, starting: Option<u64>) -> ShardListing {
    ShardListing {
        id: partition(name),
        parent: parent.map(partition),
        starting: starting.map(sequence),
    }
}

/// A complete listing.
pub fn listing(shards: &[ShardListing]) -> Listing {
    Listing { shards: shards.to_vec(), complete: true }
}

/// The row of a letter.
pub fn letter(child: &str, number: u64, body: Option<&str>, at: Version) -> Unit {
    let number = number.to_string();
    let cells = [Some(child), Some(number.as_str()), body, Some("1.50")].into_iter().collect();
    unit(RowAction::Upsert, cells, at)
}

/// The end of a letter.
pub fn burnt(child: &str, number: u64, at: Version) -> Unit {
    let number = number.to_string();
    unit(RowAction::Delete, [Some(child), Some(number.as_str())].into_iter().collect(), at)
}

/// The same letter with toys wished for, in their order.
pub fn wishing(unit: Unit, toys: &[&str]) -> Unit {
    let numbered: Vec<_> = (0..).zip(toys.iter().copied()).collect();
    rig::wishing(unit, &numbered)
}

/// An elf's row, or its end, at a seat.
pub fn seat(action: RowAction, seat: &str, elf: i64, at: Version) -> Unit {
    let name = elf.to_string();
    let cells = [Some(seat), Some(name.as_str())].into_iter();
    let cells = cells.take(if action == RowAction::Upsert { 2 } else { 1 }).collect();
    let mut unit = unit(action, cells, at);
    (unit.op.table, unit.op.item) = (SEATS, ItemTag::numbered(elf));
    unit
}

/// The row of an elf who takes a seat.
pub fn taken(name: &str, elf: i64, at: u64) -> Unit {
    seat(RowAction::Upsert, name, elf, version(at))
}

/// The end of the row of an elf who leaves a seat.
pub fn left(name: &str, elf: i64, at: u64) -> Unit {
    seat(RowAction::Delete, name, elf, version(at))
}

/// Enrols the source and registers shards.
pub async fn enrolled(rig: &impl Rig, shards: &[ShardListing]) {
    let enrolment = rig.ledger().enrol(&identity()).await.unwrap();
    assert_eq!(enrolment.generation, 1, "a new source starts with generation 1");
    rig.ledger().register(SOURCE, STREAM, &listing(shards)).await.unwrap();
}

/// Tries to lease partitions of the first generation.
pub async fn acquire(
    rig: &impl Rig,
    who: &WorkerId,
    wanted: &[&str],
    lease_ttl: Duration,
) -> Vec<Lease> {
    let wanted: Vec<_> = wanted.iter().copied().map(partition).collect();
    let request =
        LeaseRequest { source: SOURCE, worker: who, generation: 1, wanted: &wanted, lease_ttl };
    rig.ledger().acquire(&request).await.unwrap()
}

/// Leases one partition that must be free.
pub async fn leased(rig: &impl Rig, who: &WorkerId, name: &str) -> Lease {
    let leases = acquire(rig, who, &[name], LONG).await;
    let [lease] = leases.as_slice() else { panic!("{name} is free, yet got {leases:?}") };
    lease.clone()
}

/// The ledger's view.
pub async fn view(rig: &impl Rig) -> LedgerView {
    rig.ledger().view(SOURCE).await.unwrap()
}

/// One partition's row.
pub async fn row(rig: &impl Rig, name: &str) -> PartitionRow {
    let view = view(rig).await;
    let found = view.partitions.into_iter().find(|row| row.id == partition(name));
    found.unwrap_or_else(|| panic!("{name} is in the ledger"))
}

/// Tries until it succeeds, for as long as ten short leases.
pub async fn within_bound<T>(
    rig: &impl Rig,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    for _ in 0..100 {
        if let Some(done) = attempt().await {
            return done;
        }
        rig.wait(SHORT / 10).await;
    }
    panic!("{what}: not within the bound");
}
