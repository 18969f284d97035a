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
//! Where rows name their items a repair writes that of the item that was read, and ends no row of another
//! one. It takes its turn with batches of such rows before it locks the table, as they do.
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
//! [`crate::ops::ports::REPAIR_ROWS_MAX`] rows at most, and is given up when DynamoDB takes longer than
//! a few seconds.
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

use super::histories;
use super::verify::hangs_on;
use crate::apply::ports::{Applied, Phase, RecordRef, TableApplied, Unit};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{ColumnSpec, TableSpec, VERSION_COLUMN};
use crate::model::{Cells, Generation, ItemTag, RowAction, RowOp, TableIndex, Version};
use crate::ops::ports::{Fate, RowRepair, Truth};
use crate::postgres::session::{Pools, Tx, Work};
use crate::postgres::sql::columns::{joined, key_columns, mark, parent_key, unnested_as};
use crate::postgres::sql::encode::texts;
use crate::postgres::sql::ident::{quoted, quoted_table};
use crate::postgres::tables::hidden;
use crate::postgres::tables::history::HistoryRows;
use crate::postgres::tables::rows::EntityRows;

/// How long the reads may take while writers wait.
const TRUTH_TIMEOUT: Duration = Duration::from_secs(3);

/// A row as it is before its repair.
struct Stored {
    version: String,
    /// Whether it is marked as deleted.
    marked: bool,
}

/// Repairs rows of one source.
#[derive(Debug)]
pub struct Repairer {
    pools: Arc<Pools>,
    source: Arc<str>,
    tables: Vec<TableSpec>,
}

impl Repairer {
    /// Repairs rows of these tables, all of one source's mapping.
    #[must_use]
    pub fn new(pools: Arc<Pools>, source: Arc<str>, tables: &[TableSpec]) -> Self {
        Self { pools, source, tables: tables.to_vec() }
    }

    /// Repairs up to [`crate::ops::ports::REPAIR_ROWS_MAX`] rows of one entity's table. `truth` is asked
    /// once nobody else can write: for each row what it should be by a consistent read of its item, a
    /// delete where it should not be.
    ///
    /// # Errors
    /// `Conflict` when the lock is not to be had, DynamoDB is too slow, or the source is being backfilled;
    /// `Data` when a row is refused; then nothing was written.
    pub async fn repair(
        &self,
        table: TableIndex,
        wanted: &[RowRepair],
        truth: impl Future<Output = Truth> + Send,
    ) -> Result<Vec<Fate>> {
        const WHAT: &str = "repair rows";
        let rows = EntityRows::new(&self.tables, usize::from(table.0))?;
        let work = async |tx: &mut Tx| {
            if rows.spec().names_items {
                hidden::take_turn(tx, &self.source).await?;
            }
            self.lock(tx, table).await?;
            let generation = self.generation(tx).await?;
            let stored = self.stored(tx, table, wanted).await?;
            let truth = tokio::time::timeout(TRUTH_TIMEOUT, truth).await.map_err(|_| {
                Error::new(ErrorKind::Conflict, "read the items to repair: no answer in time")
            })??;
            let mut fates = Vec::with_capacity(wanted.len());
            let mut units = Vec::with_capacity(wanted.len());
            let mut versions_kept = Vec::new();
            let history = HistoryRows::of_repairs(&self.tables, table)?;
            for ((own, stored), op) in wanted.iter().zip(&stored).zip(truth) {
                let version = stored.as_ref().map(|own| own.version.clone());
                let marked = stored.as_ref().is_some_and(|own| own.marked);
                let (fate, op) = match op {
                    _ if !own.guard.lets(version.as_deref()) => (Fate::Moved, None),
                    None => (Fate::LeftAlone, None),
                    Some(op) if op.action.ends_row() && Version::is_foreign(version.as_deref()) => {
                        (Fate::LeftAlone, None)
                    }
                    // It is as it should be; its history may not be.
                    Some(op) if op.action == RowAction::SoftDelete && marked => {
                        (Fate::Deleted, None)
                    }
                    Some(op) if op.action.ends_row() && is_anothers(version.as_deref(), &op) => {
                        (Fate::LeftAlone, None)
                    }
                    // A missing row cannot be marked; its child rows are deleted.
                    Some(op) if op.action.ends_row() && version.is_none() => {
                        (Fate::Deleted, Some(self.without_a_trace(op)))
                    }
                    Some(op) if op.action.ends_row() => (Fate::Deleted, Some(op)),
                    Some(op) => (Fate::Written, Some(op)),
                };
                fates.push(fate);
                let version = repaired_version(version.as_deref(), generation);
                if let (Some(history), Some(recorded), Some(op)) = (&history, &own.recorded, &op) {
                    let known = Version::parse(&recorded.version)
                        .map_or(version, |known| known.max(version));
                    let op = history.record(self.spec(table)?, op, &recorded.end);
                    versions_kept.push(unit(op, known));
                }
                units.extend(op.map(|op| unit(op, version)));
            }
            self.write(tx, &rows, &units).await?;
            if let Some(history) = history.filter(|_| !versions_kept.is_empty()) {
                self.keep(tx, &history, &versions_kept).await?;
            }
            if let Some(history) = histories::history_of(&self.tables, table) {
                let mended = wanted.iter().zip(&fates);
                let mended =
                    mended.filter(|(_, fate)| matches!(fate, Fate::Written | Fate::Deleted));
                let keys: Vec<&Cells> = mended.map(|(own, _)| &own.key).collect();
                histories::mend(tx, &self.tables, history, &keys, generation).await?;
            }
            Ok(fates)
        };
        self.pools.transact(Work::Apply, WHAT, work).await
    }

