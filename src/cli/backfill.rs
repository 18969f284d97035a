//! `dynaurora backfill`: loads a table as a whole beside its stream, and shows how far it is.
//!
//! The load itself is a state of the ledger, and the daemons that run do the work. Where none runs, this
//! process is one until the load is complete.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::config_file::load as load_config;
use super::{ConfigArgs, Output, paste, print_json};
use crate::config::{Config, SourceConfig};
use crate::engine::backfill::{self, Backfill, LoadOptions, progress};
use crate::engine::ports::{Clock, Ledger, LedgerView};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::service::Service;
use crate::ops::wire::{self, LoadWish};
use crate::ops::{named, start};
use crate::postgres::ledger::PostgresLedger;
use crate::postgres::session::Pools;
use crate::runtime::{self, SystemClock, signals};

mod export;

use export::ExportLoad;

/// How often the ledger is asked how far the load is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A worker of this process is alive to the ledger within this time.
const ALIVE_WITHIN: Duration = Duration::from_secs(15);
/// A load that is read usually ends within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How often a line says so where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// When `run` loads a table by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackfillWhen {
    /// Only when `dynaurora backfill`, or a gap under `on_gap = "resync"`, asks for it.
    Never,
    /// When it was never loaded.
    Auto,
    /// Once at the start of this process, whether it was loaded before or not.
    Force,
}

/// How a load is done.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Read the table in so many parallel segments; by its number of items unless told.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    segments: Option<u32>,
    /// Take at most so many read units a second, all workers together; a consistent read of 4 KB is one.
    #[arg(long, value_name = "UNITS", value_parser = units)]
    max_rcu: Option<f64>,
}

/// Options of `backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Load this source only; all of the config unless told.
    #[arg(long)]
    source: Option<String>,
    #[command(flatten)]
    load: LoadArgs,
    /// Load a full export of the table in place of a scan: its folder, or s3://BUCKET/PREFIX/AWSDynamoDB/ID.
    /// Given again, incremental exports that follow it, each from where the one before ends. The newest is no
    /// older than 23 hours; all daemons of the source must reach them there.
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["segments", "max_rcu"])]
    from_export: Vec<String>,
    /// Begin anew even though a load is active already.
    #[arg(long)]
    restart: bool,
    /// Let the sweep at the end delete more than `worker.sweep_share_max` of the rows.
    #[arg(long)]
    confirm_sweep: bool,
    /// Begin, and do not wait for the end; a daemon must be running.
    #[arg(long)]
    detach: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What a load came to; the JSON's shape only grows.
#[derive(serde::Serialize)]
struct Loaded {
    source: String,
    generation: u32,
    complete: bool,
    items: u64,
    seconds: f64,
}

impl LoadArgs {
    /// The wish of a daemon.
    #[must_use]
    pub fn wish(&self, when: BackfillWhen) -> LoadWish {
        let backfill = match when {
            BackfillWhen::Never => Backfill::Never,
            BackfillWhen::Auto => Backfill::Auto,
            BackfillWhen::Force => Backfill::Force,
        };
        LoadWish { backfill, segments: self.segments, rcu_max: self.max_rcu }
    }
}

