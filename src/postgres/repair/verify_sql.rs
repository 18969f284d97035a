//! The SQL that compares rows. `ident` quotes every name, every value is a parameter; our own names have
//! prefixes that no quoted name can match.

use crate::error::Result;
use crate::mapping::spec::{ColumnSpec, TableSpec, VERSION_COLUMN};
use crate::postgres::sql::columns::{
    distinct, joined, key_columns, listed, mark, names, paired, parent_key, unnested_as,
};
use crate::postgres::sql::ident::{cast_type, quoted, quoted_table};
use crate::postgres::tables::history_sql::Histories;
use crate::postgres::tables::own_rows::own_rows;

/// The rows with the requested keys: ordinal from 1, version, key, which other columns differ, their values,
/// and whether the row is not marked as deleted.
///
/// Parameters: one array per column.
pub(super) fn compare_own(spec: &TableSpec) -> Result<String> {
    let (keys, others) = spec.columns.split_at(spec.key_columns);
    let (differ, found) = differences(others, "t", |at| format!("n.c{}", keys.len() + at))?;
    Ok(format!(
        "select n.ordinal, t.{version}::text, {key}, {differ}, {found}, {live} \
         from (select {values}, generate_subscripts($1::text[], 1)::bigint as ordinal) n \
         join {table} t on {on}",
        live = live(spec, "")?.unwrap_or_else(|| "true".to_owned()),
        version = quoted(VERSION_COLUMN)?,
        key = key_array(keys, "t")?,
        values = unnested_as(&spec.columns, 1, "c")?,
        table = quoted_table(&spec.name)?,
        on = joined("t", keys, "n", "c")?,
    ))
}

