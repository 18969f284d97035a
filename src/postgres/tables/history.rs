//! History tables: a row for every version, each valid until the next.
//!
//! What a history promises: of one key, times never fall in the order of versions and each version ends
//! where the next begins, so that there is one row per key and instant; the newest is open exactly while the
//! table has the row, and shows the same; what a load reads again unchanged adds nothing.
//!
//! New rows of a batch are added, then the times of their neighbours in version order are set. So a
//! repeated batch adds nothing, and a late row takes its place between the others. The entity's table is
//! written before, in the same transaction: the lock on its row makes two writers of one key wait, and what
//! the table took of a load is known.
//!
//! A load of an export has the stream read again from an earlier time under a new generation. Its rows are
//! then as old as the export until the shards are back where they were, and only for as long may a table's
//! row be older than its history.
//!
//! Where rows name their items, the versions of each item follow one another by themselves: what another item
//! does with the key neither ends them nor comes before them.

use std::sync::Arc;

use super::history_sql::{Adding, Histories};
use super::rows::{count_of, index, malformed, statement};
use crate::apply::ports::{Applied, Phase, Unit};
use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::model::{ChangeOp, RowAction, RowOp, TableIndex};
use crate::postgres::session::Tx;
use crate::postgres::sql::encode::{printed, texts};

/// The statements of one history.
#[derive(Debug)]
pub(in crate::postgres) struct HistoryRows {
    table: TableIndex,
    label: String,
    columns: usize,
    /// The key without the version.
    keys: usize,
    add: Arc<str>,
    /// Moves what comes again, and adds it; only of batches beside a load.
    again: Option<(Arc<str>, Arc<str>)>,
    settle: Arc<str>,
}

impl HistoryRows {
    /// The statements of `tables[at]`, the history of another table.
    pub(in crate::postgres) fn new(tables: &[TableSpec], at: usize) -> Result<Self> {
        let mut own = Self::adding(tables, at, Adding::Batch)?;
        let of = histories(tables, at)?;
        own.again = Some((of.again()?.into(), of.add(Adding::Again)?.into()));
        Ok(own)
    }

    fn adding(tables: &[TableSpec], at: usize, adding: Adding) -> Result<Self> {
        let of = histories(tables, at)?;
        Ok(Self {
            table: index(at)?,
            label: of.label(),
            columns: of.columns(),
            keys: of.keys().len(),
            add: of.add(adding)?.into(),
            again: None,
            settle: of.settle()?.into(),
        })
    }

    /// The statements for what a repair writes to the history of one table, if it has one.
    pub(in crate::postgres) fn of_repairs(
        tables: &[TableSpec],
        of: TableIndex,
    ) -> Result<Option<Self>> {
        let Some(at) = tables.iter().position(|own| own.history_of == Some(of)) else {
            return Ok(None);
        };
        Self::adding(tables, at, Adding::Repair).map(Some)
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

    /// Adds missing versions and counts them; then sets the times of all that they touch.
    pub(in crate::postgres) async fn write(
        &self,
        tx: &mut Tx,
        units: &[&Unit],
        phase: Phase,
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
        let replays = |_: &&_| {
            phase == Phase::BesideBackfill && units.iter().any(|unit| unit.version.generation > 1)
        };
        let added = match self.again.as_ref().filter(replays) {
            Some((again, add)) => {
                self.run(tx, again, units).await?;
                self.run(tx, add, units).await?
            }
            None => self.run(tx, &self.add, units).await?,
        };
        let count = count_of(applied, self.table)?;
        count.upserted += added;
        count.superseded += (units.len() as u64).saturating_sub(added);
        let mut query = statement(tx, &self.settle).named(self.what());
        for cell in 0..self.keys {
            query = query.bind(texts(units, move |unit| unit.op.cells.cell(cell)));
        }
        query = query.bind(printed(units, |unit| unit.stamp()));
        query.execute().await.map(drop)
    }

    /// Runs a statement whose parameters are the units' columns and versions.
    async fn run(&self, tx: &mut Tx, sql: &Arc<str>, units: &[&Unit]) -> Result<u64> {
        let mut query = statement(tx, sql).named(self.what());
        for cell in (0..self.columns - 1).filter(|cell| *cell != self.keys) {
            query = query.bind(texts(units, move |unit| unit.op.cells.cell(cell)));
        }
        query.bind(printed(units, |unit| unit.stamp())).execute().await
    }

    fn what(&self) -> String {
        format!("write rows of {}", self.label)
    }
}

/// The history `tables[at]` and the table whose versions it keeps.
pub(in crate::postgres) fn histories(tables: &[TableSpec], at: usize) -> Result<Histories<'_>> {
    let spec = tables.get(at).ok_or_else(|| malformed("a table's number is beyond the mapping"))?;
    let of = spec.history_of.and_then(|of| tables.get(usize::from(of.0)));
    Histories::new(spec, of.ok_or_else(|| malformed("a history is of no table"))?)
}
