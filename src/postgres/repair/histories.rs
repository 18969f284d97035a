//! Histories beside their tables: what a verification finds of them, and what a repair makes of them.
//!
//! A mended history is only ever continued: a version of now with what the row shows, or an end. Its number
//! lies between the newest version and the next whole number, so that no change can have it. Then the times
//! of all versions of the key are set anew.

use sqlx::{AssertSqlSafe, Row};

use super::asked::{Asked, differing, key_texts, place};
use super::verify_sql::differences;
use crate::error::Result;
use crate::mapping::spec::{HISTORY_COLUMNS, TableSpec};
use crate::model::{Cells, Generation, RowAction, RowOp, TableIndex, Version};
use crate::ops::ports::{Cell, Comparison, Difference, Fault};
use crate::postgres::session::Tx;
use crate::postgres::sql::columns::{joined, listed, names, unnested, unnested_as};
use crate::postgres::sql::encode::{printed, texts};
use crate::postgres::tables::history::histories;
use crate::postgres::tables::history_sql::Histories;
use crate::postgres::tables::own_rows::own_rows;

/// The history of a table, if it has one that can be compared: where rows name their items, one key can have
/// several open versions, of rows that wait.
pub(super) fn history_of(tables: &[TableSpec], table: TableIndex) -> Option<TableIndex> {
    let is_its = |own: &TableSpec| own.history_of == Some(table) && !own.names_items;
    let at = tables.iter().position(is_its)?;
    u16::try_from(at).ok().map(TableIndex)
}

/// Compares the histories of the rows asked about: each is open exactly if the row should be there, and then
/// shows what the row should; and its times neither fall nor leave anything out.
pub(super) async fn compare(
    tx: &mut Tx,
    tables: &[TableSpec],
    asked: Asked<'_>,
    comparisons: &mut [Comparison],
) -> Result<()> {
    let Some(table) = history_of(tables, asked.table) else { return Ok(()) };
    let at = usize::from(table.0);
    let Some(spec) = tables.get(at) else { return Ok(()) };
    let rows: Vec<Cells> = asked.rows.iter().map(|op| wanted(op, asked.spec)).collect();
    let open: Vec<bool> = asked.rows.iter().map(|op| op.action == RowAction::Upsert).collect();
    let keys = asked.spec.key_columns;
    let mut query = tx
        .query_once(AssertSqlSafe(compare_sql(&histories(tables, at)?)?))
        .named(format!("compare rows of {}", spec.name));
    let shown = keys + 1..spec.columns.len() - HISTORY_COLUMNS.len();
    for column in (0..keys).chain(shown) {
        query = query.bind(texts(&rows, move |cells| cells.cell(column)));
    }
    let found = query.bind(&open).all(|row| {
        let at = place(row, rows.len())?;
        let Some(cells) = rows.get(at) else { return Ok(None) };
        let open_key: Option<Vec<String>> = row.try_get(5)?;
        let fault = match (open_key, open.get(at)) {
            (Some(key), Some(false)) => Some((key, Fault::Unexpected)),
            (None, Some(true)) => Some((key_texts(cells, keys), Fault::Missing)),
            (Some(key), Some(true)) => differing(row, 6, cells, spec)?.map(|fault| (key, fault)),
            _ => None,
        };
        // What is missing or too much has wrong times besides.
        let fault = match (fault, row.try_get::<Option<Vec<String>>, _>(1)?) {
            (None, Some(key)) => {
                let falls: bool = row.try_get(2)?;
                // The last two columns are the start and the end.
                let column = spec.columns.len() - if falls { 2 } else { 1 };
                let cell = Cell { column, expected: row.try_get(3)?, found: row.try_get(4)? };
                Some((key, Fault::Differs(vec![cell])))
            }
            (fault, _) => fault,
        };
        Ok(fault.map(|(key, fault)| (at, Difference { table, key, fault })))
    });
    for (at, difference) in found.await?.into_iter().flatten() {
        if let Some(comparison) = comparisons.get_mut(at) {
            comparison.differences.push(difference);
        }
    }
    Ok(())
}