/// The missing, unexpected or different child rows of the requested parents: the parent's ordinal, the number
/// of the expected row (NULL if none), the key of the existing row (NULL if none), which other columns
/// differ, and their values.
///
/// Parameters: one array per key column of the parent, the parents' ordinals of the expected rows, then one
/// array per column of the child.
pub(super) fn compare_children(parent: &TableSpec, child: &TableSpec) -> Result<String> {
    let parent_keys = key_columns(parent);
    let (keys, others) = child.columns.split_at(child.key_columns);
    let ordinals = parent_keys.len() + 1;
    let first = ordinals + 1;
    let columns = names(&child.columns)?;
    let columns = columns.iter().enumerate().map(|(at, name)| format!("t.{name} as a{at}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let key = (0..keys.len()).map(|at| format!("a.a{at}::text")).collect::<Vec<_>>().join(", ");
    let on = (0..keys.len()).map(|at| format!("a.a{at} = n.c{at}")).collect::<Vec<_>>();
    let (mut differ, mut found) = (Vec::new(), Vec::new());
    for (at, column) in others.iter().enumerate() {
        let at = keys.len() + at;
        let test = distinct(column, &format!("a.a{at}"), &format!("n.c{at}"));
        found.push(format!("case when {test} then a.a{at}::text end"));
        differ.push(test);
    }
    let any = if differ.is_empty() { "false".to_owned() } else { differ.join(" or ") };
    Ok(format!(
        "select coalesce(a.ordinal, n.parent), n.number, \
         case when a.ordinal is not null then array[{key}] end, \
         array[{differ}]::boolean[], array[{found}]::text[] \
         from (select p.ordinal, {columns} from (select {parents}, \
         generate_subscripts($1::text[], 1)::bigint as ordinal) p \
         join {table} t on {hanging}{stays}) a \
         full join (select {values}, unnest(${ordinals}::text[])::bigint as parent, \
         generate_subscripts(${ordinals}::text[], 1)::bigint as number) n on {on} \
         where a.ordinal is null or n.number is null or {any}",
        differ = differ.join(", "),
        found = found.join(", "),
        parents = unnested_as(parent_keys, 1, "k")?,
        table = quoted_table(&child.name)?,
        hanging = joined("t", parent_key(child, parent), "p", "k")?,
        stays = stays(parent)?,
        values = unnested_as(&child.columns, first, "c")?,
        on = on.join(" and "),
    ))
}

/// The versions of a history after a key in key order that are open without a row, or whose times are wrong:
/// key, the version of their row, and false.
///
/// Parameters: the limit, then the key's texts, if any.
pub(super) fn page_of_history(history: &Histories<'_>, after: bool) -> Result<String> {
    let Histories { table, of_table, version, op, valid_from, valid_to, ends, spec, .. } = history;
    let keys = key_columns(spec);
    let own = listed("h", keys)?;
    let place = match after {
        true => format!(" and ({own}) > ({})", texts_from(keys, 2)?),
        false => String::new(),
    };
    Ok(format!(
        "select {key}, t.{version}::text, false from {table} h left join {of_table} t on {row} \
         left join lateral (select n.{valid_from} as at from {table} n where {next} \
         and n.{version} > h.{version} order by n.{version} limit 1) n on true \
         where (h.{valid_to} is null and not (t.{version} is not null{live}) \
         or coalesce(n.at < h.{valid_from}, false) or h.{valid_to} is distinct from \
         case when h.{op} in ({ends}) then h.{valid_from} else n.at end){place}{constants} \
         order by {own} limit $1",
        key = key_array(keys, "h")?,
        row = history.same_row("t", "h")?,
        next = history.same_row("n", "h")?,
        live = history.live("t")?,
        constants = own_rows(spec, "h", " and ")?,
    ))
}

/// The rows after a key in key order: key, version, and whether the parent exists.
///
/// Parameters: the limit, then the key's texts, if any.
pub(super) fn page(spec: &TableSpec, parent: Option<&TableSpec>, after: bool) -> Result<String> {
    let keys = key_columns(spec);
    let own = listed("t", keys)?;
    let (version, has_parent) = match parent {
        None => (format!("t.{}::text", quoted(VERSION_COLUMN)?), "true".to_owned()),
        Some(parent) => {
            let on = paired("p", key_columns(parent), "t", parent_key(spec, parent))?;
            let table = quoted_table(&parent.name)?;
            ("null::text".to_owned(), format!("exists (select from {table} p where {on})"))
        }
    };
    let mut place = String::new();
    if after {
        place = format!(" where ({own}) > ({})", texts_from(keys, 2)?);
    }
    let link = |place: &str| if place.is_empty() { " where " } else { " and " };
    place.push_str(&live(spec, link(&place))?.unwrap_or_default());
    place.push_str(&own_rows(spec, "t", link(&place))?);
    Ok(format!(
        "select {key}, {version}, {has_parent} from {table} t{place} order by {own} limit $1",
        key = key_array(keys, "t")?,
        table = quoted_table(&spec.name)?,
    ))
}

/// The key's texts, from this parameter on.
fn texts_from(keys: &[ColumnSpec], first: usize) -> Result<String> {
    let values = keys.iter().zip(first..);
    let values = values.map(|(key, at)| Ok(format!("${at}::{}", cast_type(&key.column_type)?)));
    Ok(values.collect::<Result<Vec<_>>>()?.join(", "))
}

/// Excludes child rows of a parent marked as deleted: they stay with it.
fn stays(parent: &TableSpec) -> Result<String> {
    let Some(mark) = mark(parent)? else { return Ok(String::new()) };
    Ok(format!(
        " and not exists (select from {table} m where {on} and m.{mark} is not null)",
        table = quoted_table(&parent.name)?,
        on = joined("m", key_columns(parent), "p", "k")?,
    ))
}

/// The condition that a row is not marked as deleted, after `link`; `None` if rows are never marked.
fn live(spec: &TableSpec, link: &str) -> Result<Option<String>> {
    Ok(mark(spec)?.map(|mark| format!("{link}t.{mark} is null")))
}

/// Two arrays over columns: which differ, and the differing values.
pub(super) fn differences(
    columns: &[ColumnSpec],
    own: &str,
    other: impl Fn(usize) -> String,
) -> Result<(String, String)> {
    let (mut differ, mut found) = (Vec::new(), Vec::new());
    for (at, column) in columns.iter().enumerate() {
        let name = format!("{own}.{}", quoted(&column.name)?);
        let test = distinct(column, &name, &other(at));
        found.push(format!("case when {test} then {name}::text end"));
        differ.push(test);
    }
    let array = |list: Vec<String>, of: &str| format!("array[{}]::{of}[]", list.join(", "));
    Ok((array(differ, "boolean"), array(found, "text")))
}

fn key_array(keys: &[ColumnSpec], own: &str) -> Result<String> {
    let texts = keys.iter().map(|key| Ok(format!("{own}.{}::text", quoted(&key.name)?)));
    Ok(format!("array[{}]", texts.collect::<Result<Vec<_>>>()?.join(", ")))
}
