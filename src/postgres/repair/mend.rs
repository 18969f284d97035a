//! Repairs single rows so that a newer change of the stream always wins and no deleted row comes back.
//!
//! # Which version a repair writes
//!
//! The stream guards every write by the row's version: a change takes effect where the stored version is
//! lower. A repair must fit into that order although it has no sequence number of its own: it shows the item
//! as a consistent read sees it, at a moment that the stream will reach or has passed. So:
//!
//! - **A row that is there keeps its version.** All that was applied to it happened before the read, so the
//!   read is at least as new as that version; every change still to come has a higher one and wins. A
//!   higher version would turn away changes that the read did not see; a lower one would break I1.
//! - **A row that is not there gets `(generation, 0)`**, the version of a scanned row: every change of this
//!   generation wins.
//! - **A version that no change can have given** (a row inserted by hand has 0, one copied may have one of
//!   the future) counts as none: the row gets `(generation, 0)`. With a version of the future it would
//!   turn all changes away for ever.
//!
//! A row with version 0 is somebody else's until an item has its key: a repair makes it that item's, but
//! never deletes it.
//!
//! # Why a lock on the table
//!
//! For a row that is there, comparing its version in the statement that writes it would do. For one that is
//! not, nothing can be compared: the item is read as present, then it is deleted, the stream applies that
//! delete to a row that is not there, and then the repair brings the row back, for ever. To lock a row that
//! does not exist is not possible, and a delete does not wait for an insert that is not committed. The same
//! holds for a row with a version of the future, which the delete would not touch.
//!
//! So the repair takes the entity's tables `in share row exclusive mode`: readers go on, writers wait. Once
//! the lock is there, every transaction that wrote to them has ended, and no other can begin to. *Then* the
//! items are read, consistently. A delete that was applied before the lock happened before the read, which
//! shows the item as gone, and nothing is brought back; a delete that was not yet applied finds the row when
//! the lock is gone. Nothing in between exists. The lock is held for one round of reads and one write,
//! [`ROWS_MAX`] rows at most, and is given up when DynamoDB takes longer than a few seconds.
//!
//! Whoever compared before says which version was compared: a row that has another one by now was written
//! by the stream meanwhile, and is left alone. A crash at any point leaves either nothing or all of it.
//!
//! The tables are locked in the order in which a batch writes them, so that the two cannot deadlock. While a
//! source is backfilled nothing is repaired: rows are allowed to be missing then, and the backfill's own
//! order of generations decides.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};

use super::verify::hangs_on;
use crate::apply::ports::{Applied, RecordRef, TableApplied, Unit};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{ColumnSpec, TableSpec, VERSION_COLUMN};
use crate::model::{Cells, Generation, RowAction, RowOp, SequenceNumber, TableIndex, Version};
use crate::postgres::session::{Lane, Pools, Tx};
use crate::postgres::sql::columns::{joined, key_columns, parent_key, unnested_as};
use crate::postgres::sql::encode::texts;
use crate::postgres::sql::ident::{quoted, quoted_table};
use crate::postgres::target::history::HistoryRows;
use crate::postgres::target::rows::EntityRows;

/// The most rows that one lock is held for: so many reads of DynamoDB take some tens of milliseconds.
pub const ROWS_MAX: usize = 25;

/// How long the reads may take while writers wait.
const TRUTH_TIMEOUT: Duration = Duration::from_secs(3);

/// One row to repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wound {
    /// The row's primary key.
    pub key: Cells,
    /// Which row may be mended.
    pub guard: Guard,
    /// What a history is to say of it; a repair of what should never have been wrong is no version.
    pub recorded: Option<Recorded>,
}

/// How a history keeps what a repair wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The version of the change that the repair stands for, as it prints; the row's own where that is
    /// higher. Under one version a history has one row, however often it is repaired.
    pub version: String,
    /// What is said of a row that ends: one of [`crate::mapping::spec::HISTORY_ENDS`].
    pub end: String,
}

/// Which row may be mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Whatever is there: only what the truth says of the very item whose row it is.
    Any,
    /// The one with this version, as it prints; `None` where there was no row.
    Same(Option<String>),
    /// One with a lower version than this, as it prints.
    Below(String),
}

