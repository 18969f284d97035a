//! Reads target rows beside what the mapping says they should be: by primary key, many at a time, every
//! column compared typed by Postgres itself. Nothing is written.
//!
//! The caller names rows of one entity's table: a row that should be there, with its children, or a key
//! that should not. Comparisons come back in the same order. The other direction pages through a table
//! by its key.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Row};

use super::asked::{Asked, differing, key_texts, place};
use super::{histories, verify_sql as sql};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::TableSpec;
use crate::model::{Cells, RowAction, RowOp, TableIndex};
use crate::ops::ports::{Comparison, Difference, Fault, MetRow, RowsPage};
use crate::postgres::session::{Pools, Tx, in_transaction};
use crate::postgres::sql::encode::{printed, texts};
use crate::postgres::tables::history;

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
    /// When the database does not comparison, or the tables are not what the mapping says.
    pub async fn compare(&self, table: TableIndex, rows: &[RowOp]) -> Result<Vec<Comparison>> {
        let spec = self.spec(table)?;
        let mut comparisons = vec![Comparison::default(); rows.len()];
        if rows.is_empty() {
            return Ok(comparisons);
        }
        let pool = self.pools.pool().await?;
        in_transaction(&pool, "compare rows", async |tx| {
            compare_own(tx, Asked { table, spec, rows }, &mut comparisons).await?;
            let children = self.tables.iter().enumerate();
            for (number, child) in children.filter(|(_, own)| hangs_on(own, table)) {
                let number = TableIndex(u16::try_from(number).unwrap_or(u16::MAX));
                let of = Asked { table, spec, rows };
                compare_child(tx, number, child, of, &mut comparisons).await?;
            }
            let of = Asked { table, spec, rows };
            histories::compare(tx, &self.tables, of, &mut comparisons).await
        })
        .await?;
        Ok(comparisons)
    }

    /// The next rows of a table by its primary key; of a child table only those whose parent is missing, of a
    /// history only those that are open without a row or whose times are wrong.
    /// With fewer than `limit` rows met, `None` follows as the place to go on from.
    ///
    /// # Errors
    /// When the database does not comparison, or the table is not what the mapping says.
    pub async fn page(
        &self,
        table: TableIndex,
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<RowsPage> {
        let spec = self.spec(table)?;
        let parent = match spec.parent {
            Some(parent) => Some(self.spec(parent.table)?),
            None => None,
        };
        let statement = match spec.history_of {
            None => sql::page(spec, parent, after.is_some())?,
            Some(_) => {
                let history = history::histories(&self.tables, usize::from(table.0))?;
                sql::page_of_history(&history, after.is_some())?
            }
        };
        let statement = AssertSqlSafe(statement);
        let what = format!("page through {}", spec.name);
        let pool = self.pools.pool().await?;
        let mut rows = in_transaction(&pool, "page through a table", async |tx| {
            let mut query = tx.query_once(statement).named(what).bind(i64::from(limit));
            for text in after.unwrap_or_default() {
                query = query.bind(text);
            }
            let rows = query.all(|row| {
                let has_parent: bool = row.try_get(2)?;
                Ok((MetRow { key: row.try_get(0)?, version: row.try_get(1)? }, has_parent))
            });
            rows.await
        })
        .await?;
        let full = usize::try_from(limit).is_ok_and(|limit| rows.len() >= limit);
        let next = rows.last().filter(|_| full).map(|(row, _)| row.key.clone());
        let hangs = parent.is_some() || spec.history_of.is_some();
        rows.retain(|(_, has_parent)| !hangs || !has_parent);
        Ok(RowsPage { rows: rows.into_iter().map(|(row, _)| row).collect(), next })
    }

    fn spec(&self, table: TableIndex) -> Result<&TableSpec> {
        self.tables
            .get(usize::from(table.0))
            .ok_or_else(|| Error::new(ErrorKind::Unknown, "a table's number is beyond the mapping"))
    }
}

/// Whether the table's rows are children of that one's.
pub(super) fn hangs_on(table: &TableSpec, parent: TableIndex) -> bool {
    table.parent.is_some_and(|own| own.table == parent)
}

