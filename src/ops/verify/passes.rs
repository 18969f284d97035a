//! The two directions: every item against its rows, then every row against its item.
//!
//! The first direction keeps a hash of each row that it met, so the second examines only the other rows: new
//! ones, and those without an item. If a table's key gives the item's key, those items are read. If not, the
//! source is read a second time. A row has no item if it existed before that reading, no item read maps to
//! it, and its version is the same afterwards: an existing item would have been met, and a removed one would
//! have changed the row.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::scan::{self, Share};
use super::settle::{CHUNK_ROWS, Drift, Settled, Suspect, settle};
use crate::error::Result;
use crate::mapping::Outcome;
use crate::model::{Cells, Change, Item, RowAction, RowOp, TableIndex, Version};
use crate::ops::ports::{MetRow, Observer, Rows, RowsPage, Sides};

/// Suspects settled together; while writers write, some rows always lag a little.
const SUSPECTS_MAX: usize = 1_000;
/// Differences after which a verification ends early: whatever it is, a backfill repairs it better.
const DRIFT_MAX: usize = 10_000;
/// Rows per page of a target table.
const PAGE_ROWS: u32 = 1_000;

/// How to verify one source.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) tables: Vec<TableIndex>,
    pub(crate) share: Share,
    pub(crate) readers: u32,
    /// How long a change may take from the source to the target.
    pub(crate) lag: Duration,
}

/// What both directions found.
#[derive(Debug, Default)]
pub struct Found {
    /// Items read.
    pub items: u64,
    /// Rows compared; child rows are not counted.
    pub rows: u64,
    /// Items that cannot be mapped.
    pub rejected: u64,
    /// What became of all that looked wrong.
    pub settled: Settled,
    /// Whether it ended before everything was read.
    pub stopped_early: bool,
    /// Tables whose rows without an item could not be looked for, with the number of doubtful rows.
    pub unchecked: Vec<(TableIndex, u64)>,
}

/// A running verification of one source.
pub(crate) struct Passes<'a, S, O> {
    context: &'a Arc<Context<S>>,
    plan: Plan,
    observer: &'a O,
    /// The hashes of the rows met, by table; eight bytes a row.
    met: Vec<Vec<u64>>,
    /// What makes the hashes this verification's own.
    salt: u64,
    suspects: Vec<Suspect>,
    suspected: HashSet<(TableIndex, Cells)>,
    found: Found,
}

impl Found {
    /// Rows that are not as they should be, those of child tables among them.
    #[must_use]
    pub fn mismatched(&self) -> u64 {
        self.differences(|_| true)
    }

    /// Those of them that were repaired.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        self.differences(|drift| drift.repaired)
    }

    fn differences(&self, counts: impl Fn(&&Drift) -> bool) -> u64 {
        let drift = self.settled.drift.iter().filter(counts);
        drift.map(|drift| drift.comparison.differences.len() as u64).sum()
    }
}

/// A row whose key does not give its item's key.
#[derive(Debug)]
struct Unnamed {
    table: TableIndex,
    key: Vec<String>,
    version: Option<String>,
}

impl<'a, S: Sides, O: Observer> Passes<'a, S, O> {
    pub(crate) fn new(context: &'a Arc<Context<S>>, plan: Plan, observer: &'a O) -> Self {
        Self {
            context,
            plan,
            observer,
            met: vec![Vec::new(); context.mapper.tables().len()],
            salt: context.random().u64(..),
            suspects: Vec::new(),
            suspected: HashSet::new(),
            found: Found::default(),
        }
    }

    /// Runs both directions.
    pub(crate) async fn run(mut self) -> Result<Found> {
        self.forwards(true).await?;
        let mut unnamed = Vec::new();
        let tables = self.context.mapper.tables().iter();
        let parents: Vec<_> = (0_u16..)
            .zip(tables)
            .map(|(at, table)| (TableIndex(at), table.entity_table()))
            .collect();
        for (table, entity) in parents {
            let own = entity.unwrap_or(table);
            if self.plan.tables.contains(&own) && !self.full() {
                self.backwards(table, own, &mut unnamed).await?;
            }
        }
        self.settle().await?;
        if !unnamed.is_empty() {
            self.second_reading(unnamed).await?;
        }
        Ok(self.found)
    }

