//! The command line: clap's types, the dispatch, and the only wiring of rooms.
//!
//! Data goes to stdout, logs and progress to stderr. A command that reports takes `--output json`, whose
//! shape only grows. Each command that succeeds ends by naming the next one to try.

pub mod completions;
mod daemon;
pub mod healthcheck;
pub mod service;
pub mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::{Error, ErrorKind, Result};

/// Keeps relational tables in Aurora PostgreSQL in step with DynamoDB tables, through their streams.
#[derive(Debug, Parser)]
#[command(
    name = "dynaurora",
    version,
    max_term_width = 100,
    after_help = "Start here:\n  dynaurora demo                      see it work, without an account\n  \
                  dynaurora check --config FILE       what is missing, and the command that mends it\n  \
                  dynaurora apply --config FILE       create the tables\n  \
                  dynaurora run --config FILE         the daemon\n\n\
                  Exit codes: 0 done, 1 the answer is no, 2 usage, 69 unreachable, 75 try again,\n\
                  77 permission, 78 configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, one file each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a shell's completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The config file and what overrides it.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The config file.
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "DYNAURORA_CONFIG",
        default_value = "dynaurora.toml"
    )]
    pub config: PathBuf,
    /// Override one value of it, as in `--set target.pool=4`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// How a command reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Runs the command line and says how it ended.
#[must_use]
pub fn dispatch(cli: Cli) -> ExitCode {
    let result: Result<ExitCode> = match cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut command(), "dynaurora", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tell(&error);
            exit_code(error.kind())
        }
    }
}

/// The process's exit code for a failure of this kind (the numbers are those of sysexits.h).
#[must_use]
pub fn exit_code(kind: ErrorKind) -> ExitCode {
    ExitCode::from(match kind {
        ErrorKind::Usage => 2,
        ErrorKind::Unreachable => 69,
        ErrorKind::Throttled
        | ErrorKind::Unavailable
        | ErrorKind::Conflict
        | ErrorKind::Capacity
        | ErrorKind::ReadOnly => 75,
        ErrorKind::Denied => 77,
        ErrorKind::Config | ErrorKind::Schema => 78,
        ErrorKind::Expired
        | ErrorKind::Trimmed
        | ErrorKind::Gone
        | ErrorKind::Fenced
        | ErrorKind::Data
        | ErrorKind::Unknown => 1,
    })
}

fn tell(error: &Error) {
    anstream::eprintln!("error: {}", error.chain());
    if let Some(hint) = error.hint() {
        anstream::eprintln!("  try: {hint}");
    }
}

/// The command line as clap sees it, for completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}
