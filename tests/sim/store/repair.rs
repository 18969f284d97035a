//! The target side of a verification in memory: rows compared, repaired under a lock, and dead letters.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dynaurora::apply::ports::KeyHash;
use dynaurora::error::{Error, ErrorKind, Result};
use dynaurora::mapping::spec::TableSpec;
use dynaurora::model::{Cells, Reject, RowAction, RowOp, SequenceNumber, TableIndex, Version};
use dynaurora::ops::ports::{
    Cell, Comparison, Difference, Fate, Fault, Letter, Letters, MetRow, Progress, Repairs,
    RowRepair, Rows, RowsPage, Truth, Verification, Verifications,
};
use tokio::sync::MutexGuard;

use super::faults::{Call, Sabotage};
use super::state::State;
use super::{Event, Key, Row, Shared, Store, backfills, histories, key_of, marked, sink};
use crate::contract::SOURCE;
use crate::sim::clock::pause;

/// How long the truth may take while writers wait.
const TRUTH_TIMEOUT: Duration = Duration::from_secs(3);

impl Rows for Store {
    async fn compare(&self, table: TableIndex, rows: &[RowOp]) -> Result<Vec<Comparison>> {
        self.call(Call::Operator, |state| {
            Ok(rows.iter().map(|op| compared(&self.shared.specs, state, table, op)).collect())
        })
        .await
    }

