//! The sweep at the end of a backfill: rows that the backfill did not find no longer exist in the source.
//!
//! A row that was found, or changed since, has a version of the backfill's generation. Only rows that
//! dynaurora wrote are swept: a row of somebody else has version 0. If the mapping keeps the rows of deleted
//! items, they are marked instead of deleted. In a shared table each source sweeps only its own rows:
//! generations of two sources cannot be compared.
//!
//! Child rows without a parent row belong to no row, and go too: no change and no page would ever find them.
//!
//! A sweep is rare, so none of its statements stays prepared.

use sqlx::{AssertSqlSafe, Row};

use super::hidden;
use super::own_rows::own_rows;
use super::tombstones;
use crate::engine::ports::{Stale, Sweep, Swept};
use crate::error::Result;
use crate::mapping::spec::{ColumnSpec, HISTORY_COLUMNS, TableSpec, VERSION_COLUMN};
use crate::model::{Cells, Generation, SequenceNumber, Version};
use crate::postgres::session::{Statement, Tx};
use crate::postgres::sql::columns::{
    key_columns, listed, mark, names, paired, parent_key, unnested,
};
use crate::postgres::sql::ident::{quoted, quoted_table};
use crate::postgres::sql::words::{all_is_read, item_of};

/// Rows deleted in one transaction, as many as some batches have. Fewer would hold locks for less time, but
/// each step searches from the table's beginning.
const ROWS_MAX: i64 = 5_000;

/// Counts the rows that a sweep of these tables would delete, and all rows that dynaurora wrote.
pub(super) async fn stale(tx: &mut Tx, tables: &[TableSpec], sweep: &Sweep) -> Result<Stale> {
    let mut stale = Stale::default();
    for table in swept(tables, sweep) {
        let version = quoted(VERSION_COLUMN)?;
        let sql = format!(
            "select count(*) filter (where {version} < $1::numeric), count(*) from {} t \
             where {version} > 0{}{}",
            quoted_table(&table.name)?,
            live(table)?,
            own_rows(table, "t", " and ")?,
        );
        let (rows, of) = tx
            .query_once(AssertSqlSafe(sql))
            .named(format!("count the rows of {}", table.name))
            .bind(first_of(sweep).to_string())
            .one(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?)))
            .await?;
        stale.rows += rows.unsigned_abs();
        stale.of += of.unsigned_abs();
        for child in children(tables, table) {
            let sql = format!("select count(*) {}", orphans(table, child)?);
            let count = tx
                .query_once(AssertSqlSafe(sql))
                .named(format!("count the rows of {} without a parent", child.name))
                .one(|row| row.try_get::<i64, _>(0));
            let lost = count.await?.unsigned_abs();
            stale.rows += lost;
            stale.of += lost;
        }
    }
    Ok(stale)
}

/// Deletes some of them, if the backfill is still the same and no dead letter has arrived; a later one waits,
/// as [`super::tombstones`] explains.
pub(super) async fn step(tx: &mut Tx, tables: &[TableSpec], sweep: &Sweep) -> Result<Swept> {
    if !is_current(tx, &sweep.source, sweep.generation).await? {
        return Ok(Swept::Over);
    }
    tombstones::alone(tx, &sweep.source).await?;
    let others: bool = tx
        .query_once(
            "select exists (select from dynaurora.dead_letters \
             where source = $1 and state = 'open' and id <> all ($2))",
        )
        .named("look for dead letters stored meanwhile")
        .bind(&*sweep.source)
        .bind(&sweep.letters)
        .one(|row| row.try_get(0))
        .await?;
    if others {
        return Ok(Swept::Over);
    }
    if swept(tables, sweep).any(|table| table.names_items) {
        hidden::take_turn(tx, &sweep.source).await?;
    }
    for table in swept(tables, sweep) {
        let deleted = delete(tx, tables, table, sweep).await?;
        if deleted > 0 {
            return Ok(Swept::Rows(deleted));
        }
    }
    for table in swept(tables, sweep) {
        let deleted = delete_orphans(tx, tables, table, sweep).await?;
        if deleted > 0 {
            return Ok(Swept::Rows(deleted));
        }
    }
    Ok(Swept::Done)
}

