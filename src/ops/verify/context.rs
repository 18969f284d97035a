//! What every part of a verification needs: both sides, the mapping, and the read budget.

use std::sync::{Arc, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use crate::apply::letters::key_hash_of;
use crate::engine::backfill::budget::RateBudget;
use crate::engine::ports::{Clock, Ledger, Page, ReadFrom, Source};
use crate::engine::retry;
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::{Mapper, Outcome};
use crate::model::{
    Cells, Change, Generation, Item, KeyType, RowAction, RowOp, TableIndex, Version,
};
use crate::ops::ports::{Items, Letters, Sides};

/// Items requested at a time.
const ITEMS_IN_FLIGHT: usize = 8;
/// Failures in a row until a read gives up; with its pauses, about two minutes.
const FAILURES_MAX: u32 = 10;

/// One source under verification.
#[derive(Debug)]
pub struct Context<S> {
    pub(crate) sides: S,
    pub(crate) name: Arc<str>,
    pub(crate) mapper: Arc<Mapper>,
    pub(crate) schema: Vec<(String, KeyType)>,
    pub(crate) generation: Generation,
    workers: usize,
    budget: Mutex<RateBudget>,
    random: std::sync::Mutex<fastrand::Rng>,
}

/// What is verified, and how fast.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The source's name.
    pub name: Arc<str>,
    /// Its mapping, onto the tables that exist.
    pub mapper: Arc<Mapper>,
    /// The read units a second that may be taken; no limit where nobody says.
    pub max_rcu: Option<f64>,
    /// What decides all that is left to chance.
    pub seed: u64,
}

/// A row whose item is known.
#[derive(Clone, Copy)]
pub(crate) struct RowAsked<'a> {
    pub(crate) table: TableIndex,
    /// Its cells, the primary key first.
    pub(crate) row: &'a Cells,
    /// The version that it has, as it prints.
    pub(crate) version: Option<&'a str>,
}

/// What a row should be, given its item's current state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// This row; for a delete, none.
    Row(RowOp),
    /// The item is gone, and the mapping may have kept the row.
    Kept,
    /// The item cannot be mapped.
    Unmappable,
    /// The item does not have this row: another one may.
    Silent,
}

impl<S: Sides> Context<S> {
    /// Reads the state of both sides; refuses a source during a backfill.
    ///
    /// # Errors
    /// `Conflict` while the source is being backfilled, else when a side does not answer.
    pub async fn open(sides: S, subject: Subject) -> Result<Self> {
        let Subject { name, mapper, max_rcu, seed } = subject;
        let schema = sides.items().key_schema().await?;
        let view = sides.ledger().view(&name).await?;
        if view.backfill.active {
            let what = format!("the source {name} is being backfilled");
            return Err(Error::new(ErrorKind::Conflict, what)
                .with_hint("`dynaurora status` shows its progress; verify afterwards"));
        }
        let budget = Mutex::new(RateBudget::new(max_rcu, sides.clock().now()));
        Ok(Self {
            sides,
            name,
            mapper,
            schema,
            generation: view.generation,
            workers: view.workers,
            budget,
            random: std::sync::Mutex::new(fastrand::Rng::with_seed(seed)),
        })
    }

    /// The source's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The source's mapping.
    #[must_use]
    pub fn mapper(&self) -> &Mapper {
        &self.mapper
    }