    async fn page(
        &self,
        table: TableIndex,
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<RowsPage> {
        let after: Option<Key> = after.map(|key| key.iter().cloned().map(Some).collect());
        self.call(Call::Operator, |state| {
            let spec = &self.shared.specs[usize::from(table.0)];
            if spec.history_of.is_some() {
                return Ok(page_of_history(&self.shared.specs, state, table));
            }
            // Here a child row hangs on its parent's, so that none is ever without.
            let rows = state.tables[usize::from(table.0)].iter();
            let later = rows
                .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
                .filter(|(_, row)| !backfills::is_marked(row, spec.deleted_at));
            let met = |(key, row): (&Key, &Row)| MetRow {
                key: key.iter().map(|cell| cell.clone().unwrap_or_default()).collect(),
                version: Some(printed(row.version)),
            };
            let rows: Vec<_> = later.take(limit as usize).map(met).collect();
            let full = rows.len() >= limit as usize;
            let next = rows.last().filter(|_| full).map(|row| row.key.clone());
            Ok(RowsPage { rows, next })
        })
        .await
    }
}

impl Repairs for Store {
    async fn repair(
        &self,
        table: TableIndex,
        rows: &[RowRepair],
        truth: impl Future<Output = Truth> + Send,
    ) -> Result<Vec<Fate>> {
        self.stand_still().await;
        let fate = self.faults().draw(Call::Operator);
        self.reach(&fate).await?;
        let sabotage = self.shared.knobs().sabotage;
        let lock = match sabotage {
            Some(Sabotage::RepairsUnlocked) => None,
            _ => Some(Lock::take(self).await),
        };
        let columns = self.shared.specs[usize::from(table.0)].key_columns;
        let deleted_at = self.shared.specs[usize::from(table.0)].deleted_at;
        let (since, incarnation, generation, before) = {
            let mut state = self.state();
            let (since, incarnation) = (state.elapsed, state.incarnation);
            let source = state.source(SOURCE)?;
            if source.backfill.active {
                return Err(Error::new(ErrorKind::Conflict, "the source is being backfilled"));
            }
            let generation = source.generation;
            let stored = &state.tables[usize::from(table.0)];
            let before = |own: &RowRepair| stored.get(&key_of(&own.key, columns)).cloned();
            (since, incarnation, generation, rows.iter().map(before).collect::<Vec<_>>())
        };
        let truth = tokio::time::timeout(TRUTH_TIMEOUT, truth).await;
        let truth = truth.map_err(|_| Error::new(ErrorKind::Conflict, "the truth is late"))??;
        if sabotage == Some(Sabotage::RepairsUnlocked) {
            pause(self.shared.clock, TRUTH_TIMEOUT).await;
        }
        // The write has a way of its own to go.
        let fate = self.faults().draw(Call::Operator);
        self.reach(&fate).await?;
        let fates = {
            let mut state = self.state();
            if state.incarnation != incarnation {
                let what = "the session ended with its server";
                return Err(Error::new(ErrorKind::Unreachable, what));
            }
            let refuses = self.shared.knobs().refuses;
            let mut wanted = Vec::new();
            let mut fates = Vec::new();
            for ((own, before), op) in rows.iter().zip(&before).zip(truth) {
                let (fate, op) = decided(own, before.as_ref(), op, deleted_at);
                fates.push(fate);
                let raises = sabotage == Some(Sabotage::RepairsRaise);
                let version = repaired_version(before.as_ref(), generation, raises);
                wanted.extend(op.map(|op| (own, op, version)));
            }
            sink::accepted(refuses, wanted.iter().map(|(_, op, _)| op))?;
            let mut effects = Vec::new();
            for (_, op, version) in wanted {
                effects.push(written(&self.shared, &mut state, op, version));
            }
            if !effects.is_empty() {
                let repaired = effects.len() as u64;
                *self.faults().tally.entry("rows repaired").or_insert(0) += repaired;
                state.record(Event::Repaired { since, generation, effects });
            }
            let done = rows.iter().zip(&fates);
            let done = done.filter(|(_, fate)| matches!(fate, Fate::Written | Fate::Deleted));
            let keys: Vec<Key> = done.map(|(own, _)| key_of(&own.key, columns)).collect();
            histories::mend(&self.shared, &mut state, table, &keys, generation);
            fates
        };
        drop(lock);
        self.answer(&fate).await?;
        Ok(fates)
    }
}

/// The tables' lock: no batch and no sweep writes while it is held. It ends with its holder.
struct Lock<'a> {
    shared: &'a Arc<Shared>,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Lock<'a> {
    async fn take(store: &'a Store) -> Self {
        let turn = store.shared.writers.lock().await;
        store.state().locked = true;
        Self { shared: &store.shared, _turn: turn }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
    }
}

/// What becomes of one row, and what is written of it.
fn decided(
    own: &RowRepair,
    before: Option<&Row>,
    truth: Option<RowOp>,
    deleted_at: Option<usize>,
) -> (Fate, Option<RowOp>) {
    let stored = before.map(|row| printed(row.version));
    if !own.guard.lets(stored.as_deref()) {
        return (Fate::Moved, None);
    }
    match truth {
        None => (Fate::LeftAlone, None),
        Some(op) if op.action.ends_row() && Version::is_foreign(stored.as_deref()) => {
            (Fate::LeftAlone, None)
        }
        // It is as it should be; its history may not be.
        Some(op)
            if op.action == RowAction::SoftDelete
                && before.is_some_and(|row| backfills::is_marked(row, deleted_at)) =>
        {
            (Fate::Deleted, None)
        }
        Some(op) if op.action.ends_row() && before.is_some_and(|row| row.is_anothers(op.item)) => {
            (Fate::LeftAlone, None)
        }
        Some(op) if op.action.ends_row() => (Fate::Deleted, Some(op)),
        Some(op) => (Fate::Written, Some(op)),
    }
}

/// A row keeps the version that some change gave it; any other gets that of a scanned one.
fn repaired_version(before: Option<&Row>, generation: u32, raises: bool) -> Version {
    let given = before.map(|row| row.version);
    let given = given.filter(|own| (1..=generation).contains(&own.generation));
    let mut version = given.unwrap_or(Version::scanned(generation));
    if raises {
        let highest = "9".repeat(SequenceNumber::DIGITS_MAX);
        version.sequence = SequenceNumber::parse(&highest).unwrap();
    }
    version
}

fn written(
    shared: &Shared,
    state: &mut State,
    op: RowOp,
    version: Version,
) -> (TableIndex, Key, Option<Row>) {
    let at = usize::from(op.table.0);
    let key = key_of(&op.cells, shared.specs[at].key_columns);
    let rows = &mut state.tables[at];
    match op.action {
        RowAction::Upsert => {
            let children = sink::sorted_children(&op);
            rows.insert(key.clone(), Row { cells: op.cells, version, children, item: op.item });
        }
        RowAction::Delete => drop(rows.remove(&key)),
        // Of a row that is not there nothing can be marked.
        RowAction::SoftDelete => {
            if let Some(row) = rows.get_mut(&key) {
                row.version = version;
                row.cells = marked(&row.cells, &op.cells);
            }
        }
        RowAction::Record => {}
    }
    let row = rows.get(&key).cloned();
    (op.table, key, row)
}

/// A version as its column prints it; generation 0 stands for what dynaurora never wrote.
fn printed(version: Version) -> String {
    if version.generation == 0 { "0".to_owned() } else { version.to_string() }
}

fn compared(specs: &[TableSpec], state: &State, table: TableIndex, op: &RowOp) -> Comparison {
    let spec = &specs[usize::from(table.0)];
    let key = key_of(&op.cells, spec.key_columns);
    let row = state.tables[usize::from(table.0)].get(&key);
    let ends = op.action.ends_row();
    let mut comparison = Comparison {
        version: row.map(|row| printed(row.version)),
        marked: row.is_some_and(|row| backfills::is_marked(row, spec.deleted_at)),
        key: row.map(|_| texts(&key)).unwrap_or_default(),
        differences: Vec::new(),
    };
    let own_table = table;
    if ends && row.is_some_and(|row| backfills::is_marked(row, spec.deleted_at)) {
        comparison.differences.extend(histories::compared(specs, state, table, op));
        return comparison;
    }
    let wanted = (!ends).then_some(&op.cells);
    let own = differing(spec, wanted, row.map(|row| &row.cells));
    let key = texts(&key);
    comparison.differences.extend(own.map(|fault| Difference { table, key, fault }));
    let mut children: BTreeMap<_, (Option<&Cells>, Option<&Cells>)> = BTreeMap::new();
    let at = |(table, cells): &(TableIndex, Cells)| {
        (*table, key_of(cells, specs[usize::from(table.0)].key_columns))
    };
    for child in &op.children {
        children.entry(at(child)).or_default().0 = Some(&child.1);
    }
    for child in row.into_iter().flat_map(|row| &row.children) {
        children.entry(at(child)).or_default().1 = Some(&child.1);
    }
    for ((table, key), (wanted, found)) in children {
        let fault = differing(&specs[usize::from(table.0)], wanted, found);
        let key = texts(&key);
        comparison.differences.extend(fault.map(|fault| Difference { table, key, fault }));
    }
    comparison.differences.extend(histories::compared(specs, state, own_table, op));
    comparison
}

/// The open versions of a history without their row, all in one page.
fn page_of_history(specs: &[TableSpec], state: &State, table: TableIndex) -> RowsPage {
    let open = histories::without_row(specs, state, table).into_iter();
    let met = |(key, version): (Key, Option<Version>)| MetRow {
        key: texts(&key),
        version: version.map(printed),
    };
    RowsPage { rows: open.map(met).collect(), next: None }
}

fn differing(spec: &TableSpec, wanted: Option<&Cells>, found: Option<&Cells>) -> Option<Fault> {
    let (wanted, found) = match (wanted, found) {
        (None, None) => return None,
        (Some(_), None) => return Some(Fault::Missing),
        (None, Some(_)) => return Some(Fault::Unexpected),
        (Some(wanted), Some(found)) => (wanted, found),
    };
    let cells: Vec<Cell> = (spec.key_columns..spec.columns.len())
        .filter(|column| wanted.cell(*column) != found.cell(*column))
        .map(|column| Cell {
            column,
            expected: wanted.cell(column).map(str::to_owned),
            found: found.cell(column).map(str::to_owned),
        })
        .collect();
    (!cells.is_empty()).then_some(Fault::Differs(cells))
}

fn texts(key: &Key) -> Vec<String> {
    key.iter().map(|cell| cell.clone().unwrap_or_default()).collect()
}

impl Letters for Store {
    async fn open_among(
        &self,
        source: &str,
        hashes: &[KeyHash],
    ) -> Result<HashMap<KeyHash, Version>> {
        self.call(Call::Operator, |state| {
            let letters = &state.source(source)?.dead_letters;
            let open = letters.iter().filter(|own| own.open).map(|own| &own.letter);
            let own = open.filter(|letter| hashes.contains(&letter.key_hash));
            Ok(own.map(|letter| (letter.key_hash, letter.version)).collect())
        })
        .await
    }

