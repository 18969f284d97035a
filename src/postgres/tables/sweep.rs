//! The sweep at the end of a load: rows that the load did not find are gone from the source.
//!
//! A row that was found, or changed since, has a version of the load's generation. Only rows that
//! dynaurora wrote are swept: a row that somebody else put into the table has version 0. Where the
//! mapping keeps the rows of deleted items, they are marked instead of deleted. In a table that
//! several sources share, each sweeps its own rows: generations of two sources cannot be compared.
//!
//! A sweep is rare, so none of its statements stays prepared, behind a pooler or not.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::claims;
use super::own_rows::own_rows;
use crate::engine::ports::{Stale, Sweep, Swept};
use crate::error::Result;
use crate::mapping::spec::{HISTORY_COLUMNS, TableSpec, VERSION_COLUMN};
use crate::model::{SequenceNumber, Version};
use crate::postgres::sql::ident::{cast_type, quoted, quoted_table};
use crate::postgres::sqlstate;

/// Rows deleted in one transaction: some batches' worth. Fewer would hold locks for less time, but each step
/// looks for its rows from the table's beginning.
const ROWS_MAX: i64 = 5_000;

/// Counts the rows that a sweep of these tables would delete, and all that dynaurora wrote.
pub(crate) async fn stale(
    connection: &mut PgConnection,
    tables: &[TableSpec],
    sweep: &Sweep,
) -> Result<Stale> {
    let mut stale = Stale::default();
    for table in swept(tables, sweep) {
        let version = quoted(VERSION_COLUMN)?;
        let sql = format!(
            "select count(*) filter (where {version} < $1::numeric), count(*) from {} t \
             where {version} > 0{}{}",
            quoted_table(&table.name)?,
            live(table)?,
            own_rows(table, "t", " and ")?,
        );
        let failed = |error| sqlstate::error(format!("count the rows of {}", table.name), error);
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(first_of(sweep).to_string())
            .persistent(false)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        stale.rows += row.try_get::<i64, _>(0).map_err(failed)?.unsigned_abs();
        stale.of += row.try_get::<i64, _>(1).map_err(failed)?.unsigned_abs();
    }
    Ok(stale)
}

/// Deletes some of them, if the load is still this one and no dead letter has come meanwhile: one that comes
/// later waits, as [`claims`] says.
pub(crate) async fn step(
    connection: &mut PgConnection,
    tables: &[TableSpec],
    sweep: &Sweep,
) -> Result<Swept> {
    let current = sqlx::query(
        "select from dynaurora.sources where source = $1 and generation = $2 and backfilling \
         for key share",
    )
    .bind(&*sweep.source)
    .bind(i64::from(sweep.generation))
    .persistent(false)
    .fetch_optional(&mut *connection)
    .await
    .map_err(|error| sqlstate::error("look whether the load is still the same", error))?;
    if current.is_none() {
        return Ok(Swept::Over);
    }
    claims::alone(connection, &sweep.source).await?;
    let others: bool = sqlx::query_scalar(
        "select exists (select from dynaurora.dead_letters \
         where source = $1 and state = 'open' and id <> all ($2))",
    )
    .bind(&*sweep.source)
    .bind(&sweep.letters)
    .persistent(false)
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| sqlstate::error("look for dead letters that came meanwhile", error))?;
    if others {
        return Ok(Swept::Over);
    }
    for table in swept(tables, sweep) {
        let deleted = delete(connection, tables, table, sweep).await?;
        if deleted > 0 {
            return Ok(Swept::Rows(deleted));
        }
    }
    Ok(Swept::Done)
}

