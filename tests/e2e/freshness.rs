//! Who has written and waited reads what was written, on the writer and on a replica that lags.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::demo::postgres::Options;
use dynaurora::demo::santa::TABLE;
use dynaurora::engine::ports::Clock;
use dynaurora::model::EpochMillis;
use dynaurora::runtime::SystemClock;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::stage::{SOON_SECS, Stage, within};
use crate::postgres::cluster::cluster;

/// Waits at a time: each has a connection of its own.
const WAITS: u32 = 50;
/// How far the replica is behind.
const REPLICA_LAG: Duration = Duration::from_secs(4);

/// Writes that one waits for together.
struct Group {
    number: u32,
    writes: u32,
}

impl Group {
    /// Writes it, and answers a time when all of it was acknowledged.
    async fn write(&self, client: &Client) -> EpochMillis {
        for write in 0..self.writes {
            let text = |text: String| AttributeValue::S(text);
            let put = client
                .put_item()
                .table_name(TABLE)
                .item("pk", text(format!("CHILD#{}-{write}", self.number)))
                .item("sk", text("PROFILE".to_owned()))
                .item("name", text("Noor".to_owned()));
            put.send().await.unwrap();
        }
        EpochMillis(SystemClock.wall().0 + 1)
    }

    /// How many of its rows are there.
    async fn rows(&self, pool: &PgPool) -> u32 {
        let sql = "select count(*) from children where child_id like $1 || '-%'";
        let rows = sqlx::query_scalar(sql).bind(self.number.to_string());
        u32::try_from(rows.fetch_one(pool).await.unwrap_or(0_i64)).unwrap()
    }
}

async fn wait_for(pool: &PgPool, after: EpochMillis) -> bool {
    let sql = "select dynaurora.wait_for('santa', to_timestamp($1), '60 s')";
    sqlx::query_scalar(sql).bind(after.as_secs_f64()).fetch_one(pool).await.unwrap()
}

async fn pool(url: &str) -> PgPool {
    let options = PgPoolOptions::new().max_connections(WAITS);
    options.acquire_timeout(Duration::from_secs(SOON_SECS)).connect(url).await.unwrap()
}

/// Writes groups at once; each waits, and then counts its rows that are missing.
async fn misses(stage: &Stage, pool: &PgPool, groups: u32, writes: u32) -> u32 {
    let turns = Arc::new(Semaphore::new(WAITS as usize));
    let mut tasks = JoinSet::new();
    for number in 0..groups {
        let (client, pool, turns) = (stage.client.clone(), pool.clone(), Arc::clone(&turns));
        tasks.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let group = Group { number, writes };
            let after = group.write(&client).await;
            assert!(wait_for(&pool, after).await, "group {number} is not fresh");
            writes - group.rows(&pool).await
        });
    }
    tasks.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_writes_are_read_once_they_were_waited_for() {
    let stage = Stage::start().await;
    let daemon = stage.ready_daemon().await;
    let pool = pool(&cluster().await.url(&stage.database)).await;
    assert_eq!(misses(&stage, &pool, 100, 10).await, 0);

    let after = dynaurora::telemetry::status::timestamp(SystemClock.wall());
    let waited = stage.command(&["wait", "--source", "santa", "--after", &after]).await;
    assert_eq!(waited.code, Some(0), "{}", waited.stderr);
    assert!(waited.stdout.starts_with("santa: synced up to "), "{}", waited.stdout);

    daemon.stop().await;
    let after = dynaurora::telemetry::status::timestamp(SystemClock.wall());
    let wait = ["wait", "--source", "santa", "--after", &after, "--timeout", "300ms"];
    let waited = stage.command(&wait).await;
    assert_eq!(waited.code, Some(75));
    assert!(waited.stderr.contains("source santa is stuck"), "{}", waited.stderr);
    let waited = stage.command(&[&wait[..], &["--output", "json"]].concat()).await;
    let answer = waited.json();
    assert_eq!((waited.code, &answer["fresh"]), (Some(75), &false.into()));
    assert_eq!((&answer["state"], &answer["alive"]), (&"stuck".into(), &false.into()));
    assert!(answer["synced_up_to"].is_string(), "what was reached stays known: {answer}");
    let nobody = ["wait", "--source", "nobody", "--after", "2026-12-01T08:00:00Z"];
    assert_eq!(stage.command(&nobody).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_says_so_of_itself() {
    let stage = Stage::start().await;
    let mut daemon = stage.daemon();
    let delay = ("recovery_min_apply_delay", format!("{}ms", REPLICA_LAG.as_millis()));
    let feedback = ("hot_standby_feedback", "on".to_owned());
    let settings = [delay, feedback].map(|(name, value)| (name.to_owned(), value));
    let options = Options { settings: settings.into(), ..Options::default() };
    let server = cluster().await.replica(options).await.unwrap();
    let (writer, replica) = (
        pool(&cluster().await.url(&stage.database)).await,
        pool(&server.url(&stage.database)).await,
    );
    daemon.readyz(200).await;

    let group = Group { number: 1_000, writes: 1 };
    let after = group.write(&stage.client).await;
    assert!(wait_for(&writer, after).await);
    assert_eq!((group.rows(&writer).await, group.rows(&replica).await), (1, 0), "it lags");
    within(SOON_SECS, "the replica knows the source", async || {
        let sql = "select dynaurora.synced_up_to('santa')";
        sqlx::query(sql).fetch_one(&replica).await.is_ok().then_some(())
    })
    .await;
    assert!(wait_for(&replica, after).await);
    assert_eq!(group.rows(&replica).await, 1);

    assert_eq!(misses(&stage, &replica, 50, 20).await, 0);

    let url = server.url_without_password(&stage.database);
    let after = dynaurora::telemetry::status::timestamp(SystemClock.wall());
    let url = format!("target.url={url}");
    let wait = ["wait", "--source", "santa", "--after", &after, "--timeout", "1m", "--set", &url];
    let waited = stage.command(&wait).await;
    assert_eq!(waited.code, Some(0), "{}", waited.stderr);
    daemon.stop().await;
    replica.close().await;
}
