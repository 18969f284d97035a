//! What becomes of one change: the entity that it is, the rows that it becomes, and the SQL. Nothing is
//! written and nobody is called.

use std::path::Path;

use crate::config::SourceConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{TableSpec, VERSION_COLUMN};
use crate::mapping::{Mapper, Outcome};
use crate::model::{
    Cells, Change, ChangeOp, EpochMillis, Item, RowAction, RowOp, SequenceNumber, Version,
};
use crate::postgres::tables::shown::{Shown, shown};

/// The version in the shown statements: that of an item in a first backfill.
const VERSION: Version = Version { generation: 1, sequence: SequenceNumber::ZERO };

/// The explanation; the JSON only gains fields.
#[derive(Debug, serde::Serialize)]
pub struct Explanation {
    /// What becomes of the change.
    #[serde(flatten)]
    pub fate: Fate,
    /// How the rows are written.
    pub statements: Vec<Statement>,
}

/// What becomes of one change; the JSON's shape only grows.
#[derive(Debug, serde::Serialize)]
pub struct Fate {
    /// `mapped`, `filtered`, `unmatched` or `rejected`.
    pub outcome: &'static str,
    /// Why, where there is something to say.
    pub reason: Option<String>,
    /// The rows.
    pub rows: Vec<ExplainedRow>,
}

/// A row, or the key of one that goes; the JSON's shape only grows.
#[derive(Debug, serde::Serialize)]
pub struct ExplainedRow {
    /// Its table.
    pub table: String,
    /// The entity that has the table.
    pub entity: String,
    /// What happens to it.
    pub action: &'static str,
    /// Its columns with their values.
    pub columns: Vec<(String, Option<String>)>,
}

/// One statement; the JSON's shape only grows.
#[derive(Debug, serde::Serialize)]
pub struct Statement {
    /// The statement.
    pub sql: String,
    /// One array per parameter, because the daemon writes many rows at once.
    pub parameters: Vec<Vec<Option<String>>>,
}

impl Fate {
    /// Whether the change would become a dead letter.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.outcome == "rejected"
    }
}

/// What an item becomes; with a time, what its removal then does.
///
/// # Errors
/// When a statement cannot be made.
pub fn explain(
    source: &SourceConfig,
    item: Item,
    removed_at: Option<EpochMillis>,
) -> Result<Explanation> {
    let removed = removed_at.is_some();
    let change = Change {
        op: if removed { ChangeOp::Remove } else { ChangeOp::Insert },
        sequence: SequenceNumber::ZERO,
        keys: source.mapper.keys_of(&item),
        new_image: (!removed).then(|| item.clone()),
        old_image: removed.then_some(item),
        // Rows that outlive the item say when it was removed.
        changed_at: removed_at,
        expired: false,
        bytes: 0,
    };
    let mut rows = Vec::new();
    let mut fate = fate(&source.mapper, &change, &mut rows);
    if fate.reason.is_none() && source.definition.is_auto() {
        fate.reason = Some(
            "columns = \"auto\": only the target knows the columns; other attributes go to the \
             rest column"
                .to_owned(),
        );
    }
    let mut statements = Vec::new();
    for row in &rows {
        for Shown { sql, parameters } in shown(source.mapper.tables(), row, VERSION)? {
            statements.push(Statement { sql, parameters });
        }
    }
    Ok(Explanation { fate, statements })
}

/// Maps one change and describes the result.
#[must_use]
pub fn fate(mapper: &Mapper, change: &Change, rows: &mut Vec<RowOp>) -> Fate {
    let (outcome, reason) = match mapper.map(change, rows) {
        Outcome::Mapped => ("mapped", None),
        Outcome::Filtered => (
            "filtered",
            Some("the entity's filter excludes it, or the mapping keeps the row".into()),
        ),
        Outcome::Unmatched => {
            ("unmatched", Some("no entity's key template matches its key".into()))
        }
        Outcome::Rejected(reject) => {
            let place = [reject.entity.as_deref(), reject.place.as_deref()];
            let place: Vec<&str> = place.into_iter().flatten().collect();
            let reason =
                format!("{} ({}): {}", reject.reason.label(), place.join("."), reject.detail);
            ("rejected", Some(reason))
        }
    };
    // In a batch's order: a table before its history.
    rows.sort_by_key(|row| row.table);
    let ends = change.op == ChangeOp::Remove || rows.iter().any(|row| row.action.ends_row());
    let mut rows: Vec<_> = rows.iter().flat_map(|row| explained(mapper.tables(), row)).collect();
    if ends {
        // A deletion has no values, which says nothing about the columns.
        for row in &mut rows {
            row.columns.retain(|(_, value)| value.is_some());
        }
    }
    Fate { outcome, reason, rows }
}

/// Reads one item as DynamoDB JSON, bare or wrapped as `{"Item": …}` the way the AWS CLI prints it;
/// `-` is standard input.
///
/// # Errors
/// `Usage` when it cannot be read.
pub fn read_item(path: &Path) -> Result<Item> {
    let failed = |what: &str| Error::new(ErrorKind::Usage, format!("{what} {}", path.display()));
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| failed("read the item in").with_source(error))?;
    let hint = r#"an item looks like {"pk": {"S": "CHILD#42"}, "sk": {"S": "PROFILE"}}"#;
    let parsed = |error| failed("read DynamoDB JSON in").with_hint(hint).with_source(error);
    let value: serde_json::Value = serde_json::from_str(&text).map_err(parsed)?;
    let bare = match value {
        serde_json::Value::Object(mut map) if map.len() == 1 && map.contains_key("Item") => {
            map.remove("Item").unwrap_or_default()
        }
        other => other,
    };
    serde_json::from_value(bare).map_err(parsed)
}

fn explained(tables: &[TableSpec], row: &RowOp) -> Vec<ExplainedRow> {
    let one = |index: usize, action, cells: &Cells| {
        let table = &tables[index];
        let columns = table.columns.iter().zip(cells.iter());
        ExplainedRow {
            table: table.name.to_string(),
            entity: table.entity.to_string(),
            action,
            columns: columns
                // In a history row it is part of the key; the stream has not given it yet.
                .filter(|(column, _)| column.name != VERSION_COLUMN)
                .map(|(column, cell)| (column.name.clone(), cell.map(str::to_owned)))
                .collect(),
        }
    };
    let mut rows = vec![one(usize::from(row.table.0), row.action.label(), &row.cells)];
    if row.action == RowAction::SoftDelete
        && let Some((at, own)) = tables[usize::from(row.table.0)].deleted_at.zip(rows.first_mut())
        && let Some(last) = own.columns.last_mut()
    {
        last.0.clone_from(&tables[usize::from(row.table.0)].columns[at].name);
    }
    let children = row.children.iter();
    rows.extend(children.map(|(table, cells)| one(usize::from(table.0), "child row", cells)));
    rows
}
