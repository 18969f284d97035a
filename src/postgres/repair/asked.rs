//! What is asked of one table, and how the answers of Postgres are read.

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::mapping::spec::TableSpec;
use crate::model::{Cells, RowOp, TableIndex};
use crate::ops::ports::{Cell, Fault};

/// What was asked of one table.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) table: TableIndex,
    pub(super) spec: &'a TableSpec,
    pub(super) rows: &'a [RowOp],
}

/// The first cells of a text key.
pub(super) fn key_texts(cells: &Cells, key_columns: usize) -> Vec<String> {
    cells.iter().take(key_columns).map(|cell| cell.unwrap_or_default().to_owned()).collect()
}

/// The number of the requested row; the statement counts from 1.
pub(super) fn place(row: &PgRow, rows: usize) -> sqlx::Result<usize> {
    let ordinal: i64 = row.try_get(0)?;
    usize::try_from(ordinal - 1)
        .ok()
        .filter(|at| *at < rows)
        .ok_or_else(|| sqlx::Error::Decode("an comparison to no question".into()))
}

/// Reads two arrays over the non-key columns: whether each differs, and its value.
pub(super) fn differing(
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
