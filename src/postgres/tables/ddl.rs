//! The target's tables: plans and makes what is missing; never drops, narrows or renames anything.
//!
//! A table may be the user's own: it only needs the mapping's columns, a unique index on the key, and the
//! version column, or gets them.

use sqlx::{AssertSqlSafe, PgPool};

use super::catalogue::{self, ExistingTable};
use super::extras;
use super::steps::Plan;
pub use super::steps::{Step, StepKind};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{ColumnSpec, ColumnType, ParentSpec, TableSpec, VERSION_COLUMN};
use crate::postgres::session::{Tx, begun_with, in_transaction};
use crate::postgres::sql::columns::{self, key_columns};
use crate::postgres::sql::ident::{declared_type, quoted, quoted_table};
use crate::postgres::sqlstate;

/// The free space in pages of a new table. With it every update of a full table is HOT: no dead index
/// entries, 10 % less WAL (measured).
const FILLFACTOR: u32 = 90;

const PLAN: &str = "plan the target's tables";

/// The statements that the target needs, in order; none if it fits.
///
/// # Errors
/// `Schema` if the target has differences that only its owner can resolve; it names all of them.
pub async fn plan(pool: &PgPool, tables: &[TableSpec]) -> Result<Vec<Step>> {
    in_transaction(pool, PLAN, async |tx| planned(tx, tables, &[]).await).await
}

/// The same for an operator: includes destructive statements for the named tables, and moves values out of
/// rest columns, for which it reads whole tables.
///
/// # Errors
/// As for [`plan`].
pub async fn plan_confirmed(
    pool: &PgPool,
    tables: &[TableSpec],
    confirmed: &[String],
) -> Result<Vec<Step>> {
    in_transaction(pool, PLAN, async |tx| {
        let mut steps = planned(tx, tables, confirmed).await?;
        for table in tables {
            steps.extend(extras::rows_of_rest(tx, table).await?);
        }
        Ok(steps)
    })
    .await
}

async fn planned(tx: &mut Tx, tables: &[TableSpec], confirmed: &[String]) -> Result<Vec<Step>> {
    let mut plan = Plan::default();
    for table in tables {
        plan.confirmed = confirmed.contains(&table.name.to_string());
        plan.schema(tx, table).await?;
        plan.types(tx, table).await?;
        let existing = catalogue::table(tx, &table.name).await?;
        match &existing {
            None => plan.create(table)?,
            Some(existing) => plan.adapt(tx, table, existing).await?,
        }
        plan.extras(table, existing.as_ref())?;
    }
    if plan.problems.is_empty() {
        return Ok(plan.steps);
    }
    Err(Error::new(ErrorKind::Schema, plan.problems.join("; ")).with_hint(plan.remedies.join("; ")))
}