impl Guard {
    fn lets(&self, stored: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Same(compared) => compared.as_deref() == stored,
            Self::Below(limit) => match (stored.and_then(Version::parse), Version::parse(limit)) {
                (Some(stored), Some(limit)) => stored < limit,
                (stored, limit) => stored.is_none() && limit.is_some(),
            },
        }
    }
}

/// What became of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    /// It was written.
    Written,
    /// It was deleted, or what was left of its children.
    Deleted,
    /// It has another version than was compared: the stream wrote it meanwhile.
    Moved,
    /// The source's present state cannot tell what it should be, or it is somebody else's.
    LeftAlone,
}

/// Repairs rows of one source.
#[derive(Debug)]
pub struct Mender {
    pools: Arc<Pools>,
    source: Arc<str>,
    tables: Vec<TableSpec>,
}

impl Mender {
    /// Repairs rows of these tables, all of one source's mapping.
    #[must_use]
    pub fn new(pools: Arc<Pools>, source: Arc<str>, tables: &[TableSpec]) -> Self {
        Self { pools, source, tables: tables.to_vec() }
    }

    /// Repairs up to [`ROWS_MAX`] rows of one entity's table. `truth` is asked once nobody else can write:
    /// for each row what it should be by a consistent read of its item, a delete where it should not be.
    ///
    /// # Errors
    /// `Conflict` when the lock is not to be had, DynamoDB is too slow, or the source is being backfilled;
    /// `Data` when a row is refused; then nothing was written.
    pub async fn mend<F>(
        &self,
        table: TableIndex,
        wounds: &[Wound],
        truth: impl FnOnce() -> F,
    ) -> Result<Vec<Mended>>
    where
        F: Future<Output = Result<Vec<Option<RowOp>>>>,
    {
        const WHAT: &str = "repair rows";
        let rows = EntityRows::new(&self.tables, usize::from(table.0))?;
        let work = async |tx: &mut Tx| {
            self.lock(tx, table).await?;
            let generation = self.generation(tx).await?;
            let versions = self.versions(tx, table, wounds).await?;
            let truth = tokio::time::timeout(TRUTH_TIMEOUT, truth()).await.map_err(|_| {
                Error::new(ErrorKind::Conflict, "read the items to repair: no answer in time")
            })??;
            let mut fates = Vec::with_capacity(wounds.len());
            let mut units = Vec::with_capacity(wounds.len());
            let mut versions_kept = Vec::new();
            let history = HistoryRows::of_repairs(&self.tables, table)?;
            for ((wound, version), op) in wounds.iter().zip(&versions).zip(truth) {
                let (fate, op) = match op {
                    _ if !wound.guard.lets(version.as_deref()) => (Mended::Moved, None),
                    None => (Mended::LeftAlone, None),
                    Some(op) if op.action.ends_row() && is_foreign(version.as_deref()) => {
                        (Mended::LeftAlone, None)
                    }
                    // Of a row that is not there nothing can be marked; what hangs on it goes.
                    Some(op) if op.action.ends_row() && version.is_none() => {
                        (Mended::Deleted, Some(self.without_a_trace(op)))
                    }
                    Some(op) if op.action.ends_row() => (Mended::Deleted, Some(op)),
                    Some(op) => (Mended::Written, Some(op)),
                };
                fates.push(fate);
                let version = repaired_version(version.as_deref(), generation);
                if let (Some(history), Some(recorded), Some(op)) = (&history, &wound.recorded, &op)
                {
                    let known =
                        Version::parse(&recorded.version).map_or(version, |own| own.max(version));
                    let op = history.record(self.spec(table)?, op, &recorded.end);
                    versions_kept.push(unit(op, known));
                }
                units.extend(op.map(|op| unit(op, version)));
            }
            self.write(tx, &rows, &units).await?;
            if let Some(history) = history.filter(|_| !versions_kept.is_empty()) {
                self.keep(tx, &history, &versions_kept).await?;
            }
            Ok(fates)
        };
        self.pools.transact(Lane::Apply, WHAT, work).await
    }

