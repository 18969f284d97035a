//! The daemon is killed at random moments while others write, again and again, and starts over.
//!
//! `DYNAURORA_KILL_RUNS=20` repeats it with new seeds; `DYNAURORA_KILL_SEED` repeats one.

use std::collections::HashMap;
use std::time::Duration;

use dynaurora::engine::ports::Clock;
use dynaurora::model::{Position, SequenceNumber};
use dynaurora::runtime::SystemClock;
use sqlx::Row;

use super::daemon::Daemon;
use super::fold::target_is_the_fold;
use super::stage::{SOON_SECS, Stage, pause, within};
use super::writers::Writers;

/// Kills amid the work; between two of them one more strikes while the next daemon starts.
const ROUNDS: u32 = 4;
/// How long a daemon may work before it is killed, at most.
const WORK_MILLIS_MAX: u64 = 600;
/// When a daemon is killed that waits for the lease of its predecessor, at the latest.
const START_MILLIS_MAX: u64 = 1_500;

#[tokio::test]
async fn killed_at_random_moments_it_converges() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let runs = number("DYNAURORA_KILL_RUNS").unwrap_or(1);
    let seeds = number("DYNAURORA_KILL_SEED").unwrap_or_else(|| fastrand::u64(0..1 << 32));
    let mut kills = 0;
    for seed in (seeds..).take(usize::try_from(runs).unwrap()) {
        eprintln!("kill test: seed {seed}");
        kills += one_run(seed).await;
    }
    eprintln!("kill test: {runs} runs, {kills} kills, 0 mismatches");
}

async fn one_run(seed: u64) -> u32 {
    let start = SystemClock.now();
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::start().await;
    let mut writers = Writers::start(&stage, 3, seed, f64::INFINITY);
    writers.bring_many(&stage, seed);
    let mut witness = Witness::default();
    let mut daemon = stage.daemon();
    let (mut kills, mut folds) = (0, 0);
    for round in 0..ROUNDS {
        if round > 0 {
            pause(Duration::from_millis(random.u64(0..START_MILLIS_MAX))).await;
            daemon.kill().await;
            kills += 1;
            daemon = stage.daemon();
        }
        witness.sees_progress(&stage, &mut daemon).await;
        pause(Duration::from_millis(random.u64(0..WORK_MILLIS_MAX))).await;
        daemon.kill().await;
        kills += 1;
        if round % 2 == 1 {
            target_is_the_fold(&stage).await;
            folds += 1;
        }
        daemon = stage.daemon();
        witness.looks(&stage).await;
    }
    witness.sees_progress(&stage, &mut daemon).await;
    let writes = writers.stop().await;
    let found = stage.converge().await;
    witness.looks(&stage).await;
    assert_eq!(stage.number("select count(*) from dynaurora.dead_letters").await, 0);
    assert_eq!(stage.number("select count(*) from dynaurora.gaps").await, 0);
    daemon.stop().await;
    eprintln!(
        "kill test: seed {seed}: {kills} kills, {writes} writes, {} items, {} rows, \
         {} mismatches; the fold held {folds} times; {:.1} s",
        found.items,
        found.rows,
        found.mismatches,
        start.elapsed().as_secs_f64()
    );
    kills
}

/// Sees that positions, epochs and rows' versions only grow (I1), whoever was killed in between.
#[derive(Default)]
struct Witness {
    position: Option<Position>,
    epoch: i64,
    versions: HashMap<String, Version>,
}

/// A version's decimal digits, in an order that is theirs as numbers.
type Version = (usize, String);

impl Witness {
    /// Waits until a daemon has applied something more.
    async fn sees_progress(&mut self, stage: &Stage, daemon: &mut Daemon) -> Position {
        let before = self.position.clone();
        within(SOON_SECS, "the position moves", async || {
            daemon.still_runs();
            self.looks_at_the_ledger(stage).await;
            self.position.clone().filter(|now| Some(now) != before.as_ref())
        })
        .await
    }

    async fn looks(&mut self, stage: &Stage) {
        self.looks_at_the_ledger(stage).await;
        let rows = sqlx::query("select child_id, dynaurora_version::text from children");
        let rows = rows.fetch_all(&stage.pool).await.unwrap();
        let seen = rows.iter().map(|row| {
            let (child, version): (String, String) = (row.get(0), row.get(1));
            (child, (version.len(), version))
        });
        let seen: HashMap<String, Version> = seen.collect();
        for (child, version) in &seen {
            let before = self.versions.get(child);
            assert!(before.is_none_or(|before| before <= version), "{child}: a version fell");
        }
        self.versions = seen;
    }

    async fn looks_at_the_ledger(&mut self, stage: &Stage) {
        for partition in stage.ledger().await {
            let (was, is) = (self.position.as_ref().map(number), number(&partition.position));
            assert!(was.is_none_or(|was| was <= is), "the position fell: {partition:?}");
            assert!(self.epoch <= partition.epoch, "the epoch fell: {partition:?}");
            self.epoch = partition.epoch;
            self.position = Some(partition.position);
        }
    }
}

pub(super) fn number(position: &Position) -> SequenceNumber {
    match position {
        Position::After(number) => *number,
        _ => SequenceNumber::ZERO,
    }
}
