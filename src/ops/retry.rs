//! Dead letters tried again: settled by their items' present state.
//!
//! A retry never replays the stored image: the item is read as it is now, by a consistent read, and its
//! rows are made so under the lock that `postgres/repair/repairer.rs` explains. So it never overwrites a
//! newer row, and doing it twice changes nothing. Where the item's row can move, the row that the record's
//! old image names is ended too, unless the item has it again.

use super::ports::{Fate, Guard, Letter, Letters, Recorded, Repairs, RowRepair, Sides};
use super::verify::context::Context;
use super::verify::{Asked, truth};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{HISTORY_COLUMNS, HISTORY_ENDS};
use crate::mapping::{Outcome, Unmatched};
use crate::model::{Cells, Change, Reject, RejectReason, RowAction, RowOp, StoredRecord};

/// What became of one dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    /// Whether it is settled; else it stays open.
    pub resolved: bool,
    /// Why it stays open, or what else is to be said.
    pub detail: Option<String>,
}

/// Makes the rows of one dead letter's item what the item says now; `None` where it is not open any more.
///
/// # Errors
/// When one of the sides does not answer, or the stored record cannot be read.
pub async fn retry<S: Sides>(context: &Context<S>, id: i64) -> Result<Option<Retried>> {
    let target = context.sides.target();
    let Some(letter) = target.open_letter(id).await? else { return Ok(None) };
    let record = StoredRecord::read(&letter.record).ok_or_else(|| {
        Error::new(ErrorKind::Unknown, format!("read the record of dead letter {id}"))
    })?;
    let item = context.items(&[&record.keys]).await?.pop().flatten();
    let mut rows = Vec::new();
    let outcome = match &item {
        Some(item) => {
            let old_image = record.old_image.clone();
            let change = Change { old_image, ..Change::scanned(record.keys.clone(), item.clone()) };
            context.mapper.map(&change, &mut rows)
        }
        None => removed(context, &record, &mut rows),
    };
    let reject = match outcome {
        Outcome::Rejected(reject) => {
            Box::pin(repair(context, &letter, &record, rows)).await?;
            Some(reject)
        }
        Outcome::Unmatched
            if item.is_some() && context.mapper.unmatched() == Unmatched::DeadLetter =>
        {
            Some(Reject::unmatched())
        }
        _ => Box::pin(repair(context, &letter, &record, rows)).await?,
    };
    if let Some(reject) = reject {
        target.keep_open(id, &reject).await?;
        let detail = Some(format!("{}: {}", reject.reason.label(), reject.detail));
        return Ok(Some(Retried { resolved: false, detail }));
    }
    // False if a newer change superseded it meanwhile; then it is settled too.
    target.resolve(id).await?;
    let gone = item.is_none().then(|| "the item is gone".to_owned());
    Ok(Some(Retried { resolved: true, detail: gone }))
}

/// Maps the removal of an item that is gone: of the row that the newest image names, and of that which the
/// older one names, if it is another.
fn removed<S: Sides>(
    context: &Context<S>,
    record: &StoredRecord,
    rows: &mut Vec<RowOp>,
) -> Outcome {
    let outcome = context.mapper.map(&record.removal(), rows);
    let mut older = Vec::new();
    for removal in record.removals() {
        context.mapper.map(&removal, &mut older);
    }
    let mine = rows.len();
    older.retain(|op| {
        let known = |own: &RowOp| (own.table, &own.cells) == (op.table, &op.cells);
        op.item.is_some() && !rows.iter().take(mine).any(known)
    });
    rows.append(&mut older);
    outcome
}

/// Repairs the rows one by one; what Postgres refuses is the new reason.
async fn repair<S: Sides>(
    context: &Context<S>,
    letter: &Letter,
    record: &StoredRecord,
    rows: Vec<RowOp>,
) -> Result<Option<Reject>> {
    for op in rows.iter().filter(|op| op.action != RowAction::Record) {
        let table = op.table;
        let named = context.mapper.names_items(table, &context.schema);
        let key_columns =
            context.mapper.tables().get(usize::from(table.0)).map_or(0, |spec| spec.key_columns);
        let row = op.cells.prefix(key_columns);
        // A row found through the stored image may belong to another item by now.
        let guard = match (named, op.action) {
            (false, action) if action.ends_row() => Guard::Below(letter.version.clone()),
            _ => Guard::Any,
        };
        // The history gets the item's current state instead of the change that could not be applied.
        let end = end_of(context, &rows, op).to_owned();
        let recorded = Some(Recorded { version: letter.version.clone(), end });
        let wanted = [RowRepair { key: row.clone(), guard, recorded }];
        let asked =
            Asked { item: Some(record.keys.clone()), row, version: Some(letter.version.clone()) };
        let repairing = context.sides.target().repair(table, &wanted, async {
            if !named && op.action.ends_row() {
                let item = context.items_now(std::slice::from_ref(&record.keys)).await?.pop();
                let has_it = item.flatten().is_some_and(|item| {
                    has_row(context, &Change::scanned(record.keys.clone(), item), op, key_columns)
                });
                return Ok(vec![(!has_it).then(|| op.clone())]);
            }
            truth(context, table, vec![asked]).await
        });
        let outcome = Box::pin(repairing).await;
        match outcome {
            Ok(fates) if fates.contains(&Fate::LeftAlone) => {
                tracing::debug!(id = letter.id, "the row of a dead letter was not changed");
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Data => {
                return Ok(Some(Reject {
                    reason: RejectReason::Refused,
                    entity: None,
                    place: None,
                    detail: error.to_string(),
                }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether the item has the row that is to end; of an item that cannot be mapped, whether it would.
fn has_row<S: Sides>(context: &Context<S>, item: &Change, end: &RowOp, key_columns: usize) -> bool {
    let mut rows = Vec::new();
    let same =
        |table, key: &Cells| table == end.table && key.cmp_prefix(&end.cells, key_columns).is_eq();
    if !matches!(context.mapper.map(item, &mut rows), Outcome::Rejected(_)) {
        return rows.iter().any(|op| op.action == RowAction::Upsert && same(op.table, &op.cells));
    }
    let mut keys = Vec::new();
    let known = context.mapper.row_keys(item, &mut keys).is_ok();
    !known || keys.iter().any(|(table, key)| same(*table, key))
}

/// The history's word for the end of a row; the reason is in its own version of the row.
fn end_of<'r, S>(context: &Context<S>, rows: &'r [RowOp], op: &RowOp) -> &'r str {
    let tables = context.mapper.tables();
    let version = rows.iter().find(|own| {
        let spec = tables.get(usize::from(own.table.0));
        own.action == RowAction::Record
            && spec.is_some_and(|spec| spec.history_of == Some(op.table))
    });
    // The word comes before the two times.
    let at = |own: &RowOp| own.cells.len().checked_sub(HISTORY_COLUMNS.len());
    let word = version.and_then(|own| own.cells.cell(at(own)?));
    word.filter(|word| HISTORY_ENDS.contains(word)).unwrap_or("remove")
}
