//! `dynaurora backfill`: loads a table as a whole beside its stream, and shows how far it is.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::config_file::load;
use super::{ConfigArgs, Output, paste, print_json};
use crate::engine::backfill::Backfill;
use crate::engine::ports::Clock;
use crate::error::Result;
use crate::ops::backfill::backfill;
use crate::ops::backfill::options::{Loaded, Options, Progress, Reached};
use crate::ops::wire::LoadWish;
use crate::runtime::SystemClock;

/// How often a line says how far a load is where there is no terminal.
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

impl BackfillArgs {
    fn options(&self) -> Options {
        Options {
            segments: self.load.segments,
            rcu_max: self.load.max_rcu,
            from_export: self.from_export.clone(),
            restart: self.restart,
            confirm_sweep: self.confirm_sweep,
            detach: self.detach,
        }
    }
}

/// Loads one source after the other.
///
/// # Errors
/// When the target or AWS cannot be reached, or a source is halted for something that a load cannot mend.
pub async fn run(args: &BackfillArgs) -> Result<ExitCode> {
    let mut config = load(&args.config)?;
    let bar = Bar::new(args.output);
    let options = args.options();
    let work = backfill(&mut config, args.source.as_deref(), &options, &bar);
    let loaded = Box::pin(work).await?;
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

/// The progress on stderr: a bar where that is a terminal, a line now and then where it is not.
struct Bar {
    output: Output,
    bar: RefCell<ProgressBar>,
    told: Cell<Instant>,
}

impl Bar {
    fn new(output: Output) -> Self {
        let bar = RefCell::new(ProgressBar::hidden());
        Self { output, bar, told: Cell::new(SystemClock.now()) }
    }
}

impl Progress for Bar {
    fn own_worker(&self) {
        anstream::eprintln!("no daemon runs, so this process does its work");
    }

    fn active_already(&self, source: &str) {
        anstream::eprintln!("{source}: a load is active already; this shows how it goes");
    }

    fn watching(&self, source: &str) {
        *self.bar.borrow_mut() = bar(self.output, source);
        self.told.set(SystemClock.now());
    }

    fn reached(&self, source: &str, Reached { items, of, ratio, sweeps }: Reached) {
        let bar = self.bar.borrow();
        bar.set_length(of);
        bar.set_position(items);
        bar.set_message(if sweeps { "(sweeping)" } else { "" });
        let due = self.told.get().elapsed() >= TELL_EVERY;
        if bar.is_hidden() && due && self.output == Output::Text {
            self.told.set(SystemClock.now());
            let share = ratio * 100.0;
            anstream::eprintln!("{source}: {share:.0} %, {items} items");
        }
    }

    fn waits(&self, source: &str) {
        let bar = self.bar.borrow();
        bar.println(waits(source));
        if bar.is_hidden() {
            anstream::eprintln!("{}", waits(source));
        }
    }

    fn watched(&self) {
        self.bar.borrow().finish_and_clear();
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

fn bar(output: Output, source: &str) -> ProgressBar {
    if output == Output::Json || !std::io::stderr().is_terminal() {
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

fn units(text: &str) -> std::result::Result<f64, String> {
    let units: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if units.is_finite() && units > 0.0 {
        Ok(units)
    } else {
        Err("it must be above zero".to_owned())
    }
}