    fn without_a_trace(&self, op: RowOp) -> RowOp {
        let spec = self.tables.get(usize::from(op.table.0));
        let cells = op.cells.prefix(spec.map_or(0, |spec| spec.key_columns));
        RowOp { action: RowAction::Delete, cells, ..op }
    }

    /// Makes all of them so, by the guarded statements of every batch: first the version is taken off, so
    /// that the guard lets the very same version through.
    async fn write(&self, tx: &mut Tx, rows: &EntityRows, units: &[Unit]) -> Result<()> {
        if units.is_empty() {
            return Ok(());
        }
        let spec = self.spec(rows.table())?;
        let keys: Vec<&Cells> = units.iter().map(|unit| &unit.op.cells).collect();
        let demote = format!(
            "update {} t set {} = -1 from (select {}) n where {}",
            quoted_table(&spec.name)?,
            quoted(VERSION_COLUMN)?,
            unnested_as(key_columns(spec), 1, "k")?,
            joined("t", key_columns(spec), "n", "k")?,
        );
        run(tx, demote, &keys, key_columns(spec)).await?;
        let gone: Vec<&Cells> = units
            .iter()
            .filter(|unit| unit.op.action == RowAction::Delete)
            .map(|unit| &unit.op.cells)
            .collect();
        let children = self.tables.iter().filter(|child| hangs_on(child, rows.table()));
        for child in children.rev().filter(|_| !gone.is_empty()) {
            // Children whose parent is not there any more are not found through it.
            let hanging = parent_key(child, spec);
            let sql = format!(
                "delete from {} t using (select {}) n where {}",
                quoted_table(&child.name)?,
                unnested_as(hanging, 1, "k")?,
                joined("t", hanging, "n", "k")?,
            );
            run(tx, sql, &gone, hanging).await?;
        }
        let units: Vec<&Unit> = units.iter().collect();
        let tables = vec![TableApplied::default(); self.tables.len()];
        let mut applied = Applied { tables, dead_letters_superseded: 0 };
        rows.write(tx, &units, &mut applied).await
    }

    /// Adds versions to a history, behind the rows that they are of.
    async fn keep(&self, tx: &mut Tx, history: &HistoryRows, units: &[Unit]) -> Result<()> {
        let units: Vec<&Unit> = units.iter().collect();
        let tables = vec![TableApplied::default(); self.tables.len()];
        let mut applied = Applied { tables, dead_letters_superseded: 0 };
        history.write(tx, &units, &mut applied).await
    }

    async fn lock(&self, tx: &mut Tx, table: TableIndex) -> Result<()> {
        let mut names = vec![quoted_table(&self.spec(table)?.name)?];
        for child in self.tables.iter().filter(|child| hangs_on(child, table)) {
            names.push(quoted_table(&child.name)?);
        }
        let sql = format!("lock table {} in share row exclusive mode", names.join(", "));
        let lock = tx.query_once(AssertSqlSafe(sql)).named("lock the tables to repair");
        lock.execute().await.map(drop)
    }

    /// The source's generation, unless it is being backfilled.
    async fn generation(&self, tx: &mut Tx) -> Result<Generation> {
        let sql = "select generation, backfilling from dynaurora.sources where source = $1";
        let known = tx.query_once(sql).named("read the source's generation").bind(&*self.source);
        let known = known.optional(|row| {
            let generation: i32 = row.try_get("generation")?;
            Ok((generation.unsigned_abs(), row.try_get("backfilling")?))
        });
        match known.await? {
            Some((generation, false)) => Ok(generation),
            Some((_, true)) => {
                let what = format!("the source {} is being backfilled", self.source);
                Err(Error::new(ErrorKind::Conflict, what).with_hint("try again when it is done"))
            }
            None => {
                let what = format!("the ledger does not know the source {}", self.source);
                Err(Error::new(ErrorKind::Config, what).with_hint("dynaurora run"))
            }
        }
    }

