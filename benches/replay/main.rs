//! The whole path, the SDK included, against the raw upsert of the same rows, in one run.
//!
//! Every part is a process of its own, so that what each costs can be told: a server that replays pages
//! rendered once, a durable Postgres cluster, the daemon as it ships, and the plainest client. Daemon and
//! client take turns, each into an empty database and over one applying connection.

mod daemon;
mod load;
mod raw;
mod report;
mod stage;
mod usage;
mod world;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use report::Report;
use stage::{Load, Replay, Stage};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The most records that the service puts into a page.
const PAGE_RECORDS: usize = 1000;
/// Compares the daemon with the raw upsert of the same rows.
#[derive(Debug, Parser)]
struct Cli {
    /// Records of a run; whole pages of 1000 for each shard are taken.
    #[arg(long, default_value_t = 400_000)]
    records: usize,
    /// Shards that hold the records, 1 to 100.
    #[arg(long, default_value_t = 8)]
    shards: usize,
    /// Pairs of runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long the idle daemon is watched, in seconds; 0 leaves it out.
    #[arg(long, default_value_t = 30)]
    idle_secs: u64,
    /// How many shards it watches.
    #[arg(long, default_value_t = 100)]
    idle_shards: usize,
    /// Only watch the idle daemon.
    #[arg(long)]
    idle_only: bool,
    /// Load a table of so many items beside its stream instead, against the raw insert and a plain COPY of
    /// the same rows.
    #[arg(long, value_name = "ITEMS")]
    backfill: Option<usize>,
    /// One short round, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Another build of the daemon, to compare it with this one.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_dynaurora"))]
    program: PathBuf,
    /// Cargo says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a process of this program does when it is not the one that measures.
#[derive(Debug, Subcommand)]
enum Role {
    #[command(hide = true)]
    Serve {
        shards: usize,
        pages_per_shard: usize,
        records_per_page: usize,
        table_pages: usize,
        trickle_per_sec: usize,
    },
    #[command(hide = true)]
    Raw { url: String, batch: usize, way: raw::Way, sets: Vec<String> },
}

/// What one run took.
#[derive(Debug, Default)]
struct Run {
    took: Duration,
    first_row: Duration,
    cpu: Duration,
    postgres_cpu: Duration,
    server_cpu: Duration,
    peak_memory_mb: f64,
    rows: i64,
    transactions: i64,
    sum: String,
}

#[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^52")]
impl Run {
    fn rate(&self) -> f64 {
        self.rows as f64 / self.took.as_secs_f64()
    }

    fn batch(&self) -> f64 {
        self.rows as f64 / self.transactions as f64
    }

    fn per_row_us(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.rows as f64
    }
}

fn main() -> Outcome<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.role {
        None => match cli.backfill {
            Some(items) => runtime.block_on(load::measure(items, &cli.program)),
            None => runtime.block_on(measure(&cli)),
        },
        Some(Role::Serve {
            shards,
            pages_per_shard,
            records_per_page,
            table_pages,
            trickle_per_sec,
        }) => stage::serve(Load {
            shards,
            pages_per_shard,
            records_per_page,
            table_pages,
            trickle_per_sec,
        }),
        Some(Role::Raw { url, batch, way, sets }) => {
            runtime.block_on(raw::write(&url, batch, way, &sets))
        }
    }
}

async fn measure(cli: &Cli) -> Outcome<()> {
    let (records, rounds, idle_secs) = if cli.quick {
        (80_000, 1, cli.idle_secs.min(10))
    } else {
        (cli.records, cli.rounds, cli.idle_secs)
    };
    let shards = cli.shards.clamp(1, 100);
    let pages_per_shard = (records / (shards * PAGE_RECORDS)).max(1);
    let backfill = Load {
        shards,
        pages_per_shard,
        records_per_page: PAGE_RECORDS,
        table_pages: 0,
        trickle_per_sec: 0,
    };
    let mut stage = Stage::start().await?;
    let mut report = Report { backfill, rounds: Vec::new(), idle: None };
    let replay = Replay::spawn(backfill)?;
    let rounds = if cli.idle_only { 0 } else { rounds.max(1) };
    for round in 1..=rounds {
        let daemon = daemon::run(&mut stage, &replay, &cli.program).await?;
        tell(round, "daemon", &daemon);
        // Batches of the size that the daemon came to, so that neither gains by its own.
        let batch = usize::try_from(daemon.rows / daemon.transactions.max(1))?;
        let raw = raw::run(&mut stage, &replay, batch.max(1), raw::Way::Stream).await?;
        tell(round, "raw", &raw);
        let expected = i64::try_from(backfill.records())?;
        if daemon.rows != expected || raw.rows != expected || daemon.sum != raw.sum {
            return Err("daemon and raw client wrote different rows".into());
        }
        report.rounds.push((daemon, raw));
    }
    if idle_secs > 0 {
        let backfill =
            Load { shards: cli.idle_shards, pages_per_shard: 0, records_per_page: 1, ..backfill };
        let replay = Replay::spawn(backfill)?;
        let length = Duration::from_secs(idle_secs);
        report.idle = Some(daemon::idle(&mut stage, &replay, &cli.program, length).await?);
    }
    report.print();
    Ok(())
}

fn tell(round: usize, who: &str, run: &Run) {
    eprintln!(
        "round {round}, {who}: {:.0} rows/s, CPU {:.2} us a row, Postgres {:.2}, {:.0} rows a batch",
        run.rate(),
        run.per_row_us(run.cpu),
        run.per_row_us(run.postgres_cpu),
        run.batch()
    );
}