    /// Reads the source and compares the rows of each item. Without `judging` it only records the rows met.
    async fn forwards(&mut self, judging: bool) -> Result<()> {
        let (mut pages, tasks) = scan::start(self.context, &self.plan.share, self.plan.readers);
        while let Some(page) = pages.recv().await {
            let changes = page?;
            self.compare(&changes, judging).await?;
            if self.suspects.len() >= SUSPECTS_MAX {
                self.settle().await?;
            }
            if self.full() {
                break;
            }
        }
        drop(tasks);
        for met in &mut self.met {
            met.sort_unstable();
        }
        Ok(())
    }

    async fn compare(&mut self, changes: &[Change], judging: bool) -> Result<()> {
        let mut rows: Vec<(usize, RowOp)> = Vec::new();
        let mut own = Vec::new();
        for (at, change) in changes.iter().enumerate() {
            if let Outcome::Rejected(_) = self.context.mapper.map(change, &mut own) {
                self.found.rejected += u64::from(judging);
            }
            // A history is compared with its row.
            own.retain(|op| op.action != RowAction::Record);
            rows.extend(own.drain(..).map(|op| (at, op)));
        }
        rows.retain(|(_, op)| self.plan.tables.contains(&op.table));
        rows.sort_by_key(|(_, op)| op.table);
        for of_table in rows.chunk_by(|(_, a), (_, b)| a.table == b.table) {
            for chunk in of_table.chunks(CHUNK_ROWS) {
                self.compare_chunk(changes, chunk, judging).await?;
            }
        }
        if judging {
            self.found.items += changes.len() as u64;
            self.observer.items(self.found.items, self.found.settled.drift.len());
        }
        Ok(())
    }

    async fn compare_chunk(
        &mut self,
        changes: &[Change],
        chunk: &[(usize, RowOp)],
        judging: bool,
    ) -> Result<()> {
        let Some(table) = chunk.first().map(|(_, op)| op.table) else { return Ok(()) };
        let ops: Vec<RowOp> = chunk.iter().map(|(_, op)| op.clone()).collect();
        let comparisons = self.context.sides.target().compare(table, &ops).await?;
        for ((at, op), comparison) in chunk.iter().zip(comparisons) {
            if comparison.version.is_some() {
                let hash = self.hash_of(&comparison.key);
                if let Some(met) = self.met.get_mut(usize::from(table.0)) {
                    met.push(hash);
                }
            }
            if !judging {
                continue;
            }
            self.found.rows += u64::from(op.action == RowAction::Upsert);
            if let (false, Some(change)) = (comparison.differences.is_empty(), changes.get(*at)) {
                let row = op.cells.prefix(self.key_columns(table));
                self.suspect(Some(change.keys.clone()), table, row);
            }
        }
        Ok(())
    }

