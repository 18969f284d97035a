//! History tables: a row for every version, each valid until the next.
//!
//! New rows of a batch are added, then the end times of their neighbours in version order are set. So a
//! repeated batch adds nothing, and a late row takes its place between the others. The entity's table is
//! written before, in the same transaction: the lock on its row makes two writers of one key wait.
//!
//! Where rows name their items, the versions of each item follow one another by themselves: what another item
//! does with the key neither ends them nor comes before them.

use std::sync::Arc;

use super::rows::{count_of, index, malformed, statement};
use crate::apply::ports::{Applied, Unit};
use crate::error::Result;
use crate::mapping::spec::{HISTORY_COLUMNS, HISTORY_ENDS, TableSpec, VERSION_COLUMN};
use crate::model::{ChangeOp, RowAction, RowOp, TableIndex};
use crate::postgres::session::Tx;
use crate::postgres::sql::columns::{
    key_columns, listed, names, paired, unnested, unnested_version,
};
use crate::postgres::sql::encode::{printed, texts};
use crate::postgres::sql::ident::{quoted, quoted_table};
use crate::postgres::sql::words::{is_scanned, item_of, may_be_one_item};

/// The statements of one history.
#[derive(Debug)]
pub(in crate::postgres) struct HistoryRows {
    table: TableIndex,
    label: String,
    columns: usize,
    /// The key without the version.
    keys: usize,
    add: Arc<str>,
    close: Arc<str>,
}

impl HistoryRows {
    /// The statements of `tables[at]`, the history of another table.
    pub(in crate::postgres) fn new(tables: &[TableSpec], at: usize) -> Result<Self> {
        let spec =
            tables.get(at).ok_or_else(|| malformed("a table's number is beyond the mapping"))?;
        let of = spec.history_of.and_then(|of| tables.get(usize::from(of.0)));
        let of = of.ok_or_else(|| malformed("a history is of no table"))?;
        Ok(Self {
            table: index(at)?,
            label: spec.name.to_string(),
            columns: spec.columns.len(),
            keys: of.key_columns,
            add: add(spec, of)?.into(),
            close: close(spec, of)?.into(),
        })
    }

    /// The statements for what a repair writes to the history of one table, if it has one: an item read under
    /// the table's lock is the row's newest version, whatever version the row has.
    pub(in crate::postgres) fn of_repairs(
        tables: &[TableSpec],
        of: TableIndex,
    ) -> Result<Option<Self>> {
        let Some(at) = tables.iter().position(|own| own.history_of == Some(of)) else {
            return Ok(None);
        };
        let mut rows = Self::new(tables, at)?;
        if let (Some(spec), Some(of)) = (tables.get(at), tables.get(usize::from(of.0))) {
            rows.add = add_where(spec, of, "")?.into();
        }
        Ok(Some(rows))
    }

    /// An entity's row as a row of its history; `end` is the word for a row that ends. Nobody knows when it
    /// came to this state, so it counts from now on.
    pub(in crate::postgres) fn record(&self, of: &TableSpec, op: &RowOp, end: &str) -> RowOp {
        let ends = op.action.ends_row();
        let mut cells = op.cells.prefix(self.keys);
        // The unit has the version.
        cells.push_null();
        for at in (self.keys..of.columns.len()).filter(|at| of.deleted_at != Some(*at)) {
            match (!ends).then(|| op.cells.cell(at)).flatten() {
                Some(text) => cells.push(text),
                None => cells.push_null(),
            }
        }
        cells.push(if ends { end } else { ChangeOp::Scan.label() });
        cells.push_null();
        cells.push_null();
        RowOp {
            table: self.table,
            action: RowAction::Record,
            cells,
            children: Vec::new(),
            item: op.item,
        }
    }

    /// The table's number.
    pub(in crate::postgres) fn table(&self) -> TableIndex {
        self.table
    }

