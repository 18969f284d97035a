//! A fresh database with a source, its shards and its target tables.

use std::sync::Arc;
use std::time::Duration;

use dynaurora::apply::ports::{Applied, Batch, DeadLetter, Sink, Unit};
use dynaurora::engine::ports::{Lease, LeaseRequest, Ledger, Listing};
use dynaurora::error::Result;
use dynaurora::mapping::spec::{ColumnType, TableSpec};
use dynaurora::model::{
    Cells, PartitionId, Reject, RejectReason, RowAction, ShardListing, WorkerId,
};
use dynaurora::postgres::ledger::PostgresLedger;
use dynaurora::postgres::migrations;
use dynaurora::postgres::repair::ports::PostgresTarget;
use dynaurora::postgres::session::{Pools, Settings, Tls};
use dynaurora::postgres::tables::{PostgresSink, ddl};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use super::cluster::fresh_database;
use crate::rig::tables::{Build, table};
use crate::rig::{self, LETTERS, SOURCE, STREAM, cells, identity, partition, sequence, version};

pub(crate) const LEASE_TTL: Duration = Duration::from_secs(600);

/// A database under test.
pub(crate) struct Rig {
    pub(crate) url: String,
    pub(crate) pools: Arc<Pools>,
    pub(crate) ledger: PostgresLedger,
    pub(crate) sink: PostgresSink,
    pub(crate) target: PostgresTarget,
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

    /// A fresh database with the ledger and these tables.
    pub(crate) async fn with_tables(tables: &[TableSpec]) -> Self {
        Self::prepared("", tables).await
    }

    /// The same, where the tables need what other SQL makes first.
    pub(crate) async fn prepared(before: &'static str, tables: &[TableSpec]) -> Self {
        let url = fresh_database().await;
        let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        sqlx::raw_sql(before).execute(&pool).await.unwrap();
        migrations::migrate(&pool).await.unwrap();
        let steps = ddl::plan(&pool, tables).await.unwrap();
        ddl::apply(&pool, &steps).await.unwrap();
        Self::open(url, pool, tables).await
    }

    /// A rig over a database that the test made itself.
    pub(crate) async fn open(url: String, pool: PgPool, tables: &[TableSpec]) -> Self {
        let pools = Arc::new(Pools::connect(settings(&url)).await.unwrap());
        let ledger = PostgresLedger::new(Arc::clone(&pools));
        let sink = PostgresSink::new(Arc::clone(&pools), tables).unwrap();
        let target = PostgresTarget::new(&pools, &SOURCE.into(), tables);
        Self { url, pools, ledger, sink, target, pool }
    }

    pub(crate) async fn register(&self, shards: &[&str]) {
        self.ledger.enrol(&identity()).await.unwrap();
        let shards = shards.iter().map(|name| shard(name)).collect();
        let listing = Listing { shards, complete: true };
        self.ledger.register(SOURCE, STREAM, &listing).await.unwrap();
    }

    pub(crate) async fn acquire(&self, who: &WorkerId, wanted: &[&str]) -> Vec<Lease> {
        let wanted: Vec<_> = wanted.iter().map(|name| PartitionId::new(*name)).collect();
        let request = LeaseRequest {
            source: SOURCE,
            worker: who,
            generation: 1,
            wanted: &wanted,
            lease_ttl: LEASE_TTL,
        };
        self.ledger.acquire(&request).await.unwrap()
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

/// `letters (child, number, body)` and its `toys (child, number, position, sku)`.
pub(crate) fn tables() -> Vec<TableSpec> {
    let letters = table("letters")
        .key("child", ColumnType::Text)
        .key("number", ColumnType::BigInt)
        .column("body", ColumnType::Text);
    let toys = table("toys")
        .key("child", ColumnType::Text)
        .key("number", ColumnType::BigInt)
        .key("position", ColumnType::Integer)
        .column("sku", ColumnType::Text);
    vec![letters, toys.below(LETTERS, 2)]
}

pub(crate) fn shard(name: &str) -> ShardListing {
    ShardListing { id: partition(name), parent: None, starting: Some(sequence(1)) }
}

pub(crate) fn unit(action: RowAction, cells: Cells, at: u64) -> Unit {
    rig::unit(action, cells, version(at))
}

pub(crate) fn letter(child: &str, body: &str, at: u64) -> Unit {
    unit(RowAction::Upsert, cells(&[Some(child), Some("1"), Some(body)]), at)
}

pub(crate) fn burnt(child: &str, at: u64) -> Unit {
    unit(RowAction::Delete, cells(&[Some(child), Some("1")]), at)
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
