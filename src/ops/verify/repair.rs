//! Repairs what differs: each row becomes what its item says at the moment when nobody else can write.
//!
//! `postgres/repair/repairer.rs` says why this neither loses a newer change nor brings a deleted row back.

use super::context::{Context, Expected, RowAsked};
use super::settle::Drift;
use crate::error::{ErrorKind, Result};
use crate::model::{Cells, Item, TableIndex};
use crate::ops::ports::{Fate, Guard, REPAIR_ROWS_MAX, Repairs, RowRepair, Sides, Truth};

/// Repairs them and marks those that were repaired; returns why others were not. A row that has moved
/// since it was compared is left to the next verification.
pub(crate) async fn repair<S: Sides>(
    context: &Context<S>,
    drift: &mut [Drift],
) -> Result<Vec<String>> {
    drift.sort_by(|a, b| {
        let by_table = a.table.cmp(&b.table);
        by_table.then_with(|| a.row.cmp_prefix(&b.row, a.row.len().min(b.row.len())))
    });
    let mut left = Vec::new();
    for own in drift.chunk_by_mut(|a, b| a.table == b.table) {
        for chunk in own.chunks_mut(REPAIR_ROWS_MAX) {
            match repair_chunk(context, chunk).await {
                Ok(()) => {}
                // One row is refused; repair the others one by one.
                Err(error) if error.kind() == ErrorKind::Data => {
                    for one in chunk.chunks_mut(1) {
                        left.extend(unless_left(repair_chunk(context, one).await)?);
                    }
                }
                other => left.extend(unless_left(other)?),
            }
        }
    }
    Ok(left)
}

/// What is refused, or could not be locked in time, stays as it is; whoever asked is told.
fn unless_left(outcome: Result<()>) -> Result<Option<String>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::Data | ErrorKind::Conflict) => {
            Ok(Some(error.chain().to_string()))
        }
        Err(error) => Err(error),
    }
}

async fn repair_chunk<S: Sides>(context: &Context<S>, chunk: &mut [Drift]) -> Result<()> {
    let Some(table) = chunk.first().map(|drift| drift.table) else { return Ok(()) };
    let rows: Vec<RowRepair> = chunk
        .iter()
        .map(|drift| RowRepair {
            key: drift.row.clone(),
            guard: Guard::Same(drift.comparison.version.clone()),
            recorded: None,
        })
        .collect();
    let asked: Vec<Asked> = chunk
        .iter()
        .map(|drift| Asked {
            item: drift.item.clone(),
            row: drift.row.clone(),
            version: drift.comparison.live_version().map(str::to_owned),
        })
        .collect();
    let target = context.sides.target();
    let fates = target.repair(table, &rows, truth(context, table, asked)).await?;
    for (drift, fate) in chunk.iter_mut().zip(fates) {
        drift.repaired = matches!(fate, Fate::Written | Fate::Deleted);
    }
    Ok(())
}

/// A row to repair.
pub(crate) struct Asked {
    pub(crate) item: Option<Item>,
    pub(crate) row: Cells,
    pub(crate) version: Option<String>,
}

/// What each of these rows should be now.
pub(crate) async fn truth<S: Sides>(
    context: &Context<S>,
    table: TableIndex,
    asked: Vec<Asked>,
) -> Truth {
    let keys: Vec<Item> = asked.iter().filter_map(|asked| asked.item.clone()).collect();
    let mut items = context.items_now(&keys).await?.into_iter();
    let op = |asked: &Asked| {
        let Some(key) = &asked.item else {
            // Reading everything showed that no item has this row; its unchanged version confirms it.
            return Some(context.absence(table, asked.row.clone()));
        };
        let item = items.next().flatten();
        match context.truth(
            key,
            item,
            RowAsked { table, row: &asked.row, version: asked.version.as_deref() },
        ) {
            Expected::Row(op) => Some(op),
            Expected::Kept | Expected::Unmappable | Expected::Silent => None,
        }
    };
    Ok(asked.iter().map(op).collect())
}
