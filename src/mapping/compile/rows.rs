//! Drafted columns become the rows of a table: what runs, and what the target must know.

use std::sync::Arc;

use super::columns::Drafted;
use super::compiled::{Child, Column, Rows, Source};
use crate::mapping::definition::{Problem, RowsDefinition};
use crate::mapping::rest::Mapped;
use crate::mapping::spec::{ColumnSpec, ColumnType};
use crate::mapping::template::Template;

/// Splits drafts into the part that runs and the part for the sink; adds the `rest` column.
pub(super) fn rows(
    definition: &RowsDefinition,
    drafted: Vec<Drafted>,
    key_columns: usize,
    problems: &mut Vec<Problem>,
) -> (Rows, Vec<ColumnSpec>) {
    if drafted.is_empty() && definition.auto.is_none() {
        let message = format!("the table `{}` has no columns", definition.table.value);
        problems.push(Problem::at(definition.table.span, message));
    }
    let (columns, mut specs): (Vec<Column>, Vec<ColumnSpec>) =
        drafted.into_iter().map(|drafted| (drafted.column, drafted.spec)).unzip();
    if let Some(rest) = &definition.rest {
        let name = rest.value.clone();
        specs.push(ColumnSpec { name, column_type: ColumnType::Jsonb, not_null: true });
    }
    (Rows { columns, key_columns, rest: None }, specs)
}

pub(super) fn with_rest(
    rows: Rows,
    definition: &RowsDefinition,
    keys: &[(String, Template)],
    children: &[Child],
) -> Rows {
    let Some(rest) = &definition.rest else { return rows };
    let mut mapped = Mapped::default();
    for (attribute, template) in keys {
        if !template.discards() {
            mapped.take_name(attribute);
        }
    }
    for (index, column) in rows.columns.iter().enumerate() {
        if let Source::Path(path) = &column.source {
            mapped.take(path, Some(index));
        }
    }
    for from in children.iter().filter_map(|child| child.from.as_ref()) {
        mapped.take(from, None);
    }
    Rows { rest: Some((Arc::from(rest.as_str()), mapped)), ..rows }
}
