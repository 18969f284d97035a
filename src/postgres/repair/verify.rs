//! Reads target rows beside what the mapping says they should be: by primary key, many at a time, every
//! column compared typed by Postgres itself. Nothing is written.
//!
//! A question names rows of one entity's table: a row that should be there, with its children, or a key that
//! should not. The answers come back in the same order. The other direction pages through a table by its key.

use std::sync::Arc;

use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::verify_sql as sql;
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::TableSpec;
use crate::model::{Cells, RowAction, RowOp, TableIndex};
use crate::ops::ports::{Cell, Comparison, Difference, Fault, MetRow, RowsPage};
use crate::postgres::session::Pools;
use crate::postgres::sql::encode::{printed, texts};
use crate::postgres::sqlstate;

/// Reads one source's target tables.
#[derive(Debug)]
pub struct TargetReader {
    pools: Arc<Pools>,
    tables: Vec<TableSpec>,
}

impl TargetReader {
    /// A reader of the tables of one source's mapping.
    #[must_use]
    pub fn new(pools: Arc<Pools>, tables: &[TableSpec]) -> Self {
        Self { pools, tables: tables.to_vec() }
    }

    /// Compares rows of one table, and what hangs on them. An upsert should be there as it stands; of a
    /// delete, neither the row nor any child should be.
    ///
    /// # Errors
    /// When the database does not answer, or the tables are not what the mapping says.
    pub async fn compare(&self, table: TableIndex, rows: &[RowOp]) -> Result<Vec<Comparison>> {
        let pool = self.pools.pool().await?;
        let spec = self.spec(table)?;
        let mut comparisons = vec![Comparison::default(); rows.len()];
        if rows.is_empty() {
            return Ok(comparisons);
        }
        let mut connection = acquire(&pool).await?;
        self.compare_own(&mut connection, spec, (table, rows), &mut comparisons).await?;
        let children = self.tables.iter().enumerate();
        for (number, child) in children.filter(|(_, own)| hangs_on(own, table)) {
            let number = TableIndex(u16::try_from(number).unwrap_or(u16::MAX));
            self.compare_child(&mut connection, (number, child), (spec, rows), &mut comparisons)
                .await?;
        }
        Ok(comparisons)
    }

    async fn compare_own(
        &self,
        connection: &mut PgConnection,
        spec: &TableSpec,
        (table, rows): (TableIndex, &[RowOp]),
        comparisons: &mut [Comparison],
    ) -> Result<()> {
        let what = format!("compare rows of {}", spec.name);
        let failed = |error| sqlstate::error(what.as_str(), error);
        let statement = AssertSqlSafe(sql::compare_own(spec)?);
        let mut query = sqlx::query(statement).persistent(false);
        for column in 0..spec.columns.len() {
            query = query.bind(texts(rows, move |row| whole_cell(row, column, spec)));
        }
        let found = query.fetch_all(connection).await.map_err(failed)?;
        let mut present = vec![false; rows.len()];
        for row in &found {
            let at = place(row, rows.len()).map_err(failed)?;
            let (Some(op), Some(comparison)) = (rows.get(at), comparisons.get_mut(at)) else {
                continue;
            };
            present[at] = true;
            comparison.version = Some(row.try_get(1).map_err(failed)?);
            comparison.key = row.try_get(2).map_err(failed)?;
            let fault = match op.action {
                RowAction::Delete | RowAction::SoftDelete => {
                    let live: bool = row.try_get(5).map_err(failed)?;
                    live.then_some(Fault::Unexpected)
                }
                RowAction::Record => None,
                RowAction::Upsert => differing(row, 3, &op.cells, spec).map_err(failed)?,
            };
            let key = comparison.key.clone();
            comparison.differences.extend(fault.map(|fault| Difference { table, key, fault }));
        }
        for (at, op) in rows.iter().enumerate() {
            if !present[at] && op.action == RowAction::Upsert {
                let key = key_texts(&op.cells, spec.key_columns);
                comparisons[at].differences.push(Difference { table, key, fault: Fault::Missing });
            }
        }
        Ok(())
    }

