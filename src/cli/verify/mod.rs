//! `dynaurora verify`: is the target what the source says? `ops/verify` finds out; this asks and reports.

mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::{Output, print_json};
use super::paste;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::ports::Parties;
use crate::ops::resolve::resolve;
use crate::ops::verify::context::{Context, Subject};
use crate::ops::verify::{self as ops, Options};
use crate::ops::{named, wire};
use crate::postgres::ledger::PostgresLedger;
use crate::postgres::repair::ports::PostgresTarget;
use crate::postgres::session::Pools;
use crate::runtime::SystemClock;
use crate::source::DynamoSource;
use report::{Meter, SourceReport};

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this source.
    #[arg(long)]
    source: Option<String>,
    /// Only this target table, with its child tables or its parent table.
    #[arg(long)]
    table: Option<String>,
    /// Read only this share of the source, chosen at random: 0.01 is one item in a hundred.
    #[arg(long, value_name = "PART", value_parser = part)]
    sample: Option<f64>,
    /// Repair differences. A change of the stream always wins over a repair. Rows that dynaurora never wrote
    /// stay, except in child tables.
    #[arg(long)]
    repair: bool,
    /// How many segments of the source to read at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    segments: u32,
    /// Use at most this many read units a second.
    #[arg(long, value_name = "UNITS", value_parser = rate)]
    max_rcu: Option<f64>,
    /// How many seconds a change may take to reach the target before a difference counts.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    settle_secs: u64,
    /// Print differing values too; the default shows only keys and columns.
    #[arg(long)]
    show_values: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(serde::Serialize)]
struct Report {
    sources: Vec<SourceReport>,
}

/// Verifies, prints, and answers with 1 if differences remain, with 75 if none remain but some rows kept
/// changing or were not checked.
///
/// # Errors
/// When a server does not answer; `Conflict` during a backfill of a source.
pub async fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let mut config = read(&args.config)?;
    let pools = wire::target(&config).await?;
    resolve(&mut config, &pools.pool().await?).await?;
    let sources = chosen(&config, args)?;
    let mut report = Report { sources: Vec::new() };
    for source in sources {
        report.sources.push(Box::pin(verify(args, &config, source, &pools)).await?);
    }
    let left = |own: &SourceReport| own.mismatched > own.repaired;
    let (drift, undecided) = (
        report.sources.iter().any(left),
        report.sources.iter().any(|own| own.undecided > 0 || own.stopped_early),
    );
    if args.output == Output::Json {
        print_json(&report)?;
    } else {
        for own in &report.sources {
            own.print();
        }
        match (drift, args.repair) {
            (true, false) => paste::next("dynaurora verify --repair"),
            (true, true) => paste::next("dynaurora verify, to see what remains"),
            (false, _) => paste::next("dynaurora status"),
        }
    }
    Ok(match (drift, undecided) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => super::output::exit_code(ErrorKind::Conflict),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// One source with both of its sides, ready to be verified.
///
/// # Errors
/// When one of them does not answer; `Conflict` while the source is being backfilled.
pub(super) async fn context(
    config: &Config,
    source: &SourceConfig,
    pools: &Arc<Pools>,
    max_rcu: Option<f64>,
) -> Result<Context<Both>> {
    let sides = Parties {
        items: wire::source(config, source).await?,
        ledger: PostgresLedger::new(Arc::clone(pools)),
        target: PostgresTarget::new(pools, &source.name, source.mapper.tables()),
        clock: SystemClock,
    };
    let (name, mapper) = (Arc::clone(&source.name), Arc::clone(&source.mapper));
    Context::open(sides, Subject { name, mapper, max_rcu, seed: fastrand::u64(..) }).await
}

/// Both sides as they really are.
pub(super) type Both = Parties<DynamoSource, PostgresLedger, PostgresTarget, SystemClock>;

async fn verify(
    args: &VerifyArgs,
    config: &Config,
    source: &SourceConfig,
    pools: &Arc<Pools>,
) -> Result<SourceReport> {
    let context = Arc::new(context(config, source, pools, args.max_rcu).await?);
    let options = Options {
        table: args.table.clone(),
        sample: args.sample,
        repair: args.repair,
        segments: args.segments,
        lag: Duration::from_secs(args.settle_secs),
    };
    let meter = Meter::new(&source.name);
    let verified = ops::verify(&context, &options, &meter).await?;
    meter.done();
    for why in &verified.not_repaired {
        anstream::eprintln!("not repaired: {why}");
    }
    Ok(SourceReport::new(&context, &verified, args.show_values))
}

fn chosen<'a>(config: &'a Config, args: &VerifyArgs) -> Result<Vec<&'a SourceConfig>> {
    named::source(config, args.source.as_deref())?;
    named::tables(config, args.table.as_slice())?;
    let wanted = |source: &&SourceConfig| {
        let named = args.source.as_ref().is_none_or(|name| **name == *source.name);
        let has = |table: &String| {
            source.mapper.tables().iter().any(|own| own.name.to_string() == *table)
        };
        named && args.table.as_ref().is_none_or(has)
    };
    let sources: Vec<_> = config.sources.iter().filter(wanted).collect();
    if sources.is_empty() {
        let table = args.table.as_deref().unwrap_or_default();
        let what = format!("the named source does not fill table {table}");
        return Err(Error::new(ErrorKind::Usage, what).with_hint("leave out --source"));
    }
    Ok(sources)
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part: &f64| *part > 0.0 && *part <= 1.0);
    part.ok_or_else(|| "it must be above 0 and at most 1".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && rate.is_finite());
    rate.ok_or_else(|| "it must be above 0".to_owned())
}
