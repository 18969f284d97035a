//! A table is loaded as a whole while others write, and while daemons are killed.
//!
//! `DYNAURORA_KILL_RUNS=20` repeats it with new seeds; `DYNAURORA_KILL_SEED` repeats one.

use std::time::Duration;

use dynaurora::demo::compare::{Comparison, full_comparison};
use sqlx::AssertSqlSafe;

use super::daemon::Daemon;
use super::stage::{SOON_SECS, Stage, pause, within};
use super::writers::Writers;

/// Daemons at a time.
const DAEMONS: usize = 2;
/// Kills while the load goes on.
const KILLS: u32 = 4;
/// How long a daemon may work before it is killed, at most.
const WORK_MILLIS_MAX: u64 = 700;

/// A page waits before it takes its turn, and the tail overtakes it: what chance seldom brings about, with
/// every page. The function takes the built-in one's place for whoever connects from then on.
pub(super) const SLOW_PAGES: &str = "\
    create function public.pg_advisory_xact_lock_shared(bigint) returns void \
    language plpgsql as $$ begin \
        perform pg_sleep(0.6); perform pg_catalog.pg_advisory_xact_lock_shared($1); end $$; \
    do $$ begin execute format('alter database %I set search_path = public, pg_catalog', \
        current_database()); end $$";

/// No delete leaves its claim: claims switched off.
const NO_CLAIMS: &str = "\
    create function forget() returns trigger language plpgsql as $$ begin return null; end $$; \
    create trigger forget before insert on dynaurora.claims for each row execute function forget()";

/// A table that was loaded once has lost half of its rows, and some are there that no item has.
pub(super) const DAMAGE: [&str; 5] = [
    "update dynaurora.sources set loaded_at = now()",
    "delete from letter_toys where hashtext(letter_id) % 2 = 0",
    "delete from letters where hashtext(letter_id) % 2 = 0",
    "delete from children where hashtext(child_id) % 2 = 0",
    "insert into children (child_id, country, extra, dynaurora_version) \
     select 'ghost-' || n, 'XX', '{}', 1e40 + 1 from generate_series(1, 20) n",
];

/// I9, I8, I7: with every fault of processes, the load converges and brings nothing back.
#[tokio::test]
async fn loaded_beside_writers_and_kills_it_converges() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let runs = number("DYNAURORA_KILL_RUNS").unwrap_or(1);
    let seeds = number("DYNAURORA_KILL_SEED").unwrap_or_else(|| fastrand::u64(0..1 << 32));
    for seed in (seeds..).take(usize::try_from(runs).unwrap()) {
        eprintln!("load test: seed {seed}");
        let found = one_run(seed, SLOW_PAGES).await;
        assert_eq!(found.mismatches, 0, "{:#?}", found.examples);
    }
}

/// The test above can fail: without claims, deletes that overtook a page come back.
#[tokio::test]
async fn i9_without_claims_deleted_rows_come_back() {
    for seed in 0..8 {
        let found = one_run(seed, &format!("{SLOW_PAGES}; {NO_CLAIMS}")).await;
        if found.mismatches > 0 {
            return;
        }
    }
    panic!("no row came back: the test of claims shows nothing");
}

async fn one_run(seed: u64, triggers: &str) -> Comparison {
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::start().await;
    sqlx::raw_sql(AssertSqlSafe(triggers.to_owned())).execute(&stage.pool).await.unwrap();
    let mut writers = Writers::start(&stage, 3, seed, f64::INFINITY);
    writers.bring_many(&stage, seed);
    let mut daemon = stage.daemon();
    within(SOON_SECS, "there are rows", async || {
        daemon.still_runs();
        (stage.number("select count(*) from children").await > 300).then_some(())
    })
    .await;
    daemon.kill().await;
    for sql in DAMAGE {
        sqlx::query(sql).execute(&stage.pool).await.unwrap();
    }

    let force = ["--backfill", "force", "--segments", "5"];
    let mut daemons: Vec<Daemon> = Vec::new();
    daemons.push(stage.daemon_with(&force));
    within(SOON_SECS, "the load begins", async || {
        daemons[0].still_runs();
        backfilling_state(&stage).await.then_some(())
    })
    .await;
    while daemons.len() < DAEMONS {
        daemons.push(stage.daemon());
    }
    for _ in 0..KILLS {
        pause(Duration::from_millis(random.u64(0..WORK_MILLIS_MAX))).await;
        daemons.swap_remove(random.usize(..DAEMONS)).kill().await;
        daemons.push(stage.daemon());
    }
    within(SOON_SECS, "the load ends", async || (!backfilling_state(&stage).await).then_some(()))
        .await;
    let writes = writers.stop().await;
    let found = settled(&stage).await;
    within(SOON_SECS, "no claim is left", async || {
        (stage.number("select count(*) from dynaurora.claims").await == 0).then_some(())
    })
    .await;
    for daemon in daemons {
        daemon.stop().await;
    }
    eprintln!(
        "load test: seed {seed}: {writes} writes, {} items, {} rows, {} mismatches",
        found.items, found.rows, found.mismatches
    );
    found
}

async fn backfilling_state(stage: &Stage) -> bool {
    stage.number("select count(*) from dynaurora.sources where backfilling").await > 0
}

/// What differs once the tail has passed the last write.
async fn settled(stage: &Stage) -> Comparison {
    let mut last = Writers::start(stage, 1, u64::MAX, 50.0);
    last.bring_many(stage, u64::MAX);
    pause(Duration::from_millis(100)).await;
    last.stop().await;
    let (source, mapper) = (stage.source().await, &stage.plan().mapper);
    let mut before = None;
    within(SOON_SECS, "nothing changes any more", async || {
        let found = full_comparison(&source, mapper, &stage.pool).await.unwrap();
        let same = before == Some((found.mismatches, stage.head().await));
        before = Some((found.mismatches, stage.head().await));
        pause(Duration::from_millis(700)).await;
        (same || found.mismatches == 0).then_some(found)
    })
    .await
}
