//! The target tables of one source: the apply transaction, readable from top to bottom.

pub(crate) mod catalogue;
mod claims;
pub mod ddl;
pub mod extras;
pub(crate) mod history;
pub(crate) mod own_rows;
pub(crate) mod rows;
pub mod shown;
pub(crate) mod statements;
mod sweep;

use std::sync::Arc;

use sqlx::postgres::PgConnection;

use claims::Claims;

use super::ledger::positions;
use super::listings::dead_letters;
use super::session::{Lane, Pools, Session};
use super::sqlstate;
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
    /// The sink into the tables of one source's mapping. The statements are built here, once.
    ///
    /// # Errors
    /// `Config` when a name cannot be one in Postgres.
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

    /// Claims, rows, dead letters, shards, and last the fence.
    async fn write(&self, connection: &mut PgConnection, batch: &Batch) -> Result<Applied> {
        let prepared = self.pools.prepared();
        let source = &*batch.source;
        let mut applied = self.write_rows(connection, batch, &batch.rows.units).await?;
        dead_letters::store(connection, source, &batch.rows.rejects, prepared).await?;
        applied.dead_letters_superseded =
            dead_letters::supersede(connection, source, &batch.rows.touched, prepared).await?;
        if !batch.lineage.shards.is_empty() {
            let (stream, shards) = (&*batch.lineage.stream_arn, batch.lineage.shards.as_slice());
            positions::register(connection, source, stream, shards, prepared).await?;
            positions::note_continued(connection, source, stream, shards, prepared).await?;
        }
        positions::advance(connection, batch, prepared).await?;
        Ok(applied)
    }

    async fn write_rows(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
        units: &[Unit],
    ) -> Result<Applied> {
        let prepared = self.pools.prepared();
        let tables = vec![TableApplied::default(); self.tables.len()];
        let mut applied = Applied { tables, dead_letters_superseded: 0 };
        let of_load = batch.phase == Phase::OfBackfill;
        let claims = Claims { source: &batch.source, of_load, prepared };
        let backfilling = batch.phase != Phase::Steady;
        if backfilling {
            claims.take_turn(connection, units, !batch.rows.rejects.is_empty()).await?;
        }
        for own in units.chunk_by(|one, next| one.op.table == next.op.table) {
            let mut units: Vec<&Unit> = own.iter().collect();
            if let Some(history) = self.history_of(own) {
                history.write(connection, &units, prepared, &mut applied).await?;
                continue;
            }
            let rows = self.entity_of(own)?;
            if backfilling {
                units = claims.settle(connection, rows, units).await?;
                rows.count_unclaimed(own.len() - units.len(), &mut applied)?;
            }
            rows.write(connection, &units, prepared, &mut applied).await?;
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
            Error::new(ErrorKind::Unknown, "a row names a table that no entity of the mapping has")
        })
    }
}

impl Sink for PostgresSink {
    async fn apply(&self, batch: &Batch) -> Result<Applied> {
        const WHAT: &str = "apply a batch";
        let work = |session: Session| async move {
            let mut transaction = session.begin().await?;
            let applied = self.write(&mut transaction, batch).await?;
            transaction.commit().await.map_err(|error| sqlstate::error("commit a batch", error))?;
            Ok(applied)
        };
        self.pools.attempt(Lane::Apply, WHAT, work).await
    }

    async fn probe(&self, batch: &Batch, units: &[Unit]) -> Result<()> {
        const WHAT: &str = "probe rows";
        let work = |session: Session| async move {
            let failed = |error| sqlstate::error(WHAT, error);
            let mut transaction = session.begin().await?;
            self.write_rows(&mut transaction, batch, units).await?;
            // A deferred constraint would speak at the commit, which never comes.
            sqlx::raw_sql("set constraints all immediate")
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            transaction.rollback().await.map_err(failed)
        };
        self.pools.attempt(Lane::Apply, WHAT, work).await
    }
}

impl Target for PostgresSink {
    async fn stale(&self, sweep: &Sweep) -> Result<Stale> {
        const WHAT: &str = "count what a sweep would delete";
        let work = |session: Session| async move {
            let mut transaction = session.begin().await?;
            let stale = sweep::stale(&mut transaction, &self.tables, sweep).await?;
            transaction.commit().await.map_err(|error| sqlstate::error(WHAT, error))?;
            Ok(stale)
        };
        self.pools.attempt(Lane::Apply, WHAT, work).await
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept> {
        const WHAT: &str = "sweep";
        let work = |session: Session| async move {
            let mut transaction = session.begin().await?;
            let swept = sweep::step(&mut transaction, &self.tables, sweep).await?;
            transaction.commit().await.map_err(|error| sqlstate::error(WHAT, error))?;
            Ok(swept)
        };
        self.pools.attempt(Lane::Apply, WHAT, work).await
    }
}