/// Deletes some child rows without a parent row, except those of spared rows. Nobody writes meanwhile: a
/// statement that waited for a writer's child row would not see the parent row that came with it.
async fn delete_orphans(
    tx: &mut Tx,
    tables: &[TableSpec],
    table: &TableSpec,
    sweep: &Sweep,
) -> Result<u64> {
    let spared = spared(tables, table, sweep);
    // Grandchildren go before the child rows, for foreign keys.
    for child in children(tables, table).rev() {
        let what = format!("delete rows of {} without a parent", child.name);
        let keys = key_columns(table);
        let lost = format!(
            "{} and ({}) not in (select {})",
            orphans(table, child)?,
            listed("c", parent_key(child, table))?,
            unnested(keys, 1)?.join(", "),
        );
        let any = format!("select exists (select {lost})");
        let any = bind_keys(tx.query_once(AssertSqlSafe(any)).named(what.clone()), keys, &spared);
        if !any.one(|row| row.try_get::<bool, _>(0)).await? {
            continue;
        }
        let (parent, name) = (quoted_table(&table.name)?, quoted_table(&child.name)?);
        let lock = format!("lock table {parent}, {name} in share row exclusive mode");
        tx.query_once(AssertSqlSafe(lock)).named(what.clone()).execute().await?;
        let own = key_columns(child);
        let sql = format!(
            "with dynaurora_lost as (select {} {lost} limit {ROWS_MAX}) \
             delete from {name} d using dynaurora_lost l where {}",
            listed("c", own)?,
            paired("d", own, "l", own)?,
        );
        let delete = bind_keys(tx.query_once(AssertSqlSafe(sql)).named(what), keys, &spared);
        return delete.execute().await;
    }
    Ok(0)
}

/// `from` the child table `where` a row has no parent row and is the source's own.
fn orphans(table: &TableSpec, child: &TableSpec) -> Result<String> {
    Ok(format!(
        "from {} c where not exists (select from {} p where {}){}",
        quoted_table(&child.name)?,
        quoted_table(&table.name)?,
        paired("p", key_columns(table), "c", parent_key(child, table))?,
        own_rows(child, "c", " and ")?,
    ))
}

/// The tables whose rows hang on those of this one.
fn children<'a>(
    tables: &'a [TableSpec],
    table: &'a TableSpec,
) -> impl DoubleEndedIterator<Item = &'a TableSpec> {
    let at = tables.iter().position(|own| std::ptr::eq(own, table));
    let hangs = move |child: &&TableSpec| {
        child.parent.is_some_and(|parent| Some(usize::from(parent.table.0)) == at)
    };
    tables.iter().filter(hangs)
}

/// The spared keys of a table.
fn spared<'a>(tables: &[TableSpec], table: &TableSpec, sweep: &'a Sweep) -> Vec<&'a Cells> {
    let at = tables.iter().position(|other| std::ptr::eq(other, table));
    let own = sweep.spared.iter().filter(|(of, _)| Some(usize::from(of.0)) == at);
    own.map(|(_, cells)| cells).collect()
}

/// Binds one array for each key column.
fn bind_keys<'t>(
    mut statement: Statement<'t>,
    keys: &[ColumnSpec],
    of: &[&Cells],
) -> Statement<'t> {
    for cell in 0..keys.len() {
        let column: Vec<Option<&str>> = of.iter().map(|cells| cells.cell(cell)).collect();
        statement = statement.bind(column);
    }
    statement
}

/// Whether the backfill of this generation is still active and has read all; until the transaction ends it
/// stays so. Whoever asked saw that it had, but a database that fails over may have lost that commit.
pub(super) async fn is_current(tx: &mut Tx, source: &str, generation: Generation) -> Result<bool> {
    let sql = format!(
        "select from dynaurora.sources s \
         where s.source = $1 and s.generation = $2 and s.backfilling and {} for key share of s",
        all_is_read("s"),
    );
    let current = tx
        .query_once(AssertSqlSafe(sql))
        .named("check whether the backfill is still the same")
        .bind(source)
        .bind(i64::from(generation));
    Ok(current.optional(|_| Ok(())).await?.is_some())
}

