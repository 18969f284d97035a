//! What was committed last is lost: a crash with `synchronous_commit = off`, and a replica that lags and
//! takes over. Nothing is written afterwards, so that nothing but the daemon itself can notice.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::demo::postgres::{LocalPostgres, Options};
use dynaurora::demo::santa::TABLE;
use dynaurora::engine::ports::Clock;
use dynaurora::runtime::SystemClock;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tokio::process::Command;

use super::daemon::Daemon;
use super::proxy::Proxy;
use super::stage::{SOON_SECS, Setting, Stage, within};

/// Far longer than a test, so that nothing else notices first: two thirds of it end a lease.
const LEASE_SECS: u64 = 30;
const NOTICED: &str = "another run of the database answers; reading from its positions";
/// Crashes until one has lost the row: the server may have written it to its disk meanwhile.
const CRASHES_MAX: u32 = 10;

async fn child(stage: &Stage, id: &str) {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let request = stage.client.put_item().table_name(TABLE);
    let request = request.item("pk", text(&format!("CHILD#{id}"))).item("sk", text("PROFILE"));
    request.item("name", text("Noor")).send().await.unwrap();
}

async fn is_there(pool: &PgPool, id: &str) -> Option<bool> {
    let sql = "select exists (select from children where child_id = $1)";
    sqlx::query_scalar(sql).bind(id).fetch_one(pool).await.ok()
}

/// Waits until the row is there, and looks that it is never said to be before.
async fn comes_back(pool: &PgPool, id: &str, written: f64) {
    let sql = "select exists (select from children where child_id = $1), \
               coalesce(dynaurora.synced_up_to('santa') > to_timestamp($2), false)";
    within(SOON_SECS, "what was lost is applied again", async || {
        let looked = sqlx::query_as(sql).bind(id).bind(written).fetch_one(pool).await;
        let (there, said): (bool, bool) = looked.ok()?;
        assert!(there || !said, "it is said to be there, and is not");
        there.then_some(())
    })
    .await;
}

/// A server whose sessions do not wait for the disk, and which hardly ever writes to it by itself.
async fn hasty_server() -> Arc<LocalPostgres> {
    let settings = [("synchronous_commit", "off"), ("wal_writer_delay", "10s")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = Options { durable: true, settings, ..Options::default() };
    Arc::new(LocalPostgres::start(options).await.unwrap())
}

/// Kills one of the server's processes, at which it ends all sessions and recovers from its disk.
async fn crash(server: &LocalPostgres) {
    let url = server.url("postgres");
    let mut session = PgConnection::connect(&url).await.unwrap();
    let pid: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.unwrap();
    let words = ["-c", "kill -s KILL \"$0\"", &pid.to_string()];
    assert!(Command::new("sh").args(words).status().await.unwrap().success());
    within(SOON_SECS, "the server recovers", async || {
        let over = session.ping().await.is_err();
        (over && PgConnection::connect(&url).await.is_ok()).then_some(())
    })
    .await;
}

async fn daemon_of(stage: &Stage) -> Daemon {
    let mut daemon = stage.ready_daemon().await;
    child(stage, "first").await;
    within(SOON_SECS, "rows arrive", async || is_there(&stage.pool, "first").await?.then_some(()))
        .await;
    daemon.still_runs();
    daemon
}

/// I7, I12: a crash that loses commits is noticed though not a record comes.
#[tokio::test]
async fn commits_that_a_crash_lost_are_made_again_though_nothing_is_written() {
    let server = hasty_server().await;
    let setting = Setting {
        server: Some(Arc::clone(&server)),
        lease_ttl_secs: LEASE_SECS,
        ..Setting::default()
    };
    let stage = Stage::with(setting).await;
    let mut daemon = daemon_of(&stage).await;
    let mut lost = 0;
    for crashes in 0.. {
        assert!(crashes < CRASHES_MAX, "no crash lost anything");
        stage.run("checkpoint").await;
        let id = format!("c{crashes}");
        child(&stage, &id).await;
        let written = SystemClock.wall().as_secs_f64();
        within(SOON_SECS, "the row arrives", async || {
            is_there(&stage.pool, &id).await?.then_some(())
        })
        .await;
        // The daemon is to believe that it is committed, and to have said so.
        let said = "select dynaurora.wait_for('santa', clock_timestamp(), '30 s')::int::bigint";
        assert_eq!(stage.number(said).await, 1);
        crash(&server).await;
        let there =
            within(SOON_SECS, "the target answers", async || is_there(&stage.pool, &id).await)
                .await;
        lost += u32::from(!there);
        comes_back(&stage.pool, &id, written).await;
        if lost > 0 {
            break;
        }
    }
    daemon.says(NOTICED).await;
    stage.converge().await;
    let said = "select dynaurora.wait_for('santa', clock_timestamp(), '30 s')::int::bigint";
    assert_eq!(stage.number(said).await, 1, "it is fresh again");
    daemon.stop().await;
}

/// I7, I12: so is a fail-over to a replica that lags.
#[tokio::test]
async fn commits_that_a_failover_lost_are_made_again_though_nothing_is_written() {
    let options = Options { durable: true, ..Options::default() };
    let server = Arc::new(LocalPostgres::start(options.clone()).await.unwrap());
    let mut proxy = Proxy::start(server.port());
    let setting = Setting {
        server: Some(Arc::clone(&server)),
        postgres: Some(proxy.address),
        lease_ttl_secs: LEASE_SECS,
        ..Setting::default()
    };
    let stage = Stage::with(setting).await;
    let mut daemon = daemon_of(&stage).await;
    let replica = server.replica(options).await.unwrap();
    let pool = PgPoolOptions::new().max_connections(2);
    let pool = pool.connect(&replica.url(&stage.database)).await.unwrap();
    within(SOON_SECS, "the replica follows", async || {
        is_there(&pool, "first").await?.then_some(())
    })
    .await;
    sqlx::query("alter system set primary_conninfo = ''").execute(&pool).await.unwrap();
    sqlx::query("select pg_reload_conf()").execute(&pool).await.unwrap();
    within(SOON_SECS, "it is cut off", async || {
        let receives = "select exists (select from pg_stat_wal_receiver)";
        let receives: bool = sqlx::query_scalar(receives).fetch_one(&pool).await.ok()?;
        (!receives).then_some(())
    })
    .await;
    child(&stage, "second").await;
    let written = SystemClock.wall().as_secs_f64();
    let said = "select dynaurora.wait_for('santa', clock_timestamp(), '30 s')::int::bigint";
    assert_eq!(stage.number(said).await, 1);
    assert_eq!(is_there(&stage.pool, "second").await, Some(true));
    let promoted: bool = sqlx::query_scalar("select pg_promote()").fetch_one(&pool).await.unwrap();
    assert!(promoted && is_there(&pool, "second").await == Some(false), "the replica lacks it");
    proxy.lead_to(replica.port()).await;
    comes_back(&pool, "second", written).await;
    daemon.says(NOTICED).await;
    daemon.stop().await;
}
