//! Servers that go away, turn into readers, or are not as expected.

use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::ports::{Ledger, Sink};
use dynaurora::error::{Error, ErrorKind};
use dynaurora::sink::{Pools, PostgresLedger, PostgresSink, Settings, migrations};
use sqlx::PgPool;

use super::cluster::{cluster, fresh_database};
use super::rig::{Rig, SOURCE, batch, letter, settings, tables, worker};

/// Ends every connection of dynaurora's to this database and waits until they are gone.
async fn terminate(rig: &Rig) {
    const OURS: &str = "from pg_stat_activity where datname = current_database() \
        and application_name = 'dynaurora'";
    rig.run(&format!("select pg_terminate_backend(pid) {OURS}")).await;
    while !rig.texts(&format!("select pid::text {OURS}")).await.is_empty() {}
}

#[tokio::test]
async fn connections_that_the_server_ended_are_replaced() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let whole = batch(&ann, &lease, 5, vec![letter("1", "a", 5)]);
    rig.sink.probe(&whole, &whole.units).await.unwrap();
    // A connection goes back to its pool in a task of its own.
    while rig.pools.pool().await.unwrap().num_idle() == 0 {
        tokio::task::yield_now().await;
    }
    terminate(&rig).await;
    let gone =
        |error: Error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unreachable);
    assert!(gone(rig.apply(&whole).await.unwrap_err()));
    // Not only the connection that failed is new, but all are: the ledger's went with the batch's.
    assert_eq!(rig.ledger.load(SOURCE).await.unwrap().partitions.len(), 2);
    rig.apply(&whole).await.unwrap();
    assert_eq!(rig.count("letters").await, 1);
}

#[tokio::test]
async fn a_reader_is_refused_and_left_once_it_writes_again() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let whole = batch(&ann, &lease, 5, vec![letter("1", "a", 5)]);
    let database = rig.texts("select current_database()::text").await.pop().flatten().unwrap();
    // The test's own pool may open a connection meanwhile, which is then a reader's too.
    let turn = |mode| {
        format!(
            "begin read write; \
             alter database {database} set default_transaction_read_only = {mode}; commit"
        )
    };
    rig.run(&turn("on")).await;
    terminate(&rig).await;
    // The first call may meet a connection that has ended.
    drop(rig.apply(&whole).await);
    assert_eq!(rig.apply(&whole).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(rig.ledger.load(SOURCE).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    let error = Pools::connect(settings(&rig.url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    rig.run(&turn("off")).await;
    rig.apply(&whole).await.unwrap();
    assert_eq!(rig.count("letters").await, 1);
}

#[tokio::test]
async fn a_lock_that_stays_is_a_conflict_not_a_wait_without_end() {
    let rig = Rig::new().await;
    let short = Settings { lock_timeout: Duration::from_millis(50), ..settings(&rig.url) };
    let pools = Arc::new(Pools::connect(short).await.unwrap());
    let sink = PostgresSink::new(pools, &tables()).unwrap();
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let mut lock = rig.pool.begin().await.unwrap();
    sqlx::query("lock table letters").execute(&mut *lock).await.unwrap();
    let error = sink.apply(&batch(&ann, &lease, 5, vec![letter("1", "a", 5)])).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, Some("55P03")));
}

#[tokio::test]
async fn limits_and_settings_leave_the_session_as_a_pooler_gave_it() {
    let rig = Rig::new().await;
    let unprepared = Settings { prepared: false, apply_connections: 1, ..settings(&rig.url) };
    let pools = Arc::new(Pools::connect(unprepared).await.unwrap());
    let sink = PostgresSink::new(Arc::clone(&pools), &tables()).unwrap();
    let ledger = PostgresLedger::new(Arc::clone(&pools));
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    sink.apply(&batch(&ann, &lease, 5, vec![letter("1", "a", 5)])).await.unwrap();
    ledger.load(SOURCE).await.unwrap();
    let pool = pools.pool().await.unwrap();
    let left: Vec<String> = sqlx::query_scalar(
        "select name from pg_settings where source = 'session' \
         and name not in ('DateStyle', 'TimeZone', 'client_encoding', 'application_name') \
         union all select statement from pg_prepared_statements where statement not like '%left%'",
    )
    .persistent(false)
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_missing_or_altered_is_a_matter_of_the_schema() {
    let url = fresh_database().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(migrations::pending(&pool).await.unwrap().len(), files);
    let pools = Arc::new(Pools::connect(settings(&url)).await.unwrap());
    let ledger = PostgresLedger::new(pools);
    assert_eq!(ledger.load(SOURCE).await.unwrap_err().kind(), ErrorKind::Schema);
    migrations::migrate(&pool).await.unwrap();
    migrations::migrate(&pool).await.unwrap();
    assert_eq!(migrations::pending(&pool).await.unwrap(), Vec::<String>::new());

    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let whole = batch(&ann, &lease, 5, vec![letter("1", "a", 5)]);
    rig.sink.probe(&whole, &whole.units).await.unwrap();
    rig.run("alter table letters add column more text").await;
    rig.sink.probe(&whole, &whole.units).await.unwrap();
    rig.run("alter table letters drop column body").await;
    let error = rig.apply(&whole).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Schema, Some("42703")));
    rig.run("drop table letters").await;
    assert_eq!(rig.apply(&whole).await.unwrap_err().kind(), ErrorKind::Schema);
}

#[tokio::test]
async fn a_target_that_cannot_be_had_says_why() {
    let port = cluster().await.port();
    let nobody = format!("postgres://postgres:SECRET@127.0.0.1:{port}/postgres");
    let error = Pools::connect(settings(&nobody)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let missing = cluster().await.url("missing");
    assert_eq!(Pools::connect(settings(&missing)).await.unwrap_err().kind(), ErrorKind::Config);
    let error = Pools::connect(settings("mysql://SECRET@host")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!format!("{error:?}").contains("SECRET"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = format!("postgres://u@127.0.0.1:{}/d", free.local_addr().unwrap().port());
    drop(free);
    let short = Settings { connect_timeout: Duration::from_millis(300), ..settings(&refused) };
    assert_eq!(Pools::connect(short).await.unwrap_err().kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_password_is_asked_for_when_a_transaction_begins() {
    let url = cluster().await.url("postgres");
    let (before, rest) = url.split_once("postgres:").unwrap().1.split_once("postgres:").unwrap();
    let (password, host) = rest.split_once('@').unwrap();
    let without = format!("postgres:{before}postgres@{host}");
    let password = password.to_owned();
    let given: dynaurora::sink::connect::Password = Arc::new(move || {
        let password = password.clone();
        Box::pin(async move { Ok(password) })
    });
    let asked = Settings { password: Some(given), ..settings(&without) };
    let pools = Pools::connect(asked).await.unwrap();
    assert!(!format!("{pools:?}").contains("password"));
    let pool = pools.pool().await.unwrap();
    sqlx::query("select 1").execute(&pool).await.unwrap();
}
