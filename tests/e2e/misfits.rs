//! What a fleet meets that is not as it should be: a daemon with another config, a ledger from the future,
//! a right that is missing, clocks that are wrong.

use std::path::PathBuf;

use dynaurora::demo::compare::full_comparison;

use super::daemon::{Daemon, command};
use super::refusals::says;
use super::sharing::{Life, look, open};
use super::stage::{SOON_SECS, Setting, Stage, within};
use super::writers::Writers;

/// What makes a config another one: a column that comes from elsewhere.
const OTHERWISE: &str = "source.santa.entity.child.columns.city=address.town";

#[tokio::test]
async fn two_configs_for_one_source_are_told_of_and_nothing_stops() {
    let stage = Stage::start().await;
    let mut one = stage.daemon();
    one.readyz(200).await;
    let mut other = stage.daemon_with(&["--backfill", "never", "--set", OTHERWISE]);
    other.readyz(200).await;
    for daemon in [&mut one, &mut other] {
        let told = daemon.says("workers map the source differently").await;
        assert_eq!((&told["level"], &told["others"]), (&"WARN".into(), &1.into()), "{told}");
        assert!(told["warning"].as_str().unwrap().contains("dynaurora verify --repair"));
        assert!((daemon.metric("dynaurora_workers_of_another_mapping").await - 1.0).abs() < 0.1);
        let address = daemon.address().await.to_string();
        let status = stage.command(&["status", "--listen", &address]).await;
        assert!(status.stdout.contains("warning: workers run another mapping"), "{status:?}");
        assert_eq!(daemon.get("/readyz").await.unwrap().0, 200, "a rolling deployment goes on");
    }
    other.stop().await;
    one.says("all workers map the source alike").await;
    assert!(one.metric("dynaurora_workers_of_another_mapping").await.abs() < 0.1);
    one.stop().await;
}

#[tokio::test]
async fn a_ledger_from_the_future_is_refused_with_the_remedy() {
    let stage = Stage::start().await;
    let future = "insert into dynaurora._sqlx_migrations \
                  (version, description, success, checksum, execution_time) \
                  values (99990101000000, 'novel', true, '\\x00', 0)";
    stage.run(future).await;
    for words in [&["run"][..], &["apply"], &["plan"]] {
        let ended = stage.command(words).await;
        says(&ended, 78, &["a newer dynaurora migrated this database; run that version"]);
    }
    let ended = stage.command(&["check"]).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stdout.contains("a newer dynaurora migrated this database"), "{ended:?}");
}

/// The daemon is not ready for want of this, and says what mends it.
async fn names(daemon: &mut Daemon, what: &str) {
    within(SOON_SECS, "readiness says what is missing", async || {
        daemon.still_runs();
        let (code, body) = daemon.get("/readyz").await?;
        let named = body.contains(what) && body.contains("dynaurora ");
        (code == 503 && named).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_remedy_and_waited_for() {
    let stage = Stage::start().await;
    let (role, url) = stage.role().await;
    let run = ["--backfill", "never", "--set", &url];
    stage.run(&format!("revoke select on dynaurora._sqlx_migrations from {role}")).await;
    let mut daemon = stage.daemon_with(&run);
    names(&mut daemon, "_sqlx_migrations").await;
    stage.run(&format!("grant select on dynaurora._sqlx_migrations to {role}")).await;
    daemon.readyz(200).await;

    stage.run(&format!("revoke insert on children from {role}")).await;
    let writers = Writers::start(&stage, 1, 3, 40.0);
    names(&mut daemon, "children").await;
    assert_eq!(daemon.get("/livez").await.unwrap().0, 200);
    stage.run(&format!("grant insert on children to {role}")).await;
    daemon.readyz(200).await;

    stage.run("alter table children rename to kids").await;
    names(&mut daemon, "children").await;
    stage.run("alter table kids rename to children").await;
    daemon.readyz(200).await;
    assert_eq!(daemon.logged("source halted").len(), 0);
    writers.stop().await;
    stage.converge().await;
    daemon.stop().await;
}

/// Leases and freshness go by the database's clock, so that two daemons whose clocks are two hours apart
/// share shards as any two do: neither takes what the other holds, nor waits for what a dead one held, and
/// what the ledger promises is true.
#[tokio::test]
async fn clocks_that_are_an_hour_off_change_nothing() {
    let Some(faketime) = faketime() else {
        eprintln!("skipped: faketime is not installed here (scripts/install-test-tools.sh)");
        return;
    };
    let mut life = Life::of(17, 3);
    let endpoint = life.endpoint();
    // Long enough for a renewal that a busy machine delays.
    let stage = Stage::with(Setting { endpoint, lease_ttl_secs: 10, ..Setting::default() }).await;
    let skewed = |offset: &str| {
        let mut command = command("run");
        command.env("LD_PRELOAD", &faketime).env("FAKETIME", offset);
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        stage.daemon_from(command, &["--backfill", "never"])
    };
    let (mut fast, mut slow) = (skewed("+1h"), skewed("-1h"));
    fast.readyz(200).await;
    slow.readyz(200).await;
    let hour = |daemon: &Daemon| {
        let event = daemon.logged("dynaurora started").pop().unwrap();
        event["timestamp"].as_str().unwrap()[..13].to_owned()
    };
    assert!(hour(&slow) < hour(&fast), "the clocks are off");
    let has =
        |daemon: &Daemon, ledger: &[_]| open(ledger).any(|row| daemon.owns(row.owner.as_deref()));
    within(SOON_SECS, "both read shards", async || {
        let ledger = look(&stage).await;
        (has(&fast, &ledger) && has(&slow, &ledger)).then_some(())
    })
    .await;
    // A publication a second: more than three times a lease.
    let said = "select min(publication) from dynaurora.workers where alive_until > now()";
    let before = stage.number(said).await;
    within(SOON_SECS, "ten publications", async || {
        (stage.number(said).await >= before + 10).then_some(())
    })
    .await;
    for daemon in [&fast, &slow] {
        assert!(daemon.logged("leases lost").is_empty(), "nobody takes what another one holds");
    }
    fast.kill().await;
    within(SOON_SECS, "the other one takes over", async || {
        let ledger = look(&stage).await;
        open(&ledger).all(|row| slow.owns(row.owner.as_deref())).then_some(())
    })
    .await;
    life.end().await;
    let kept = "select dynaurora.wait_for('santa', clock_timestamp(), '60 s')::int::bigint";
    assert_eq!(stage.number(kept).await, 1);
    let (source, mapper) = (stage.source().await, &stage.plan().mapper);
    let found = full_comparison(&source, mapper, &stage.pool).await.unwrap();
    assert_eq!(found.mismatches, 0, "{:#?}", found.examples);
    assert_eq!(stage.number("select count(*) from dynaurora.gaps").await, 0);
    slow.stop().await;
}

/// The library that shows a process another time of day.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|folder| folder.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|file| file.exists())
}
