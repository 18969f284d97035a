//! Rows that another item's row hides, where rows name their items.
//!
//! Where a row's key has attributes outside the source's key, an item can leave a key and another can take
//! it: in one transaction of the source, or shortly after. Their changes come in any order, for they are in
//! two shards, and no number tells which change was first. So for a while two items hold one key, as far as
//! the target knows. The row that was applied last is in the table, and the other one waits in the ledger's
//! `hidden_rows`, whole. When the item in the table leaves, the one that waits is there again; when the one
//! that waits leaves, it is forgotten. Once both changes are applied one item is left, whatever came first.
//!
//! A row that is not there cannot be locked, so batches with such rows take turns: an advisory lock of the
//! source, taken after that of the tombstones, for the length of the transaction.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Row};

use super::rows::{EntityRows, malformed};
use super::tombstones::{ALONE, hash, lock};
use crate::apply::ports::{Applied, KeyHash, RecordRef, TableApplied, Unit};
use crate::error::Result;
use crate::mapping::spec::{ColumnSpec, TableSpec, VERSION_COLUMN};
use crate::model::{Cells, ItemTag, RowAction, RowOp, TableIndex, Version};
use crate::postgres::session::Tx;
use crate::postgres::sql::columns::{
    joined, key_columns, mark, parent_key, unnested_as, unnested_version,
};
use crate::postgres::sql::encode::{printed, texts};
use crate::postgres::sql::ident::{quoted, quoted_table};
use crate::postgres::sql::words::are_two_items;

const KNOWN: &str = "\
    select key_hash, item, version::text, content::text from dynaurora.hidden_rows \
    where source = $1 and target = $2 and key_hash = any($3::bytea[]) \
    order by key_hash, version desc, item";

const HIDE: &str = "\
    insert into dynaurora.hidden_rows as h (source, target, key_hash, item, version, content) \
    select $1, $2, unnest($3::bytea[]), unnest($4::text[])::bigint, unnest($5::text[])::numeric, \
        unnest($6::text[])::jsonb \
    on conflict (source, target, key_hash, item) \
    do update set version = excluded.version, content = excluded.content \
    where h.version < excluded.version";

const FORGET: &str = "\
    delete from dynaurora.hidden_rows h using (select unnest($3::bytea[]) as key_hash, \
        unnest($4::text[])::bigint as item) d \
    where h.source = $1 and h.target = $2 and h.key_hash = d.key_hash and h.item = d.item";

const FORGET_OLDER: &str = "\
    delete from dynaurora.hidden_rows where source = $1 and target = $2 \
        and version < $3::numeric and key_hash <> all ($4::bytea[])";

const WHAT: &str = "keep the rows of two items apart";

/// Waits for other transactions with rows that name their items.
pub(in crate::postgres) async fn take_turn(tx: &mut Tx, source: &str) -> Result<()> {
    let turn = tx.query(ALONE).named("wait for other rows of this source");
    let turn = turn.bind(lock("dynaurora hidden rows ", source));
    turn.execute().await.map(drop)
}

/// Forgets hidden rows of one table with a lower version: a backfill did not find their items there.
pub(super) async fn forget_older(
    tx: &mut Tx,
    source: &str,
    table: &TableSpec,
    spared: &[&Cells],
    first: Version,
) -> Result<()> {
    let spared: Vec<KeyHash> =
        spared.iter().map(|cells| hash(cells, table.key_columns, None)).collect();
    let spared: Vec<&[u8]> = spared.iter().map(KeyHash::as_slice).collect();
    let forget = tx.query_once(FORGET_OLDER).named(WHAT).bind(source);
    let forget = forget.bind(table.name.to_string()).bind(first.to_string()).bind(spared);
    forget.execute().await.map(drop)
}

/// The rows of one table in which each row names its item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hidden<'a> {
    pub(super) source: &'a str,
    pub(super) rows: &'a EntityRows,
}

/// A row that is or will be hidden.
#[derive(Debug, Clone)]
struct HiddenRow {
    key: KeyHash,
    item: ItemTag,
    version: Version,
    content: String,
}

/// What becomes of the units of one batch, one of each key and item.
#[derive(Debug, Default)]
struct Plan<'u> {
    /// What is written to the table.
    write: Vec<&'u Unit>,
    /// Rows that another item's row of the same batch hides.
    hide: Vec<&'u Unit>,
    /// Hidden rows whose items left, or are in the table again.
    forget: Vec<(KeyHash, ItemTag)>,
    /// Keys that some item leaves in this batch.
    left: HashMap<KeyHash, Cells>,
}

