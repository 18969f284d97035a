//! `dynaurora gaps`: changes that were lost unread, and what to do about them.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::{Output, print_json};
use super::paste;
use crate::error::Result;
use crate::ops::gaps::{accept, list};
use crate::postgres::listings::gaps::StoredGap;
use crate::telemetry::status::timestamp;

/// Options of `gaps`.
#[derive(Debug, Args)]
pub struct GapsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List gaps that are neither repaired nor accepted.
    List(ListArgs),
    /// Accept a gap: its changes stay lost, and the source continues.
    Accept(AcceptArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this source.
    #[arg(long)]
    source: Option<String>,
    /// Also gaps that were repaired or accepted.
    #[arg(long)]
    all: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct AcceptArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The gap's number, as `list` shows it.
    id: i64,
}

/// A gap as printed; the JSON only gains fields.
#[derive(serde::Serialize)]
struct Printed {
    id: i64,
    source: String,
    reason: String,
    state: String,
    partition: Option<String>,
    after: Option<String>,
    since: Option<String>,
    recorded_at: String,
}

/// Lists or accepts gaps.
///
/// # Errors
/// When the target cannot be reached, or there is no such gap.
pub async fn run(args: &GapsArgs) -> Result<ExitCode> {
    match &args.command {
        Command::List(args) => run_list(args).await,
        Command::Accept(args) => run_accept(args).await,
    }
}

async fn run_list(args: &ListArgs) -> Result<ExitCode> {
    let config = read(&args.config)?;
    let gaps = list(&config, args.source.as_deref(), args.all).await?;
    let gaps: Vec<Printed> = gaps.into_iter().map(printed).collect();
    if args.output == Output::Json {
        print_json(&gaps)?;
        return Ok(ExitCode::SUCCESS);
    }
    for gap in &gaps {
        let of = gap.partition.as_deref().unwrap_or("the whole stream");
        let since = gap.since.as_deref().unwrap_or("the beginning");
        anstream::println!(
            "{} {} {}, {}: {of}, changes since {since} are lost",
            gap.id,
            gap.source,
            gap.state,
            gap.reason
        );
    }
    match gaps.first() {
        None => anstream::println!("no gaps: no changes were lost"),
        Some(gap) if gap.state == "open" => paste::next(&format!(
            "dynaurora backfill --source {} reads the table again and repairs it; \
             dynaurora gaps accept {} ignores it",
            gap.source, gap.id
        )),
        Some(_) => paste::next("dynaurora status --watch"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_accept(args: &AcceptArgs) -> Result<ExitCode> {
    let config = read(&args.config)?;
    let gap = accept(&config, args.id).await?;
    anstream::println!(
        "gap {} of source {} is accepted: its changes stay lost until the next backfill",
        gap.id,
        gap.source
    );
    paste::next("dynaurora status --watch");
    Ok(ExitCode::SUCCESS)
}

fn printed(gap: StoredGap) -> Printed {
    Printed {
        id: gap.id,
        source: gap.source,
        reason: gap.reason,
        state: gap.state,
        partition: gap.partition,
        after: gap.after,
        since: gap.since.map(timestamp),
        recorded_at: timestamp(gap.recorded_at),
    }
}
