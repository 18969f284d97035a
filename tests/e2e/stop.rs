//! How the daemon stops: at the first signal in good order, at the second at once.

use sqlx::{Postgres, Transaction};

use super::daemon::Daemon;
use super::fold::{passed, records};
use super::stage::{SOON_SECS, Setting, Stage, within};
use super::writers::Writers;

/// A lease that outlives the test: who takes a partition over got it given back.
fn long_lease() -> Setting {
    Setting { lease_ttl_secs: 300, ..Setting::default() }
}

#[tokio::test]
async fn the_first_signal_drains_and_the_next_daemon_reads_nothing_twice() {
    let stage = Stage::with(long_lease()).await;
    let writers = Writers::start(&stage, 3, 2, f64::INFINITY);
    let mut daemon = stage.ready_daemon().await;
    within(SOON_SECS, "a thousand records are applied", async || {
        (daemon.metric("dynaurora_records_total").await >= 1_000.0).then_some(())
    })
    .await;
    daemon.stop().await;
    let ledger = stage.ledger().await;
    let [partition] = ledger.as_slice() else { panic!("one partition, not {ledger:?}") };
    assert_eq!(partition.owner, None, "the lease is given back before the process ends");

    writers.stop().await;
    let all = records(&stage, None).await;
    let rest = all.len() - passed(&all, &partition.position);
    let mut daemon = stage.daemon();
    stage.converge().await;
    let read = within(SOON_SECS, "the rest is read", async || {
        let read = daemon.metric("dynaurora_records_total").await;
        (read >= as_metric(rest)).then_some(read)
    })
    .await;
    assert!((read - as_metric(rest)).abs() < 0.5, "{read} records read, {rest} were left");
    daemon.stop().await;
}

#[tokio::test]
async fn the_second_signal_and_the_end_of_the_grace_stop_it_at_once() {
    let stage = Stage::with(long_lease()).await;
    let writers = Writers::start(&stage, 1, 3, 50.0);
    let mut daemon = stage.daemon();
    let held = hold_up(&stage, &mut daemon).await;
    daemon.signal("TERM").await;
    daemon.says("draining").await;
    daemon.signal("INT").await;
    assert_eq!(daemon.ended(SOON_SECS).await, Some(1));
    assert_eq!(daemon.logged("stopped at once; uncommitted changes will be read again").len(), 1);
    drop(daemon);
    held.rollback().await.unwrap();
    give_up_leases(&stage).await;

    let mut daemon = stage.daemon_with(&["--backfill", "never", "--set", "worker.grace_secs=1"]);
    let held = hold_up(&stage, &mut daemon).await;
    daemon.signal("TERM").await;
    assert_eq!(daemon.ended(SOON_SECS).await, Some(75));
    assert!(daemon.log().contains("draining took longer than 1 s"), "{}", daemon.log());
    drop(daemon);
    held.rollback().await.unwrap();
    give_up_leases(&stage).await;

    writers.stop().await;
    let daemon = stage.daemon();
    stage.converge().await;
    daemon.stop().await;
}

/// Waits until the daemon has a lease, then takes what it needs to end well.
async fn hold_up(stage: &Stage, daemon: &mut Daemon) -> Transaction<'static, Postgres> {
    within(SOON_SECS, "the daemon has the lease", async || {
        daemon.still_runs();
        let ledger = stage.ledger().await;
        ledger.iter().any(|own| daemon.owns(own.owner.as_deref())).then_some(())
    })
    .await;
    let mut transaction = stage.pool.begin().await.unwrap();
    let rows = sqlx::query("select from dynaurora.partitions for update");
    rows.execute(&mut *transaction).await.unwrap();
    transaction
}

/// What time would do to the leases of a process that ended without a word.
async fn give_up_leases(stage: &Stage) {
    let sql = "update dynaurora.workers set alive_until = now()";
    sqlx::query(sql).execute(&stage.pool).await.unwrap();
}

#[expect(clippy::cast_precision_loss, reason = "a count of a test")]
fn as_metric(count: usize) -> f64 {
    count as f64
}