/// A row as the open one of its history: its key, no version, and what it shows.
fn wanted(op: &RowOp, of: &TableSpec) -> Cells {
    let mut cells = op.cells.prefix(of.key_columns);
    cells.push_null();
    for at in (of.key_columns..of.columns.len()).filter(|at| of.deleted_at != Some(*at)) {
        match (op.action == RowAction::Upsert).then(|| op.cells.cell(at)).flatten() {
            Some(text) => cells.push(text),
            None => cells.push_null(),
        }
    }
    cells
}

/// What is wrong with the histories asked about: ordinal from 1; the key of the first version whose times
/// are wrong, whether its start is, what that time should be and what it is; the key of the open version;
/// which of its columns differ, and their values.
///
/// Parameters: one array per column of the key and of what the row shows, then whether a version is open.
fn compare_sql(history: &Histories<'_>) -> Result<String> {
    let Histories { table, version, op, valid_from, valid_to, ends, .. } = history;
    let keys = history.keys();
    let asked = [keys, history.shown()].concat();
    let (differ, found) =
        differences(history.shown(), "o", |at| format!("n.c{}", keys.len() + at))?;
    let key = |alias: &str| -> Result<String> {
        let names = [names(keys)?, vec![version.clone()]].concat();
        let texts: Vec<_> = names.iter().map(|name| format!("{alias}.{name}::text")).collect();
        Ok(format!("array[{}]", texts.join(", ")))
    };
    Ok(format!(
        "select n.ordinal, b.key, b.falls, b.due, b.found, o.key, {differ}, {found} \
         from (select {values}, unnest(${flag}::boolean[]) as wanted, \
         generate_subscripts($1::text[], 1)::bigint as ordinal) n \
         left join lateral (select {bad_key} as key, c.falls, \
         (case when c.falls then c.dynaurora_before else c.dynaurora_due end)::text as due, \
         (case when c.falls then c.{valid_from} else c.{valid_to} end)::text as found \
         from (select h.*, lag(h.{valid_from}) over own as dynaurora_before, \
         coalesce(h.{valid_from} < lag(h.{valid_from}) over own, false) as falls, \
         case when h.{op} in ({ends}) then h.{valid_from} \
         else lead(h.{valid_from}) over own end as dynaurora_due from {table} h where {chain} \
         window own as (order by h.{version})) c \
         where c.falls or c.{valid_to} is distinct from c.dynaurora_due \
         order by c.{version} limit 1) b on true \
         left join lateral (select h.*, {open_key} as key from {table} h where {chain} \
         and h.{valid_to} is null order by h.{version} desc limit 1) o on true \
         where b.key is not null or n.wanted or o.key is not null",
        values = unnested_as(&asked, 1, "c")?,
        flag = asked.len() + 1,
        bad_key = key("c")?,
        open_key = key("h")?,
        chain = joined("h", keys, "n", "c")?,
    ))
}

/// What is wrong with a history as a whole: kinds, each with its count and a key.
pub(super) fn broken(history: &Histories<'_>) -> Result<String> {
    let of = history.of;
    let Histories { table, of_table, version, op, valid_from, valid_to, ends, .. } = history;
    let keys = history.keys();
    let own = names(&[keys, history.shown()].concat())?.join(", ");
    let key = names(keys)?.join(", ");
    let live = history.live("t")?;
    let open = format!(
        "select {own} from {table} t where t.{valid_to} is null{}",
        own_rows(of, "t", " and ")?,
    );
    let rows = format!(
        "select {own} from {of_table} t where t.{version} > 0{live}{}",
        own_rows(of, "t", " and ")?,
    );
    let except = |kind: &str, one: &str, other: &str| {
        format!(
            "select '{kind}', count(*), min(concat_ws(' ', {key})) \
             from ({one} except all {other}) as differing"
        )
    };
    Ok(format!(
        "{} union all {} union all select 'wrong times', count(*), min(concat_ws(' ', {key})) \
         from (select h.*, lag(h.{valid_from}) over own as dynaurora_before, \
         lead(h.{valid_from}) over own as dynaurora_after from {table} h \
         window own as (partition by {key} order by h.{version})) h \
         where h.{valid_from} < h.dynaurora_before or h.{valid_to} is distinct from \
         case when h.{op} in ({ends}) then h.{valid_from} else h.dynaurora_after end",
        except("missing", &rows, &open),
        except("unexpected", &open, &rows),
    ))
}

