//! The target tables of one source: the apply transaction, readable from top to bottom.

mod catalogue;
pub mod ddl;
pub mod extras;
pub(in crate::postgres) mod hidden;
pub(in crate::postgres) mod history;
pub(in crate::postgres) mod history_sql;
pub(in crate::postgres) mod letters;
pub(in crate::postgres) mod own_rows;
pub(in crate::postgres) mod rows;
pub mod shown;
mod statements;
mod steps;
mod sweep;
mod tombstones;

use std::sync::Arc;

use hidden::Hidden;
use tombstones::Tombstones;

use super::ledger::positions;
use super::session::{Pools, Tx, Work};
use crate::apply::ports::{Applied, Batch, Phase, Sink, TableApplied, Unit};
use crate::engine::ports::{Stale, Sweep, Swept, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::TableSpec;
use history::HistoryRows;
use rows::EntityRows;

/// One source's target tables.
#[derive(Debug)]
pub struct PostgresSink {
    pools: Arc<Pools>,
    tables: Vec<TableSpec>,
    entities: Vec<EntityRows>,
    histories: Vec<HistoryRows>,
}

impl PostgresSink {
    /// The sink for the tables of one source's mapping. Builds the statements once.
    ///
    /// # Errors
    /// `Config` for a name that Postgres does not allow.
    pub fn new(pools: Arc<Pools>, tables: &[TableSpec]) -> Result<Self> {
        let own = tables.iter().enumerate().filter(|(_, table)| table.parent.is_none());
        let (histories, own): (Vec<_>, Vec<_>) =
            own.partition(|(_, table)| table.history_of.is_some());
        let entities = own.iter().map(|(at, _)| EntityRows::new(tables, *at));
        let histories = histories.iter().map(|(at, _)| HistoryRows::new(tables, *at));
        Ok(Self {
            pools,
            tables: tables.to_vec(),
            entities: entities.collect::<Result<_>>()?,
            histories: histories.collect::<Result<_>>()?,
        })
    }

    /// Tombstones, rows, dead letters, shards, and last the fence.
    async fn write(&self, tx: &mut Tx, batch: &Batch) -> Result<Applied> {
        let source = &*batch.source;
        let touched = batch.rows.touched.as_slice();
        let leaves = letters::leaves_keys(batch.phase != Phase::Steady, touched);
        if leaves {
            letters::begin(tx, source).await?;
        }
        let mut applied = self.write_rows(tx, batch, &batch.rows.units).await?;
        letters::store(tx, source, &batch.rows.rejects).await?;
        applied.dead_letters_superseded = letters::supersede(tx, source, touched, leaves).await?;
        if !batch.lineage.shards.is_empty() {
            let (stream, shards) = (&*batch.lineage.stream_arn, batch.lineage.shards.as_slice());
            positions::register(tx, source, stream, shards).await?;
            positions::note_continued(tx, source, stream, shards).await?;
        }
        positions::advance(tx, batch).await?;
        Ok(applied)
    }

    async fn write_rows(&self, tx: &mut Tx, batch: &Batch, units: &[Unit]) -> Result<Applied> {
        let tables = vec![TableApplied::default(); self.tables.len()];
        let mut applied = Applied { tables, dead_letters_superseded: 0 };
        let of_backfill = batch.phase == Phase::OfBackfill;
        let tombstones = Tombstones { source: &batch.source, of_backfill };
        let backfilling = batch.phase != Phase::Steady;
        if backfilling {
            tombstones.take_turn(tx, units, !batch.rows.rejects.is_empty()).await?;
        }
        if units.iter().any(|unit| unit.op.item.is_some()) {
            hidden::take_turn(tx, &batch.source).await?;
        }
        for own in units.chunk_by(|one, next| one.op.table == next.op.table) {
            let mut units: Vec<&Unit> = own.iter().collect();
            if let Some(history) = self.history_of(own) {
                history.write(tx, &units, batch.phase, &mut applied).await?;
                continue;
            }
            let rows = self.entity_of(own)?;
            let mut marks = Vec::new();
            if backfilling {
                let settled = tombstones.settle(tx, rows, units).await?;
                (units, marks) = (settled.units, settled.marks);
                rows.count_skipped(own.len() - units.len(), &mut applied)?;
            }
            if rows.spec().names_items {
                let hidden = Hidden { source: &batch.source, rows };
                hidden.write(tx, &units, &mut applied).await?;
            } else {
                rows.write(tx, &units, &mut applied).await?;
            }
            if !marks.is_empty() {
                // They were counted when they came.
                let marks: Vec<&Unit> = marks.iter().collect();
                rows.write(tx, &marks, &mut applied.clone()).await?;
            }
        }
        Ok(applied)
    }

    fn history_of(&self, units: &[Unit]) -> Option<&HistoryRows> {
        let table = units.first().map(|unit| unit.op.table);
        self.histories.iter().find(|history| Some(history.table()) == table)
    }

    fn entity_of(&self, units: &[Unit]) -> Result<&EntityRows> {
        let table = units.first().map(|unit| unit.op.table);
        self.entities.iter().find(|entity| Some(entity.table()) == table).ok_or_else(|| {
            Error::new(ErrorKind::Unknown, "a row belongs to a table without an entity")
        })
    }
}

impl Sink for PostgresSink {
    async fn apply(&self, batch: &Batch) -> Result<Applied> {
        let work = async |tx: &mut Tx| self.write(tx, batch).await;
        self.pools.transact(Work::Apply, "apply a batch", work).await
    }

    async fn probe(&self, batch: &Batch, units: &[Unit]) -> Result<()> {
        const WHAT: &str = "probe rows";
        let work = async |tx: &mut Tx| {
            tx.undo();
            self.write_rows(tx, batch, units).await?;
            // A deferred constraint would fail at the commit, which a probe never reaches.
            tx.run("set constraints all immediate", WHAT).await
        };
        self.pools.transact(Work::Apply, WHAT, work).await
    }
}

impl Target for PostgresSink {
    async fn stale(&self, sweep: &Sweep) -> Result<Stale> {
        let work = async |tx: &mut Tx| sweep::stale(tx, &self.tables, sweep).await;
        self.pools.transact(Work::Apply, "count what a sweep would delete", work).await
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept> {
        let work = async |tx: &mut Tx| sweep::step(tx, &self.tables, sweep).await;
        self.pools.transact(Work::Apply, "sweep", work).await
    }
}
