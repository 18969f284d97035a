//! Beside the mapped columns: the soft-delete column, a history, indexes, comments.

use std::sync::Arc;

use super::names;
use crate::mapping::definition::{
    EntityDefinition, OnDelete, Problem, RowsDefinition, Span, Spanned,
};
use crate::mapping::spec::{
    AutoColumn, AutoSpec, ColumnSpec, ColumnType, Extras, HISTORY_COLUMNS, TableSpec,
    VERSION_COLUMN,
};
use crate::model::TableIndex;

/// The default name of the soft-delete column.
const DELETED_AT: &str = "deleted_at";

/// Adds the soft-delete column if some end of an item keeps the row; returns whether it did.
pub(super) fn soft_delete(
    definition: &EntityDefinition,
    table: &mut TableSpec,
    problems: &mut Vec<Problem>,
) -> bool {
    let on_ttl = definition.on_ttl.unwrap_or(definition.on_delete);
    let soft = definition.on_delete == OnDelete::Soft || on_ttl == OnDelete::Soft;
    let named = definition.deleted_at.as_ref();
    if let Some(named) = named {
        names::check_column(named, problems);
        if !soft {
            let message = "`deleted_at` names a soft-delete column, but nothing deletes softly";
            problems.push(
                Problem::at(named.span, message).with_hint("set on_delete = \"soft\" as well"),
            );
        }
    }
    if !soft {
        return false;
    }
    let name = named.map_or(DELETED_AT, |named| named.as_str());
    let span = named.map_or(definition.rows.table.span, |named| named.span);
    if let Some(place) = column_span(&definition.rows, name) {
        let message = format!("`{name}` marks a row as deleted, so no attribute can fill it");
        problems.push(
            Problem::at(place, message)
                .with_related(span, "the rows stay when their items go")
                .with_hint("rename that column: deleted_at = \"gone_at\""),
        );
    }
    table.deleted_at = Some(table.columns.len());
    table.columns.push(plain(name, ColumnType::Timestamptz, false));
    true
}

/// The history of the entity's own table `of`.
pub(super) fn history(
    definition: &EntityDefinition,
    of: TableIndex,
    table: &TableSpec,
    problems: &mut Vec<Problem>,
) -> Option<TableSpec> {
    let written = definition.history.as_ref()?;
    let name = names::table_name(written, problems)?;
    for own in HISTORY_COLUMNS {
        if let Some(place) = column_span(&definition.rows, own) {
            let message = format!("the history has a column `{own}` of its own");
            problems.push(
                Problem::at(place, message)
                    .with_related(written.span, "the history")
                    .with_hint("give this column another name"),
            );
        }
    }
    let mut columns: Vec<ColumnSpec> =
        table.columns.iter().take(table.key_columns).cloned().collect();
    columns.push(plain(VERSION_COLUMN, ColumnType::Numeric(None), true));
    let shown = table.columns.iter().enumerate().skip(table.key_columns);
    let shown = shown.filter(|(at, _)| table.deleted_at != Some(*at));
    // The end of a row has only the key's values.
    columns.extend(shown.map(|(_, column)| ColumnSpec { not_null: false, ..column.clone() }));
    for (own, (column_type, not_null)) in HISTORY_COLUMNS.into_iter().zip([
        (ColumnType::Text, true),
        (ColumnType::Timestamptz, true),
        (ColumnType::Timestamptz, false),
    ]) {
        columns.push(plain(own, column_type, not_null));
    }
    Some(TableSpec {
        name,
        entity: Arc::clone(&table.entity),
        columns,
        key_columns: table.key_columns + 1,
        history_of: Some(of),
        constants: table.constants.clone(),
        names_items: table.names_items,
        ..TableSpec::default()
    })
}

/// Indexes, comments and the columns of `columns = "auto"`, once the table's columns are known.
pub(super) fn extras(
    definition: &RowsDefinition,
    table: &TableSpec,
    problems: &mut Vec<Problem>,
) -> Extras {
    let known = |name: &str| table.columns.iter().any(|column| column.name == name);
    for wanted in &definition.indexes {
        for (at, column) in wanted.iter().enumerate() {
            // `plan` reports columns that `columns = "auto"` has not made yet.
            if !known(column.as_str()) && definition.auto.is_none() {
                let message = format!("`{}` has no column `{}` to index", table.name, column.value);
                let names: Vec<_> = table.columns.iter().map(|own| own.name.as_str()).collect();
                let hint = format!("its columns are {}", names.join(", "));
                problems.push(Problem::at(column.span, message).with_hint(hint));
            } else if wanted.iter().take(at).any(|before| before.value == column.value) {
                let message = format!("the index has the column `{}` twice", column.value);
                problems.push(Problem::at(column.span, message));
            }
        }
    }
    let texts =
        |index: &Vec<Spanned<String>>| index.iter().map(|name| name.value.clone()).collect();
    let comments = definition
        .columns
        .iter()
        .filter_map(|column| Some((column.name.value.clone(), column.comment.clone()?)));
    Extras {
        indexes: definition.indexes.iter().map(texts).collect(),
        comment: definition.comment.clone(),
        column_comments: comments.collect(),
        auto: auto(definition),
    }
}

/// The target's columns that `columns = "auto"` made.
fn auto(definition: &RowsDefinition) -> Option<AutoSpec> {
    definition.auto?;
    let made = definition.columns.iter().filter_map(|column| {
        let attribute = column.auto.clone()?;
        let column_type = ColumnType::parse(&column.column_type.as_ref()?.value).ok()?;
        Some(AutoColumn { name: column.name.value.clone(), attribute, column_type })
    });
    let rest = definition.rest.as_ref().map(|rest| rest.value.clone()).unwrap_or_default();
    Some(AutoSpec { columns: made.collect(), rest })
}

/// Where the file defines a column with this name.
fn column_span(rows: &RowsDefinition, name: &str) -> Option<Span> {
    let columns = rows.columns.iter().map(|column| &column.name);
    let mut columns = columns.chain(rows.rest.as_ref());
    columns.find(|column| column.value == name).map(|column| column.span)
}

fn plain(name: &str, column_type: ColumnType, not_null: bool) -> ColumnSpec {
    ColumnSpec { name: name.to_owned(), column_type, not_null }
}
