//! How long the shards of a killed daemon wait for another one, with the lease that ships.

use std::time::Duration;

use dynaurora::engine::ports::Clock;
use dynaurora::runtime::SystemClock;

use super::sharing::{Life, look, open};
use super::stage::{SOON_SECS, Setting, Stage, within};
use super::writers::Writers;

/// The default of `worker.lease_ttl_secs`.
const LEASE_SECS: u64 = 10;

/// I11: a lease that nobody renews has another owner within two lease times, and rows flow again.
#[tokio::test]
async fn a_killed_daemons_shards_flow_again_within_two_lease_times() {
    let mut life = Life::of(23, 4);
    let endpoint = life.endpoint();
    let setting = Setting { endpoint, lease_ttl_secs: LEASE_SECS, ..Setting::default() };
    let stage = Stage::with(setting).await;
    let (mut one, mut other) = (stage.daemon(), stage.daemon());
    within(SOON_SECS, "both read shards", async || {
        one.still_runs();
        other.still_runs();
        let ledger = look(&stage).await;
        let mut daemons = [&one, &other].into_iter();
        let reads = |daemon: &_| {
            open(&ledger).any(|row| super::daemon::Daemon::owns(daemon, row.owner.as_deref()))
        };
        daemons.all(reads).then_some(())
    })
    .await;
    let killed = SystemClock.now();
    one.kill().await;
    within(SOON_SECS, "the survivor owns every open shard", async || {
        other.still_runs();
        let ledger = look(&stage).await;
        let mut owned = open(&ledger).filter(|row| row.owner.is_some());
        owned.all(|row| other.owns(row.owner.as_deref())).then_some(())
    })
    .await;
    let owned = killed.elapsed();
    // What was written before this moment, to any shard, is in the target.
    let kept = "select dynaurora.wait_for('santa', clock_timestamp(), '60 s')::int::bigint";
    assert_eq!(stage.number(kept).await, 1);
    let flowing = killed.elapsed();
    eprintln!(
        "fail-over: lease {LEASE_SECS} s, all shards owned after {:.1} s, all changes there after \
         {:.1} s",
        owned.as_secs_f64(),
        flowing.as_secs_f64()
    );
    assert!(owned < Duration::from_secs(2 * LEASE_SECS), "{owned:?}");
    life.end().await;
    stage.converge().await;
    other.stop().await;
}

/// I4 needs only the fence; a worker that stops in time keeps two from reading one shard.
#[tokio::test]
async fn a_worker_that_cannot_renew_stops_before_its_leases_end() {
    let setting = Setting { lease_ttl_secs: LEASE_SECS, ..Setting::default() };
    let stage = Stage::with(setting).await;
    let writers = Writers::start(&stage, 1, 5, 20.0);
    let mut daemon = stage.ready_daemon().await;
    let mut renewals = stage.pool.begin().await.unwrap();
    let rows = sqlx::query("select from dynaurora.workers for update");
    rows.execute(&mut *renewals).await.unwrap();
    let lost = daemon.says("leases lost").await;
    let early: bool =
        sqlx::query_scalar("select clock_timestamp() < max(alive_until) from dynaurora.workers")
            .fetch_one(&mut *renewals)
            .await
            .unwrap();
    assert_eq!(lost["why"], "no renewal in time");
    assert!(early, "another worker could have had them already");
    renewals.rollback().await.unwrap();
    daemon.readyz(200).await;
    writers.stop().await;
    stage.converge().await;
    daemon.stop().await;
}
