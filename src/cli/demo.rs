//! `dynaurora demo`: the whole system on this machine, then a full comparison.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sqlx::postgres::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::output::{Output, print_json};
use crate::config::Config;
use crate::demo::compare::{Comparison, full_comparison};
use crate::demo::dynamodb::LocalDynamo;
use crate::demo::lag::LagProbe;
use crate::demo::postgres::{self, LocalPostgres};
use crate::demo::santa::{Elf, Metronome, Written, create_reindeer, create_table};
use crate::engine::ports::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::resolve::resolve_with_new_columns;
use crate::ops::service::Service;
use crate::ops::{start, wire};
use crate::postgres::migrations;
use crate::postgres::session::Pools;
use crate::postgres::tables::ddl;
use crate::runtime::{self, SystemClock};
use crate::source::{ConnectOptions, connect};
use crate::telemetry::{self, http};

/// The mapping of the worked example.
const CONFIG: &str = include_str!("../../config/santa.toml");
/// Writers; each waits for its write before the next, which limits the writes in flight. A write takes some
/// 20 ms in a debug build on two cores: fewer writers do not reach 300 a second, more only slow each other
/// down.
const ELVES: u64 = 8;
/// How often the target is checked for new rows; the lag shown is at most this much too long.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the target may take to catch up after the last write.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many seconds to write letters.
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Most writes a second, if the machine can do them.
    #[arg(long, value_name = "N", default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Seed for the written data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Use this Postgres database instead of starting one; the tables are created in it.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Output format of the result; progress goes to stderr.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The result of the demo; the JSON only gains fields.
#[derive(Debug, serde::Serialize)]
struct Summary {
    writes: u64,
    inserts: u64,
    updates: u64,
    deletes: u64,
    records: u64,
    items: u64,
    rows: u64,
    dead_letters: u64,
    mismatches: u64,
    lag_p50_ms: Option<i64>,
    lag_p99_ms: Option<i64>,
    converged: bool,
}

/// What runs while the letters are written.
struct Stage {
    config: Config,
    client: aws_sdk_dynamodb::Client,
    pools: Arc<Pools>,
    // Servers stop on drop, after everything that uses them.
    _dynamo: LocalDynamo,
    _postgres: Option<LocalPostgres>,
}

/// Starts the servers and the daemon, writes, compares.
///
/// # Errors
/// When a server cannot be started or fails.
pub async fn run(args: &DemoArgs) -> Result<ExitCode> {
    let options = telemetry::Options { level: "warn".to_owned(), ..telemetry::Options::default() };
    let telemetry = telemetry::init(&options)?;
    let stage = set_up(args).await?;

    let mut service = Service::new(runtime::worker_id(), args.seed);
    let backfill = wire::BackfillWish::default();
    start::add_sources(&mut service, &stage.config, None, &stage.pools, backfill).await?;
    let observer = service.observer();
    let stop = service.stop();
    let listener = http::bind(stage.config.telemetry.listen)
        .or_else(|_| http::bind(([127, 0, 0, 1], 0).into()))?;
    if let Ok(address) = listener.local_addr() {
        say(&format!("the daemon runs; its page and metrics: http://{address}/"));
    }
    let shown = observer.clone();
    let status = move || shown.status(SystemClock.wall());
    let mut background = JoinSet::new();
    background.spawn(http::serve(listener, telemetry, status, stop.clone().cancelled_owned()));

    let pool = stage.pools.pool().await?;
    let written = Arc::new(Written::default());
    let mut probe = LagProbe::default();
    let elves = start_elves(args, &stage, &written);
    watch(args, &pool, &written, elves, &mut probe).await?;
    say("done writing; comparing the whole table with the whole target");
    let comparison = settle(&stage, &pool).await?;
    stop.cancel();
    service.finished().await?;
    // Only a worker that has ended has published everything it applied.
    let records = observer.records();

    let dead_letters = count(&pool, "select count(*) from dynaurora.dead_letters").await?;
    let read =
        |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    let summary = Summary {
        writes: written.total(),
        inserts: read(&written.inserts),
        updates: read(&written.updates),
        deletes: read(&written.deletes),
        records,
        items: comparison.items,
        rows: comparison.rows,
        dead_letters,
        mismatches: comparison.mismatches,
        lag_p50_ms: probe.percentile(0.50),
        lag_p99_ms: probe.percentile(0.99),
        converged: comparison.mismatches == 0 && dead_letters == 0,
    };
    report(args, &summary, &comparison)
}

