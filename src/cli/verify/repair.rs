//! Mends what differs: each row becomes what its item says at the moment when nobody else can write.
//!
//! `postgres/repair/mend.rs` says why this neither loses a newer change nor brings a deleted row back.

use super::context::{Context, Truth};
use super::settle::Drift;
use crate::error::{ErrorKind, Result};
use crate::model::{Cells, Item, RowOp, TableIndex};
use crate::postgres::repair::mend::{Guard, Mended, ROWS_MAX, Wound};

/// Mends them and marks those that were mended. A row that has moved since it was compared is left to the
/// next verification.
pub(crate) async fn mend(context: &Context, drift: &mut [Drift]) -> Result<()> {
    drift.sort_by(|a, b| {
        let by_table = a.table.cmp(&b.table);
        by_table.then_with(|| a.row.cmp_prefix(&b.row, a.row.len().min(b.row.len())))
    });
    for own in drift.chunk_by_mut(|a, b| a.table == b.table) {
        for chunk in own.chunks_mut(ROWS_MAX) {
            match mend_chunk(context, chunk).await {
                Ok(()) => {}
                // One of them is refused; the others are not to suffer for it.
                Err(error) if error.kind() == ErrorKind::Data => {
                    for one in chunk.chunks_mut(1) {
                        tell(mend_chunk(context, one).await)?;
                    }
                }
                other => tell(other)?,
            }
        }
    }
    Ok(())
}

/// What is refused, or could not be locked in time, stays as it is; the report says so.
fn tell(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::Data | ErrorKind::Conflict) => {
            anstream::eprintln!("not repaired: {}", error.chain());
            Ok(())
        }
        outcome => outcome,
    }
}

async fn mend_chunk(context: &Context, chunk: &mut [Drift]) -> Result<()> {
    let Some(table) = chunk.first().map(|drift| drift.table) else { return Ok(()) };
    let wounds: Vec<Wound> = chunk
        .iter()
        .map(|drift| Wound {
            key: drift.row.clone(),
            guard: Guard::Same(drift.answer.version.clone()),
            recorded: None,
        })
        .collect();
    let asked: Vec<Asked> = chunk
        .iter()
        .map(|drift| Asked {
            item: drift.item.clone(),
            row: drift.row.clone(),
            version: drift.answer.version.clone(),
        })
        .collect();
    let fates = context.mender.mend(table, &wounds, || truth(context, table, asked)).await?;
    for (drift, fate) in chunk.iter_mut().zip(fates) {
        drift.repaired = matches!(fate, Mended::Written | Mended::Deleted);
    }
    Ok(())
}

/// A row whose truth is to be asked for.
pub(crate) struct Asked {
    pub(crate) item: Option<Item>,
    pub(crate) row: Cells,
    pub(crate) version: Option<String>,
}

/// What each of these rows should be, now.
pub(crate) async fn truth(
    context: &Context,
    table: TableIndex,
    asked: Vec<Asked>,
) -> Result<Vec<Option<RowOp>>> {
    let keys: Vec<Item> = asked.iter().filter_map(|asked| asked.item.clone()).collect();
    let mut items = context.items_now(&keys).await?.into_iter();
    let op = |asked: &Asked| {
        let Some(key) = &asked.item else {
            // That nothing has this row was found by reading everything; its version still says so.
            return Some(context.absence(table, asked.row.clone()));
        };
        let item = items.next().flatten();
        match context.truth((key, item), (table, &asked.row), asked.version.as_deref()) {
            Truth::Row(op) => Some(op),
            Truth::Kept | Truth::Unmappable | Truth::Silent => None,
        }
    };
    Ok(asked.iter().map(op).collect())
}
