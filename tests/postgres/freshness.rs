//! How fresh the target is, as a query sees it: the view's states, and waits that end in time and tell the
//! truth.

use std::time::Duration;

use dynaurora::engine::ports::{Clock, Lease, Ledger, Publication};
use dynaurora::model::{EpochMillis, PartitionId, WorkerId};
use dynaurora::runtime::SystemClock;
use sqlx::{AssertSqlSafe, PgPool, Row};

use super::rig::Rig;
use crate::rig::{SOURCE, worker};

const LEASE_TTL: Duration = Duration::from_secs(600);

/// A worker that reads both shards, and publishes as it is told.
struct Reading {
    rig: Rig,
    who: WorkerId,
    leases: Vec<(PartitionId, i64)>,
    number: u64,
}

impl Reading {
    async fn start() -> Self {
        let rig = Rig::new().await;
        let who = worker("ann");
        let leases = rig.acquire(&who, &["a", "b"]).await;
        let lease = |lease: Lease| (lease.partition, lease.epoch);
        let leases = leases.into_iter().map(lease).collect();
        let mut reading = Self { rig, who, leases, number: 0 };
        reading.renew().await;
        reading
    }

    async fn renew(&mut self) {
        self.rig.ledger.renew(SOURCE, &self.who, LEASE_TTL).await.unwrap();
    }

    async fn publish(&mut self, synced_up_to: EpochMillis) {
        self.number += 1;
        let incarnation = self.rig.ledger.view(SOURCE).await.unwrap().incarnation;
        let publication = Publication {
            source: SOURCE,
            worker: &self.who,
            number: self.number,
            synced_up_to: Some(synced_up_to),
            last_poll_at: Some(synced_up_to),
            covers: Some(&self.leases),
            mapping: 7,
            incarnation: &incarnation,
        };
        assert!(self.rig.ledger.publish(&publication).await.unwrap().taken);
    }

    async fn state(&self) -> String {
        let sql = "select state from dynaurora.freshness where source = 'santa'";
        sqlx::query_scalar(sql).fetch_one(&self.rig.pool).await.unwrap()
    }
}

fn ago(secs: i64) -> EpochMillis {
    EpochMillis(SystemClock.wall().0 - secs * 1000)
}

/// Whether it was fresh, and how long it took to say so.
async fn wait_for(pool: &PgPool, after: EpochMillis, timeout: &str) -> (bool, Duration) {
    let asked = SystemClock.now();
    let sql = "select dynaurora.wait_for('santa', to_timestamp($1), $2::text::interval)";
    let fresh = sqlx::query_scalar(sql).bind(after.as_secs_f64()).bind(timeout);
    let fresh = fresh.fetch_one(pool).await.unwrap();
    (fresh, SystemClock.now() - asked)
}

#[tokio::test]
async fn each_state_is_told_apart() {
    let mut reading = Reading::start().await;
    assert_eq!(reading.state().await, "stuck", "nobody has published");
    reading.publish(ago(60)).await;
    assert_eq!(reading.state().await, "behind");
    reading.publish(ago(2)).await;
    assert_eq!(reading.state().await, "idle");
    let rig = &reading.rig;
    rig.run("update dynaurora.partitions set last_event_at = now() where partition = 'a'").await;
    assert_eq!(reading.state().await, "live");
    let row = sqlx::query("select * from dynaurora.freshness").fetch_one(&rig.pool).await.unwrap();
    let lag: f64 =
        sqlx::query_scalar("select extract(epoch from lag)::float8 from dynaurora.freshness")
            .fetch_one(&rig.pool)
            .await
            .unwrap();
    assert!(row.get::<bool, _>("alive") && (1.0..30.0).contains(&lag), "{lag}");
    assert_eq!((row.get::<i64, _>("dead_letters"), row.get::<i64, _>("gaps")), (0, 0));

    rig.run("update dynaurora.workers set published_at = now() - interval '11 s'").await;
    assert_eq!(reading.state().await, "stuck", "alive, and silent");
    reading.publish(ago(2)).await;
    let rig = &reading.rig;
    rig.run("update dynaurora.workers set alive_until = now() - interval '1 s'").await;
    assert_eq!(reading.state().await, "stuck", "dead");
    let before = rig.texts("select synced_up_to::text from dynaurora.freshness").await;
    rig.run("update dynaurora.sources set backfilling = true").await;
    assert_eq!(reading.state().await, "backfilling");
    assert_eq!(rig.texts("select synced_up_to::text from dynaurora.freshness").await, [None]);
    rig.run(
        "update dynaurora.sources set backfilling = false; \
         insert into dynaurora.gaps (source, stream_arn, reason) values ('santa', 's', 'unpolled')",
    )
    .await;
    assert_eq!(reading.state().await, "gapped");
    rig.run("update dynaurora.sources set halted = 'unpolled'").await;
    assert_eq!(reading.state().await, "halted");
    let after = rig.texts("select synced_up_to::text from dynaurora.freshness").await;
    assert_eq!(after, before, "it stays where it is");
}

