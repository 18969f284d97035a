//! Lists of columns as SQL: their names, their values from parameters, and rows held against each other.
//!
//! Rows travel as one `text[]` per column, and a statement casts the elements. What is made of the arrays has
//! a prefix and a number for a name: `k0`, `k1`, …

use crate::error::Result;
use crate::mapping::spec::{ColumnSpec, ColumnType, TableSpec};
use crate::postgres::sql::ident::{cast_type, quoted};

/// The columns of a table's key, which come first.
pub(in crate::postgres) fn key_columns(table: &TableSpec) -> &[ColumnSpec] {
    table.columns.get(..table.key_columns).unwrap_or_default()
}

/// The first columns of a child table: those of its parent's key.
pub(in crate::postgres) fn parent_key<'a>(
    child: &'a TableSpec,
    parent: &TableSpec,
) -> &'a [ColumnSpec] {
    child.columns.get(..parent.key_columns).unwrap_or_default()
}

/// The names, quoted.
pub(in crate::postgres) fn names(columns: &[ColumnSpec]) -> Result<Vec<String>> {
    columns.iter().map(|column| quoted(&column.name)).collect()
}

/// `t."pk", t."sk"`
pub(in crate::postgres) fn listed(alias: &str, columns: &[ColumnSpec]) -> Result<String> {
    let names = names(columns)?;
    Ok(names.iter().map(|name| format!("{alias}.{name}")).collect::<Vec<_>>().join(", "))
}

/// The column that marks a row as deleted, quoted, where the table has one.
pub(in crate::postgres) fn mark(table: &TableSpec) -> Result<Option<String>> {
    let column = table.deleted_at.and_then(|at| table.columns.get(at));
    column.map(|column| quoted(&column.name)).transpose()
}

/// The columns' arrays, starting at parameter `first`, each element cast to its column's type.
pub(in crate::postgres) fn unnested(columns: &[ColumnSpec], first: usize) -> Result<Vec<String>> {
    let numbered = (first..).zip(columns);
    numbered
        .map(|(parameter, column)| {
            Ok(format!("unnest(${parameter}::text[])::{}", cast_type(&column.column_type)?))
        })
        .collect()
}

/// The same with the names `k0`, `k1`, …
pub(in crate::postgres) fn unnested_as(
    columns: &[ColumnSpec],
    first: usize,
    prefix: &str,
) -> Result<String> {
    let arrays = unnested(columns, first)?;
    let named = arrays.iter().enumerate().map(|(at, array)| format!("{array} as {prefix}{at}"));
    Ok(named.collect::<Vec<_>>().join(", "))
}

/// An array of versions.
pub(in crate::postgres) fn unnested_version(parameter: usize) -> String {
    format!("unnest(${parameter}::text[])::numeric")
}

/// `t."pk" = d.k0 and t."sk" = d.k1`
pub(in crate::postgres) fn joined(
    own: &str,
    columns: &[ColumnSpec],
    other: &str,
    prefix: &str,
) -> Result<String> {
    let names = names(columns)?;
    let pairs = names.iter().enumerate();
    let pairs = pairs.map(|(at, name)| format!("{own}.{name} = {other}.{prefix}{at}"));
    Ok(pairs.collect::<Vec<_>>().join(" and "))
}

/// `c."parent" = p."id" and …`: columns of one row that are those of another, in their order.
pub(in crate::postgres) fn paired(
    own: &str,
    columns: &[ColumnSpec],
    other: &str,
    others: &[ColumnSpec],
) -> Result<String> {
    let (names, others) = (names(columns)?, names(others)?);
    let pairs = names.iter().zip(&others);
    let pairs = pairs.map(|(name, theirs)| format!("{own}.{name} = {other}.{theirs}"));
    Ok(pairs.collect::<Vec<_>>().join(" and "))
}

/// A user's own type may have no equality, or one that ignores case, so such values are compared as texts.
pub(in crate::postgres) fn distinct(column: &ColumnSpec, own: &str, other: &str) -> String {
    let as_text = match &column.column_type {
        ColumnType::Named(_) => true,
        ColumnType::Array(element) => matches!(**element, ColumnType::Named(_)),
        _ => false,
    };
    let cast = if as_text { "::text" } else { "" };
    format!("({own}{cast} is distinct from {other}{cast})")
}
