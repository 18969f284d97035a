//! `dynaurora sources`: what the ledger calls its sources, and which it knows.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::args::ConfigArgs;
use super::config_file::read;
use super::paste;
use crate::error::Result;
use crate::ops::sources::{forget, rename};

/// Options of `sources`.
#[derive(Debug, Args)]
pub struct SourcesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give a source in the ledger the name that the config has for it now; nothing is read again.
    Rename(RenameArgs),
    /// Forget a source: its positions, dead letters and gaps. Its rows stay.
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
struct RenameArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Its name in the ledger.
    old: String,
    /// Its name in the config.
    new: String,
}

#[derive(Debug, Args)]
struct ForgetArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Its name in the ledger.
    name: String,
}

/// Renames or forgets a source.
///
/// # Errors
/// When the target cannot be reached, the ledger does not know the source, or a worker of it is alive.
pub async fn run(args: &SourcesArgs) -> Result<ExitCode> {
    match &args.command {
        Command::Rename(RenameArgs { config, old, new }) => {
            rename(&read(config)?, old, new).await?;
            anstream::println!("source {old} is {new} now");
            paste::next("dynaurora run");
        }
        Command::Forget(ForgetArgs { config, name }) => {
            let lost = forget(&read(config)?, name).await?;
            anstream::println!(
                "source {name} is forgotten, with {} open dead letters and {} gaps; its rows stay",
                lost.dead_letters,
                lost.gaps
            );
            paste::next("dynaurora run");
        }
    }
    Ok(ExitCode::SUCCESS)
}