async fn set_up(args: &DemoArgs) -> Result<Stage> {
    say("starting a local DynamoDB inside this process");
    let dynamo = LocalDynamo::start()?;
    let mut sets = Vec::new();
    let postgres = match &args.postgres {
        Some(url) => {
            sets.push(format!("target.url={url}"));
            None
        }
        None => {
            say("starting a local Postgres in a temporary folder");
            let options = postgres::Options { durable: true, ..postgres::Options::default() };
            let server = LocalPostgres::start(options).await?;
            server.create_database("santa").await?;
            sets.push(format!("target.url={}", server.url_without_password("santa")));
            sets.push(format!("target.password.file={}", server.password_file().display()));
            Some(server)
        }
    };
    let endpoint = dynamo.endpoint();
    say(&format!("DynamoDB while this runs: {endpoint}, region eu-north-1, any credentials"));
    if let Some(server) = &postgres {
        let (url, file) = (server.url_without_password("santa"), server.password_file().display());
        say(&format!("Postgres while this runs: {url}, password in {file}"));
    }
    sets.extend([
        format!("aws.endpoint={endpoint}"),
        "aws.region=eu-north-1".to_owned(),
        "worker.poll_min_ms=50".to_owned(),
        "worker.poll_idle_max_ms=200".to_owned(),
    ]);
    let mut config = Config::parse(CONFIG, "config/santa.toml", &sets, std::iter::empty())
        .map_err(|diagnostics| Error::new(ErrorKind::Config, diagnostics.render(false)))?;
    let aws = ConnectOptions {
        endpoint: Some(endpoint.to_owned()),
        region: Some("eu-north-1".to_owned()),
        ..ConnectOptions::default()
    };
    let client = aws_sdk_dynamodb::Client::new(&connect(&aws).await?);
    create_table(&client).await?;
    create_reindeer(&client).await?;
    let pools = wire::target(&config).await?;
    let pool = pools.pool().await?;
    migrations::migrate(&pool).await?;
    resolve_with_new_columns(&mut config, &pool).await?;
    for source in &config.sources {
        let steps = ddl::plan(&pool, source.mapper.tables()).await?;
        ddl::apply(&pool, &steps).await?;
    }
    Ok(Stage { config, client, pools, _dynamo: dynamo, _postgres: postgres })
}

fn start_elves(args: &DemoArgs, stage: &Stage, written: &Arc<Written>) -> JoinSet<Result<()>> {
    let time_is_up = CancellationToken::new();
    let seconds = Duration::from_secs(args.seconds);
    let mut elves = JoinSet::new();
    #[expect(clippy::cast_precision_loss, reason = "there are few elves")]
    let each_per_sec = f64::from(args.rate) / ELVES as f64;
    for number in 0..ELVES {
        let mut elf = Elf::new(stage.client.clone(), SystemClock, number, args.seed);
        let mut metronome = Metronome::new(&SystemClock, each_per_sec);
        let (written, time_is_up) = (Arc::clone(written), time_is_up.clone());
        elves.spawn(async move {
            while !time_is_up.is_cancelled() {
                metronome.tick(&SystemClock).await;
                elf.write(&written).await?;
            }
            Ok(())
        });
    }
    elves.spawn(async move {
        SystemClock.sleep_until(SystemClock.now() + seconds).await;
        time_is_up.cancel();
        Ok(())
    });
    elves
}

