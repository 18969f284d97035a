//! Servers that go away, turn into readers, or are not as expected.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynaurora::apply::ports::Sink;
use dynaurora::engine::ports::Ledger;
use dynaurora::error::{Error, ErrorKind};
use dynaurora::postgres::ledger::PostgresLedger;
use dynaurora::postgres::migrations;
use dynaurora::postgres::session::{Password, Pools, Settings};
use dynaurora::postgres::tables::PostgresSink;
use sqlx::PgPool;
use tokio::task::JoinSet;

use super::cluster::{cluster, fresh_database};
use super::rig::{Rig, letter, settings, tables};
use crate::e2e::proxy::Proxy;
use crate::rig::{SOURCE, batch, moved, worker};

/// How long what should be a matter of moments may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The same database behind this network.
async fn behind(proxy: &Proxy, url: &str) -> String {
    let port = cluster().await.port();
    url.replace(&format!(":{port}/"), &format!(":{}/", proxy.address.port()))
}

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
    rig.sink.probe(&whole, &whole.rows.units).await.unwrap();
    // A connection goes back to its pool in a task of its own.
    while rig.pools.pool().await.unwrap().num_idle() == 0 {
        tokio::task::yield_now().await;
    }
    terminate(&rig).await;
    let gone =
        |error: Error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unreachable);
    assert!(gone(rig.apply(&whole).await.unwrap_err()));
    // Not only the connection that failed is new, but all are: the ledger's went with the batch's.
    assert_eq!(rig.ledger.view(SOURCE).await.unwrap().partitions.len(), 2);
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
    assert_eq!(rig.ledger.view(SOURCE).await.unwrap_err().kind(), ErrorKind::ReadOnly);
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

/// Somebody else took the same rows in another order. The batch is given up, not the other's transaction.
#[tokio::test]
async fn a_deadlock_is_a_conflict_that_another_try_settles() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let rows = |body, at| vec![letter("1", body, at), letter("2", body, at)];
    rig.apply(&batch(&ann, &lease, 5, rows("old", 5))).await.unwrap();
    let next = batch(&ann, &moved(&lease, 5), 6, rows("new", 6));
    let sink = PostgresSink::new(Arc::clone(&rig.pools), &tables()).unwrap();
    let mut other = rig.pool.begin().await.unwrap();
    let turn = "set local deadlock_timeout = '60 s'; \
        update letters set body = 'other' where child = '2'";
    sqlx::raw_sql(turn).execute(&mut *other).await.unwrap();
    let mut tasks = JoinSet::new();
    let first = next.clone();
    tasks.spawn(async move { sink.apply(&first).await });
    let waiting = "select pid::text from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    while rig.texts(waiting).await.is_empty() {}
    let back = sqlx::query("update letters set body = 'other' where child = '1'");
    back.execute(&mut *other).await.unwrap();
    let error = tasks.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, Some("40P01")));
    other.commit().await.unwrap();
    rig.apply(&next).await.unwrap();
    let bodies = rig.texts("select body from letters order by child").await;
    assert_eq!(bodies, [Some("new".to_owned()), Some("new".to_owned())]);
}

/// A process that freezes between two statements of a batch holds the locks of its rows: the server ends
/// the transaction, and what waits for them goes on.
#[tokio::test]
async fn a_transaction_whose_owner_froze_is_ended_with_its_locks() {
    let rig = Rig::new().await;
    let proxy = Proxy::start(cluster().await.port());
    let idle_in_transaction_timeout = Duration::from_millis(300);
    let url = behind(&proxy, &rig.url).await;
    let pools = Pools::connect(Settings { idle_in_transaction_timeout, ..settings(&url) }).await;
    let sink = PostgresSink::new(Arc::new(pools.unwrap()), &tables()).unwrap();
    let (ann, bob) = (worker("ann"), worker("bob"));
    let frozen = batch(&ann, &rig.lease(&ann, "a").await, 5, vec![letter("1", "frozen", 5)]);
    let mut lock = rig.pool.begin().await.unwrap();
    sqlx::query("lock table letters").execute(&mut *lock).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { sink.apply(&frozen).await });
    let waiting = "select pid::text from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    while rig.texts(waiting).await.is_empty() {}
    proxy.freeze();
    lock.rollback().await.unwrap();
    // The server has written the row by now, and nobody tells it to go on.
    let locked = rig.run("begin; lock table letters; commit");
    tokio::time::timeout(SOON, locked).await.expect("the lock of the frozen transaction ends");
    rig.expire_leases().await;
    let lease = rig.lease(&bob, "a").await;
    rig.apply(&batch(&bob, &lease, 5, vec![letter("1", "successor", 5)])).await.unwrap();
    proxy.thaw();
    let outcome = tasks.join_next().await.unwrap().unwrap();
    assert_ne!(outcome.unwrap_err().kind(), ErrorKind::Unknown, "it is tried again");
    assert_eq!(rig.texts("select body from letters").await, [Some("successor".to_owned())]);
}

