//! What the target lacks, and making it so.

use super::resolve::resolve_with_new_columns;
use super::shared_tables::to_plan;
use super::{named, wire};
use crate::config::Config;
use crate::error::Result;
use crate::postgres::listings::grants;
use crate::postgres::migrations;
use crate::postgres::tables::ddl::{self, StepKind};

/// What `apply` would run; the JSON's shape only grows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Planned {
    /// The ledger's migrations.
    pub migrations: Vec<String>,
    /// Existing tables, which only gain missing parts.
    pub existing: Vec<String>,
    /// What the target tables lack.
    pub steps: Vec<PlannedStep>,
}

/// One change of a target table; the JSON's shape only grows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PlannedStep {
    /// The source that needs it.
    pub source: String,
    /// What it does, in words.
    pub what: String,
    /// The statement.
    pub sql: String,
    /// Whether it may lose data.
    pub destructive: bool,
}

/// Who is told what was done; `()` does not listen.
pub trait Progress {
    /// The ledger is about to be migrated by this migration.
    fn migration(&self, name: &str);

    /// This was done to a table of the source.
    fn step(&self, source: &str, what: &str);
}

impl Progress for () {
    fn migration(&self, _: &str) {}

    fn step(&self, _: &str, _: &str) {}
}

impl Planned {
    /// Whether the target is as the mapping needs it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.migrations.is_empty() && self.steps.is_empty()
    }
}

/// Finds what the target lacks; what may lose data only of the tables that are confirmed.
///
/// # Errors
/// When the target cannot be reached, or has a difference that only its owner can resolve.
pub async fn plan(config: &mut Config, confirmed: &[String]) -> Result<Planned> {
    named::tables(config, confirmed)?;
    let pool = wire::target(config).await?.pool().await?;
    let migrations = migrations::pending(&pool).await?;
    resolve_with_new_columns(config, &pool).await?;
    let mut planned = Planned { migrations, existing: Vec::new(), steps: Vec::new() };
    for (source, tables) in config.sources.iter().zip(to_plan(config, &pool).await?) {
        for table in ddl::existing(&pool, &tables).await? {
            if !planned.existing.contains(&table.name) {
                planned.existing.push(table.name);
            }
        }
        let mut steps = ddl::plan_confirmed(&pool, &tables, confirmed).await?;
        // A change that two sources need in their shared table is made once.
        steps.retain(|step| !planned.steps.iter().any(|planned| planned.sql == step.sql));
        planned.steps.extend(steps.into_iter().map(|step| PlannedStep {
            source: source.name.to_string(),
            what: step.what,
            sql: step.sql,
            destructive: step.kind == StepKind::Destructive,
        }));
    }
    Ok(planned)
}

/// Migrates the ledger, then creates and completes the target tables. Answers whether a table that was there
/// has changed: daemons that run know the tables as they were.
///
/// # Errors
/// As for [`plan`]; `Denied` if the role lacks a right.
pub async fn apply(
    config: &mut Config,
    confirmed: &[String],
    progress: &impl Progress,
) -> Result<bool> {
    named::tables(config, confirmed)?;
    let pool = wire::target(config).await?.pool().await?;
    for migration in migrations::pending(&pool).await? {
        progress.migration(&migration);
    }
    migrations::migrate(&pool).await?;
    resolve_with_new_columns(config, &pool).await?;
    let mut changed = false;
    for (source, tables) in config.sources.iter().zip(to_plan(config, &pool).await?) {
        let existing = ddl::existing(&pool, &tables).await?;
        let steps = ddl::plan_confirmed(&pool, &tables, confirmed).await?;
        // Running daemons compiled their mapping against the old tables.
        changed |= !existing.is_empty() && !steps.is_empty();
        ddl::apply(&pool, &steps).await?;
        for step in steps {
            progress.step(&source.name, &step.what);
        }
    }
    Ok(changed)
}

/// The grants that the daemon needs, and those of a role that only reads where one is named.
///
/// # Errors
/// `Config` when a name cannot be one in Postgres.
pub fn grants(config: &Config, role: &str, query_role: Option<&str>) -> Result<String> {
    let tables = wire::tables(config);
    let mut text = grants::grants(&tables, role)?;
    if let Some(role) = query_role {
        text.push_str(&grants::query_grants(&tables, role)?);
    }
    Ok(text)
}
