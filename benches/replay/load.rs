//! A table loaded as a whole beside its stream, in which a trickle of writes goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use dynaurora::engine::ports::Clock;
use dynaurora::runtime::SystemClock;
use serde_json::json;

use crate::daemon::Daemon;
use crate::raw::{self, SEGMENTS, Way};
use crate::stage::{Load, Replay, Stage};
use crate::{Outcome, PAGE_RECORDS, Run, tell, usage};

/// Live writes a second while the load goes on.
const TRICKLE_PER_SEC: usize = 50;
/// A table whose load shows how much memory a load of any size takes.
const SMALL_ITEMS: usize = 10_000;
/// How often the ledger is asked whether the load is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The share of the raw rate to reach, and the lag of live writes to stay below, in seconds.
const AIMS: (f64, f64) = (0.7, 2.0);

/// Backfills, and writes the same rows by hand; prints both.
pub(crate) async fn measure(items: usize, program: &Path) -> Outcome<()> {
    let mut stage = Stage::start().await?;
    let small = loaded(&mut stage, SMALL_ITEMS, program).await?.0;
    tell(0, "load of 10,000", &small);
    let (daemon, lag) = loaded(&mut stage, items, program).await?;
    tell(1, "load", &daemon);
    let replay = Replay::spawn(table(items, 0))?;
    let batch = usize::try_from(daemon.rows / daemon.transactions.max(1))?.max(1);
    let raw = raw::run(&mut stage, &replay, batch, Way::Table).await?;
    tell(1, "raw upsert", &raw);
    if daemon.sum != raw.sum {
        return Err("daemon and raw client wrote different rows".into());
    }
    let copy = raw::run(&mut stage, &replay, batch, Way::Copy).await?;
    tell(1, "copy", &copy);
    let (ratio, floor) = (daemon.rate() / raw.rate(), daemon.rate() / copy.rate());
    println!();
    println!(
        "{items} items, {SEGMENTS} segments, {TRICKLE_PER_SEC} live writes a second beside it"
    );
    println!("load / raw upsert  {ratio:.2}   aim: at least {}", AIMS.0);
    println!("load / COPY        {floor:.2}");
    println!(
        "peak memory MB     {:.1}; of {SMALL_ITEMS} items {:.1}",
        daemon.peak_memory_mb, small.peak_memory_mb
    );
    println!("p99 lag of writes  at most {lag} s   aim: below {} s", AIMS.1);
    println!();
    let line = json!({
        "items": items,
        "load_rows_per_sec": daemon.rate(),
        "raw_rows_per_sec": raw.rate(),
        "copy_rows_per_sec": copy.rate(),
        "ratio": ratio,
        "cpu_us_per_item": daemon.per_row_us(daemon.cpu),
        "peak_memory_mb": daemon.peak_memory_mb,
        "peak_memory_small_mb": small.peak_memory_mb,
        "live_lag_p99_secs_max": lag,
    });
    println!("{line}");
    Ok(())
}

fn table(items: usize, trickle_per_sec: usize) -> Load {
    Load {
        shards: 1,
        pages_per_shard: 0,
        records_per_page: PAGE_RECORDS,
        table_pages: (items / PAGE_RECORDS).max(1),
        trickle_per_sec,
    }
}

/// Backfills into an empty database beside the trickle; also tells the lag that 99 of 100 batches of live
/// writes
/// stayed below.
async fn loaded(stage: &mut Stage, items: usize, program: &Path) -> Outcome<(Run, f64)> {
    let replay = Replay::spawn(table(items, TRICKLE_PER_SEC))?;
    let mut database = stage.database(&replay).await?;
    let postgres = stage.cpu()?;
    let segments = SEGMENTS.to_string();
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let listens = format!("telemetry.listen={listen}");
    let more = ["--backfill", "auto", "--segments", &segments, "--set", &listens];
    let start = SystemClock.now();
    let mut daemon = Daemon::spawn(stage, &database, &replay, (program, &more))?;
    let sql = "select count(*) from dynaurora.sources where loaded_at is not null";
    loop {
        daemon.still_runs()?;
        let done: i64 = sqlx::query_scalar(sql).fetch_one(&mut database.connection).await?;
        if done > 0 {
            break;
        }
        SystemClock.sleep_until(SystemClock.now() + LOOK_EVERY).await;
    }
    let took = start.elapsed();
    let process = daemon.still_runs()?;
    let mut run = Run {
        took,
        cpu: usage::cpu(process)?,
        postgres_cpu: stage.cpu()? - postgres,
        server_cpu: replay.cpu()?,
        peak_memory_mb: usage::peak_memory_mb(process)?,
        ..Run::default()
    };
    let lag = lag_of_writes(listen)?;
    daemon.stop()?;
    (run.rows, run.transactions, run.sum) = database.contents().await?;
    database.drop(stage).await?;
    if run.rows != i64::try_from(table(items, 0).records())? {
        return Err(format!("{} rows of {items} items", run.rows).into());
    }
    Ok((run, lag))
}

/// The least bound of the delay's histogram that 99 of 100 batches stayed below, in seconds.
fn lag_of_writes(listen: SocketAddr) -> Outcome<f64> {
    let mut stream = TcpStream::connect(listen)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("dynaurora_replication_delay_seconds_bucket") else {
            continue;
        };
        let (_, bound) = rest.split_once("le=\"").ok_or("a bucket without a bound")?;
        let (bound, count) = bound.split_once("\"} ").ok_or("a bucket without a count")?;
        buckets.push((bound.replace("+Inf", "inf").parse()?, count.trim().parse()?));
    }
    let all = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    let bound = buckets.iter().find(|(_, count)| *count >= all * 0.99 && all > 0.0);
    Ok(bound.ok_or("no live write was applied")?.0)
}