/// Loads one source after the other.
///
/// # Errors
/// When the target or AWS cannot be reached, or a source is halted for something that a load cannot mend.
pub async fn run(args: &BackfillArgs) -> Result<ExitCode> {
    let mut config = load_config(&args.config)?;
    let asked =
        |source: &&SourceConfig| args.source.as_deref().is_none_or(|name| *source.name == *name);
    named::source(&config, args.source.as_deref())?;
    if !args.from_export.is_empty() && config.sources.iter().filter(asked).count() > 1 {
        return Err(Error::new(ErrorKind::Usage, "an export is of one table")
            .with_hint("say which source it is for: --source NAME"));
    }
    let pools = wire::target(&config).await?;
    start::prepare_target(&mut config, &pools).await?;
    let mut loaded = Vec::new();
    for source in config.sources.iter().filter(asked) {
        loaded.push(load(args, (&config, source), &pools).await?);
    }
    let complete = loaded.iter().all(|loaded| loaded.complete);
    if args.output == Output::Json {
        print_json(&loaded)?;
    } else {
        for Loaded { source, generation, complete, items, seconds } in &loaded {
            let end = if *complete { "complete" } else { "begun; the daemon goes on with it" };
            anstream::println!(
                "{source}: load of generation {generation} {end}, {items} items in {seconds:.1} s"
            );
        }
        if complete {
            paste::next("dynaurora verify");
        } else {
            paste::next("dynaurora status --watch");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn load(
    args: &BackfillArgs,
    (config, source): (&Config, &SourceConfig),
    pools: &Arc<Pools>,
) -> Result<Loaded> {
    let ledger = PostgresLedger::new(Arc::clone(pools));
    let mut export = match args.from_export.as_slice() {
        [] => None,
        places => Some(Box::pin(ExportLoad::open(places, (config, source), pools)).await?),
    };
    let started = SystemClock.now();
    let known = match ledger.load(&source.name).await {
        Ok(view) => Some(view),
        // A source that no daemon ever ran is entered by this process.
        Err(error) if error.kind() == ErrorKind::Unknown => None,
        Err(error) => return Err(error),
    };
    let workers = known.as_ref().map_or(0, |view| view.workers);
    if workers == 0 && args.detach {
        return Err(Error::new(ErrorKind::Usage, "no daemon runs that could do the work")
            .with_hint("leave out --detach, and this process does it"));
    }
    // Before a worker of this process takes up what an earlier load has left. One that nobody has listed yet
    // waits for that worker.
    let may_begin = |view: &LedgerView| view.listed || workers > 0;
    if let Some(export) = export.take_if(|_| known.as_ref().is_some_and(may_begin)) {
        Box::pin(export.begin(args.restart)).await?;
    }
    let mut service = None;
    if workers == 0 {
        let active = known.as_ref().is_some_and(|view| view.load.active) && !args.restart;
        let scans = !active && args.from_export.is_empty();
        let when = if scans { BackfillWhen::Force } else { BackfillWhen::Never };
        let only = (config, Some(&*source.name));
        service = Some(own_service(only, pools, args.load.wish(when)).await?);
    } else if let Some(view) = known.as_ref().filter(|_| args.from_export.is_empty()) {
        begin(args, (config, source), (&ledger, view), pools).await?;
    }
    if args.confirm_sweep {
        ledger.confirm_sweep(&source.name).await?;
    }
    // Its own worker begins a scan once it has listed the shards.
    let begins = service.is_some() && args.from_export.is_empty();
    let watch = async {
        if let Some(export) = &export {
            Box::pin(export.begin(args.restart)).await?;
        }
        watch(args, source, &ledger, begins).await
    };
    let (view, complete) = match service {
        None if args.detach => (ledger.load(&source.name).await?, false),
        None => match watch.await? {
            Watched::Over(view) => (*view, true),
            // The daemon that was to do the work has ended, or was dead already.
            Watched::Abandoned => {
                let only = (config, Some(&*source.name));
                let own = own_service(only, pools, args.load.wish(BackfillWhen::Never)).await?;
                (served(own, self::watch(args, source, &ledger, false)).await?, true)
            }
        },
        Some(service) => (served(service, watch).await?, true),
    };
    let items = items_read(&view);
    let seconds = started.elapsed().as_secs_f64();
    let (source, generation) = (source.name.to_string(), view.generation);
    Ok(Loaded { source, generation, complete, items, seconds })
}

/// How the watch of a load ended.
enum Watched {
    /// The load is over; this is the ledger's view then.
    Over(Box<LedgerView>),
    /// Nobody is alive to go on with it.
    Abandoned,
}

/// A daemon within this process, for one source.
async fn own_service(
    only: (&Config, Option<&str>),
    pools: &Arc<Pools>,
    wish: LoadWish,
) -> Result<Service> {
    anstream::eprintln!("no daemon runs, so this process does its work");
    let mut own = Service::new(runtime::worker_id(), fastrand::u64(..));
    start::add_sources(&mut own, only, pools, wish).await?;
    Ok(own)
}

/// Begins a load that the running daemons do.
async fn begin(
    args: &BackfillArgs,
    (config, source): (&Config, &SourceConfig),
    (ledger, view): (&PostgresLedger, &LedgerView),
    pools: &Arc<Pools>,
) -> Result<()> {
    if view.load.active && !args.restart {
        anstream::eprintln!("{}: a load is active already; this shows how it goes", source.name);
        return Ok(());
    }
    let ports = wire::ports(config, source, pools).await?;
    let (segments, rcu_max) = (args.load.segments, args.load.max_rcu);
    let mapping = source.mapper.fingerprint();
    let options = LoadOptions { segments, rcu_max, mapping };
    let of = (Arc::clone(&source.name), view.generation);
    if backfill::begin(&ports, of, &options).await? {
        return Ok(());
    }
    let now = ledger.load(&source.name).await?;
    if now.load.active {
        return Ok(());
    }
    let why = match &now.halted {
        Some(reason) => format!("source {} is halted: {reason}", source.name),
        None => format!("the shards of source {} are not listed yet", source.name),
    };
    let hint = match now.halted.as_deref() {
        Some("table_changed") => {
            "another table has its name now: `dynaurora gaps accept` says that this is meant"
        }
        Some(_) => "mend what halted it, restart the daemon, then try again",
        None => "try again in a minute; `dynaurora status` shows what the daemon is at",
    };
    Err(Error::new(ErrorKind::Conflict, why).with_hint(hint))
}

/// Runs the service until the load that it does is watched to its end, or a signal comes.
async fn served(
    service: Service,
    watch: impl Future<Output = Result<Watched>>,
) -> Result<LedgerView> {
    let mut signals = signals()
        .map_err(|error| Error::new(ErrorKind::Unknown, "listen for signals").with_source(error))?;
    let stop = service.stop();
    let observer = service.observer();
    let halted = async {
        loop {
            let status = observer.status(SystemClock.wall());
            let halted = status.sources.iter().find_map(|source| source.halted.clone());
            if let Some(reason) = halted {
                return reason;
            }
            SystemClock.sleep_until(SystemClock.now() + LOOK_EVERY).await;
        }
    };
    let watched = tokio::select! {
        biased;
        signal = signals.signal() => {
            let what = format!("stopped by {signal}; what was loaded is kept");
            Err(Error::new(ErrorKind::Unavailable, what)
                .with_hint("run it again, or a daemon: the load goes on where it stopped"))
        }
        view = watch => view,
        reason = halted => Err(Error::new(ErrorKind::Unknown, format!("halted: {reason}"))),
    };
    stop.cancel();
    let finished = service.finished().await;
    match watched? {
        Watched::Over(view) => finished.map(|()| *view),
        Watched::Abandoned => {
            Err(Error::new(ErrorKind::Unavailable, "the worker of this process ended")
                .with_hint("run it again: the load goes on where it stopped"))
        }
    }
}

/// Shows how far the load is until it is over. With `to_begin` it is not begun yet.
async fn watch(
    args: &BackfillArgs,
    source: &SourceConfig,
    ledger: &PostgresLedger,
    mut to_begin: bool,
) -> Result<Watched> {
    let bar = bar(args, &source.name);
    let began = SystemClock.now();
    let mut told = began;
    let mut read_at = None;
    loop {
        let view = match ledger.load(&source.name).await {
            Ok(view) => view,
            Err(error) if to_begin && error.kind() == ErrorKind::Unknown => LedgerView::default(),
            Err(error) => return Err(error),
        };
        if view.load.active {
            to_begin = false;
            let read = items_read(&view);
            let ratio = progress(&view).unwrap_or_default();
            show(&bar, &view, ratio);
            if view.workers == 0 && began.elapsed() > ALIVE_WITHIN {
                bar.finish_and_clear();
                return Ok(Watched::Abandoned);
            }
            if ratio >= 1.0
                && read_at.get_or_insert_with(|| SystemClock.now()).elapsed() > ENDS_WITHIN
            {
                read_at = Some(SystemClock.now());
                bar.println(waits(&source.name));
                if bar.is_hidden() {
                    anstream::eprintln!("{}", waits(&source.name));
                }
            }
            if bar.is_hidden() && told.elapsed() >= TELL_EVERY && args.output == Output::Text {
                told = SystemClock.now();
                let share = ratio * 100.0;
                anstream::eprintln!("{}: {share:.0} %, {read} items", source.name);
            }
        } else if !to_begin {
            bar.finish_and_clear();
            return Ok(Watched::Over(Box::new(view)));
        }
        SystemClock.sleep_until(SystemClock.now() + LOOK_EVERY).await;
    }
}

fn waits(source: &str) -> String {
    let text = format!(
        "{source}: all is read, and the load has not ended: the sweep may be long, or wait for a \
         person; `dynaurora status` says which, and `dynaurora backfill --confirm-sweep` lets it \
         delete more than worker.sweep_share_max"
    );
    paste::pasteable(&text).into_owned()
}

fn bar(args: &BackfillArgs, source: &str) -> ProgressBar {
    if args.output == Output::Json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = "{prefix} {wide_bar} {pos}/{len} items, {per_sec}, {eta} left {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(source.to_owned());
    bar
}

/// The service's count of items is some hours old, so the end is guessed from the share that is done.
fn show(bar: &ProgressBar, view: &LedgerView, ratio: f64) {
    let read = items_read(view);
    bar.set_length(view.load.items.unwrap_or(read).max(read));
    bar.set_position(read);
    let waits = ratio >= 1.0 && view.load.sweeps;
    bar.set_message(if waits { "(sweeping)" } else { "" });
}

fn items_read(view: &LedgerView) -> u64 {
    let rows = view.partitions.iter().filter(|row| !row.id.is_shard());
    rows.map(|row| row.records).sum()
}

fn units(text: &str) -> std::result::Result<f64, String> {
    let units: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if units.is_finite() && units > 0.0 {
        Ok(units)
    } else {
        Err("it must be above zero".to_owned())
    }
}