#[tokio::test]
async fn a_wait_ends_when_the_progress_shows() {
    let mut reading = Reading::start().await;
    let at = ago(5);
    reading.publish(at).await;
    let pool = reading.rig.pool.clone();
    assert!(wait_for(&pool, EpochMillis(at.0 - 1), "10 s").await.0);
    assert!(!wait_for(&pool, at, "1 ms").await.0, "what happens at that very time may follow");
    let mut slowest = Duration::ZERO;
    for step in 1..=20 {
        let (pool, after) = (pool.clone(), EpochMillis(at.0 + step * 10));
        let waiting = async {
            let (fresh, _) = wait_for(&pool, after, "30 s").await;
            (fresh, SystemClock.now())
        };
        let publishing = async {
            SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(30)).await;
            reading.publish(EpochMillis(after.0 + 1)).await;
            SystemClock.now()
        };
        let ((fresh, ended), visible) = tokio::join!(waiting, publishing);
        assert!(fresh);
        slowest = slowest.max(ended.saturating_duration_since(visible));
    }
    println!("the slowest of 20 waits ended {slowest:?} after the progress was visible");
    assert!(slowest < Duration::from_millis(50), "{slowest:?}");
}

#[tokio::test]
async fn a_wait_that_is_in_vain_ends_in_time_and_says_no() {
    let mut reading = Reading::start().await;
    let pool = reading.rig.pool.clone();
    let (fresh, took) = wait_for(&pool, ago(0), "300 ms").await;
    assert!(!fresh && took >= Duration::from_millis(300), "unknown is not fresh: {took:?}");
    reading.publish(ago(2)).await;
    let (fresh, took) = wait_for(&pool, ago(0), "200 ms").await;
    assert!(!fresh && took >= Duration::from_millis(200), "{took:?}");
    assert!(!wait_for(&pool, ago(0), "-1 s").await.0);
    for (call, says) in [
        ("wait_for('nobody', now())", "knows no source"),
        ("wait_for('santa', null)", "wants a source, a time and a timeout"),
        ("wait_for('santa', now(), null)", "wants a source, a time and a timeout"),
    ] {
        let sql = AssertSqlSafe(format!("select dynaurora.{call}"));
        let error = sqlx::query(sql).execute(&pool).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_transaction_that_cannot_see_progress_is_refused() {
    let mut reading = Reading::start().await;
    reading.publish(ago(2)).await;
    let pool = &reading.rig.pool;
    for level in ["repeatable read", "serializable"] {
        let begin = AssertSqlSafe(format!("begin isolation level {level}"));
        let mut transaction = pool.begin_with(begin).await.unwrap();
        let wait = "select dynaurora.wait_for('santa', now() - interval '1 h')";
        let error = sqlx::query(wait).execute(&mut *transaction).await.unwrap_err();
        let error = error.as_database_error().unwrap();
        assert_eq!(error.code().as_deref(), Some("25000"));
        let shown = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
        assert!(shown.message().contains(level), "{}", shown.message());
        assert!(shown.hint().unwrap().contains("READ COMMITTED"));
    }
    let mut transaction = pool.begin().await.unwrap();
    let wait = "select dynaurora.wait_for('santa', now() - interval '1 h')";
    let fresh: bool = sqlx::query_scalar(wait).fetch_one(&mut *transaction).await.unwrap();
    assert!(fresh, "a READ COMMITTED transaction sees progress");
}

#[tokio::test]
async fn a_thousand_idle_shards_cost_one_update_a_publication_and_one_a_renewal() {
    let rig = Rig::with_tables(&super::rig::tables()).await;
    let names: Vec<String> = (0..1000).map(|number| format!("shard-{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    rig.register(&names).await;
    let who = worker("ann");
    let leases = rig.acquire(&who, &names).await;
    let leases = leases.into_iter().map(|lease| (lease.partition, lease.epoch)).collect();
    let mut reading = Reading { rig, who, leases, number: 0 };
    reading.renew().await;
    reading.publish(ago(3)).await;
    let versions = "select md5(string_agg(ctid::text, ',' order by partition)) \
         from dynaurora.partitions";
    let before = reading.rig.texts(versions).await;
    reading.publish(ago(2)).await;
    reading.renew().await;
    assert_eq!(reading.rig.texts(versions).await, before, "no row of a shard was touched");
    // What two days leave behind.
    reading
        .rig
        .run(
            "insert into dynaurora.partitions \
                 (source, partition, stream_arn, state, continued, position, generation) \
             select s.source, 'old-' || n, s.stream_arn, 'drained', true, 'horizon', 1 \
             from dynaurora.sources s, generate_series(1, 12000) n; \
             analyze dynaurora.partitions",
        )
        .await;
    let asked = SystemClock.now();
    for _ in 0..100 {
        let synced = reading.rig.texts("select dynaurora.synced_up_to('santa')::text").await;
        assert!(synced[0].is_some());
    }
    println!(
        "synced_up_to over 1,000 shards and 12,000 old ones: {:?}",
        (SystemClock.now() - asked) / 100
    );
}

/// A worker that halted its source by itself counts until another one shows itself alive.
#[tokio::test]
async fn a_halt_by_a_worker_ends_with_the_next_one_that_lives() {
    let reading = Reading::start().await;
    let (ledger, ann, bob) = (&reading.rig.ledger, worker("ann"), worker("bob"));
    let halted = async || {
        let sql = "select halted from dynaurora.freshness";
        (reading.state().await, reading.rig.texts(sql).await.pop().flatten())
    };
    let halts = async |who: &WorkerId| {
        ledger.release(SOURCE, who, &[], true).await.unwrap();
        ledger.note_halt(SOURCE, who, "a table is gone").await.unwrap();
    };
    let told = ("halted".to_owned(), Some("a table is gone".to_owned()));
    ledger.renew(SOURCE, &bob, LEASE_TTL).await.unwrap();
    halts(&ann).await;
    assert_eq!(halted().await, ("stuck".to_owned(), None), "another one is at work");
    assert_eq!(ledger.view(SOURCE).await.unwrap().halted, None, "who starts anew is not halted");
    halts(&bob).await;
    assert_eq!(halted().await, told);

    ledger.renew(SOURCE, &ann, LEASE_TTL).await.unwrap();
    assert_eq!(halted().await.1, None);
    reading.rig.expire_leases().await;
    assert_eq!(halted().await.1, None, "the last one was killed");
    halts(&ann).await;
    assert_eq!(halted().await, told);
    ledger.renew(SOURCE, &bob, LEASE_TTL).await.unwrap();
    ledger.release(SOURCE, &bob, &[], true).await.unwrap();
    assert_eq!(halted().await, ("stuck".to_owned(), None), "the last one left in good order");
    ledger.note_halt("nobody", &ann, "why").await.unwrap();
}
