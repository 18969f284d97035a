//! Shows the statements of one row with their parameters, for people; nothing is executed.

use super::history_sql::{Adding, Histories};
use super::rows::malformed;
use super::statements::{delete, prune_children, soft_delete, upsert, upsert_children};
use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::model::{Cells, RowAction, RowOp, Stamp, Version};

/// A statement as a batch with one row would run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its text.
    pub sql: String,
    /// One text array per parameter; the statement casts its elements.
    pub parameters: Vec<Vec<Option<String>>>,
}

/// The statements that write one row and its child rows, in order.
///
/// # Errors
/// `Config` for a name that Postgres does not allow; `Unknown` if the row's table does not exist.
pub fn shown(tables: &[TableSpec], row: &RowOp, version: Version) -> Result<Vec<Shown>> {
    let table = |at: u16| tables.get(usize::from(at));
    let spec = table(row.table.0).ok_or_else(|| malformed("a row is of no table"))?;
    let children = tables.iter().enumerate().filter_map(|(at, own)| {
        let hangs_here = own.parent.is_some_and(|parent| parent.table == row.table);
        hangs_here.then_some((at, own))
    });
    let children: Vec<(usize, &TableSpec)> = children.collect();
    let stamp = Stamp { version, item: row.item };
    let versions = |rows: usize| vec![Some(stamp.to_string()); rows];
    let whole = |sql: String| {
        let mut parameters = columns(&[&row.cells], row.cells.len());
        parameters.push(versions(1));
        Shown { sql, parameters }
    };
    Ok(match row.action {
        RowAction::Delete => {
            let specs: Vec<&TableSpec> = children.iter().map(|(_, own)| *own).collect();
            vec![whole(delete(spec, &specs)?)]
        }
        RowAction::SoftDelete => {
            let column = spec.deleted_at.and_then(|at| spec.columns.get(at));
            let column =
                column.ok_or_else(|| malformed("a table has no column for soft deletes"))?;
            vec![whole(soft_delete(spec, column)?)]
        }
        RowAction::Record => {
            let of = spec.history_of.and_then(|of| table(of.0));
            let of = of.ok_or_else(|| malformed("a history is of no table"))?;
            let all = columns(&[&row.cells], row.cells.len().saturating_sub(1));
            let cells = all.into_iter().enumerate().filter(|(at, _)| *at != of.key_columns);
            let mut added: Vec<_> = cells.map(|(_, cell)| cell).collect();
            added.push(versions(1));
            let mut settled = columns(&[&row.cells], of.key_columns);
            settled.push(versions(1));
            let history = Histories::new(spec, of)?;
            vec![
                Shown { sql: history.add(Adding::Batch)?, parameters: added },
                Shown { sql: history.settle()?, parameters: settled },
            ]
        }
        RowAction::Upsert => {
            let rows_of = |at: usize| -> Vec<&Cells> {
                let own = row.children.iter().filter(|(of, _)| usize::from(of.0) == at);
                own.map(|(_, cells)| cells).collect()
            };
            let mut statements = vec![whole(upsert(spec)?)];
            for (at, child) in children.iter().rev() {
                let mut parameters = columns(&[&row.cells], spec.key_columns);
                parameters.push(versions(1));
                parameters.extend(columns(&rows_of(*at), child.key_columns));
                statements.push(Shown { sql: prune_children(spec, child)?, parameters });
            }
            for (at, child) in children {
                let rows = rows_of(at);
                if !rows.is_empty() {
                    let mut parameters = columns(&rows, child.columns.len());
                    parameters.push(versions(rows.len()));
                    statements.push(Shown { sql: upsert_children(spec, child)?, parameters });
                }
            }
            statements
        }
    })
}

/// The first columns of some rows, one array each.
fn columns(rows: &[&Cells], count: usize) -> Vec<Vec<Option<String>>> {
    let cell = |cells: &Cells, at| cells.iter().nth(at).flatten().map(str::to_owned);
    (0..count).map(|at| rows.iter().map(|cells| cell(cells, at)).collect()).collect()
}