    async fn open_letter(&self, id: i64) -> Result<Option<Letter>> {
        self.call(Call::Operator, |state| {
            let letters = (1..).zip(&state.source(SOURCE)?.dead_letters);
            let mut own = letters.filter(|(number, own)| *number == id && own.open);
            Ok(own.next().map(|(id, own)| Letter {
                id,
                version: own.letter.version.to_string(),
                record: own.letter.image.clone(),
            }))
        })
        .await
    }

    async fn resolve(&self, id: i64) -> Result<bool> {
        self.call(Call::Operator, |state| {
            let letters = (1..).zip(&mut state.source(SOURCE)?.dead_letters);
            let mut own = letters.filter(|(number, own)| *number == id && own.open);
            Ok(own.next().is_some_and(|(_, own)| std::mem::take(&mut own.open)))
        })
        .await
    }

    async fn keep_open(&self, id: i64, reject: &Reject) -> Result<()> {
        self.call(Call::Operator, |state| {
            let letters = (1..).zip(&mut state.source(SOURCE)?.dead_letters);
            for (_, own) in letters.filter(|(number, own)| *number == id && own.open) {
                own.letter.reject = reject.clone();
            }
            Ok(())
        })
        .await
    }
}

impl Verifications for Store {
    async fn progress(&self, source: &str) -> Result<Progress> {
        let clock = self.shared.clock;
        self.call(Call::Operator, |state| {
            let now_ms = clock.wall_at(state.now()).0;
            let synced_ms = state.source(source)?.synced_up_to().map(|at| at.0);
            Ok(Progress { now_ms, synced_ms })
        })
        .await
    }

    async fn record(&self, source: &str, found: Verification) -> Result<()> {
        self.call(Call::Operator, |state| {
            state.source(source)?.verified = Some(found);
            Ok(())
        })
        .await
    }
}
