//! What every part of a verification needs: both sides, the mapping, and the budget of read capacity.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use crate::apply::letters::key_hash_of;
use crate::config::{Config, SourceConfig};
use crate::engine::backfill::budget::RateBudget;
use crate::engine::ports::{Clock, Ledger, Page, ReadFrom, Source};
use crate::engine::retry::{self, Directive, Stage, directive};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::{Mapper, Outcome};
use crate::model::{
    Cells, Change, ChangeOp, Generation, Item, KeyType, RowAction, RowOp, SequenceNumber,
    TableIndex,
};
use crate::ops::wire;
use crate::postgres::ledger::PostgresLedger;
use crate::postgres::listings::dead_letters;
use crate::postgres::repair::mend::{Mender, is_given};
use crate::postgres::repair::verify::TargetReader;
use crate::postgres::session::Pools;
use crate::runtime::SystemClock;
use crate::source::DynamoSource;

/// Items asked for at a time.
const ITEMS_IN_FLIGHT: usize = 8;
/// Failures in a row after which a read is given up; with the pauses between them, some two minutes.
const FAILURES_MAX: u32 = 10;

/// One source under verification.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) name: Arc<str>,
    pub(crate) dynamo: DynamoSource,
    pub(crate) mapper: Arc<Mapper>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) reader: TargetReader,
    pub(crate) mender: Mender,
    pub(crate) schema: Vec<(String, KeyType)>,
    pub(crate) generation: Generation,
    /// How many daemons showed themselves alive.
    pub(crate) workers: usize,
    budget: Mutex<RateBudget>,
}

/// What a row should be, by its item's present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Truth {
    /// This, or with a delete: nothing.
    Row(RowOp),
    /// The item is gone, and the mapping may have kept the row.
    Kept,
    /// The item cannot be mapped.
    Unmappable,
    /// The item says nothing of this row: another one may have it.
    Silent,
}

impl Context {
    /// Asks both sides what they are; refuses a source that is being backfilled.
    pub(crate) async fn open(
        config: &Config,
        source: &SourceConfig,
        pools: &Arc<Pools>,
        max_rcu: Option<f64>,
    ) -> Result<Self> {
        let dynamo = wire::source(config, source).await?;
        let schema = dynamo.key_schema().await?;
        let view = PostgresLedger::new(Arc::clone(pools)).load(&source.name).await?;
        if view.load.active {
            let what = format!("the source {} is being backfilled", source.name);
            return Err(Error::new(ErrorKind::Conflict, what)
                .with_hint("`dynaurora status` shows how far it is; verify afterwards"));
        }
        let tables = source.mapper.tables();
        Ok(Self {
            name: Arc::clone(&source.name),
            dynamo,
            mapper: Arc::clone(&source.mapper),
            pools: Arc::clone(pools),
            reader: TargetReader::new(Arc::clone(pools), tables),
            mender: Mender::new(Arc::clone(pools), Arc::clone(&source.name), tables),
            schema,
            generation: view.generation,
            workers: view.workers,
            budget: Mutex::new(RateBudget::new(max_rcu, SystemClock.now())),
        })
    }

    /// The entity's own table behind a table's name; `None` where no entity has it.
    fn entity_table(&self, name: &str) -> Option<TableIndex> {
        let tables = self.mapper.tables();
        let at = tables.iter().position(|table| table.name.to_string() == name)?;
        let own = || u16::try_from(at).map(TableIndex).ok();
        tables.get(at)?.parent.map_or_else(own, |parent| Some(parent.table))
    }

    /// The entities' own tables that are looked at.
    pub(crate) fn own_tables(&self, named: Option<&str>) -> Vec<TableIndex> {
        let chosen = named.and_then(|name| self.entity_table(name));
        let numbered = (0_u16..).zip(self.mapper.tables());
        numbered
            .filter(|(_, table)| table.parent.is_none() && table.history_of.is_none())
            .map(|(at, _)| TableIndex(at))
            .filter(|table| chosen.is_none_or(|chosen| chosen == *table))
            .collect()
    }

    /// The page of a scan, within the budget; what may pass is waited out.
    pub(crate) async fn page(&self, from: &ReadFrom) -> Result<Page> {
        let page = self.patiently(|| self.dynamo.read(from)).await?;
        self.take(page.consumed_capacity).await;
        Ok(page)
    }