    /// How many daemons showed themselves alive at the start.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The source of chance.
    pub(crate) fn random(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entity whose own table has this name, if any.
    fn entity_table(&self, name: &str) -> Option<TableIndex> {
        let tables = self.mapper.tables();
        let at = tables.iter().position(|table| table.name.to_string() == name)?;
        let own = || u16::try_from(at).map(TableIndex).ok();
        tables.get(at)?.entity_table().map_or_else(own, Some)
    }

    /// The entities' own tables to verify.
    pub(crate) fn own_tables(&self, named: Option<&str>) -> Vec<TableIndex> {
        let chosen = named.and_then(|name| self.entity_table(name));
        let numbered = (0_u16..).zip(self.mapper.tables());
        numbered
            .filter(|(_, table)| table.parent.is_none() && table.history_of.is_none())
            .map(|(at, _)| TableIndex(at))
            .filter(|table| chosen.is_none_or(|chosen| chosen == *table))
            .collect()
    }

    /// A page of a scan, within the budget; retries temporary failures.
    pub(crate) async fn page(&self, from: &ReadFrom) -> Result<Page> {
        let page = self.patiently(|| self.sides.items().read(from)).await?;
        self.take(page.consumed_capacity).await;
        Ok(page)
    }

    /// The items with these keys, read consistently within the budget.
    pub(crate) async fn items(&self, keys: &[&Item]) -> Result<Vec<Option<Item>>> {
        // Collected first: the compiler cannot see that a stream over borrowed keys may be sent.
        let reads: Vec<_> = keys.iter().map(|key| self.item(key)).collect();
        stream::iter(reads).buffered(ITEMS_IN_FLIGHT).try_collect().await
    }

    async fn item(&self, key: &Item) -> Result<Option<Item>> {
        let (item, units) = self.patiently(|| self.sides.items().item(key)).await?;
        self.take(units).await;
        Ok(item)
    }

    /// The same at once, without budget or retry, because others wait for the answer.
    pub(crate) async fn items_now(&self, keys: &[Item]) -> Result<Vec<Option<Item>>> {
        let reads: Vec<_> = keys.iter().map(|key| self.sides.items().item(key)).collect();
        let items = try_join_all(reads).await?;
        Ok(items.into_iter().map(|(item, _)| item).collect())
    }

    /// No row with this key, or a marked one if the mapping deletes softly.
    pub(crate) fn absence(&self, table: TableIndex, mut cells: Cells) -> RowOp {
        let spec = self.mapper.tables().get(usize::from(table.0));
        let soft = spec.is_some_and(|spec| spec.deleted_at.is_some());
        let action = if soft { RowAction::SoftDelete } else { RowAction::Delete };
        if soft {
            // The time of the delete is unknown.
            cells.push_null();
        }
        RowOp { table, action, cells, children: Vec::new(), item: None }
    }

    /// What the row should be, given its current item.
    pub(crate) fn truth(
        &self,
        key: &Item,
        item: Option<Item>,
        RowAsked { table, row, version }: RowAsked<'_>,
    ) -> Expected {
        let key_columns =
            self.mapper.tables().get(usize::from(table.0)).map_or(0, |spec| spec.key_columns);
        let nothing = self.absence(table, row.prefix(key_columns));
        let named = self.mapper.names_items(table, &self.schema);
        let Some(item) = item else {
            let given =
                version.is_some_and(|version| Version::given(version, self.generation).is_some());
            return match (named, self.mapper.keeps_rows(table) && given) {
                (false, _) => Expected::Silent,
                (true, true) => Expected::Kept,
                (true, false) => Expected::Row(nothing),
            };
        };
        let mut rows = Vec::new();
        if let Outcome::Rejected(_) =
            self.mapper.map(&Change::scanned(key.clone(), item), &mut rows)
        {
            return Expected::Unmappable;
        }
        let own = |op: &RowOp| {
            op.table == table && op.cells.iter().take(key_columns).eq(row.iter().take(key_columns))
        };
        match rows.into_iter().find(own) {
            Some(op) => Expected::Row(op),
            None if named => Expected::Row(nothing),
            None => Expected::Silent,
        }
    }

    /// The versions of these items' open dead letters, in the order of the items.
    pub(crate) async fn dead_lettered(&self, keys: &[&Item]) -> Result<Vec<Option<Version>>> {
        let hashes: Vec<_> = keys.iter().map(|key| key_hash_of(key)).collect();
        let open = self.sides.target().open_among(&self.name, &hashes).await?;
        Ok(hashes.iter().map(|hash| open.get(hash).copied()).collect())
    }

    /// Whether a dead letter of this version explains that its item's row, which has the other one, is not as
    /// it should be: the row is older, or nobody can tell how old it is.
    pub(crate) fn explains(&self, letter: Version, row: Option<&str>) -> bool {
        let row = row.and_then(|version| Version::given(version, self.generation));
        row.is_none_or(|row| row < letter)
    }

    async fn take(&self, units: Option<f64>) {
        let now = self.sides.clock().now();
        self.budget.lock().await.take(units.unwrap_or(0.0), now);
    }

    /// Calls once the budget allows, and retries temporary failures after a pause.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let clock = self.sides.clock();
        let mut failures = 0;
        loop {
            let ready = self.budget.lock().await.ready_at(clock.now());
            clock.sleep_until(ready).await;
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            if !retry::is_transient(error.kind()) || failures > FAILURES_MAX {
                return Err(error);
            }
            let pause = retry::pause(failures, &mut self.random());
            clock.sleep_until(clock.now() + pause).await;
        }
    }
}