/// Checks the version again under the row's lock: the statement waits for a writer of the row and then sees
/// its result.
async fn delete(
    tx: &mut Tx,
    tables: &[TableSpec],
    table: &TableSpec,
    sweep: &Sweep,
) -> Result<u64> {
    let (name, version) = (quoted_table(&table.name)?, quoted(VERSION_COLUMN)?);
    let keys = key_columns(table);
    let at = tables.iter().position(|other| std::ptr::eq(other, table));
    let spared = spared(tables, table, sweep);
    if table.names_items {
        hidden::forget_older(tx, &sweep.source, table, &spared, first_of(sweep)).await?;
    }
    let mut sql = format!(
        "with dynaurora_stale as (select {own} from {name} t \
         where t.{version} > 0 and t.{version} < $1::numeric{}{} and ({own}) not in (select {}) \
         order by {own} limit $2 for update), \
         dynaurora_gone as ({} where ({own}) = ({}) returning {own})",
        live(table)?,
        own_rows(table, "t", " and ")?,
        unnested(keys, 3)?.join(", "),
        match mark(table)? {
            None => format!("delete from {name} t using dynaurora_stale d"),
            Some(mark) => format!(
                "update {name} t set {mark} = now(), {version} = $1::numeric{} \
                 from dynaurora_stale d",
                // The row is still of its item.
                match table.names_items {
                    true => format!(" + {}", item_of(&format!("t.{version}"))),
                    false => String::new(),
                }
            ),
        },
        listed("d", keys)?,
        own = listed("t", keys)?,
    );
    for history in tables.iter().filter(|own| own.history_of.map(|of| usize::from(of.0)) == at) {
        sql.push_str(&ended(history, keys)?);
    }
    // Child rows of a marked row stay.
    let goes_too = |child: &TableSpec| {
        let parent = child.parent.map(|parent| usize::from(parent.table.0));
        table.deleted_at.is_none() && parent.is_some() && parent == at
    };
    for (number, child) in tables.iter().enumerate().filter(|(_, child)| goes_too(child)) {
        let hangs_on = parent_key(child, table);
        sql.push_str(&format!(
            ", dynaurora_child_{number} as (delete from {} c using dynaurora_gone g where {})",
            quoted_table(&child.name)?,
            paired("c", hangs_on, "g", keys)?,
        ));
    }
    sql.push_str(" select count(*) from dynaurora_gone");
    let query = tx
        .query_once(AssertSqlSafe(sql))
        .named(format!("delete rows of {} that no backfill found", table.name))
        .bind(first_of(sweep).to_string())
        .bind(ROWS_MAX);
    let query = bind_keys(query, keys, &spared);
    let deleted: i64 = query.one(|row| row.try_get(0)).await?;
    Ok(deleted.unsigned_abs())
}

/// Excludes rows that are already marked.
fn live(table: &TableSpec) -> Result<String> {
    Ok(mark(table)?.map_or(String::new(), |mark| format!(" and t.{mark} is null")))
}

/// Ends the history of a swept row now: nobody knows when its item was removed.
fn ended(history: &TableSpec, keys: &[ColumnSpec]) -> Result<String> {
    let table = quoted_table(&history.name)?;
    let version = quoted(VERSION_COLUMN)?;
    let [op, valid_from, valid_to] = HISTORY_COLUMNS.map(quoted);
    let (op, valid_from, valid_to) = (op?, valid_from?, valid_to?);
    // Another item may have taken the key.
    let older = match history.names_items {
        true => format!(" and h.{version} < $1::numeric"),
        false => String::new(),
    };
    Ok(format!(
        ", dynaurora_ended as (update {table} h set {valid_to} = greatest(h.{valid_from}, now()) \
         from dynaurora_gone g where ({}) = ({}) and h.{valid_to} is null{older} \
         returning {}, h.{valid_to} as dynaurora_at), \
         dynaurora_end as (insert into {table} ({}, {version}, {op}, {valid_from}, {valid_to}) \
         select {}, $1::numeric, 'remove', e.dynaurora_at, e.dynaurora_at from dynaurora_ended e \
         on conflict do nothing)",
        listed("h", keys)?,
        listed("g", keys)?,
        listed("h", keys)?,
        names(keys)?.join(", "),
        listed("e", keys)?,
    ))
}

/// The lowest version of the backfill's generation.
fn first_of(sweep: &Sweep) -> Version {
    Version { generation: sweep.generation, sequence: SequenceNumber::ZERO }
}

fn swept<'a>(tables: &'a [TableSpec], sweep: &'a Sweep) -> impl Iterator<Item = &'a TableSpec> {
    sweep.tables.iter().filter_map(|at| tables.get(usize::from(at.0)))
}
