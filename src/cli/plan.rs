//! `dynaurora plan` and `dynaurora apply`: show and make the changes that the target needs.

use std::process::ExitCode;

use clap::Args;

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::{Output, print_json};
use super::paste;
use crate::error::Result;
use crate::ops::plan::{self as ops, Progress};

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Exit with 1 if there are changes.
    #[arg(long)]
    exit_code: bool,
    /// Include changes of this table that may lose data; repeatable.
    #[arg(long, value_name = "TABLE")]
    confirm: Vec<String>,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Make changes of this table that may lose data; repeatable.
    #[arg(long, value_name = "TABLE")]
    confirm: Vec<String>,
}

/// Options of `grants`.
#[derive(Debug, Args)]
pub struct GrantsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The role of the daemon.
    #[arg(long, default_value = "dynaurora")]
    role: String,
    /// A role that only reads; without it only the daemon's grants are printed.
    #[arg(long)]
    query_role: Option<String>,
}

/// Prints what `apply` would run.
///
/// # Errors
/// When the target cannot be reached, or has a difference that only its owner can resolve.
pub async fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let mut config = read(&args.config)?;
    let planned = Box::pin(ops::plan(&mut config, &args.confirm)).await?;
    let nothing = planned.is_empty();
    if args.output == Output::Json {
        print_json(&planned)?;
    } else {
        for migration in &planned.migrations {
            anstream::println!("-- migrate the ledger: {migration}");
        }
        for table in &planned.existing {
            anstream::println!("-- {table} exists: only missing parts are added");
        }
        for step in &planned.steps {
            let warning = if step.destructive { ", which may lose data" } else { "" };
            anstream::println!("-- {}: {}{warning}\n{};\n", step.source, step.what, step.sql);
        }
        if nothing {
            anstream::eprintln!("the target fits the mapping");
        }
        let confirmed = args.confirm.iter();
        let confirmed = confirmed.map(|table| format!(" --confirm {}", paste::quoted(table)));
        match nothing {
            true => paste::next("dynaurora run"),
            false => paste::next(&format!("dynaurora apply{}", confirmed.collect::<String>())),
        }
    }
    Ok(if args.exit_code && !nothing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Migrates the ledger, then creates and completes the target tables.
///
/// # Errors
/// As for [`plan`]; `Denied` if the role lacks a right.
pub async fn apply(args: &ApplyArgs) -> Result<ExitCode> {
    let mut config = read(&args.config)?;
    let changed = Box::pin(ops::apply(&mut config, &args.confirm, &Printer)).await?;
    anstream::eprintln!("the target fits the mapping");
    if changed {
        anstream::eprintln!("restart the daemons: they still use the old tables");
    }
    paste::next("dynaurora run");
    Ok(ExitCode::SUCCESS)
}

/// Prints each thing as it is done.
struct Printer;

impl Progress for Printer {
    fn migration(&self, name: &str) {
        anstream::println!("migrate the ledger: {name}");
    }

    fn step(&self, source: &str, what: &str) {
        anstream::println!("{source}: {what}");
    }
}

/// Prints the grants for the daemon and readers, to be run by the tables' owner.
///
/// # Errors
/// When the config is wrong.
pub fn print_grants(args: &GrantsArgs) -> Result<ExitCode> {
    let config = read(&args.config)?;
    anstream::print!("{}", ops::grants(&config, &args.role, args.query_role.as_deref())?);
    Ok(ExitCode::SUCCESS)
}
