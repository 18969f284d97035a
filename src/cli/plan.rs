//! `dynaurora plan` and `dynaurora apply`: what the target lacks, and making it so.

use std::process::ExitCode;

use clap::Args;

use super::config_file::load;
use super::{ConfigArgs, Output, paste, print_json};
use crate::error::Result;
use crate::ops::resolve::resolve_with_new_columns;
use crate::ops::shared_tables::to_plan;
use crate::ops::{named, wire};
use crate::postgres::listings::grants;
use crate::postgres::migrations;
use crate::postgres::tables::ddl::{self, StepKind};

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Exit with 1 when there is something to do.
    #[arg(long)]
    exit_code: bool,
    /// Plan what may lose data of this table too; can be given several times.
    #[arg(long, value_name = "TABLE")]
    confirm: Vec<String>,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Do what may lose data of this table too; can be given several times.
    #[arg(long, value_name = "TABLE")]
    confirm: Vec<String>,
}

/// Options of `grants`.
#[derive(Debug, Args)]
pub struct GrantsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The role that runs the daemon.
    #[arg(long, default_value = "dynaurora")]
    role: String,
    /// The role that only reads; without it only the daemon's grants are printed.
    #[arg(long)]
    query_role: Option<String>,
}

#[derive(serde::Serialize)]
struct Planned {
    migrations: Vec<String>,
    /// The tables that are there already: only what they lack is added.
    existing: Vec<String>,
    steps: Vec<PlannedStep>,
}

#[derive(serde::Serialize)]
struct PlannedStep {
    source: String,
    what: String,
    sql: String,
    destructive: bool,
}

/// Prints what `apply` would run.
///
/// # Errors
/// When the target cannot be reached, or differs in a way that only its owner can resolve.
pub async fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let mut config = load(&args.config)?;
    named::tables(&config, &args.confirm)?;
    let pool = wire::target(&config).await?.pool().await?;
    let migrations = migrations::pending(&pool).await?;
    resolve_with_new_columns(&mut config, &pool).await?;
    let mut planned = Planned { migrations, existing: Vec::new(), steps: Vec::new() };
    for (source, tables) in config.sources.iter().zip(to_plan(&config, &pool).await?) {
        for table in ddl::existing(&pool, &tables).await? {
            if !planned.existing.contains(&table.name) {
                planned.existing.push(table.name);
            }
        }
        let mut steps = ddl::plan_confirmed(&pool, &tables, &args.confirm).await?;
        // What two sources want of the table that they share is done once.
        steps.retain(|step| !planned.steps.iter().any(|planned| planned.sql == step.sql));
        planned.steps.extend(steps.into_iter().map(|step| PlannedStep {
            source: source.name.to_string(),
            what: step.what,
            sql: step.sql,
            destructive: step.kind == StepKind::Destructive,
        }));
    }
    let nothing = planned.migrations.is_empty() && planned.steps.is_empty();
    if args.output == Output::Json {
        print_json(&planned)?;
    } else {
        for migration in &planned.migrations {
            anstream::println!("-- migrate the ledger: {migration}");
        }
        for table in &planned.existing {
            anstream::println!("-- {table} exists: only what it lacks is added");
        }
        for step in &planned.steps {
            let warning = if step.destructive { ", which may lose data" } else { "" };
            anstream::println!("-- {}: {}{warning}\n{};\n", step.source, step.what, step.sql);
        }
        if nothing {
            anstream::eprintln!("the target is as the mapping needs it");
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
/// As for [`plan`]; `Denied` when the role may not.
pub async fn apply(args: &ApplyArgs) -> Result<ExitCode> {
    let mut config = load(&args.config)?;
    named::tables(&config, &args.confirm)?;
    let pool = wire::target(&config).await?.pool().await?;
    for migration in migrations::pending(&pool).await? {
        anstream::println!("migrate the ledger: {migration}");
    }
    migrations::migrate(&pool).await?;
    resolve_with_new_columns(&mut config, &pool).await?;
    let mut changed = false;
    for (source, tables) in config.sources.iter().zip(to_plan(&config, &pool).await?) {
        let existing = ddl::existing(&pool, &tables).await?;
        let steps = ddl::plan_confirmed(&pool, &tables, &args.confirm).await?;
        // Whoever runs has compiled the mapping onto the tables as they were.
        changed |= !existing.is_empty() && !steps.is_empty();
        ddl::apply(&pool, &steps).await?;
        for step in steps {
            anstream::println!("{}: {}", source.name, step.what);
        }
    }
    anstream::eprintln!("the target is as the mapping needs it");
    if changed {
        anstream::eprintln!("restart the daemons that run: they know the tables as they were");
    }
    paste::next("dynaurora run");
    Ok(ExitCode::SUCCESS)
}

/// Prints the grants that the daemon, and readers, need: for the tables' owner to run.
///
/// # Errors
/// When the config is wrong.
pub fn print_grants(args: &GrantsArgs) -> Result<ExitCode> {
    let config = load(&args.config)?;
    let tables = wire::tables(&config);
    anstream::print!("{}", grants::grants(&tables, &args.role)?);
    if let Some(role) = &args.query_role {
        anstream::print!("{}", grants::query_grants(&tables, role)?);
    }
    Ok(ExitCode::SUCCESS)
}
