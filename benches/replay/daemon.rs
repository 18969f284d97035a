//! The daemon as it ships, in a process of its own: the program `dynaurora run`.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use dynaurora::engine::ports::Clock;
use dynaurora::runtime::SystemClock;

use crate::report::Idle;
use crate::stage::{CONFIG_FILE, Database, Replay, Stage};
use crate::{Outcome, Run, usage};

/// How often the ledger is asked whether all is applied; a run takes this much longer at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After this long the daemon has its leases, and every shard is polled as rarely as it ever is.
const WARM_UP: Duration = Duration::from_secs(15);

/// Replays everything into an empty database; the time runs from the start of the program.
pub(crate) async fn run(stage: &mut Stage, replay: &Replay, program: &Path) -> Outcome<Run> {
    let mut database = stage.database(replay).await?;
    let (server, postgres) = (replay.cpu()?, stage.cpu()?);
    let start = SystemClock.now();
    let mut daemon = Daemon::spawn(stage, &database, replay, (program, &TAIL))?;
    let mut first_row = None;
    while !daemon.is_done(&mut database, replay, &mut first_row, start).await? {
        SystemClock.sleep_until(SystemClock.now() + LOOK_EVERY).await;
    }
    let took = start.elapsed();
    let mut run = Run {
        took,
        first_row: first_row.unwrap_or(took),
        cpu: usage::cpu(daemon.0.id())?,
        postgres_cpu: stage.cpu()? - postgres,
        server_cpu: replay.cpu()? - server,
        peak_memory_mb: usage::peak_memory_mb(daemon.0.id())?,
        ..Run::default()
    };
    daemon.stop()?;
    (run.rows, run.transactions, run.sum) = database.contents().await?;
    database.drop(stage).await?;
    Ok(run)
}

/// The shares of a core that a daemon and its Postgres use while no shard holds a record.
pub(crate) async fn idle(
    stage: &mut Stage,
    replay: &Replay,
    program: &Path,
    length: Duration,
) -> Outcome<Idle> {
    let mut database = stage.database(replay).await?;
    let shards = replay.backfill.shards;
    let most = format!("worker.partitions_max={}", shards.max(1));
    let more = [TAIL[0], TAIL[1], "--set", &most];
    let daemon = Daemon::spawn(stage, &database, replay, (program, &more))?;
    SystemClock.sleep_until(SystemClock.now() + WARM_UP).await;
    let held = "select count(*) from dynaurora.partitions where owner is not null";
    let held: i64 = sqlx::query_scalar(held).fetch_one(&mut database.connection).await?;
    if usize::try_from(held)? != shards {
        return Err(format!("the daemon reads {held} of {shards} shards").into());
    }
    let (before, start) = (usage::cpu(daemon.0.id())?, SystemClock.now());
    let postgres = stage.cpu()?;
    SystemClock.sleep_until(start + length).await;
    let used = usage::cpu(daemon.0.id())? - before;
    let postgres = stage.cpu()? - postgres;
    let share = |used: Duration| used.as_secs_f64() / start.elapsed().as_secs_f64();
    let idle = Idle { shards, daemon: share(used), postgres: share(postgres) };
    daemon.stop()?;
    database.drop(stage).await?;
    Ok(idle)
}

/// What a daemon is told that has nothing to load.
const TAIL: [&str; 2] = ["--backfill", "never"];

pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn spawn(
        stage: &Stage,
        database: &Database,
        replay: &Replay,
        (program, more): (&Path, &[&str]),
    ) -> Outcome<Self> {
        let mut command = Command::new(program);
        command.args(["run", "--config", CONFIG_FILE]);
        for set in stage.sets(&database.name, &replay.endpoint) {
            command.args(["--set", &set]);
        }
        command.args(more);
        Ok(Self(command.spawn()?))
    }

    /// Whether every shard's position is that of its last record.
    async fn is_done(
        &mut self,
        database: &mut Database,
        replay: &Replay,
        first_row: &mut Option<Duration>,
        start: tokio::time::Instant,
    ) -> Outcome<bool> {
        if let Some(status) = self.0.try_wait()? {
            return Err(format!("the daemon ended with {status}").into());
        }
        let backfill = replay.backfill;
        let last = backfill.pages_per_shard * backfill.records_per_page - 1;
        let sql = "select count(*) filter (where position like 'after:%'), \
                   count(*) filter (where position like 'after:%' and right(position, 16) = $1) \
                   from dynaurora.partitions";
        let (begun, done): (i64, i64) = sqlx::query_as(sql)
            .bind(format!("{last:016}"))
            .fetch_one(&mut database.connection)
            .await?;
        if begun > 0 && first_row.is_none() {
            *first_row = Some(start.elapsed());
        }
        Ok(usize::try_from(done)? == backfill.shards)
    }

    /// Fails when it has ended.
    pub(crate) fn still_runs(&mut self) -> Outcome<u32> {
        match self.0.try_wait()? {
            Some(status) => Err(format!("the daemon ended with {status}").into()),
            None => Ok(self.0.id()),
        }
    }

    /// Drains it as a service manager does.
    pub(crate) fn stop(mut self) -> Outcome<()> {
        let process = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &process]).status()?;
        let status = self.0.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the daemon ended with {status}").into())
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing to do for one that has stopped already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