    async fn versions(
        &self,
        tx: &mut Tx,
        table: TableIndex,
        wounds: &[Wound],
    ) -> Result<Vec<Option<String>>> {
        let spec = self.spec(table)?;
        let sql = format!(
            "select n.ordinal, t.{}::text from (select {}, \
             generate_subscripts($1::text[], 1)::bigint as ordinal) n join {} t on {}",
            quoted(VERSION_COLUMN)?,
            unnested_as(key_columns(spec), 1, "k")?,
            quoted_table(&spec.name)?,
            joined("t", key_columns(spec), "n", "k")?,
        );
        let mut query =
            tx.query_once(AssertSqlSafe(sql)).named("read the versions of rows to repair");
        for column in 0..spec.key_columns {
            query = query.bind(texts(wounds, move |wound| wound.key.cell(column)));
        }
        let mut versions = vec![None; wounds.len()];
        let found = query.all(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get(1)?)));
        for (ordinal, version) in found.await? {
            let place = usize::try_from(ordinal - 1).ok().and_then(|at| versions.get_mut(at));
            if let Some(place) = place {
                *place = Some(version);
            }
        }
        Ok(versions)
    }

    fn spec(&self, table: TableIndex) -> Result<&TableSpec> {
        self.tables
            .get(usize::from(table.0))
            .ok_or_else(|| Error::new(ErrorKind::Unknown, "a table's number is beyond the mapping"))
    }
}

/// Whether some change, or a scan, of this generation or an earlier one can have given a row this version.
#[must_use]
pub fn is_given(version: &str, generation: Generation) -> bool {
    Version::parse(version).is_some_and(|version| version.generation <= generation)
}

/// Whether a row is there that dynaurora never wrote: the version's column has 0 where nobody fills it.
#[must_use]
pub fn is_foreign(version: Option<&str>) -> bool {
    version == Some("0")
}

fn repaired_version(stored: Option<&str>, generation: Generation) -> Version {
    let given = stored.and_then(Version::parse).filter(|version| version.generation <= generation);
    given.unwrap_or(Version { generation, sequence: SequenceNumber::ZERO })
}

fn unit(op: RowOp, version: Version) -> Unit {
    Unit { op, version, record: RecordRef { page: 0, index: 0 } }
}

/// Runs a statement over an array for each key column.
async fn run(tx: &mut Tx, sql: String, rows: &[&Cells], keys: &[ColumnSpec]) -> Result<()> {
    let mut query = tx.query_once(AssertSqlSafe(sql));
    for column in 0..keys.len() {
        query = query.bind(texts(rows, move |cells| cells.cell(column)));
    }
    query.execute().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_lets_only_the_row_through_that_was_meant() {
        let at = |sequence: u32| format!("1{sequence:040}");
        assert!(Guard::Any.lets(Some("x")) && Guard::Any.lets(None));
        let same = Guard::Same(Some(at(5)));
        assert!(same.lets(Some(&at(5))) && !same.lets(Some(&at(6))) && !same.lets(None));
        assert!(Guard::Same(None).lets(None) && !Guard::Same(None).lets(Some("0")));
        let below = Guard::Below(at(5));
        assert!(below.lets(Some(&at(4))) && below.lets(Some("0")) && below.lets(None));
        assert!(!below.lets(Some(&at(5))) && !below.lets(Some(&at(6))));
        assert!(!Guard::Below("x".to_owned()).lets(None));
    }

    #[test]
    fn a_repair_keeps_a_version_that_some_change_gave_and_no_other() {
        let sequence = SequenceNumber::parse("000100000000003498069978").unwrap();
        let own = Version { generation: 2, sequence };
        assert_eq!(repaired_version(Some(&own.to_string()), 2), own);
        assert_eq!(repaired_version(Some(&own.to_string()), 3), own);
        let scanned = Version { generation: 2, sequence: SequenceNumber::ZERO };
        let future = Version { generation: 3, sequence }.to_string();
        for odd in ["0", "-1", "17", "1.5", "NaN", &"9".repeat(40), &"9".repeat(60), &future] {
            assert_eq!(repaired_version(Some(odd), 2), scanned, "{odd}");
            assert!(!is_given(odd, 2), "{odd}");
        }
        assert_eq!(repaired_version(None, 2), scanned);
        assert!(is_given(&scanned.to_string(), 2));
    }
}