    async fn compare_child(
        &self,
        connection: &mut PgConnection,
        (table, child): (TableIndex, &TableSpec),
        (parent, rows): (&TableSpec, &[RowOp]),
        comparisons: &mut [Comparison],
    ) -> Result<()> {
        let what = format!("compare rows of {}", child.name);
        let failed = |error| sqlstate::error(what.as_str(), error);
        let wanted: Vec<(usize, &Cells)> = (rows.iter().enumerate())
            .flat_map(|(at, row)| row.children.iter().map(move |(table, cells)| (at, table, cells)))
            .filter(|(_, own, _)| **own == table)
            .map(|(at, _, cells)| (at, cells))
            .collect();
        let statement = AssertSqlSafe(sql::compare_children(parent, child)?);
        let mut query = sqlx::query(statement).persistent(false);
        for column in 0..parent.key_columns {
            query = query.bind(texts(rows, move |row| row.cells.cell(column)));
        }
        query = query.bind(printed(&wanted, |(at, _)| at + 1));
        for column in 0..child.columns.len() {
            query = query.bind(texts(&wanted, move |(_, cells)| cells.cell(column)));
        }
        let found = query.fetch_all(connection).await.map_err(failed)?;
        for row in &found {
            let at = place(row, rows.len()).map_err(failed)?;
            let number: Option<i64> = row.try_get(1).map_err(failed)?;
            let there: Option<Vec<String>> = row.try_get(2).map_err(failed)?;
            let number = number.and_then(|number| usize::try_from(number - 1).ok());
            let expected = number.and_then(|number| wanted.get(number)).map(|(_, cells)| *cells);
            let (key, fault) = match (there, expected) {
                (Some(key), None) => (key, Fault::Unexpected),
                (None, Some(cells)) => (key_texts(cells, child.key_columns), Fault::Missing),
                (Some(key), Some(cells)) => {
                    let Some(fault) = differing(row, 3, cells, child).map_err(failed)? else {
                        continue;
                    };
                    (key, fault)
                }
                (None, None) => continue,
            };
            if let Some(comparison) = comparisons.get_mut(at) {
                comparison.differences.push(Difference { table, key, fault });
            }
        }
        Ok(())
    }

    /// The next rows of a table by its primary key; of a child table only those whose parent is missing.
    /// With fewer than `limit` rows met, `None` follows as the place to go on from.
    ///
    /// # Errors
    /// When the database does not answer, or the table is not what the mapping says.
    pub async fn page(
        &self,
        table: TableIndex,
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<RowsPage> {
        let pool = self.pools.pool().await?;
        let spec = self.spec(table)?;
        let what = format!("page through {}", spec.name);
        let failed = |error| sqlstate::error(what.as_str(), error);
        let parent = match spec.parent {
            Some(parent) => Some(self.spec(parent.table)?),
            None => None,
        };
        let statement = AssertSqlSafe(sql::page(spec, parent, after.is_some())?);
        let mut query = sqlx::query(statement).persistent(false).bind(i64::from(limit));
        for text in after.unwrap_or_default() {
            query = query.bind(text);
        }
        let met = query.fetch_all(&pool).await.map_err(failed)?;
        let mut rows = Vec::with_capacity(met.len());
        for row in &met {
            let has_parent: bool = row.try_get(2).map_err(failed)?;
            let (key, version) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            rows.push((MetRow { key, version }, has_parent));
        }
        let full = usize::try_from(limit).is_ok_and(|limit| rows.len() >= limit);
        let next = rows.last().filter(|_| full).map(|(row, _)| row.key.clone());
        rows.retain(|(_, has_parent)| parent.is_none() || !has_parent);
        Ok(RowsPage { rows: rows.into_iter().map(|(row, _)| row).collect(), next })
    }

    fn spec(&self, table: TableIndex) -> Result<&TableSpec> {
        self.tables
            .get(usize::from(table.0))
            .ok_or_else(|| Error::new(ErrorKind::Unknown, "a table's number is beyond the mapping"))
    }
}

/// Whether the table's rows hang on rows of that one.
pub(crate) fn hangs_on(table: &TableSpec, parent: TableIndex) -> bool {
    table.parent.is_some_and(|own| own.table == parent)
}

async fn acquire(pool: &PgPool) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>> {
    pool.acquire().await.map_err(|error| sqlstate::error("connect to the target", error))
}

/// The first cells of a text key.
fn key_texts(cells: &Cells, key_columns: usize) -> Vec<String> {
    cells.iter().take(key_columns).map(|cell| cell.unwrap_or_default().to_owned()).collect()
}

/// A delete has the key's cells only; the others count as NULL and are not looked at.
fn whole_cell<'a>(row: &'a RowOp, column: usize, spec: &TableSpec) -> Option<&'a str> {
    if row.action.ends_row() && column >= spec.key_columns {
        return None;
    }
    row.cells.cell(column)
}

/// The number of the row asked about; the statement counts from 1.
fn place(row: &PgRow, rows: usize) -> sqlx::Result<usize> {
    let ordinal: i64 = row.try_get(0)?;
    usize::try_from(ordinal - 1)
        .ok()
        .filter(|at| *at < rows)
        .ok_or_else(|| sqlx::Error::Decode("an answer to no question".into()))
}

/// Reads which columns differ, from two arrays over the columns that are no key: whether, and what is there.
fn differing(
    row: &PgRow,
    first: usize,
    expected: &Cells,
    spec: &TableSpec,
) -> sqlx::Result<Option<Fault>> {
    let differ: Vec<bool> = row.try_get(first)?;
    let found: Vec<Option<String>> = row.try_get(first + 1)?;
    let cells: Vec<Cell> = differ
        .iter()
        .zip(found)
        .enumerate()
        .filter(|(_, (differs, _))| **differs)
        .map(|(at, (_, found))| {
            let column = spec.key_columns + at;
            let expected = expected.iter().nth(column).flatten().map(str::to_owned);
            Cell { column, expected, found }
        })
        .collect();
    Ok((!cells.is_empty()).then_some(Fault::Differs(cells)))
}