    /// The items with these keys by consistent reads, within the budget.
    pub(crate) async fn items(&self, keys: &[&Item]) -> Result<Vec<Option<Item>>> {
        let read = |key| async move {
            let (item, units) = self.patiently(|| self.dynamo.item(key)).await?;
            self.take(units).await;
            Ok(item)
        };
        stream::iter(keys.iter().copied()).map(read).buffered(ITEMS_IN_FLIGHT).try_collect().await
    }

    /// The same at once, without the budget and without a second try: others wait for the answer.
    pub(crate) async fn items_now(&self, keys: &[Item]) -> Result<Vec<Option<Item>>> {
        let read = |key| async move { Ok(self.dynamo.item(key).await?.0) };
        stream::iter(keys).map(read).buffered(keys.len().max(1)).try_collect().await
    }

    /// No row with this key, or one that is marked where the mapping deletes softly.
    pub(crate) fn absence(&self, table: TableIndex, mut cells: Cells) -> RowOp {
        let spec = self.mapper.tables().get(usize::from(table.0));
        let soft = spec.is_some_and(|spec| spec.deleted_at.is_some());
        let action = if soft { RowAction::SoftDelete } else { RowAction::Delete };
        if soft {
            // Nobody knows when the item was deleted.
            cells.push_null();
        }
        RowOp { table, action, cells, children: Vec::new() }
    }

    /// What the row should be now that its item is this one.
    pub(crate) fn truth(
        &self,
        (key, item): (&Item, Option<Item>),
        (table, row): (TableIndex, &Cells),
        version: Option<&str>,
    ) -> Truth {
        let key_columns =
            self.mapper.tables().get(usize::from(table.0)).map_or(0, |spec| spec.key_columns);
        let nothing = self.absence(table, row.prefix(key_columns));
        let named = self.mapper.names_items(table, &self.schema);
        let Some(item) = item else {
            let given = version.is_some_and(|version| is_given(version, self.generation));
            return match (named, self.mapper.keeps_rows(table) && given) {
                (false, _) => Truth::Silent,
                (true, true) => Truth::Kept,
                (true, false) => Truth::Row(nothing),
            };
        };
        let mut rows = Vec::new();
        if let Outcome::Rejected(_) = self.mapper.map(&scanned(key.clone(), item), &mut rows) {
            return Truth::Unmappable;
        }
        let own = |op: &RowOp| {
            op.table == table && op.cells.iter().take(key_columns).eq(row.iter().take(key_columns))
        };
        match rows.into_iter().find(own) {
            Some(op) => Truth::Row(op),
            None if named => Truth::Row(nothing),
            None => Truth::Silent,
        }
    }

    /// Which of these items wait as open dead letters, by place.
    pub(crate) async fn dead_lettered(&self, keys: &[&Item]) -> Result<HashSet<usize>> {
        let hashes: Vec<_> = keys.iter().map(|key| key_hash_of(key)).collect();
        let pool = self.pools.pool().await?;
        let open = dead_letters::open_among(&pool, &self.name, &hashes).await?;
        let numbered = hashes.iter().enumerate();
        Ok(numbered.filter(|(_, hash)| open.contains(*hash)).map(|(at, _)| at).collect())
    }

    async fn take(&self, units: Option<f64>) {
        self.budget.lock().await.take(units.unwrap_or(0.0), SystemClock.now());
    }

    /// Calls once the budget allows, and again after a pause where the failure may pass.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut failures = 0;
        loop {
            let ready = self.budget.lock().await.ready_at(SystemClock.now());
            SystemClock.sleep_until(ready).await;
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            if directive(Stage::Read, error.kind()) != Directive::Retry || failures > FAILURES_MAX {
                return Err(error);
            }
            let pause = retry::pause(failures, &mut fastrand::Rng::new());
            SystemClock.sleep_until(SystemClock.now() + pause).await;
        }
    }
}

/// The change that a scan makes of an item.
pub(crate) fn scanned(keys: Item, item: Item) -> Change {
    Change {
        op: ChangeOp::Scan,
        sequence: SequenceNumber::ZERO,
        keys,
        new_image: Some(item),
        old_image: None,
        changed_at: None,
        expired: false,
        bytes: 0,
    }
}
