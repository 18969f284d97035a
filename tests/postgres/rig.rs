//! A fresh database with a source, its shards and its target tables.

use std::sync::Arc;
use std::time::Duration;

use dynaurora::apply::ports::{
    Advance, Applied, Batch, DeadLetter, Fence, Lineage, Phase, RecordRef, Rows, Sink, Unit,
};
use dynaurora::engine::ports::{Lease, LeaseRequest, Ledger, Listing, SourceIdentity};
use dynaurora::error::Result;
use dynaurora::mapping::spec::{ColumnSpec, ColumnType, ParentSpec, TableName, TableSpec};
use dynaurora::model::{
    Cells, PartitionId, Position, Reject, RejectReason, RowAction, RowOp, SequenceNumber,
    ShardListing, TableIndex, Version, WorkerId,
};
use dynaurora::postgres::ledger::PostgresLedger;
use dynaurora::postgres::migrations;
use dynaurora::postgres::session::{Pools, Settings, Tls};
use dynaurora::postgres::tables::{PostgresSink, ddl};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use super::cluster::fresh_database;

pub(crate) const SOURCE: &str = "santa";
pub(crate) const STREAM: &str = "arn:aws:dynamodb:eu-west-1:000000000000:table/NorthPole/stream/a";
pub(crate) const LETTERS: TableIndex = TableIndex(0);
pub(crate) const TOYS: TableIndex = TableIndex(1);
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(600);

/// A database under test.
pub(crate) struct Rig {
    pub(crate) url: String,
    pub(crate) pools: Arc<Pools>,
    pub(crate) ledger: PostgresLedger,
    pub(crate) sink: PostgresSink,
    /// Connections of the test's own.
    pub(crate) pool: PgPool,
}

impl Rig {
    /// The letters and their toys, the shards `a` and `b`.
    pub(crate) async fn new() -> Self {
        let rig = Self::with_tables(&tables()).await;
        rig.register(&["a", "b"]).await;
        rig
    }

    pub(crate) async fn with_tables(tables: &[TableSpec]) -> Self {
        let url = fresh_database().await;
        let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        migrations::migrate(&pool).await.unwrap();
        let steps = ddl::plan(&pool, tables).await.unwrap();
        ddl::apply(&pool, &steps).await.unwrap();
        Self::open(url, pool, tables).await
    }

    /// A rig over a database whose tables the test made itself.
    pub(crate) async fn open(url: String, pool: PgPool, tables: &[TableSpec]) -> Self {
        let pools = Arc::new(Pools::connect(settings(&url)).await.unwrap());
        let ledger = PostgresLedger::new(Arc::clone(&pools));
        let sink = PostgresSink::new(Arc::clone(&pools), tables).unwrap();
        Self { url, pools, ledger, sink, pool }
    }

    pub(crate) async fn register(&self, shards: &[&str]) {
        self.ledger.enrol(&identity()).await.unwrap();
        let shards = shards.iter().map(|name| shard(name)).collect();
        let listing = Listing { shards, complete: true };
        self.ledger.register(SOURCE, STREAM, &listing).await.unwrap();
    }

    pub(crate) async fn acquire(&self, who: &WorkerId, wanted: &[&str]) -> Vec<Lease> {
        let wanted: Vec<_> = wanted.iter().map(|name| PartitionId::new(*name)).collect();
        let tombstone = LeaseRequest {
            source: SOURCE,
            worker: who,
            generation: 1,
            wanted: &wanted,
            lease_ttl: LEASE_TTL,
        };
        self.ledger.acquire(&tombstone).await.unwrap()
    }

    pub(crate) async fn lease(&self, who: &WorkerId, shard: &str) -> Lease {
        self.acquire(who, &[shard]).await.pop().unwrap()
    }

    pub(crate) async fn apply(&self, batch: &Batch) -> Result<Applied> {
        self.sink.apply(batch).await
    }

    /// Makes every lease look as old as if its time had passed.
    pub(crate) async fn expire_leases(&self) {
        self.run("update dynaurora.workers set alive_until = now() - interval '1 ms'").await;
    }

    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// The first column of a query's rows, which must be text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap()
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let sql = format!("select count(*) from {table}");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }
}

/// Settings for the tests' own cluster.
pub(crate) fn settings(url: &str) -> Settings {
    Settings { tls: Tls::Disable, ..Settings::new(url) }
}

pub(crate) fn identity() -> SourceIdentity {
    SourceIdentity {
        source: SOURCE.into(),
        table_arn: "arn:aws:dynamodb:eu-west-1:000000000000:table/NorthPole".to_owned(),
        table_id: "11111111-2222-3333-4444-555555555555".to_owned(),
        stream_arn: STREAM.to_owned(),
    }
}

