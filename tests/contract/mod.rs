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
pub mod freshness;
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

use std::sync::Arc;
use std::time::Duration;

use dynaurora::apply::ports::{Advance, Batch, Fence, Lineage, Phase, RecordRef, Rows, Unit};
use dynaurora::engine::ports::{
    Lease, LeaseRequest, Ledger, LedgerView, Listing, PartitionRow, SourceIdentity, Target,
};
use dynaurora::mapping::spec::{ColumnSpec, ColumnType, ParentSpec, TableName, TableSpec};
use dynaurora::model::{
    Cells, PartitionId, Position, RowAction, RowOp, SequenceNumber, ShardListing, TableIndex,
    Version, WorkerId,
};

/// The source of every case.
pub const SOURCE: &str = "santa";
/// Its stream.
pub const STREAM: &str = "arn:aws:dynamodb:eu-west-1:000000000000:table/NorthPole/stream/a";
/// A lease that outlives every case.
pub const LONG: Duration = Duration::from_secs(600);
/// A lease whose end a case awaits.
pub const SHORT: Duration = Duration::from_millis(150);

/// The entity's own table: `letters (child text, number bigint, body text, weight numeric)`.
pub const LETTERS: TableIndex = TableIndex(0);
/// Its child table: `toys (child text, number bigint, position bigint, sku text)`.
pub const TOYS: TableIndex = TableIndex(1);

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
    let column = |name: &str, column_type, not_null| ColumnSpec {
        name: name.to_owned(),
        column_type,
        not_null,
    };
    let name = |name: &str| TableName { schema: None, name: name.to_owned() };
    let letters = TableSpec {
        name: name("letters"),
        entity: Arc::from("letter"),
        columns: vec![
            column("child", ColumnType::Text, true),
            column("number", ColumnType::BigInt, true),
            column("body", ColumnType::Text, false),
            column("weight", ColumnType::Numeric(None), false),
        ],
        key_columns: 2,
        ..TableSpec::default()
    };
    let toys = TableSpec {
        name: name("toys"),
        entity: Arc::from("letter"),
        columns: vec![
            column("child", ColumnType::Text, true),
            column("number", ColumnType::BigInt, true),
            column("position", ColumnType::BigInt, true),
            column("sku", ColumnType::Text, false),
        ],
        key_columns: 3,
        parent: Some(ParentSpec { table: LETTERS, key_columns: 2 }),
        ..TableSpec::default()
    };
    vec![letters, toys]
}

/// The source as every case enrols it.
pub fn identity() -> SourceIdentity {
    SourceIdentity {
        source: SOURCE.into(),
        table_arn: "arn:aws:dynamodb:eu-west-1:000000000000:table/NorthPole".to_owned(),
        table_id: "11111111-2222-3333-4444-555555555555".to_owned(),
        stream_arn: STREAM.to_owned(),
    }
}

/// A worker.
pub fn worker(name: &str) -> WorkerId {
    WorkerId::new(name)
}

/// A partition's id.
pub fn partition(name: &str) -> PartitionId {
    PartitionId::new(name)
}

/// A sequence number of a width that the service uses.
pub fn sequence(number: u64) -> SequenceNumber {
    SequenceNumber::parse(&format!("{number:021}")).unwrap()
}

/// A version of the first generation.
pub fn version(number: u64) -> Version {
    Version { generation: 1, sequence: sequence(number) }
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

/// The same letter with toys wished for.
pub fn wishing(mut unit: Unit, toys: &[&str]) -> Unit {
    let key = unit.op.cells.prefix(2);
    unit.op.children = toys
        .iter()
        .enumerate()
        .map(|(position, sku)| {
            let mut cells = key.clone();
            cells.push_display(position);
            cells.push(sku);
            (TOYS, cells)
        })
        .collect();
    unit
}

fn unit(action: RowAction, cells: Cells, version: Version) -> Unit {
    let op = RowOp { table: LETTERS, action, cells, children: Vec::new() };
    Unit { op, version, record: RecordRef { page: 0, index: 0 } }
}

/// A batch that moves one lease to a position.
pub fn batch(who: &WorkerId, lease: &Lease, to: u64, units: Vec<Unit>) -> Batch {
    Batch {
        source: SOURCE.into(),
        phase: Phase::Steady,
        rows: Rows { units, ..Rows::default() },
        lineage: Lineage { stream_arn: STREAM.into(), ..Lineage::default() },
        fence: Fence { worker: who.clone(), generation: 1, advances: vec![advance(lease, to)] },
    }
}

/// The step of a lease to a position.
pub fn advance(lease: &Lease, to: u64) -> Advance {
    Advance {
        partition: lease.partition.clone(),
        epoch: lease.epoch,
        from: lease.position.clone(),
        to: Position::After(sequence(to)),
        drained: false,
        records: 0,
        last_event_at: None,
    }
}

/// The lease once its partition has come to a position.
pub fn moved(lease: &Lease, to: u64) -> Lease {
    Lease { position: Position::After(sequence(to)), ..lease.clone() }
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
    let tombstone =
        LeaseRequest { source: SOURCE, worker: who, generation: 1, wanted: &wanted, lease_ttl };
    rig.ledger().acquire(&tombstone).await.unwrap()
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