/// Makes the histories of these keys what their rows are now.
pub(super) async fn mend(
    tx: &mut Tx,
    tables: &[TableSpec],
    table: TableIndex,
    keys: &[&Cells],
    generation: Generation,
) -> Result<()> {
    let at = usize::from(table.0);
    let history = histories(tables, at)?;
    let columns = history.keys().len();
    if keys.is_empty() {
        return Ok(());
    }
    let next = Version::scanned(generation.saturating_add(1)).to_string();
    let scanned = Version::scanned(generation).to_string();
    for (sql, last) in [(forget(&history)?, next), (go_on(&history)?, scanned)] {
        let mut query = tx.query_once(AssertSqlSafe(sql)).named("mend a history");
        for column in 0..columns {
            query = query.bind(texts(keys, move |cells| cells.cell(column)));
        }
        query.bind(last).execute().await?;
    }
    let mut query = tx.query_once(AssertSqlSafe(history.settle()?)).named("mend a history");
    for column in 0..columns {
        query = query.bind(texts(keys, move |cells| cells.cell(column)));
    }
    query.bind(printed(keys, |_| 0)).execute().await.map(drop)
}

/// Takes away versions of the future, which no change can have given: they would stand behind all others.
fn forget(history: &Histories<'_>) -> Result<String> {
    let keys = history.keys();
    Ok(format!(
        "delete from {} h using (select {}) a where {} and h.{} >= ${}::text::numeric",
        history.table,
        unnested_as(keys, 1, "k")?,
        joined("h", keys, "a", "k")?,
        history.version,
        keys.len() + 1,
    ))
}

/// Adds a version where the newest one is not what the row is.
fn go_on(history: &Histories<'_>) -> Result<String> {
    let Histories { table, of_table, version, op, valid_from, valid_to, ends, .. } = history;
    let keys = history.keys();
    let named = unnested(keys, 1)?.into_iter().zip(names(keys)?);
    let named: Vec<_> = named.map(|(array, name)| format!("{array} as {name}")).collect();
    let shown = names(history.shown())?;
    let columns = [names(keys)?, vec![version.clone()], shown.clone()].concat();
    let values = listed("t", history.shown())?;
    let live = history.live("t")?;
    Ok(format!(
        "insert into {table} ({columns}, {op}, {valid_from}, {valid_to}) \
         select {own}, case when h.{version} >= b.dynaurora_least \
         then (h.{version} + floor(h.{version}) + 1) * 0.5 else b.dynaurora_least end{values}, \
         case when t.{version} is null then 'remove' else 'scan' end, now(), \
         case when t.{version} is null then now() end \
         from (select {asked}) a left join {of_table} t on {row}{live} \
         left join lateral (select h.* from {table} h where {chain} \
         order by h.{version} desc limit 1) h on true cross join lateral \
         (select greatest(t.{version}, ${scanned}::text::numeric) as dynaurora_least) b \
         where case when t.{version} is null then h.{op} not in ({ends}) \
         else h.{version} is null or h.{op} in ({ends}) or {differs} end",
        columns = columns.join(", "),
        own = listed("a", keys)?,
        values = if shown.is_empty() { values } else { format!(", {values}") },
        asked = named.join(", "),
        row = history.same_row("t", "a")?,
        chain = history.same_row("h", "a")?,
        scanned = keys.len() + 1,
        differs = history.differs("h", "t")?,
    ))
}