    /// Adds missing versions and counts them.
    pub(in crate::postgres) async fn write(
        &self,
        tx: &mut Tx,
        units: &[&Unit],
        applied: &mut Applied,
    ) -> Result<()> {
        let fits = |unit: &&Unit| {
            unit.op.action == RowAction::Record && unit.op.cells.len() == self.columns
        };
        if !units.iter().all(fits) {
            return Err(malformed(format!(
                "a row of {} has the wrong number of cells",
                self.label
            )));
        }
        let what = format!("write rows of {}", self.label);
        let mut query = statement(tx, &self.add).named(what.clone());
        for cell in (0..self.columns - 1).filter(|cell| *cell != self.keys) {
            query = query.bind(texts(units, move |unit| unit.op.cells.cell(cell)));
        }
        query = query.bind(printed(units, |unit| unit.stamp()));
        let added = query.execute().await?;
        let count = count_of(applied, self.table)?;
        count.upserted += added;
        count.superseded += (units.len() as u64).saturating_sub(added);
        let mut query = statement(tx, &self.close).named(what);
        for cell in 0..self.keys {
            query = query.bind(texts(units, move |unit| unit.op.cells.cell(cell)));
        }
        query = query.bind(printed(units, |unit| unit.stamp()));
        query.execute().await.map(drop)
    }
}

/// Adds versions.
///
/// An end is added only after a row that it ends. A key is skipped if its table has a newer row than the
/// batch; a scanned row is a version only if the table took it.
///
/// Parameters: one array per column except the version and the last, then the versions.
pub(super) fn add(spec: &TableSpec, of: &TableSpec) -> Result<String> {
    let version = quoted(VERSION_COLUMN)?;
    let op = quoted(HISTORY_COLUMNS[0])?;
    let taken = format!(
        "and (n.{op} in ({}) or not {} \
         or exists (select from {} t where {} and t.{version} = n.{version})) ",
        ends(),
        is_scanned(&format!("n.{version}")),
        quoted_table(&of.name)?,
        same_row("t", of, "n")?,
    );
    add_where(spec, of, &taken)
}

fn add_where(spec: &TableSpec, of: &TableSpec, taken: &str) -> Result<String> {
    let keys = of.key_columns;
    let last = spec.columns.len() - 1;
    let [op, valid_from, _] = HISTORY_COLUMNS.map(quoted);
    let (op, valid_from) = (op?, valid_from?);
    let own = names(&spec.columns)?;
    let version = own.get(keys).cloned().unwrap_or_default();
    let key_names = own.get(..keys).unwrap_or_default().join(", ");
    let shown = spec.columns.iter().take(last).enumerate().filter(|(at, _)| *at != keys);
    let columns: Vec<_> = shown.map(|(_, column)| column.clone()).collect();
    let arrays = unnested(&columns, 1)?;
    let named = names(&columns)?;
    let named: Vec<_> =
        arrays.iter().zip(&named).map(|(array, name)| format!("{array} as {name}")).collect();
    let ends = ends();
    let select: Vec<_> =
        own.iter()
            .take(last)
            .map(|name| {
                if *name == valid_from { "n.dynaurora_at".to_owned() } else { format!("n.{name}") }
            })
            .collect();
    let (table, of_table) = (quoted_table(&spec.name)?, quoted_table(&of.name)?);
    let line = match spec.names_items {
        true => format!("{key_names}, {}", item_of(&format!("b.{version}"))),
        false => key_names,
    };
    let of_one = |one: &str, other: &str| match spec.names_items {
        true => format!(" and {}", may_be_one_item(one, other)),
        false => String::new(),
    };
    let (h, b) = (format!("h.{version}"), format!("b.{version}"));
    let (before_is_own, stored_is_own) =
        (of_one(&h, &b), of_one(&format!("t.{version}"), "n.dynaurora_newest"));
    Ok(format!(
        "with dynaurora_new as (select {}, {} as {version}), \
         dynaurora_seen as (select b.*, coalesce(b.{valid_from}, now()) as dynaurora_at, \
         max(b.{version}) over (partition by {line}) as dynaurora_newest, \
         coalesce(lag(b.{op}) over (partition by {line} order by {version}), \
         (select h.{op} from {table} h where {} and h.{version} < b.{version}{before_is_own} \
         order by h.{version} desc limit 1)) as dynaurora_before from dynaurora_new b) \
         insert into {table} ({}) select {}, case when n.{op} in ({ends}) then n.dynaurora_at end \
         from dynaurora_seen n \
         where (n.{op} not in ({ends}) or n.dynaurora_before not in ({ends})) \
         and not exists (select from {of_table} t where {} \
         and t.{version} > n.dynaurora_newest{stored_is_own}) {taken}on conflict do nothing",
        named.join(", "),
        unnested_version(columns.len() + 1),
        same_row("h", of, "b")?,
        own.join(", "),
        select.join(", "),
        same_row("t", of, "n")?,
    ))
}

