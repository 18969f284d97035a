//! `dynaurora run`: the daemon.

use std::process::ExitCode;

use clap::Args;

use super::args::ConfigArgs;
use super::backfill::{BackfillScanArgs, BackfillWhen};
use super::config_file::{self, read};
use crate::error::Result;
use crate::ops::run::{self as ops, Ended};

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// When to backfill a table beside its stream.
    #[arg(long, value_enum, default_value = "auto")]
    backfill: BackfillWhen,
    #[command(flatten)]
    load: BackfillScanArgs,
}

/// Runs until a signal; the first drains, the second stops at once.
///
/// # Errors
/// What prevents the start, or the error of a halted source.
pub async fn run(args: &RunArgs) -> Result<ExitCode> {
    let config = read(&args.config)?;
    let telemetry = config_file::telemetry(&config)?;
    let load = args.load.wish(args.backfill);
    Ok(match Box::pin(ops::run(config, telemetry, load)).await? {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::AtOnce => ExitCode::FAILURE,
    })
}