    /// Pages through a target table. Checks an entity table's rows that the first direction did not meet, a
    /// child table's rows whose parent is missing, and a history's that are open without a row or have wrong
    /// times.
    async fn backwards(
        &mut self,
        table: TableIndex,
        own: TableIndex,
        unnamed: &mut Vec<Unnamed>,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let target = self.context.sides.target();
            let RowsPage { rows, next } = target.page(table, after.as_deref(), PAGE_ROWS).await?;
            for row in rows {
                if table == own && !self.wanted(table, &row.key) {
                    continue;
                }
                let unmet = table == own && self.plan.share.is_whole();
                if unmet && Version::is_foreign(row.version.as_deref()) {
                    self.found.settled.foreign += 1;
                    continue;
                }
                if unmet && self.may_be_kept(own, &row) {
                    self.found.settled.kept += 1;
                    continue;
                }
                let mut key = row.key;
                key.truncate(self.key_columns(own));
                let cells: Cells = key.iter().map(|text| Some(text.as_str())).collect();
                match self.context.mapper.item_key(own, &cells, &self.context.schema) {
                    Some(item) => self.suspect(Some(item), own, cells),
                    None => unnamed.push(Unnamed { table: own, key, version: row.version }),
                }
            }
            self.found.stopped_early |= unnamed.len() >= DRIFT_MAX;
            self.observer.rows(PAGE_ROWS);
            if self.suspects.len() >= SUSPECTS_MAX {
                self.settle().await?;
            }
            match next {
                Some(_) if self.full() => return Ok(()),
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Whether to examine a row: after a full reading, rows that it did not meet; after a sample, a sample.
    fn wanted(&self, table: TableIndex, key: &[String]) -> bool {
        if !self.plan.share.is_whole() {
            return self.context.random().f64() < self.plan.share.part;
        }
        !self.was_met(table, key)
    }

    /// A row without a met item, in a table that keeps rows of removed items. It may be such a row, unless no
    /// change can have given it its version.
    fn may_be_kept(&self, table: TableIndex, row: &MetRow) -> bool {
        let given = row.version.as_deref();
        let given =
            given.is_some_and(|version| Version::given(version, self.context.generation).is_some());
        given && self.context.mapper.keeps_rows(table)
    }

    fn was_met(&self, table: TableIndex, key: &[String]) -> bool {
        let met = self.met.get(usize::from(table.0)).map_or(&[][..], Vec::as_slice);
        met.binary_search(&self.hash_of(key)).is_ok()
    }

    fn hash_of(&self, key: &[String]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.salt, key).hash(&mut hasher);
        hasher.finish()
    }

    /// Settles rows whose keys do not give their items' keys.
    async fn second_reading(&mut self, mut unnamed: Vec<Unnamed>) -> Result<()> {
        // An unmappable item may own any of the old rows.
        let doubtful = !self.plan.share.is_whole() || self.found.rejected > 0 || self.full();
        if doubtful {
            for row in unnamed {
                self.doubt(row.table);
            }
            return Ok(());
        }
        self.observer.again();
        self.forwards(false).await?;
        unnamed.retain(|row| !self.was_met(row.table, &row.key));
        let mut before = Vec::with_capacity(unnamed.len());
        for row in unnamed {
            let cells: Cells = row.key.iter().map(|text| Some(text.as_str())).collect();
            self.suspect(None, row.table, cells.clone());
            before.push((row.table, cells, row.version));
        }
        let earlier = self.found.settled.drift.len();
        self.settle().await?;
        // A row with a new version was written meanwhile and may have an item.
        let mut at = 0;
        let drift = &mut self.found.settled.drift;
        drift.retain(|own| {
            at += 1;
            let version =
                before.iter().find(|(table, row, _)| (*table, row) == (own.table, &own.row));
            at <= earlier || version.is_none_or(|(_, _, was)| *was == own.comparison.version)
        });
        Ok(())
    }

    fn doubt(&mut self, table: TableIndex) {
        match self.found.unchecked.iter_mut().find(|(own, _)| *own == table) {
            Some((_, rows)) => *rows += 1,
            None => self.found.unchecked.push((table, 1)),
        }
    }

    fn suspect(&mut self, item: Option<Item>, table: TableIndex, row: Cells) {
        if self.suspected.insert((table, row.clone())) {
            self.suspects.push(Suspect::new(item, table, row));
        }
    }

    async fn settle(&mut self) -> Result<()> {
        let suspects = std::mem::take(&mut self.suspects);
        for suspect in &suspects {
            // It may rightly be suspected again later.
            self.suspected.remove(&(suspect.table, suspect.row.clone()));
        }
        let settled = settle(self.context, suspects, self.plan.lag).await?;
        for drift in &settled.drift {
            self.suspected.insert((drift.table, drift.row.clone()));
        }
        self.found.settled.add(settled);
        self.found.stopped_early |= self.full();
        Ok(())
    }

    fn full(&self) -> bool {
        self.found.stopped_early || self.found.settled.drift.len() >= DRIFT_MAX
    }

    fn key_columns(&self, table: TableIndex) -> usize {
        self.context.mapper.tables().get(usize::from(table.0)).map_or(0, |spec| spec.key_columns)
    }
}