pub(crate) fn column(name: &str, column_type: ColumnType) -> ColumnSpec {
    ColumnSpec { name: name.to_owned(), column_type, not_null: false }
}

/// A table of one entity.
pub(crate) fn table(name: &str, key_columns: usize, columns: Vec<ColumnSpec>) -> TableSpec {
    let name = TableName { schema: None, name: name.to_owned() };
    let entity = Arc::from("letter");
    TableSpec { name, entity, columns, key_columns, ..TableSpec::default() }
}

/// `letters (child, number, body)` and its `toys (child, number, position, sku)`.
pub(crate) fn tables() -> Vec<TableSpec> {
    let key = || vec![column("child", ColumnType::Text), column("number", ColumnType::BigInt)];
    let mut letters = key();
    letters.push(column("body", ColumnType::Text));
    let mut toys = key();
    toys.push(column("position", ColumnType::Integer));
    toys.push(column("sku", ColumnType::Text));
    let mut toys = table("toys", 3, toys);
    toys.parent = Some(ParentSpec { table: LETTERS, key_columns: 2 });
    vec![table("letters", 2, letters), toys]
}

pub(crate) fn worker(name: &str) -> WorkerId {
    WorkerId::new(name)
}

pub(crate) fn shard(name: &str) -> ShardListing {
    ShardListing { id: PartitionId::new(name), parent: None, starting: Some(sequence(1)) }
}

pub(crate) fn sequence(number: u64) -> SequenceNumber {
    SequenceNumber::parse(&format!("{number:021}")).unwrap()
}

pub(crate) fn version(number: u64) -> Version {
    Version { generation: 1, sequence: sequence(number) }
}

pub(crate) fn cells(values: &[Option<&str>]) -> Cells {
    values.iter().copied().collect()
}

pub(crate) fn unit(action: RowAction, cells: Cells, at: u64) -> Unit {
    let op = RowOp { table: LETTERS, action, cells, children: Vec::new() };
    Unit { op, version: version(at), record: RecordRef { page: 0, index: 0 } }
}

pub(crate) fn letter(child: &str, body: &str, at: u64) -> Unit {
    unit(RowAction::Upsert, cells(&[Some(child), Some("1"), Some(body)]), at)
}

pub(crate) fn wishing(mut unit: Unit, toys: &[(u32, &str)]) -> Unit {
    for (position, sku) in toys {
        let mut cells = unit.op.cells.prefix(2);
        cells.push_display(position);
        cells.push(sku);
        unit.op.children.push((TOYS, cells));
    }
    unit
}

pub(crate) fn burnt(child: &str, at: u64) -> Unit {
    unit(RowAction::Delete, cells(&[Some(child), Some("1")]), at)
}

/// A batch that moves one lease.
pub(crate) fn batch(who: &WorkerId, lease: &Lease, to: u64, units: Vec<Unit>) -> Batch {
    let advance = Advance {
        partition: lease.partition.clone(),
        epoch: lease.epoch,
        from: lease.position.clone(),
        to: Position::After(sequence(to)),
        drained: false,
        records: 0,
        last_event_at: None,
    };
    Batch {
        source: SOURCE.into(),
        phase: Phase::Steady,
        rows: Rows { units, ..Rows::default() },
        lineage: Lineage { stream_arn: STREAM.into(), ..Lineage::default() },
        fence: Fence { worker: who.clone(), generation: 1, advances: vec![advance] },
    }
}

/// The batch with one thing changed.
pub(crate) fn changed(mut batch: Batch, change: impl FnOnce(&mut Batch)) -> Batch {
    change(&mut batch);
    batch
}

/// The batch as it is made while a backfill is active.
pub(crate) fn beside(batch: Batch) -> Batch {
    changed(batch, |own| own.phase = Phase::BesideBackfill)
}

/// The lease once its partition has come to a position.
pub(crate) fn moved(lease: &Lease, to: u64) -> Lease {
    Lease { position: Position::After(sequence(to)), ..lease.clone() }
}

pub(crate) fn dead_letter(child: &str, at: u64) -> DeadLetter {
    let mut key_hash = [0; 32];
    key_hash.iter_mut().zip(child.bytes()).for_each(|(own, byte)| *own = byte);
    DeadLetter {
        partition: PartitionId::new("a"),
        version: version(at),
        key: format!(r#"{{"pk":{{"S":"{child}"}}}}"#),
        key_hash,
        image: r#"{"op":"insert","keys":{"pk":{"S":"\u0000"}}}"#.to_owned(),
        reject: Reject {
            reason: RejectReason::Nul,
            entity: Some("letter".into()),
            place: None,
            detail: "the attribute \0 holds U+0000".to_owned(),
        },
    }
}