/// The version is looked at again under the row's lock: the statement waits for a writer of the row, and then
/// sees what it wrote.
async fn delete(
    connection: &mut PgConnection,
    tables: &[TableSpec],
    table: &TableSpec,
    sweep: &Sweep,
) -> Result<u64> {
    let (name, version) = (quoted_table(&table.name)?, quoted(VERSION_COLUMN)?);
    let keys = table.columns.get(..table.key_columns).unwrap_or_default();
    let names: Vec<String> = keys.iter().map(|key| quoted(&key.name)).collect::<Result<_>>()?;
    let at = tables.iter().position(|other| std::ptr::eq(other, table));
    let spared: Vec<_> =
        sweep.spared.iter().filter(|(of, _)| Some(usize::from(of.0)) == at).collect();
    let mut spare = Vec::with_capacity(keys.len());
    for (number, key) in (3..).zip(keys) {
        spare.push(format!("unnest(${number}::text[])::{}", cast_type(&key.column_type)?));
    }
    let qualified =
        |of: &str| names.iter().map(|name| format!("{of}.{name}")).collect::<Vec<_>>().join(", ");
    let mut sql = format!(
        "with dynaurora_stale as (select {own} from {name} t \
         where t.{version} > 0 and t.{version} < $1::numeric{}{} and ({own}) not in (select {}) \
         order by {own} limit $2 for update), \
         dynaurora_gone as ({} where ({own}) = ({}) returning {own})",
        live(table)?,
        own_rows(table, "t", " and ")?,
        spare.join(", "),
        match mark(table)? {
            None => format!("delete from {name} t using dynaurora_stale d"),
            Some(mark) => format!(
                "update {name} t set {mark} = now(), {version} = $1::numeric \
                 from dynaurora_stale d"
            ),
        },
        qualified("d"),
        own = qualified("t"),
    );
    for history in tables.iter().filter(|own| own.history_of.map(|of| usize::from(of.0)) == at) {
        sql.push_str(&ended(history, &names)?);
    }
    // What hangs on a row that is only marked stays with it.
    let children = tables.iter().enumerate().filter(|_| table.deleted_at.is_none());
    for (number, child) in children {
        let Some(parent) = child.parent.filter(|parent| Some(usize::from(parent.table.0)) == at)
        else {
            continue;
        };
        let hangs_on = child.columns.get(..parent.key_columns).unwrap_or_default();
        let mut pairs = Vec::with_capacity(keys.len());
        for (own, parent) in hangs_on.iter().zip(&names) {
            pairs.push(format!("c.{} = g.{parent}", quoted(&own.name)?));
        }
        sql.push_str(&format!(
            ", dynaurora_child_{number} as (delete from {} c using dynaurora_gone g where {})",
            quoted_table(&child.name)?,
            pairs.join(" and "),
        ));
    }
    sql.push_str(" select count(*) from dynaurora_gone");
    let mut query =
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(first_of(sweep).to_string()).bind(ROWS_MAX);
    for cell in 0..keys.len() {
        let column: Vec<Option<&str>> = spared.iter().map(|(_, cells)| cells.cell(cell)).collect();
        query = query.bind(column);
    }
    let deleted: i64 = query.persistent(false).fetch_one(connection).await.map_err(|error| {
        sqlstate::error(format!("delete rows of {} that a load did not find", table.name), error)
    })?;
    Ok(deleted.unsigned_abs())
}

/// The quoted column that marks a row as deleted, where the table has one.
fn mark(table: &TableSpec) -> Result<Option<String>> {
    let column = table.deleted_at.and_then(|at| table.columns.get(at));
    column.map(|column| quoted(&column.name)).transpose()
}

/// Leaves out rows that are marked already.
fn live(table: &TableSpec) -> Result<String> {
    Ok(mark(table)?.map_or(String::new(), |mark| format!(" and t.{mark} is null")))
}

/// The history of a swept row ends when it is swept: nobody knows when its item went.
fn ended(history: &TableSpec, keys: &[String]) -> Result<String> {
    let table = quoted_table(&history.name)?;
    let version = quoted(VERSION_COLUMN)?;
    let [op, valid_from, valid_to] = HISTORY_COLUMNS.map(quoted);
    let (op, valid_from, valid_to) = (op?, valid_from?, valid_to?);
    let of = |of: &str| keys.iter().map(|key| format!("{of}.{key}")).collect::<Vec<_>>().join(", ");
    Ok(format!(
        ", dynaurora_ended as (update {table} h set {valid_to} = greatest(h.{valid_from}, now()) \
         from dynaurora_gone g where ({}) = ({}) and h.{valid_to} is null returning {}), \
         dynaurora_end as (insert into {table} ({}, {version}, {op}, {valid_from}, {valid_to}) \
         select {}, $1::numeric, 'remove', now(), now() from dynaurora_ended e \
         on conflict do nothing)",
        of("h"),
        of("g"),
        of("h"),
        keys.join(", "),
        of("e"),
    ))
}

/// The least version of the load's generation.
fn first_of(sweep: &Sweep) -> Version {
    Version { generation: sweep.generation, sequence: SequenceNumber::ZERO }
}

fn swept<'a>(tables: &'a [TableSpec], sweep: &'a Sweep) -> impl Iterator<Item = &'a TableSpec> {
    sweep.tables.iter().filter_map(|at| tables.get(usize::from(at.0)))
}
