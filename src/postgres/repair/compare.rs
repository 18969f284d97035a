//! Compares a target table with its expected rows: every column, with types, in Postgres itself.

use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row};

use super::histories;
use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::model::Cells;
use crate::postgres::session::begun_with;
use crate::postgres::sql::columns::{key_columns, mark, names, paired, parent_key, unnested};
use crate::postgres::sql::encode::texts;
use crate::postgres::sql::ident::quoted_table;
use crate::postgres::tables::history;
use crate::postgres::tables::own_rows::own_rows;

/// Rows per statement.
const CHUNK_ROWS: usize = 2_000;
/// Keys shown for each kind of difference.
const EXAMPLES_MAX: usize = 5;

/// How a comparison begins: all of its statements see the same.
const SNAPSHOT: &str = "begin isolation level repeatable read";

/// How a table differs from its expected rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Rows that are correct.
    pub matching: u64,
    /// Rows that are missing, or that differ in some column.
    pub missing: u64,
    /// Rows that are extra, or that differ in some column.
    pub unexpected: u64,
    /// The keys of some of them.
    pub examples: Vec<String>,
}

/// Compares `tables[at]` with `rows` in one snapshot. A row that differs counts as both missing and
/// unexpected. Rows kept by a soft delete have no item, so they are left out. A history is compared with its
/// table: the open versions with its rows, and the times with each other.
///
/// # Errors
/// When the database does not answer, or the table does not fit the mapping.
pub async fn compare(
    pool: &PgPool,
    tables: &[TableSpec],
    at: usize,
    rows: &[Cells],
) -> Result<Differences> {
    let Some(table) = tables.get(at) else { return Ok(Differences::default()) };
    if table.history_of.is_some() {
        // Where rows name their items, one key can have several open versions, of rows that wait.
        return match table.names_items {
            true => Ok(Differences::default()),
            false => compare_history(pool, tables, at).await,
        };
    }
    let target = quoted_table(&table.name)?;
    let live = live(tables, table)?;
    let columns = table.columns.len();
    let (names, keys) = (names(&table.columns)?.join(", "), names(key_columns(table))?.join(", "));
    let values = unnested(&table.columns, 1)?.join(", ");
    let create = format!(
        "create temp table dynaurora_expected on commit drop as \
         select {names} from {target} with no data"
    );
    let insert = format!("insert into dynaurora_expected ({names}) select {values}");
    begun_with(pool, SNAPSHOT, "compare a table", async |tx| {
        tx.undo();
        tx.query(AssertSqlSafe(create)).execute().await?;
        for chunk in rows.chunks(CHUNK_ROWS) {
            let mut query = tx.query(AssertSqlSafe(insert.clone()));
            for column in 0..columns {
                query = query.bind(texts(chunk, move |row| row.cell(column)));
            }
            query.execute().await?;
        }
        let mut differences = Differences::default();
        for (kind, one, other) in [
            ("missing", "dynaurora_expected", &*live),
            ("unexpected", &*live, "dynaurora_expected"),
        ] {
            let sql = format!(
                "select count(*) over (), concat_ws(' ', {keys}) from \
                 (select {names} from {one} except all select {names} from {other}) as differing \
                 limit {EXAMPLES_MAX}"
            );
            let found = tx.query(AssertSqlSafe(sql));
            let found = found.all(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get(1)?))).await?;
            let count = found.last().map_or(0, |(count, _)| count.unsigned_abs());
            let example = |(_, key): (i64, String)| format!("{kind} in {}: {key}", table.name);
            differences.examples.extend(found.into_iter().map(example));
            match kind {
                "missing" => differences.missing = count,
                _ => differences.unexpected = count,
            }
        }
        differences.matching = (rows.len() as u64).saturating_sub(differences.missing);
        Ok(differences)
    })
    .await
}

/// What a history breaks of its promise.
async fn compare_history(pool: &PgPool, tables: &[TableSpec], at: usize) -> Result<Differences> {
    let history = history::histories(tables, at)?;
    let broken = AssertSqlSafe(histories::broken(&history)?);
    begun_with(pool, SNAPSHOT, "compare a history", async |tx| {
        tx.undo();
        let mut found = Differences::default();
        let rows = tx.query(broken).all(|row| {
            Ok((row.try_get::<String, _>(0)?, row.try_get::<i64, _>(1)?, row.try_get(2)?))
        });
        for (kind, count, example) in rows.await? {
            let example: Option<String> = example;
            let place = if kind == "missing" { &mut found.missing } else { &mut found.unexpected };
            *place += count.unsigned_abs();
            let label = history.label();
            found.examples.extend(example.map(|key| format!("{kind} in {label}: {key}")));
        }
        Ok(found)
    })
    .await
}

/// The rows of a table whose items exist.
fn live(tables: &[TableSpec], table: &TableSpec) -> Result<String> {
    let target = quoted_table(&table.name)?;
    if let Some(mark) = mark(table)? {
        let own = own_rows(table, "t", " and ")?;
        return Ok(format!("(select * from {target} t where t.{mark} is null{own}) as live"));
    }
    let all = format!("(select * from {target} t{}) as live", own_rows(table, "t", " where ")?);
    let parent = table.parent.and_then(|parent| tables.get(usize::from(parent.table.0)));
    let Some(parent) = parent else { return Ok(all) };
    let Some(mark) = mark(parent)? else { return Ok(all) };
    let same = paired("p", key_columns(parent), "c", parent_key(table, parent))?;
    Ok(format!(
        "(select c.* from {target} c where not exists (select from {} p where {} \
         and p.{mark} is not null){}) as live",
        quoted_table(&parent.name)?,
        same,
        own_rows(table, "c", " and ")?,
    ))
}