async fn compare_own(tx: &mut Tx, asked: Asked<'_>, comparisons: &mut [Comparison]) -> Result<()> {
    let Asked { table, spec, rows } = asked;
    let mut query = tx
        .query_once(AssertSqlSafe(sql::compare_own(spec)?))
        .named(format!("compare rows of {}", spec.name));
    for column in 0..spec.columns.len() {
        query = query.bind(texts(rows, move |row| whole_cell(row, column, spec)));
    }
    let mut present = vec![false; rows.len()];
    query
        .all(|row| {
            let at = place(row, rows.len())?;
            let (Some(op), Some(comparison)) = (rows.get(at), comparisons.get_mut(at)) else {
                return Ok(());
            };
            present[at] = true;
            comparison.version = Some(row.try_get(1)?);
            comparison.key = row.try_get(2)?;
            comparison.marked = !row.try_get::<bool, _>(5)?;
            let fault = match op.action {
                RowAction::Delete | RowAction::SoftDelete => {
                    (!comparison.marked).then_some(Fault::Unexpected)
                }
                RowAction::Record => None,
                RowAction::Upsert => differing(row, 3, &op.cells, spec)?,
            };
            let key = comparison.key.clone();
            comparison.differences.extend(fault.map(|fault| Difference { table, key, fault }));
            Ok(())
        })
        .await?;
    for (at, op) in rows.iter().enumerate() {
        if !present[at] && op.action == RowAction::Upsert {
            let key = key_texts(&op.cells, spec.key_columns);
            comparisons[at].differences.push(Difference { table, key, fault: Fault::Missing });
        }
    }
    Ok(())
}

/// Compares the rows of one child table that hang on the rows asked about.
async fn compare_child(
    tx: &mut Tx,
    table: TableIndex,
    child: &TableSpec,
    parents: Asked<'_>,
    comparisons: &mut [Comparison],
) -> Result<()> {
    let Asked { spec: parent, rows, .. } = parents;
    let wanted: Vec<(usize, &Cells)> = (rows.iter().enumerate())
        .flat_map(|(at, row)| row.children.iter().map(move |(table, cells)| (at, table, cells)))
        .filter(|(_, own, _)| **own == table)
        .map(|(at, _, cells)| (at, cells))
        .collect();
    let mut query = tx
        .query_once(AssertSqlSafe(sql::compare_children(parent, child)?))
        .named(format!("compare rows of {}", child.name));
    for column in 0..parent.key_columns {
        query = query.bind(texts(rows, move |row| row.cells.cell(column)));
    }
    query = query.bind(printed(&wanted, |(at, _)| at + 1));
    for column in 0..child.columns.len() {
        query = query.bind(texts(&wanted, move |(_, cells)| cells.cell(column)));
    }
    query
        .all(|row| {
            let at = place(row, rows.len())?;
            let number: Option<i64> = row.try_get(1)?;
            let there: Option<Vec<String>> = row.try_get(2)?;
            let number = number.and_then(|number| usize::try_from(number - 1).ok());
            let expected = number.and_then(|number| wanted.get(number)).map(|(_, cells)| *cells);
            let (key, fault) = match (there, expected) {
                (Some(key), None) => (key, Some(Fault::Unexpected)),
                (None, Some(cells)) => (key_texts(cells, child.key_columns), Some(Fault::Missing)),
                (Some(key), Some(cells)) => (key, differing(row, 3, cells, child)?),
                (None, None) => return Ok(()),
            };
            if let Some(comparison) = comparisons.get_mut(at) {
                comparison.differences.extend(fault.map(|fault| Difference { table, key, fault }));
            }
            Ok(())
        })
        .await
        .map(drop)
}

/// A delete has only the key's cells; the others count as NULL and are not compared.
fn whole_cell<'a>(row: &'a RowOp, column: usize, spec: &TableSpec) -> Option<&'a str> {
    if row.action.ends_row() && column >= spec.key_columns {
        return None;
    }
    row.cells.cell(column)
}
