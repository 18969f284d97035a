//! `dynaurora backfill`: loads a table as a whole beside its stream, and shows how far it is.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::{Output, print_json};
use super::paste;
use crate::engine::backfill::Backfill;
use crate::engine::ports::Clock;
use crate::error::Result;
use crate::ops::backfill::backfill;
use crate::ops::backfill::options::{Loaded, Options, Progress, Reached};
use crate::ops::wire::BackfillWish;
use crate::runtime::SystemClock;

/// How often a line says how far a load is where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// When `run` backfills a table by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackfillWhen {
    /// Only for `dynaurora backfill`, or a gap under `on_gap = "resync"`.
    Never,
    /// When it was never backfilled.
    Auto,
    /// Once at the start of this process, even if it was backfilled before.
    Force,
}

/// How a backfill runs.
#[derive(Debug, Clone, Args)]
pub struct BackfillScanArgs {
    /// Read the table in this many parallel segments; by default its number of items decides.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    segments: Option<u32>,
    /// Use at most this many read units a second, all workers together; a consistent read of 4 KB is one.
    #[arg(long, value_name = "UNITS", value_parser = units)]
    max_rcu: Option<f64>,
}

/// Options of `backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Backfill only this source; the default is all.
    #[arg(long)]
    source: Option<String>,
    #[command(flatten)]
    backfill: BackfillScanArgs,
    /// Read a full export instead of a scan: its folder, or s3://BUCKET/PREFIX/AWSDynamoDB/ID. Repeat the
    /// option for incremental exports, each starting where the one before ends. The newest is at most 23
    /// hours old; all daemons of the source must be able to read them there.
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["segments", "max_rcu"])]
    from_export: Vec<String>,
    /// Begin anew even if a backfill is already active.
    #[arg(long)]
    restart: bool,
    /// Let the final sweep delete more than `worker.sweep_share_max` of the rows.
    #[arg(long)]
    confirm_sweep: bool,
    /// Begin without waiting for the end; a daemon must be running.
    #[arg(long)]
    detach: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl BackfillScanArgs {
    /// A daemon's settings for its backfills.
    #[must_use]
    pub fn wish(&self, when: BackfillWhen) -> BackfillWish {
        let backfill = match when {
            BackfillWhen::Never => Backfill::Never,
            BackfillWhen::Auto => Backfill::Auto,
            BackfillWhen::Force => Backfill::Force,
        };
        BackfillWish { backfill, segments: self.segments, rcu_max: self.max_rcu }
    }
}

impl BackfillArgs {
    fn options(&self) -> Options {
        Options {
            segments: self.backfill.segments,
            rcu_max: self.backfill.max_rcu,
            from_export: self.from_export.clone(),
            restart: self.restart,
            confirm_sweep: self.confirm_sweep,
            detach: self.detach,
        }
    }
}

/// Backfills one source after the other.
///
/// # Errors
/// When the target or AWS cannot be reached, or a source is halted for a reason that a backfill cannot fix.
pub async fn run(args: &BackfillArgs) -> Result<ExitCode> {
    let mut config = read(&args.config)?;
    let bar = Bar::new(args.output);
    let options = args.options();
    let work = backfill(&mut config, args.source.as_deref(), &options, &bar);
    let loaded = Box::pin(work).await?;
    let complete = loaded.iter().all(|loaded| loaded.complete);
    if args.output == Output::Json {
        print_json(&loaded)?;
    } else {
        for Loaded { source, generation, complete, items, seconds } in &loaded {
            let end = if *complete { "complete" } else { "begun; the daemon continues it" };
            anstream::println!(
                "{source}: backfill {generation} {end}, {items} items in {seconds:.1} s"
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
        anstream::eprintln!("{source}: a backfill is already active; its progress:");
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
        "{source}: everything is read; the sweep is still running, or waits for a \
         person; `dynaurora status` says which; `dynaurora backfill --confirm-sweep` lets it \
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
