//! How much of the rate of a plain hand-written bulk upsert `apply` reaches: the price of the
//! guard, the children, the fence and the generality.
//!
//! Both run over one connection to the same durable local server, in turns, 1,000 rows a batch;
//! rows of about 500 bytes as in a small single-table design. Run it with `cargo bench --features
//! demo --bench apply`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails where it stands")]
#![allow(clippy::disallowed_methods, reason = "a measurement takes the real time")]

#[cfg(feature = "demo")]
mod measured {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use dynaurora::apply::ports::{
        Advance, Batch, Fence, Lineage, Phase, RecordRef, Rows, Sink, Unit,
    };
    use dynaurora::demo::postgres::{LocalPostgres, Options};
    use dynaurora::engine::ports::{Lease, LeaseRequest, Ledger, Listing, SourceIdentity};
    use dynaurora::mapping::spec::{ColumnSpec, ColumnType, TableName, TableSpec};
    use dynaurora::model::{
        Cells, PartitionId, Position, RowAction, RowOp, SequenceNumber, ShardListing, TableIndex,
        Version, WorkerId,
    };
    use dynaurora::postgres::ledger::PostgresLedger;
    use dynaurora::postgres::migrations;
    use dynaurora::postgres::session::{Pools, Settings, Tls};
    use dynaurora::postgres::tables::{PostgresSink, ddl};
    use sqlx::{PgConnection, PgPool};

    const ROWS: usize = 1_000;
    const ROUNDS: u64 = 200;
    const SOURCE: &str = "bench";
    const STREAM: &str = "arn:aws:dynamodb:eu-west-1:000000000000:table/Bench/stream/a";