impl Hidden<'_> {
    /// Writes the units of this table and counts the results; hides and shows rows as items leave and take
    /// their keys.
    pub(super) async fn write(
        self,
        tx: &mut Tx,
        units: &[&Unit],
        applied: &mut Applied,
    ) -> Result<()> {
        let keys: Vec<KeyHash> = units.iter().map(|unit| self.key_of(&unit.op.cells)).collect();
        let known = self.known(tx, &keys).await?;
        let versions: HashMap<(KeyHash, ItemTag), Version> =
            known.iter().map(|row| ((row.key, row.item), row.version)).collect();
        let plan = self.planned(units, &versions);
        let mut hide = self.replaced(tx, &plan).await?;
        for unit in &plan.hide {
            if let Some(item) = unit.op.item {
                let key = self.key_of(&unit.op.cells);
                let content = self.content(&unit.op);
                hide.push(HiddenRow { key, item, version: unit.version, content });
            }
        }
        self.forget(tx, &plan.forget).await?;
        let hidden: HashSet<KeyHash> = known
            .iter()
            .filter(|row| !plan.forget.contains(&(row.key, row.item)))
            .chain(&hide)
            .map(|row| row.key)
            .collect();
        self.hide(tx, hide).await?;
        self.rows.count_skipped(units.len() - plan.write.len(), applied)?;
        self.rows.write(tx, &plan.write, applied).await?;
        let shown: Vec<&Cells> =
            plan.left.iter().filter(|(key, _)| hidden.contains(*key)).map(|(_, own)| own).collect();
        if shown.is_empty() {
            return Ok(());
        }
        // Each was counted when it came.
        let mut counted = Applied::default();
        counted.tables.resize(applied.tables.len(), TableApplied::default());
        self.show(tx, &shown, &mut counted).await
    }

    /// Decides for each key which item's row is written and which is hidden.
    fn planned<'u>(
        self,
        units: &[&'u Unit],
        known: &HashMap<(KeyHash, ItemTag), Version>,
    ) -> Plan<'u> {
        let mut plan = Plan::default();
        let columns = self.rows.key_columns();
        let same =
            |one: &&Unit, next: &&Unit| one.op.cells.cmp_prefix(&next.op.cells, columns).is_eq();
        for own in units.chunk_by(same) {
            let Some(first) = own.first() else { continue };
            let key = self.key_of(&first.op.cells);
            let hidden = |unit: &Unit| {
                let item = unit.op.item?;
                known.get(&(key, item)).map(|version| (item, *version))
            };
            let ends =
                |item| own.iter().any(|unit| unit.op.action.ends_row() && unit.op.item == item);
            // A scanned row may be older than its item's row that is hidden.
            let newest = |unit: &&&Unit| {
                unit.op.action == RowAction::Upsert
                    && hidden(unit).is_none_or(|(_, version)| version < unit.version)
            };
            let upserts = own.iter().filter(newest);
            let written = upserts
                .clone()
                .max_by_key(|unit| (!ends(unit.op.item), unit.version, unit.op.item))
                .map(|unit| unit.op.item);
            for unit in own {
                let ends_row = unit.op.action.ends_row();
                if ends_row {
                    plan.left.entry(key).or_insert_with(|| unit.op.cells.prefix(columns));
                }
                if ends_row || newest(&unit) && written == Some(unit.op.item) {
                    plan.write.push(unit);
                    let older = hidden(unit).filter(|(_, version)| *version < unit.version);
                    plan.forget.extend(older.map(|(item, _)| (key, item)));
                } else if newest(&unit) && !ends(unit.op.item) {
                    plan.hide.push(unit);
                }
            }
        }
        plan
    }

    /// The rows of other items that the upserts are about to replace.
    async fn replaced(self, tx: &mut Tx, plan: &Plan<'_>) -> Result<Vec<HiddenRow>> {
        let is_upsert = |unit: &&&Unit| unit.op.action == RowAction::Upsert;
        let upserts: Vec<&Unit> = plan.write.iter().filter(is_upsert).copied().collect();
        if upserts.is_empty() {
            return Ok(Vec::new());
        }
        let spec = self.rows.spec();
        let sql = replaced(spec)?;
        let mut query = tx.query(AssertSqlSafe(sql)).named(WHAT);
        for cell in 0..spec.key_columns {
            query = query.bind(texts(&upserts, move |unit| unit.op.cells.cell(cell)));
        }
        let query = query.bind(printed(&upserts, |unit| unit.stamp()));
        let found = query
            .all(|row| {
                let own: (i64, String, Vec<Option<String>>) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                Ok(own)
            })
            .await?;
        let mut rows = Vec::new();
        for (ordinal, stamp, cells) in found {
            let unit = usize::try_from(ordinal - 1).ok().and_then(|at| upserts.get(at));
            let named = ItemTag::of_version(&stamp).zip(Version::parse(&stamp));
            let (Some(unit), Some((item, version))) = (unit, named) else { continue };
            // The item may leave in this batch, or bring a newer row that is hidden.
            let newer = |own: &&Unit| {
                own.op.item == Some(item)
                    && own.version > version
                    && own.op.cells.cmp_prefix(&unit.op.cells, spec.key_columns).is_eq()
            };
            if plan.write.iter().chain(&plan.hide).any(newer) {
                continue;
            }
            let key = self.key_of(&unit.op.cells);
            let cells: Cells = cells.iter().map(Option::as_deref).collect();
            let children = self.children_of(tx, &cells).await?;
            let action = RowAction::Upsert;
            let table = self.rows.table();
            let content = self.content(&RowOp { table, action, cells, children, item: Some(item) });
            rows.push(HiddenRow { key, item, version, content });
        }
        Ok(rows)
    }

    async fn children_of(self, tx: &mut Tx, row: &Cells) -> Result<Vec<(TableIndex, Cells)>> {
        let spec = self.rows.spec();
        let mut children = Vec::new();
        for child in self.rows.children() {
            let hanging = parent_key(&child.spec, spec);
            let sql = format!(
                "select {} from {} t join (select {}) n on {}",
                text_array("t", &child.spec.columns)?,
                quoted_table(&child.spec.name)?,
                unnested_as(hanging, 1, "k")?,
                joined("t", hanging, "n", "k")?,
            );
            let mut query = tx.query(AssertSqlSafe(sql)).named(WHAT);
            for cell in 0..spec.key_columns {
                query = query.bind(texts(std::slice::from_ref(row), move |own| own.cell(cell)));
            }
            let rows = query.all(|row| row.try_get::<Vec<Option<String>>, _>(0)).await?;
            let cells = rows.iter().map(|row| row.iter().map(Option::as_deref).collect());
            children.extend(cells.map(|cells| (child.table, cells)));
        }
        Ok(children)
    }

    /// Shows the newest hidden row of each of these keys that has no row, or only a marked one.
    async fn show(self, tx: &mut Tx, keys: &[&Cells], counted: &mut Applied) -> Result<()> {
        let spec = self.rows.spec();
        let live = mark(spec)?.map_or(String::new(), |mark| format!(" and t.{mark} is null"));
        let sql = format!(
            "select n.ordinal from (select {}, generate_subscripts($1::text[], 1)::bigint \
             as ordinal) n join {} t on {}{live}",
            unnested_as(key_columns(spec), 1, "k")?,
            quoted_table(&spec.name)?,
            joined("t", key_columns(spec), "n", "k")?,
        );
        let mut query = tx.query(AssertSqlSafe(sql)).named(WHAT);
        for cell in 0..spec.key_columns {
            query = query.bind(texts(keys, move |own| own.cell(cell)));
        }
        let taken: HashSet<i64> = query.all(|row| row.try_get(0)).await?.into_iter().collect();
        let free = (1..).zip(keys).filter(|(ordinal, _)| !taken.contains(ordinal));
        let free: Vec<KeyHash> = free.map(|(_, cells)| self.key_of(cells)).collect();
        let mut hidden = self.known(tx, &free).await?;
        hidden.dedup_by_key(|row| row.key);
        let mut units = Vec::with_capacity(hidden.len());
        for row in &hidden {
            let (op, record) = (self.op(row)?, RecordRef { page: 0, index: 0 });
            units.push(Unit { op, version: row.version, record });
        }
        units.sort_by(|a, b| a.op.cells.cmp_prefix(&b.op.cells, spec.key_columns));
        let units: Vec<&Unit> = units.iter().collect();
        self.rows.write(tx, &units, counted).await?;
        let shown: Vec<_> = hidden.iter().map(|row| (row.key, row.item)).collect();
        self.forget(tx, &shown).await
    }

    /// The hidden rows of these keys, the newest of each key first.
    async fn known(self, tx: &mut Tx, keys: &[KeyHash]) -> Result<Vec<HiddenRow>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<&[u8]> = keys.iter().map(KeyHash::as_slice).collect();
        let query = tx.query(KNOWN).named(WHAT).bind(self.source).bind(self.rows.label());
        let rows = query.bind(hashes).all(|row| {
            let own: (Vec<u8>, i64, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            Ok(own)
        });
        let read = |(key, item, version, content): (Vec<u8>, i64, String, String)| {
            Some(HiddenRow {
                key: KeyHash::try_from(key).ok()?,
                item: ItemTag::numbered(item)?,
                version: Version::parse(&version)?,
                content,
            })
        };
        Ok(rows.await?.into_iter().filter_map(read).collect())
    }

    async fn hide(self, tx: &mut Tx, mut rows: Vec<HiddenRow>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_by_key(|row| (row.key, row.item, std::cmp::Reverse(row.version)));
        rows.dedup_by_key(|row| (row.key, row.item));
        let hashes: Vec<&[u8]> = rows.iter().map(|row| row.key.as_slice()).collect();
        let hide = tx.query(HIDE).named(WHAT).bind(self.source).bind(self.rows.label());
        hide.bind(hashes)
            .bind(printed(&rows, |row| row.item))
            .bind(printed(&rows, |row| row.version))
            .bind(texts(&rows, |row| Some(&row.content)))
            .execute()
            .await
            .map(drop)
    }

    async fn forget(self, tx: &mut Tx, rows: &[(KeyHash, ItemTag)]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let hashes: Vec<&[u8]> = rows.iter().map(|(key, _)| key.as_slice()).collect();
        let forget = tx.query(FORGET).named(WHAT).bind(self.source).bind(self.rows.label());
        forget.bind(hashes).bind(printed(rows, |(_, item)| *item)).execute().await.map(drop)
    }

    fn key_of(self, cells: &Cells) -> KeyHash {
        hash(cells, self.rows.key_columns(), None)
    }

    /// A row and its child rows by names, so that a mapping with another column still reads them.
    fn content(self, op: &RowOp) -> String {
        let mut children = Map::new();
        for child in self.rows.children() {
            let own = op.children.iter().filter(|(table, _)| *table == child.table);
            let rows = own.map(|(_, cells)| named(&child.spec, cells)).collect();
            children.insert(child.spec.name.to_string(), Value::Array(rows));
        }
        let row = named(self.rows.spec(), &op.cells);
        serde_json::json!({ "row": row, "children": children }).to_string()
    }

    /// What [`Self::content`] wrote.
    fn op(self, row: &HiddenRow) -> Result<RowOp> {
        let content: Value = serde_json::from_str(&row.content)
            .map_err(|_| malformed("a hidden row cannot be read"))?;
        let mut children = Vec::new();
        for child in self.rows.children() {
            let rows = content["children"][child.spec.name.to_string()].as_array();
            let rows = rows.into_iter().flatten();
            children.extend(rows.map(|row| (child.table, unnamed(&child.spec, row))));
        }
        Ok(RowOp {
            table: self.rows.table(),
            action: RowAction::Upsert,
            cells: unnamed(self.rows.spec(), &content["row"]),
            children,
            item: Some(row.item),
        })
    }
}