/// What a server forgets with its restart, though connections outlive that, or a pooler by itself.
#[tokio::test]
async fn statements_that_the_server_forgot_are_prepared_again() {
    let rig = Rig::new().await;
    let one = Settings { apply_connections: 1, ..settings(&rig.url) };
    let pools = Arc::new(Pools::connect(one).await.unwrap());
    let sink = PostgresSink::new(Arc::clone(&pools), &tables()).unwrap();
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    sink.apply(&batch(&ann, &lease, 5, vec![letter("1", "a", 5)])).await.unwrap();
    sqlx::raw_sql("deallocate all").execute(&pools.pool().await.unwrap()).await.unwrap();
    let next = batch(&ann, &moved(&lease, 5), 6, vec![letter("2", "b", 6)]);
    let error = sink.apply(&next).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, Some("26000")));
    sink.apply(&next).await.unwrap();
    assert_eq!(rig.count("letters").await, 2);
}

/// A database that pauses takes longer to wake up than a call may take.
#[tokio::test]
async fn a_server_that_wakes_up_slowly_is_waited_for() {
    let url = fresh_database().await;
    let proxy = Proxy::start(cluster().await.port());
    let limit = Duration::from_millis(500);
    let impatient = Settings {
        ledger_timeout: limit,
        apply_timeout: limit,
        ..settings(&behind(&proxy, &url).await)
    };
    proxy.freeze();
    let mut connecting = Box::pin(Pools::connect(impatient));
    let early = tokio::time::timeout(limit * 3, connecting.as_mut()).await;
    assert!(early.is_err(), "a connection has more time than a call: {early:?}");
    proxy.thaw();
    connecting.await.unwrap();
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
    ledger.view(SOURCE).await.unwrap();
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
    assert_eq!(ledger.view(SOURCE).await.unwrap_err().kind(), ErrorKind::Schema);
    migrations::migrate(&pool).await.unwrap();
    migrations::migrate(&pool).await.unwrap();
    assert_eq!(migrations::pending(&pool).await.unwrap(), Vec::<String>::new());

    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let whole = batch(&ann, &lease, 5, vec![letter("1", "a", 5)]);
    rig.sink.probe(&whole, &whole.rows.units).await.unwrap();
    rig.run("alter table letters add column more text").await;
    rig.sink.probe(&whole, &whole.rows.units).await.unwrap();
    rig.run("alter table letters alter column body type varchar(50)").await;
    rig.sink.probe(&whole, &whole.rows.units).await.unwrap();
    rig.run("alter table letters alter column body type jsonb using to_jsonb(body)").await;
    let error = rig.apply(&whole).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Schema, Some("42804")));
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
    let rig = Rig::new().await;
    let name = rig.texts("select current_database()::text").await.pop().flatten().unwrap();
    let role = format!("{name}_daemon");
    rig.run(&format!("create role {role} superuser login password 'first'")).await;
    let (before, place) = rig.url.split_once('@').unwrap();
    assert!(before.starts_with("postgres://postgres"), "the url names the user first");
    let now = Arc::new(Mutex::new("first"));
    let given: Password = {
        let now = Arc::clone(&now);
        Arc::new(move || {
            let password = now.lock().unwrap().to_owned();
            Box::pin(async move { Ok(password) })
        })
    };
    let asked =
        Settings { password: Some(given), ..settings(&format!("postgres://{role}@{place}")) };
    let pools = Pools::connect(asked).await.unwrap();
    assert!(!format!("{pools:?}").contains("first"));
    let ledger = PostgresLedger::new(Arc::new(pools));
    ledger.view(SOURCE).await.unwrap();
    // A session outlives its password; the next one needs that of its time.
    rig.run(&format!("alter role {role} password 'second'")).await;
    ledger.view(SOURCE).await.unwrap();
    terminate(&rig).await;
    drop(ledger.view(SOURCE).await);
    assert_eq!(ledger.view(SOURCE).await.unwrap_err().kind(), ErrorKind::Denied);
    *now.lock().unwrap() = "second";
    ledger.view(SOURCE).await.unwrap();
}