    fn without_a_trace(&self, op: RowOp) -> RowOp {
        let spec = self.tables.get(usize::from(op.table.0));
        let cells = op.cells.prefix(spec.map_or(0, |spec| spec.key_columns));
        RowOp { action: RowAction::Delete, cells, ..op }
    }

    /// Writes all rows with the guarded statements of batches. It first resets the version, so that the guard
    /// lets the same version through.
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
            // Children without a parent are not found through it.
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

    /// Adds versions to a history after those already there.
    async fn keep(&self, tx: &mut Tx, history: &HistoryRows, units: &[Unit]) -> Result<()> {
        let units: Vec<&Unit> = units.iter().collect();
        let tables = vec![TableApplied::default(); self.tables.len()];
        let mut applied = Applied { tables, dead_letters_superseded: 0 };
        history.write(tx, &units, Phase::Steady, &mut applied).await
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

    /// The source's generation, unless a backfill is running.
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
                let what = format!("a backfill of source {} is running", self.source);
                Err(Error::new(ErrorKind::Conflict, what).with_hint("try again when it is done"))
            }
            None => {
                let what = format!("the ledger does not know the source {}", self.source);
                Err(Error::new(ErrorKind::Config, what).with_hint("dynaurora run"))
            }
        }
    }

    async fn stored(
        &self,
        tx: &mut Tx,
        table: TableIndex,
        wanted: &[RowRepair],
    ) -> Result<Vec<Option<Stored>>> {
        let spec = self.spec(table)?;
        let sql = format!(
            "select n.ordinal, t.{}::text, {} from (select {}, \
             generate_subscripts($1::text[], 1)::bigint as ordinal) n join {} t on {}",
            quoted(VERSION_COLUMN)?,
            mark(spec)?.map_or("false".to_owned(), |mark| format!("t.{mark} is not null")),
            unnested_as(key_columns(spec), 1, "k")?,
            quoted_table(&spec.name)?,
            joined("t", key_columns(spec), "n", "k")?,
        );
        let mut query =
            tx.query_once(AssertSqlSafe(sql)).named("read the versions of rows to repair");
        for column in 0..spec.key_columns {
            query = query.bind(texts(wanted, move |own| own.key.cell(column)));
        }
        let found = query.all(|row| {
            let stored = Stored { version: row.try_get(1)?, marked: row.try_get(2)? };
            Ok((row.try_get::<i64, _>(0)?, stored))
        });
        let mut all: Vec<Option<Stored>> = wanted.iter().map(|_| None).collect();
        for (ordinal, stored) in found.await? {
            let place = usize::try_from(ordinal - 1).ok().and_then(|at| all.get_mut(at));
            if let Some(place) = place {
                *place = Some(stored);
            }
        }
        Ok(all)
    }

    fn spec(&self, table: TableIndex) -> Result<&TableSpec> {
        self.tables
            .get(usize::from(table.0))
            .ok_or_else(|| Error::new(ErrorKind::Unknown, "a table's number is beyond the mapping"))
    }
}

fn repaired_version(stored: Option<&str>, generation: Generation) -> Version {
    let given = stored.and_then(|stored| Version::given(stored, generation));
    given.unwrap_or(Version::scanned(generation))
}

/// Whether the row is known to be of another item than the one whose row is to end.
fn is_anothers(stored: Option<&str>, op: &RowOp) -> bool {
    let named = stored.and_then(ItemTag::of_version).zip(op.item);
    named.is_some_and(|(stored, own)| stored != own)
}

fn unit(op: RowOp, version: Version) -> Unit {
    Unit { op, version, record: RecordRef { page: 0, index: 0 } }
}

/// Runs a statement with one array per key column.
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
    fn a_repair_keeps_a_version_that_some_change_gave_and_no_other() {
        let sequence = crate::model::SequenceNumber::parse("000100000000003498069978").unwrap();
        let own = Version { generation: 2, sequence };
        assert_eq!(repaired_version(Some(&own.to_string()), 2), own);
        assert_eq!(repaired_version(Some(&own.to_string()), 3), own);
        let scanned = Version::scanned(2);
        let future = Version { generation: 3, sequence }.to_string();
        for odd in ["0", "-1", "17", "1.5", "NaN", &"9".repeat(40), &"9".repeat(60), &future] {
            assert_eq!(repaired_version(Some(odd), 2), scanned, "{odd}");
        }
        assert_eq!(repaired_version(None, 2), scanned);
    }
}
