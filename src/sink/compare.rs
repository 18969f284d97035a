//! Holds a target table against the rows that it should have: every column, typed, by Postgres
//! itself.

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::ident::{cast_type, quoted, quoted_table};
use super::sqlstate;
use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::model::Cells;

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

/// Compares the table with `rows` as it stands in one snapshot. A row that differs counts as both
/// missing and unexpected.
///
/// # Errors
/// When the database does not answer, or the table is not what the mapping says.
pub async fn compare(pool: &PgPool, table: &TableSpec, rows: &[Cells]) -> Result<Differences> {
    let failed = |error| sqlstate::error("compare a table", error);
    let target = quoted_table(&table.name)?;
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
    for (kind, one, other) in [
        ("missing", "dynaurora_expected", &*target),
        ("unexpected", &*target, "dynaurora_expected"),
    ] {
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
