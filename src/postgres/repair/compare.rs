//! Holds a target table against the rows that it should have: every column, typed, by Postgres
//! itself.

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};

use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::model::Cells;
use crate::postgres::sql::ident::{cast_type, quoted, quoted_table};
use crate::postgres::sqlstate;
use crate::postgres::tables::own_rows::own_rows;

/// Rows sent in one statement.
const CHUNK_ROWS: usize = 2_000;
/// Keys shown of each kind of difference.
const EXAMPLES_MAX: usize = 5;

/// How a table differs from the rows that it should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Rows that are as they should be.
    pub matching: u64,
    /// Rows that are missing, or that differ in some column.
    pub missing: u64,
    /// Rows that should not be there, or that differ in some column.
    pub unexpected: u64,
    /// The keys of some of them.
    pub examples: Vec<String>,
}

/// Compares `tables[at]` with `rows` as it stands in one snapshot. A row that differs counts as both
/// missing and unexpected. What a soft delete left behind is of no item, and neither is a history:
/// both are left out.
///
/// # Errors
/// When the database does not answer, or the table is not what the mapping says.
pub async fn compare(
    pool: &PgPool,
    tables: &[TableSpec],
    at: usize,
    rows: &[Cells],
) -> Result<Differences> {
    let failed = |error| sqlstate::error("compare a table", error);
    let Some(table) = tables.get(at).filter(|table| table.history_of.is_none()) else {
        return Ok(Differences::default());
    };
    let target = quoted_table(&table.name)?;
    let live = live(tables, table)?;
    let mut columns = Vec::new();
    let mut values = Vec::new();
    for (number, column) in table.columns.iter().enumerate() {
        columns.push(quoted(&column.name)?);
        let cast = cast_type(&column.column_type)?;
        values.push(format!("unnest(${}::text[])::{cast}", number + 1));
    }
    let (names, values) = (columns.join(", "), values.join(", "));
    let keys = columns[..table.key_columns].join(", ");
    let mut transaction = pool.begin().await.map_err(failed)?;
    for setup in [
        "set transaction isolation level repeatable read".to_owned(),
        format!(
            "create temp table dynaurora_expected on commit drop as \
             select {names} from {target} with no data"
        ),
    ] {
        sqlx::query(AssertSqlSafe(setup)).execute(&mut *transaction).await.map_err(failed)?;
    }
    let insert = format!("insert into dynaurora_expected ({names}) select {values}");
    for chunk in rows.chunks(CHUNK_ROWS) {
        let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
        for column in 0..columns.len() {
            query = query.bind(chunk.iter().map(|row| row.cell(column)).collect::<Vec<_>>());
        }
        query.execute(&mut *transaction).await.map_err(failed)?;
    }
    let mut differences = Differences::default();
    for (kind, one, other) in
        [("missing", "dynaurora_expected", &*live), ("unexpected", &*live, "dynaurora_expected")]
    {
        let sql = format!(
            "select count(*) over (), concat_ws(' ', {keys}) \
             from (select {names} from {one} except all select {names} from {other}) as differing \
             limit {EXAMPLES_MAX}"
        );
        let found: Vec<PgRow> =
            sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *transaction).await.map_err(failed)?;
        let mut count = 0;
        for row in found {
            count = row.try_get::<i64, _>(0).map_err(failed)?;
            let key: String = row.try_get(1).map_err(failed)?;
            differences.examples.push(format!("{kind} in {}: {key}", table.name));
        }
        let count = u64::try_from(count).unwrap_or(0);
        match kind {
            "missing" => differences.missing = count,
            _ => differences.unexpected = count,
        }
    }
    differences.matching = (rows.len() as u64).saturating_sub(differences.missing);
    transaction.rollback().await.map_err(failed)?;
    Ok(differences)
}

/// The rows of a table whose items are there.
fn live(tables: &[TableSpec], table: &TableSpec) -> Result<String> {
    let target = quoted_table(&table.name)?;
    let mark = |table: &TableSpec| -> Result<Option<String>> {
        let column = table.deleted_at.and_then(|at| table.columns.get(at));
        column.map(|column| quoted(&column.name)).transpose()
    };
    if let Some(mark) = mark(table)? {
        let own = own_rows(table, "t", " and ")?;
        return Ok(format!("(select * from {target} t where t.{mark} is null{own}) as live"));
    }
    let all = format!("(select * from {target} t{}) as live", own_rows(table, "t", " where ")?);
    let parent = table.parent.and_then(|parent| tables.get(usize::from(parent.table.0)));
    let Some(parent) = parent else { return Ok(all) };
    let Some(mark) = mark(parent)? else { return Ok(all) };
    let mut same = Vec::new();
    for (own, key) in table.columns.iter().zip(&parent.columns).take(parent.key_columns) {
        same.push(format!("p.{} = c.{}", quoted(&key.name)?, quoted(&own.name)?));
    }
    Ok(format!(
        "(select c.* from {target} c where not exists (select from {} p where {} \
         and p.{mark} is not null){}) as live",
        quoted_table(&parent.name)?,
        same.join(" and "),
        own_rows(table, "c", " and ")?,
    ))
}