/// Runs the steps in one transaction.
///
/// # Errors
/// The error of Postgres; then nothing was changed.
pub async fn apply(pool: &PgPool, steps: &[Step]) -> Result<()> {
    // While a step waits for a lock, every later query of the table waits behind it.
    const BEGIN: &str = "begin; set local lock_timeout = '5s'";
    let run = |step: &Step| AssertSqlSafe(step.sql.clone());
    begun_with(pool, BEGIN, "change the target's tables", async |tx| {
        for step in steps.iter().filter(|step| step.kind != StepKind::Rows) {
            tx.run(run(step), step.what.clone()).await?;
        }
        Ok(())
    })
    .await?;
    for step in steps.iter().filter(|step| step.kind == StepKind::Rows) {
        loop {
            let done = sqlx::raw_sql(run(step)).execute(pool).await;
            let done = done.map_err(|error| sqlstate::error(step.what.as_str(), error))?;
            if done.rows_affected() == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Those of these tables that exist, with their columns' types in the mapping's terms.
///
/// # Errors
/// When the database does not answer, or a name does not belong to a table.
pub async fn existing(pool: &PgPool, tables: &[TableSpec]) -> Result<Vec<Existing>> {
    in_transaction(pool, "read the target's tables", async |tx| {
        let mut found = Vec::new();
        for table in tables {
            if let Some(existing) = catalogue::table(tx, &table.name).await? {
                let columns = existing.columns.into_iter().map(|column| Column {
                    name: column.name,
                    column_type: column.column_type,
                    comment: column.comment,
                });
                found.push(Existing { name: table.name.to_string(), columns: columns.collect() });
            }
        }
        Ok(found)
    })
    .await
}

/// An existing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Its name in the mapping.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// An existing column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, if the mapping has such a type.
    pub column_type: Option<ColumnType>,
    /// Its comment.
    pub comment: Option<String>,
}

impl Plan {
    async fn schema(&mut self, tx: &mut Tx, table: &TableSpec) -> Result<()> {
        if let Some(schema) = &table.name.schema
            && !catalogue::has_schema(tx, schema).await?
        {
            let sql = format!("create schema {}", quoted(schema)?);
            self.step(StepKind::Schema, format!("create the schema {schema}"), sql);
        }
        Ok(())
    }

    /// The user must create their own types.
    async fn types(&mut self, tx: &mut Tx, table: &TableSpec) -> Result<()> {
        for column in &table.columns {
            if catalogue::formatted(tx, &column.column_type).await?.is_none() {
                let sql_type = declared_type(&column.column_type)?;
                self.problem(
                    format!("{}.{} has the unknown type {sql_type}", table.name, column.name),
                    format!("create the type {sql_type}"),
                );
            }
        }
        Ok(())
    }

    fn create(&mut self, table: &TableSpec) -> Result<()> {
        let mut lines = Vec::with_capacity(table.columns.len() + 2);
        for (at, column) in table.columns.iter().enumerate() {
            let not_null = if column.not_null || at < table.key_columns { " not null" } else { "" };
            lines.push(format!("{}{not_null}", declared(column)?));
        }
        if has_version(table) {
            lines.push(declared_version()?);
        }
        lines.push(format!("primary key ({})", list(key_columns(table))?));
        let sql = format!(
            "create table {} (\n    {}\n) with (fillfactor = {FILLFACTOR})",
            quoted_table(&table.name)?,
            lines.join(",\n    "),
        );
        self.step(StepKind::Schema, format!("create the table {}", table.name), sql);
        match table.parent {
            Some(parent) if table.key_columns < parent.key_columns => {
                self.index_parent_key(table, parent)
            }
            _ => Ok(()),
        }
    }

    async fn adapt(
        &mut self,
        tx: &mut Tx,
        table: &TableSpec,
        existing: &ExistingTable,
    ) -> Result<()> {
        let name = &table.name;
        for column in &table.columns {
            self.adapt_column(tx, table, existing, column).await?;
        }
        if has_version(table) {
            self.adapt_version(table, existing)?;
        }
        for column in existing.columns.iter().filter(|column| column.demanded) {
            let known = table.columns.iter().any(|own| own.name == column.name);
            if !known && column.name != VERSION_COLUMN {
                let place = format!("{name}.{}", column.name);
                let sql = format!(
                    "alter table {} alter column {} drop not null",
                    quoted_table(name)?,
                    quoted(&column.name)?
                );
                let problem = format!("{place} is NOT NULL without a default and not mapped");
                self.destructive(table, problem, format!("let {place} be NULL"), sql);
            }
        }
        let keys = names(key_columns(table));
        if !existing.is_unique(&keys) {
            self.problem(
                format!("{name} has no unique index on ({})", keys.join(", ")),
                format!(
                    "alter table {} add primary key ({})",
                    quoted_table(name)?,
                    list(key_columns(table))?
                ),
            );
        }
        self.tell_folding_keys(table, existing)?;
        if let Some(parent) = table.parent
            && !existing.is_indexed(&names(parent_columns(table, parent)))
        {
            self.index_parent_key(table, parent)?;
        }
        Ok(())
    }

    /// Two items need two rows: a key column that treats their keys as equal lets each overwrite the other.
    fn tell_folding_keys(&mut self, table: &TableSpec, existing: &ExistingTable) -> Result<()> {
        for key in key_columns(table) {
            if existing.column(&key.name).is_some_and(|own| own.folds) {
                let (name, column) = (quoted_table(&table.name)?, quoted(&key.name)?);
                self.problem(
                    format!("{}.{} treats different texts as one key", table.name, key.name),
                    format!("alter table {name} alter column {column} type text collate \"C\""),
                );
            }
        }
        Ok(())
    }

    async fn adapt_column(
        &mut self,
        tx: &mut Tx,
        table: &TableSpec,
        existing: &ExistingTable,
        column: &ColumnSpec,
    ) -> Result<()> {
        let (place, quoted_name) = (&table.name, quoted_table(&table.name)?);
        let Some(own) = existing.column(&column.name) else {
            // Existing rows have no value for it, so NOT NULL waits for a backfill.
            let sql = format!("alter table {quoted_name} add column {}", declared(column)?);
            self.step(StepKind::Schema, format!("add the column {} to {place}", column.name), sql);
            return Ok(());
        };
        if own.generated {
            self.problem(
                format!("{place}.{} is generated by the database", column.name),
                format!("leave {} out of the mapping", column.name),
            );
        }
        let Some(wanted) = catalogue::formatted(tx, &column.column_type).await? else {
            return Ok(());
        };
        if !catalogue::takes(&own.type_text, &column.column_type, &wanted) {
            let own_name = quoted(&column.name)?;
            let problem =
                format!("{place}.{} is {}, the mapping says {wanted}", column.name, own.type_text);
            let done = format!(
                "change the type of {place}.{} from {} to {wanted}",
                column.name, own.type_text
            );
            let sql = format!(
                "alter table {quoted_name} alter column {own_name} type {wanted} \
                 using {own_name}::text::{wanted}"
            );
            self.destructive(table, problem, done, sql);
        }
        Ok(())
    }

    fn adapt_version(&mut self, table: &TableSpec, existing: &ExistingTable) -> Result<()> {
        match existing.column(VERSION_COLUMN) {
            None => {
                let quoted_name = quoted_table(&table.name)?;
                let sql = format!("alter table {quoted_name} add column {}", declared_version()?);
                self.step(
                    StepKind::Schema,
                    format!("add the version column to {}", table.name),
                    sql,
                );
            }
            Some(own) if own.type_text != "numeric" => self.problem(
                format!("{}.{VERSION_COLUMN} is {}, not numeric", table.name, own.type_text),
                format!("rename that column: {VERSION_COLUMN} is dynaurora's"),
            ),
            Some(_) => {}
        }
        Ok(())
    }

    fn index_parent_key(&mut self, table: &TableSpec, parent: ParentSpec) -> Result<()> {
        let columns = list(parent_columns(table, parent))?;
        let sql = format!("create index on {} ({columns})", quoted_table(&table.name)?);
        self.step(StepKind::Schema, format!("index the parent key of {}", table.name), sql);
        Ok(())
    }
}

/// Child rows follow their parent's version, and a history has the version in its key.
fn has_version(table: &TableSpec) -> bool {
    table.parent.is_none() && table.history_of.is_none()
}

fn declared(column: &ColumnSpec) -> Result<String> {
    Ok(format!("{} {}", quoted(&column.name)?, declared_type(&column.column_type)?))
}

fn declared_version() -> Result<String> {
    Ok(format!("{} numeric not null default 0", quoted(VERSION_COLUMN)?))
}

fn parent_columns(table: &TableSpec, parent: ParentSpec) -> &[ColumnSpec] {
    table.columns.get(..parent.key_columns).unwrap_or_default()
}

fn names(columns: &[ColumnSpec]) -> Vec<&str> {
    columns.iter().map(|column| column.name.as_str()).collect()
}

fn list(columns: &[ColumnSpec]) -> Result<String> {
    Ok(columns::names(columns)?.join(", "))
}