/// Shows writes, rows and lag once a second until the elves are done.
async fn watch(
    args: &DemoArgs,
    pool: &PgPool,
    written: &Written,
    mut elves: JoinSet<Result<()>>,
    probe: &mut LagProbe,
) -> Result<()> {
    say(&format!(
        "writing up to {} letters and children a second for {} s",
        args.rate, args.seconds
    ));
    let start = SystemClock.now();
    let mut shown = 0;
    loop {
        tokio::select! {
            biased;
            done = elves.join_next() => match done {
                None => return Ok(()),
                Some(Ok(result)) => result?,
                Some(Err(panic)) => {
                    return Err(Error::new(ErrorKind::Unknown, "an elf died").with_source(panic));
                }
            },
            () = SystemClock.sleep_until(SystemClock.now() + LOOK_EVERY) => {
                probe.look(pool, &SystemClock).await?;
            }
        }
        let elapsed = start.elapsed().as_secs();
        if elapsed > shown {
            shown = elapsed;
            let rows = |table| count(pool, table);
            say(&format!(
                "{elapsed:>4} s {:>7} writes   {:>6} children {:>6} letters {:>6} toys   lag {} ms",
                written.total(),
                rows("select count(*) from children").await?,
                rows("select count(*) from letters where deleted_at is null").await?,
                rows("select count(*) from letter_toys").await?,
                probe.percentile(0.5).unwrap_or(0),
            ));
        }
    }
}

/// Compares until source and target agree, or time is up.
async fn settle(stage: &Stage, pool: &PgPool) -> Result<Comparison> {
    let deadline = SystemClock.now() + CATCH_UP_MAX;
    loop {
        let mut whole = Comparison::default();
        for source in &stage.config.sources {
            let dynamo = wire::source(&stage.config, source).await?;
            let found = full_comparison(&dynamo, &source.mapper, pool).await?;
            whole.items += found.items;
            whole.rows += found.rows;
            whole.mismatches += found.mismatches;
            whole.examples.extend(found.examples);
        }
        if whole.mismatches == 0 || SystemClock.now() >= deadline {
            return Ok(whole);
        }
        SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(200)).await;
    }
}

async fn count(pool: &PgPool, sql: &'static str) -> Result<u64> {
    let count: i64 = sqlx::query_scalar(sql)
        .fetch_one(pool)
        .await
        .map_err(|error| Error::new(ErrorKind::Unavailable, "count the rows").with_source(error))?;
    Ok(count.unsigned_abs())
}

fn report(args: &DemoArgs, summary: &Summary, comparison: &Comparison) -> Result<ExitCode> {
    if args.output == Output::Json {
        print_json(summary)?;
    } else {
        let Summary { writes, inserts, updates, deletes, items, rows, .. } = summary;
        anstream::println!(
            "{writes} writes: {inserts} inserts, {updates} updates, {deletes} deletes"
        );
        anstream::println!("{} stream records applied", summary.records);
        anstream::println!("{items} items in DynamoDB, {rows} correct rows in Postgres");
        if let (Some(p50), Some(p99)) = (summary.lag_p50_ms, summary.lag_p99_ms) {
            anstream::println!("lag from write to row: {p50} ms median, {p99} ms at 99 %");
        }
        anstream::println!("mismatches: {}", summary.mismatches);
        anstream::println!("dead letters: {}", summary.dead_letters);
        anstream::println!("converged: {}", summary.converged);
    }
    for example in &comparison.examples {
        say(example);
    }
    if !summary.converged {
        return Ok(ExitCode::FAILURE);
    }
    say("next: dynaurora check --config FILE, with a config like config/santa.toml");
    Ok(ExitCode::SUCCESS)
}

fn say(line: &str) {
    anstream::eprintln!("{line}");
}