    pub(super) async fn run() {
        let options = Options { durable: true, ..Options::default() };
        let server = LocalPostgres::start(options).await.unwrap();
        server.create_database("bench").await.unwrap();
        let url = server.url("bench");
        let pool = PgPool::connect(&url).await.unwrap();
        migrations::migrate(&pool).await.unwrap();
        let specs = [table("ours"), table("plain")];
        let steps = ddl::plan(&pool, &specs).await.unwrap();
        ddl::apply(&pool, &steps).await.unwrap();
        let settings = Settings { tls: Tls::Disable, apply_connections: 1, ..Settings::new(&url) };
        let pools = Arc::new(Pools::connect(settings).await.unwrap());
        let sink = PostgresSink::new(Arc::clone(&pools), &specs).unwrap();
        let worker = WorkerId::new("bench");
        let mut lease = lease(&PostgresLedger::new(pools), &worker).await;
        let mut plain = pool.acquire().await.unwrap();

        let (mut ours_took, mut plain_took) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            // One round of ten inserts, the others write the same keys again: 90 % updates.
            let units = units(round, round / 10);
            let started = Instant::now();
            upsert_plain(&mut plain, &units).await;
            plain_took.push(started.elapsed());
            let batch = batch(&worker, &lease, round, units);
            let started = Instant::now();
            let applied = sink.apply(&batch).await.unwrap();
            ours_took.push(started.elapsed());
            assert_eq!(applied.tables[0].upserted, ROWS as u64);
            lease.position = batch.fence.advances[0].to.clone();
        }
        let (ours, plain) = (rows_per_second(&mut ours_took), rows_per_second(&mut plain_took));
        println!("apply: {ours:.0} rows/s; plain upsert: {plain:.0} rows/s; {:.2}", ours / plain);
    }

    /// The rate of the median batch: other load on the machine weighs less so.
    fn rows_per_second(took: &mut [Duration]) -> f64 {
        took.sort_unstable();
        let median = took[took.len() / 2];
        f64::from(u32::try_from(ROWS).unwrap()) / median.as_secs_f64()
    }

    fn table(name: &str) -> TableSpec {
        let column = |(name, column_type): (&str, ColumnType)| ColumnSpec {
            name: name.to_owned(),
            column_type,
            not_null: false,
        };
        let columns = [
            ("pk", ColumnType::Text),
            ("sk", ColumnType::Text),
            ("name", ColumnType::Text),
            ("city", ColumnType::Text),
            ("wish", ColumnType::Text),
            ("price", ColumnType::Numeric(None)),
            ("weight", ColumnType::Numeric(None)),
            ("good", ColumnType::Boolean),
            ("written_at", ColumnType::Timestamptz),
            ("document", ColumnType::Jsonb),
        ];
        TableSpec {
            name: TableName { schema: None, name: name.to_owned() },
            entity: "row".into(),
            columns: columns.map(column).to_vec(),
            key_columns: 2,
            ..TableSpec::default()
        }
    }

    fn units(round: u64, keys_of: u64) -> Vec<Unit> {
        let document = format!(r#"{{"toys": ["{}"], "round": {round}}}"#, "x".repeat(160));
        (0..ROWS).map(|row| unit(round, keys_of, row, &document)).collect()
    }

    fn unit(round: u64, keys_of: u64, row: usize, document: &str) -> Unit {
        let mut cells = Cells::with_capacity(10, 500);
        cells.push_display(format_args!("CHILD#{keys_of:06}#{row:06}"));
        cells.push("LETTER#2026");
        cells.push("a child's name of middling length");
        cells.push("Rovaniemi");
        cells.push("a train, a kite, and a book about the northern lights");
        cells.push_display(format_args!("{row}.{:02}", round % 100));
        cells.push("1.25");
        cells.push("true");
        cells.push("2026-12-24 18:00:00+00");
        cells.push(document);
        let op = RowOp {
            table: TableIndex(0),
            action: RowAction::Upsert,
            cells,
            children: Vec::new(),
            item: None,
        };
        let version = Version { generation: 1, sequence: sequence(round) };
        Unit { op, version, record: RecordRef { page: 0, index: 0 } }
    }

    fn sequence(number: u64) -> SequenceNumber {
        SequenceNumber::parse(&format!("{number:021}")).unwrap()
    }

    fn batch(worker: &WorkerId, lease: &Lease, round: u64, units: Vec<Unit>) -> Batch {
        let advance = Advance {
            partition: lease.partition.clone(),
            epoch: lease.epoch,
            from: lease.position.clone(),
            to: Position::After(sequence(round)),
            drained: false,
            records: 0,
            last_event_at: None,
        };
        Batch {
            source: SOURCE.into(),
            phase: Phase::Steady,
            rows: Rows { units, ..Rows::default() },
            lineage: Lineage { stream_arn: STREAM.into(), ..Lineage::default() },
            fence: Fence { worker: worker.clone(), generation: 1, advances: vec![advance] },
        }
    }

    async fn lease(ledger: &PostgresLedger, worker: &WorkerId) -> Lease {
        let identity = SourceIdentity {
            source: SOURCE.into(),
            table_arn: "arn:aws:dynamodb:eu-west-1:000000000000:table/Bench".to_owned(),
            table_id: "1".to_owned(),
            stream_arn: STREAM.to_owned(),
            tables: Vec::new(),
        };
        ledger.enrol(&identity).await.unwrap();
        let wanted = [PartitionId::new("a")];
        let shard = ShardListing { id: wanted[0].clone(), parent: None, starting: None };
        let listing = Listing { shards: vec![shard], complete: true };
        ledger.register(SOURCE, STREAM, &listing).await.unwrap();
        let request = LeaseRequest {
            source: SOURCE,
            worker,
            generation: 1,
            wanted: &wanted,
            lease_ttl: Duration::from_secs(3_600),
        };
        ledger.acquire(&request).await.unwrap().pop().unwrap()
    }

    /// What one writes by hand: typed where a type is at hand, no guard, no position, autocommit.
    async fn upsert_plain(connection: &mut PgConnection, units: &[Unit]) {
        let column = |cell: usize| -> Vec<&str> {
            units.iter().map(|unit| unit.op.cells.cell(cell).unwrap_or_default()).collect()
        };
        let good: Vec<bool> = column(7).into_iter().map(|text| text == "true").collect();
        let versions: Vec<String> = units.iter().map(|unit| unit.version.to_string()).collect();
        sqlx::query(
            "insert into plain select * from unnest($1::text[], $2::text[], $3::text[], \
             $4::text[], $5::text[], $6::text[]::numeric[], $7::text[]::numeric[], $8::bool[], \
             $9::text[]::timestamptz[], $10::text[]::jsonb[], $11::text[]::numeric[]) \
             on conflict (pk, sk) do update set name = excluded.name, city = excluded.city, \
             wish = excluded.wish, price = excluded.price, weight = excluded.weight, \
             good = excluded.good, written_at = excluded.written_at, \
             document = excluded.document, dynaurora_version = excluded.dynaurora_version",
        )
        .bind(column(0))
        .bind(column(1))
        .bind(column(2))
        .bind(column(3))
        .bind(column(4))
        .bind(column(5))
        .bind(column(6))
        .bind(good)
        .bind(column(8))
        .bind(column(9))
        .bind(versions)
        .execute(connection)
        .await
        .unwrap();
    }
}

#[cfg(feature = "demo")]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    measured::run().await;
}

#[cfg(not(feature = "demo"))]
fn main() {
    println!("this measurement needs the feature demo");
}
