//! The SQL of the statements that write rows. `ident` quotes every name, every value is a parameter; our own
//! names cannot clash with a table's, because those are quoted or prefixed.

use std::fmt::Write;

use crate::error::Result;
use crate::mapping::spec::{ColumnSpec, TableSpec, VERSION_COLUMN};
use crate::postgres::sql::columns::{
    joined, key_columns, names, parent_key, unnested, unnested_as, unnested_version,
};
use crate::postgres::sql::ident::{quoted, quoted_table};
use crate::postgres::sql::words::{are_two_items, may_be_one_item};

/// Inserts rows, or overwrites existing ones with a lower version, or those of another item.
///
/// Parameters: one array per column, then the versions.
pub(super) fn upsert(spec: &TableSpec) -> Result<String> {
    let (table, version) = (quoted_table(&spec.name)?, quoted(VERSION_COLUMN)?);
    let (keys, others) = spec.columns.split_at(spec.key_columns);
    let mut values = unnested(&spec.columns, 1)?;
    values.push(unnested_version(spec.columns.len() + 1));
    let mut assignments = assignments(others)?;
    assignments.push(format!("{version} = excluded.{version}"));
    let (own, new) = (format!("t.{version}"), format!("excluded.{version}"));
    let gives_way = match spec.names_items {
        true => format!("({own} < {new} or {})", are_two_items(&own, &new)),
        false => format!("{own} < {new}"),
    };
    Ok(format!(
        "insert into {table} as t ({}, {version}) select {} on conflict ({}) do update set {} \
         where {gives_way}",
        names(&spec.columns)?.join(", "),
        values.join(", "),
        names(keys)?.join(", "),
        assignments.join(", "),
    ))
}

/// Deletes rows with a lower version, and their rows in `children`; selects the counts.
///
/// Parameters: one array per key column, then the versions.
pub(super) fn delete(spec: &TableSpec, children: &[&TableSpec]) -> Result<String> {
    let (table, version) = (quoted_table(&spec.name)?, quoted(VERSION_COLUMN)?);
    let keys = key_columns(spec);
    let list: Vec<String> = (0..keys.len()).map(|at| format!("d.k{at}")).collect();
    let mut sql = format!(
        "with dynaurora_doomed as (select {}, {} as version), \
         dynaurora_gone as (delete from {table} t using dynaurora_doomed d where {} \
         and {} returning {})",
        unnested_as(keys, 1, "k")?,
        unnested_version(keys.len() + 1),
        joined("t", keys, "d", "k")?,
        ends(spec, &version),
        list.join(", "),
    );
    let mut counts = "select (select count(*) from dynaurora_gone)".to_owned();
    for (number, child) in children.iter().enumerate() {
        append(
            &mut sql,
            format_args!(
                ", dynaurora_child_{number} as (delete from {} c using dynaurora_gone g where {} \
                 returning 1)",
                quoted_table(&child.name)?,
                joined("c", parent_key(child, spec), "g", "k")?,
            ),
        );
        append(&mut counts, format_args!(", (select count(*) from dynaurora_child_{number})"));
    }
    Ok(format!("{sql} {counts}"))
}

/// Marks rows with a lower version as deleted; child rows stay, since the row does. If the time of the delete
/// is unknown, it is now.
///
/// Parameters: one array per key column, then the times, then the versions.
pub(super) fn soft_delete(spec: &TableSpec, deleted_at: &ColumnSpec) -> Result<String> {
    let (table, version) = (quoted_table(&spec.name)?, quoted(VERSION_COLUMN)?);
    let keys = key_columns(spec);
    Ok(format!(
        "update {table} t set {} = coalesce(d.at, now()), {version} = d.version \
         from (select {}, unnest(${}::text[])::timestamptz as at, {} as version) d \
         where {} and {}",
        quoted(&deleted_at.name)?,
        unnested_as(keys, 1, "k")?,
        keys.len() + 1,
        unnested_version(keys.len() + 2),
        joined("t", keys, "d", "k")?,
        ends(spec, &version),
    ))
}

/// Whether the version of the end `d` is higher than that of the row `t`, and the row may be of its item.
fn ends(spec: &TableSpec, version: &str) -> String {
    let lower = format!("t.{version} < d.version");
    if !spec.names_items {
        return lower;
    }
    format!("{lower} and {}", may_be_one_item(&format!("t.{version}"), "d.version"))
}

/// Deletes child rows that the batch does not have, of parents that the batch wrote.
///
/// Parameters: one array per key column of the parent, the parents' versions, then one array per
/// key column of the child.
pub(super) fn prune_children(parent: &TableSpec, child: &TableSpec) -> Result<String> {
    let parent_keys = key_columns(parent);
    let child_keys = key_columns(child);
    let version = quoted(VERSION_COLUMN)?;
    Ok(format!(
        "delete from {} c using (select {}, {} as version) p, {} t where {} \
         and t.{version} = p.version and {} and not exists (select from (select {}) n where {})",
        quoted_table(&child.name)?,
        unnested_as(parent_keys, 1, "k")?,
        unnested_version(parent_keys.len() + 1),
        quoted_table(&parent.name)?,
        joined("t", parent_keys, "p", "k")?,
        joined("c", parent_key(child, parent), "p", "k")?,
        unnested_as(child_keys, parent_keys.len() + 2, "c")?,
        joined("c", child_keys, "n", "c")?,
    ))
}

/// Inserts the child rows of parents that the batch wrote, or overwrites existing ones that differ.
///
/// Parameters: one array per column of the child, then the parents' versions.
pub(super) fn upsert_children(parent: &TableSpec, child: &TableSpec) -> Result<String> {
    let (keys, others) = child.columns.split_at(child.key_columns);
    let parent_keys = key_columns(parent);
    let version = quoted(VERSION_COLUMN)?;
    let list: Vec<String> = (0..child.columns.len()).map(|at| format!("n.c{at}")).collect();
    let conflict = if others.is_empty() {
        "nothing".to_owned()
    } else {
        let others_names = names(others)?;
        let own: Vec<String> = others_names.iter().map(|name| format!("c.{name}")).collect();
        let new: Vec<String> = others_names.iter().map(|name| format!("excluded.{name}")).collect();
        format!(
            "update set {} where ({}) is distinct from ({})",
            assignments(others)?.join(", "),
            own.join(", "),
            new.join(", "),
        )
    };
    Ok(format!(
        "insert into {} as c ({}) select {} from (select {}, {} as version) n join {} t on {} \
         and t.{version} = n.version on conflict ({}) do {conflict}",
        quoted_table(&child.name)?,
        names(&child.columns)?.join(", "),
        list.join(", "),
        unnested_as(&child.columns, 1, "c")?,
        unnested_version(child.columns.len() + 1),
        quoted_table(&parent.name)?,
        joined("t", parent_keys, "n", "c")?,
        names(keys)?.join(", "),
    ))
}

fn assignments(columns: &[ColumnSpec]) -> Result<Vec<String>> {
    let names = names(columns)?;
    Ok(names.iter().map(|name| format!("{name} = excluded.{name}")).collect())
}

fn append(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("writing to a string cannot fail");
}
