//! `dynaurora explain`: one item, the entity that it is, the rows that it becomes, and the SQL; nothing is
//! written and nobody is called.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::config_file::load;
use super::{ConfigArgs, Output, print_json};
use crate::config::{Config, SourceConfig};
use crate::engine::ports::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{TableSpec, VERSION_COLUMN};
use crate::mapping::{Mapper, Outcome};
use crate::model::{Cells, Change, ChangeOp, Item, RowAction, RowOp, SequenceNumber, Version};
use crate::ops::named;
use crate::postgres::tables::shown::{Shown, shown};
use crate::runtime::SystemClock;

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file with one item as DynamoDB JSON; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    item: PathBuf,
    /// The source whose mapping is asked; needed when the config names several.
    #[arg(long)]
    source: Option<String>,
    /// Explain the item's removal instead.
    #[arg(long)]
    removed: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The version that the statements are shown with: that of an item which a first load reads.
const VERSION: Version = Version { generation: 1, sequence: SequenceNumber::ZERO };

/// The explanation; the JSON's shape only grows.
#[derive(serde::Serialize)]
struct Explanation {
    #[serde(flatten)]
    fate: Fate,
    statements: Vec<Statement>,
}

/// What becomes of one change.
#[derive(serde::Serialize)]
pub(super) struct Fate {
    pub(super) outcome: &'static str,
    pub(super) reason: Option<String>,
    pub(super) rows: Vec<ExplainedRow>,
}

/// A row, or the key of one that goes.
#[derive(serde::Serialize)]
pub(super) struct ExplainedRow {
    pub(super) table: String,
    pub(super) entity: String,
    pub(super) action: &'static str,
    pub(super) columns: Vec<(String, Option<String>)>,
}

#[derive(serde::Serialize)]
struct Statement {
    sql: String,
    /// An array for each parameter: the daemon writes many rows at once.
    parameters: Vec<Vec<Option<String>>>,
}

/// Maps one item and tells what comes out. Answers 1 when the item would become a dead letter.
///
/// # Errors
/// When the config or the item cannot be read.
pub fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let config = load(&args.config)?;
    let source = chosen(&config, args.source.as_deref())?;
    let item = read_item(&args.item)?;
    let change = Change {
        op: if args.removed { ChangeOp::Remove } else { ChangeOp::Insert },
        sequence: SequenceNumber::ZERO,
        keys: source.mapper.keys_of(&item),
        new_image: (!args.removed).then(|| item.clone()),
        old_image: args.removed.then_some(item),
        // When it is removed is now: rows that outlive it say so.
        changed_at: args.removed.then(|| SystemClock.wall()),
        expired: false,
        bytes: 0,
    };
    let mut rows = Vec::new();
    let mut fate = fate(&source.mapper, &change, &mut rows);
    if fate.reason.is_none() && source.definition.is_auto() {
        fate.reason = Some(
            "columns = \"auto\": which columns there are the target knows; what has none is in the \
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
    let rejected = fate.outcome == "rejected";
    let explanation = Explanation { fate, statements };
    if args.output == Output::Json {
        print_json(&explanation)?;
    } else {
        print(&explanation);
    }
    Ok(if rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Maps one change and puts what came out into words.
pub(super) fn fate(mapper: &Mapper, change: &Change, rows: &mut Vec<RowOp>) -> Fate {
    let (outcome, reason) = match mapper.map(change, rows) {
        Outcome::Mapped => ("mapped", None),
        Outcome::Filtered => (
            "filtered",
            Some("the entity's filter keeps it out, or the mapping keeps the row".into()),
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
    // As a batch is sorted: a table before the history of its versions.
    rows.sort_by_key(|row| row.table);
    let ends = change.op == ChangeOp::Remove || rows.iter().any(|row| row.action.ends_row());
    let mut rows: Vec<_> = rows.iter().flat_map(|row| explained(mapper.tables(), row)).collect();
    if ends {
        // What ends has no values any more, and that says nothing of what the columns hold.
        for row in &mut rows {
            row.columns.retain(|(_, value)| value.is_some());
        }
    }
    Fate { outcome, reason, rows }
}

/// A value for a terminal: what would steer it is written as an escape.
pub(super) fn printable(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for char in value.chars() {
        if char.is_control() && char != '\n' {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// The source of this name, or the only one.
pub(super) fn chosen<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c SourceConfig> {
    if let Some(source) = named::source(config, name)? {
        return Ok(source);
    }
    let names: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
    let only = config.sources.first().filter(|_| names.len() == 1);
    only.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "which source?")
            .with_hint(format!("--source {}", names.join(" or --source ")))
    })
}

/// Reads one item as DynamoDB JSON, bare or wrapped as `{"Item": …}` the way the AWS CLI prints it.
fn read_item(path: &Path) -> Result<Item> {
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
                // Of a history's row it is part of the key; the stream has not given it yet.
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

fn print(explanation: &Explanation) {
    anstream::println!("{}", explanation.fate.outcome);
    if let Some(reason) = &explanation.fate.reason {
        anstream::println!("  {}", printable(reason));
    }
    for row in &explanation.fate.rows {
        anstream::println!("{} {} (entity {})", row.action, row.table, row.entity);
        let width = row.columns.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &row.columns {
            match value {
                Some(value) => anstream::println!("  {name:width$} = {}", printable(value)),
                None => anstream::println!("  {name:width$} is NULL"),
            }
        }
    }
    for statement in &explanation.statements {
        anstream::println!("\n{};", printable(&statement.sql));
        for (number, parameter) in (1..).zip(&statement.parameters) {
            anstream::println!("  ${number} = {}", printable(&array(parameter)));
        }
    }
}

/// An array as SQL writes it.
fn array(values: &[Option<String>]) -> String {
    let value = |value: &Option<String>| match value {
        Some(value) => format!("'{}'", value.replace('\'', "''")),
        None => "null".to_owned(),
    };
    let values: Vec<_> = values.iter().map(value).collect();
    format!("array[{}]::text[]", values.join(", "))
}