/// Sets the end of each version of the batch, and of the one before it, to the start of the next. Times of
/// two shards may disagree, so no row ends before it began.
///
/// Parameters: one array per key column without the version, then the versions.
pub(super) fn close(spec: &TableSpec, of: &TableSpec) -> Result<String> {
    let keys = of.key_columns;
    let own = names(&spec.columns)?;
    let version = own.get(keys).cloned().unwrap_or_default();
    let key_names: Vec<_> = own.iter().take(keys).cloned().collect();
    let [op, valid_from, valid_to] = HISTORY_COLUMNS.map(quoted);
    let (op, valid_from, valid_to) = (op?, valid_from?, valid_to?);
    let table = quoted_table(&spec.name)?;
    let arrays = unnested(key_columns(of), 1)?;
    let named: Vec<_> =
        arrays.iter().zip(&key_names).map(|(array, name)| format!("{array} as {name}")).collect();
    let ends = ends();
    let (before_is_own, next_is_own) = match spec.names_items {
        true => {
            let [h, b, t] = ["h", "b", "t"].map(|own| format!("{own}.{version}"));
            let (of_next, of_this) = (item_of(&h), item_of(&t));
            let next = format!(" and ({of_this} = 0 or {of_next} = {of_this})");
            (format!(" and {}", may_be_one_item(&h, &b)), next)
        }
        false => (String::new(), String::new()),
    };
    Ok(format!(
        "with dynaurora_new as (select {}, {} as {version}), \
         dynaurora_touched as (select * from dynaurora_new union select {}, p.{version} \
         from dynaurora_new b cross join lateral (select h.{version} from {table} h \
         where {} and h.{version} < b.{version}{before_is_own} \
         order by h.{version} desc limit 1) p), \
         dynaurora_next as (select t.*, (select h.{valid_from} from {table} h where {} \
         and h.{version} > t.{version}{next_is_own} \
         order by h.{version} limit 1) as dynaurora_at \
         from dynaurora_touched t) \
         update {table} h set {valid_to} = greatest(h.{valid_from}, n.dynaurora_at) \
         from dynaurora_next n where {} and h.{version} = n.{version} \
         and n.dynaurora_at is not null and h.{op} not in ({ends}) \
         and h.{valid_to} is distinct from greatest(h.{valid_from}, n.dynaurora_at)",
        named.join(", "),
        unnested_version(keys + 1),
        listed("b", key_columns(of))?,
        same_row("h", of, "b")?,
        same_row("h", of, "t")?,
        same_row("h", of, "n")?,
    ))
}

/// That two rows have the same key of the table whose versions are kept.
fn same_row(one: &str, of: &TableSpec, other: &str) -> Result<String> {
    paired(one, key_columns(of), other, key_columns(of))
}

fn ends() -> String {
    HISTORY_ENDS.map(|end| format!("'{end}'")).join(", ")
}
