//! The target side of a verification over the real server.

use std::collections::HashMap;
use std::sync::Arc;

use super::repairer::Repairer;
use super::verifications;
use super::verify::TargetReader;
use crate::apply::ports::KeyHash;
use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::model::{Reject, RowOp, TableIndex, Version};
use crate::ops::ports::{
    Comparison, Fate, Letter, Letters, Progress, Repairs, RowRepair, Rows, RowsPage, Truth,
    Verification, Verifications,
};
use crate::postgres::listings::dead_letters::{self, DeadLetterState};
use crate::postgres::session::Pools;

/// One source's target tables, its dead letters, and what is kept of its verifications.
#[derive(Debug)]
pub struct PostgresTarget {
    pools: Arc<Pools>,
    reader: TargetReader,
    repairer: Repairer,
}

impl PostgresTarget {
    /// The target of one source, with the tables of its mapping.
    #[must_use]
    pub fn new(pools: &Arc<Pools>, source: &Arc<str>, tables: &[TableSpec]) -> Self {
        Self {
            pools: Arc::clone(pools),
            reader: TargetReader::new(Arc::clone(pools), tables),
            repairer: Repairer::new(Arc::clone(pools), Arc::clone(source), tables),
        }
    }
}

impl Rows for PostgresTarget {
    async fn compare(&self, table: TableIndex, rows: &[RowOp]) -> Result<Vec<Comparison>> {
        self.reader.compare(table, rows).await
    }

    async fn page(
        &self,
        table: TableIndex,
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<RowsPage> {
        self.reader.page(table, after, limit).await
    }
}

impl Repairs for PostgresTarget {
    async fn repair(
        &self,
        table: TableIndex,
        rows: &[RowRepair],
        truth: impl Future<Output = Truth> + Send,
    ) -> Result<Vec<Fate>> {
        self.repairer.repair(table, rows, truth).await
    }
}

impl Letters for PostgresTarget {
    async fn open_among(
        &self,
        source: &str,
        hashes: &[KeyHash],
    ) -> Result<HashMap<KeyHash, Version>> {
        dead_letters::open_among(&self.pools.pool().await?, source, hashes).await
    }

    async fn open_letter(&self, id: i64) -> Result<Option<Letter>> {
        let letter = dead_letters::show(&self.pools.pool().await?, id).await?;
        let open = letter.filter(|letter| letter.state == DeadLetterState::Open);
        Ok(open.map(|letter| Letter { id, version: letter.version, record: letter.image }))
    }

    async fn resolve(&self, id: i64) -> Result<bool> {
        let pool = self.pools.pool().await?;
        dead_letters::settle(&pool, id, DeadLetterState::Resolved, None).await
    }

    async fn keep_open(&self, id: i64, reject: &Reject) -> Result<()> {
        dead_letters::keep_open(&self.pools.pool().await?, id, reject).await
    }
}

impl Verifications for PostgresTarget {
    async fn progress(&self, source: &str) -> Result<Progress> {
        verifications::progress(&self.pools.pool().await?, source).await
    }

    async fn record(&self, source: &str, found: Verification) -> Result<()> {
        verifications::record(&self.pools.pool().await?, source, found).await
    }
}
