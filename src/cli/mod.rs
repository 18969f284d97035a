//! The command line: clap's types, the dispatch, what is printed, and exit codes.
//!
//! Data goes to stdout, logs and progress to stderr. A command that reports takes `--output json`, whose
//! shape only grows. Each command that succeeds ends by naming the next one to try.

pub mod args;
pub mod backfill;
pub mod check;
pub mod completions;
pub mod config_file;
mod daemon;
pub mod dead_letters;
#[cfg(feature = "demo")]
pub mod demo;
pub mod explain;
pub mod gaps;
pub mod healthcheck;
pub mod iam_policy;
pub mod infer;
pub mod init;
pub mod mapping_tests;
pub mod output;
mod paste;
pub mod plan;
pub mod run;
pub mod sources;
pub mod status;
pub mod tap;
pub mod verify;
pub mod wait;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use args::ConfigArgs;
use output::{Output, exit_code};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::SystemClock;

const START_HERE: &str = "\
Start here:
  dynaurora demo                   see it work, without an account
  dynaurora check --config FILE    what is missing, and the command that fixes it
  dynaurora apply --config FILE    create the tables
  dynaurora run --config FILE      the daemon

Exit codes: 0 done, 1 the answer is no, 2 usage, 69 unreachable, 75 try again,
77 permission, 78 configuration.";

/// Keeps tables in Aurora PostgreSQL in step with DynamoDB tables, through their streams.
#[derive(Debug, Parser)]
#[command(
    name = "dynaurora",
    version,
    max_term_width = 100,
    after_help = START_HERE
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, one file each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole system on this machine: local servers, Santa's letters, live rows and lag.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// Write a commented config to start with.
    Init(init::InitArgs),
    /// Propose a config from a table's items, or from a design.
    Infer(infer::InferArgs),
    /// Run the config's mapping tests, offline.
    Test(mapping_tests::TestArgs),
    /// Show what one item becomes, and why; writes nothing.
    Explain(explain::ExplainArgs),
    /// Show live records as they would be mapped; writes nothing.
    Tap(tap::TapArgs),
    /// Check the config, the target and the streams; each failure names its fix.
    Check(check::CheckArgs),
    /// Show the DDL that the target needs.
    Plan(plan::PlanArgs),
    /// Create or complete the ledger and the target tables.
    Apply(plan::ApplyArgs),
    /// Keep the target in step: the daemon.
    Run(run::RunArgs),
    /// Read a whole table beside its stream, with or without a running daemon.
    Backfill(backfill::BackfillArgs),
    /// List changes that were lost unread, or accept their loss.
    Gaps(gaps::GapsArgs),
    /// Rename a source in the ledger as the config renamed it, or forget one.
    Sources(sources::SourcesArgs),
    /// Show the state of the running daemon.
    Status(StatusArgs),
    /// Wait until the target has every change up to a time.
    Wait(wait::WaitArgs),
    /// Compare source and target, item by item and row by row; repair differences.
    Verify(verify::VerifyArgs),
    /// List, show, retry or drop records that could not be mapped or stored.
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Print the SQL grants for the daemon and for readers.
    Grants(plan::GrantsArgs),
    /// Print the AWS policy for the daemon and the commands with this config.
    IamPolicy(iam_policy::IamPolicyArgs),
    /// Print the JSON Schema of the config, for editors.
    Schema,
    /// Show the effective config.
    Config(init::ShowArgs),
    /// Ask the running daemon whether it is alive, or ready.
    Healthcheck(HealthcheckArgs),
    /// Print a shell's completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The daemon's address, if it differs from the config's `telemetry.listen`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Refresh every second.
    #[arg(long)]
    watch: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Options of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The daemon's address, if it differs from the config's `telemetry.listen`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Ask whether it is ready instead of alive.
    #[arg(long)]
    ready: bool,
}

/// Runs the command and returns its exit code.
#[must_use]
pub fn dispatch(cli: &Cli) -> ExitCode {
    paste::know(Cli::command());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = "start the runtime";
            tell(&Error::new(ErrorKind::Unknown, what).with_source(error));
            return exit_code(ErrorKind::Unknown);
        }
    };
    let result = runtime.block_on(execute(&cli.command));
    // Remaining tasks have been abandoned by their owners.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            tell(&error);
            exit_code(error.kind())
        }
    }
}

async fn execute(command: &Command) -> Result<ExitCode> {
    let mut stdout = anstream::stdout();
    match command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => Box::pin(demo::run(args)).await,
        Command::Init(args) => init::run(args),
        Command::Infer(args) => Box::pin(infer::run(args)).await,
        Command::Test(args) => mapping_tests::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Tap(args) => Box::pin(tap::run(args)).await,
        Command::Schema => Ok(init::schema()),
        Command::Config(args) => init::config(args),
        Command::Check(args) => Box::pin(check::run(args)).await,
        Command::Plan(args) => Box::pin(plan::plan(args)).await,
        Command::Apply(args) => Box::pin(plan::apply(args)).await,
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Backfill(args) => Box::pin(backfill::run(args)).await,
        Command::Gaps(args) => Box::pin(gaps::run(args)).await,
        Command::Sources(args) => Box::pin(sources::run(args)).await,
        Command::Status(args) => {
            let options = status::Options {
                listen: daemon::address(args.listen, &args.config)?,
                watch: args.watch,
                json: args.output == Output::Json,
                redraw: std::io::stdout().is_terminal(),
            };
            status::run(&options, SystemClock, &mut stdout).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify(args) => Box::pin(verify::run(args)).await,
        Command::Wait(args) => Box::pin(wait::run(args)).await,
        Command::DeadLetters(args) => Box::pin(dead_letters::run(args)).await,
        Command::IamPolicy(args) => iam_policy::run(args),
        Command::Grants(args) => plan::print_grants(args),
        Command::Healthcheck(args) => {
            let probe = match args.ready {
                true => healthcheck::Probe::Ready,
                false => healthcheck::Probe::Live,
            };
            let listen = daemon::address(args.listen, &args.config)?;
            let well = healthcheck::run(listen, probe, &mut stdout).await?;
            Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Completions { shell } => {
            completions::run(Cli::command(), *shell, &mut stdout)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn tell(error: &Error) {
    config_file::show_problems(error);
    anstream::eprintln!("error: {}", paste::pasteable(&error.chain()));
    if let Some(hint) = error.hint() {
        anstream::eprintln!("  try: {}", paste::pasteable(hint));
    }
}
