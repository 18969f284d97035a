//! Refuses identifiers that Postgres would cut, refuse or confuse.

use std::collections::HashMap;

use crate::mapping::definition::{Problem, SourceDefinition, Span, Spanned};
use crate::mapping::spec::{TableName, VERSION_COLUMN};

/// Postgres cuts identifiers to NAMEDATALEN - 1 bytes, silently.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// Columns that every Postgres table has already.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// The schema of the ledger; nothing else may live there.
const OWN_SCHEMA: &str = "dynaurora";

/// Checks a column's name.
pub(super) fn check_column(name: &Spanned<String>, problems: &mut Vec<Problem>) {
    if let Some(message) = wrong_identifier(&name.value) {
        problems.push(Problem::at(name.span, format!("the column's name {message}")));
    } else if name.value == VERSION_COLUMN {
        let message = format!("the column `{VERSION_COLUMN}` is dynaurora's own");
        problems.push(Problem::at(name.span, message));
    } else if SYSTEM_COLUMNS.contains(&name.value.as_str()) {
        let message = format!("every Postgres table has a system column `{}` already", name.value);
        problems.push(Problem::at(name.span, message));
    }
}

/// Reads `table` or `schema.table`.
pub(super) fn table_name(text: &Spanned<String>, problems: &mut Vec<Problem>) -> Option<TableName> {
    let (schema, name) = match text.value.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, text.as_str()),
    };
    if let Some(message) = schema.and_then(wrong_identifier).or_else(|| wrong_identifier(name)) {
        problems.push(Problem::at(text.span, format!("the table's name {message}")));
        return None;
    }
    if name.contains('.') {
        let problem = Problem::at(text.span, "a table is written as `table` or `schema.table`");
        problems.push(problem);
        return None;
    }
    if schema == Some(OWN_SCHEMA) {
        let message = format!("the schema `{OWN_SCHEMA}` holds the ledger and nothing else");
        problems.push(Problem::at(text.span, message));
        return None;
    }
    Some(TableName { schema: schema.map(str::to_owned), name: name.to_owned() })
}

/// Two tables of a source may not have the same name: their rows could clash.
pub(super) fn check_tables(definition: &SourceDefinition, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for table in definition.tables() {
        let name = table.as_str();
        // A table without a schema is in `public`.
        let name = name.strip_prefix("public.").unwrap_or(name);
        if let Some(first) = seen.insert(name, table.span) {
            let message = format!("the table `{}` is filled twice", table.value);
            problems.push(
                Problem::at(table.span, message)
                    .with_related(first, "filled here already")
                    .with_hint("two items could hit one row: give each its own table"),
            );
        }
    }
}

fn wrong_identifier(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > IDENTIFIER_BYTES_MAX {
        Some("is longer than the 63 bytes that Postgres keeps")
    } else if name.contains('\0') {
        Some("holds U+0000")
    } else {
        None
    }
}