/// Rows with these keys that are of other items: ordinal from 1, version, and all cells as texts.
///
/// Parameters: one array per key column, then the versions.
fn replaced(spec: &TableSpec) -> Result<String> {
    let keys = key_columns(spec);
    let version = format!("t.{}", quoted(VERSION_COLUMN)?);
    let live = mark(spec)?.map_or(String::new(), |mark| format!(" and t.{mark} is null"));
    Ok(format!(
        "select n.ordinal, {version}::text, {} from (select {}, {} as version, \
         generate_subscripts($1::text[], 1)::bigint as ordinal) n join {} t on {} \
         where {}{live}",
        text_array("t", &spec.columns)?,
        unnested_as(keys, 1, "k")?,
        unnested_version(keys.len() + 1),
        quoted_table(&spec.name)?,
        joined("t", keys, "n", "k")?,
        are_two_items(&version, "n.version"),
    ))
}

fn text_array(alias: &str, columns: &[ColumnSpec]) -> Result<String> {
    let texts = columns.iter().map(|own| Ok(format!("{alias}.{}::text", quoted(&own.name)?)));
    Ok(format!("array[{}]::text[]", texts.collect::<Result<Vec<_>>>()?.join(", ")))
}

fn named(spec: &TableSpec, cells: &Cells) -> Value {
    let cell = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let cells = spec.columns.iter().zip(cells.iter());
    Value::Object(cells.map(|(own, text)| (own.name.clone(), cell(text))).collect())
}

fn unnamed(spec: &TableSpec, row: &Value) -> Cells {
    spec.columns.iter().map(|own| row[own.name.as_str()].as_str()).collect()
}
