//! The sink's contract in memory: rows, dead letters, then the fence; all or nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use dynaurora::apply::ports::{Applied, Batch, Phase, Sink, TableApplied, Unit};
use dynaurora::engine::ports::{PartitionState, Stale, Sweep, Swept, Target};
use dynaurora::error::{Error, ErrorKind, Result};
use dynaurora::model::{Cells, RowAction, RowOp, SequenceNumber, TableIndex, Version, WorkerId};
use std::sync::{Arc, PoisonError};

use super::faults::{Call, Knobs, Sabotage};
use super::state::{Row, State};
use super::{Commit, Event, Key, Shared, Store, backfills, histories, key_of, letters};
use crate::sim::clock::pause;
use dynaurora::engine::ports::Clock;

impl Sink for Store {
    async fn apply(&self, batch: &Batch) -> Result<Applied> {
        self.stand_still().await;
        let fate = self.faults().draw(Call::Apply);
        let mut orphan = Orphan { shared: &self.shared, batch, after: fate.orphan };
        self.reach(&fate).await?;
        let held_up = (batch.phase == Phase::OfBackfill).then(|| self.faults().page_wait());
        if let Some(time) = held_up.flatten() {
            pause(self.shared.clock, time).await;
            self.stand_still().await;
        }
        let turn = self.shared.writers.lock().await;
        orphan.after = None;
        let result = {
            let mut state = self.state();
            let result = commit(&self.shared, &mut state, batch);
            state.note_synced();
            result
        };
        drop(turn);
        self.answer(&fate).await?;
        result
    }

    async fn probe(&self, _batch: &Batch, units: &[Unit]) -> Result<()> {
        let refuses = self.faults().knobs.refuses;
        self.call(Call::Ledger, |_| accepts(refuses, units)).await
    }
}

impl Target for Store {
    async fn stale(&self, sweep: &Sweep) -> Result<Stale> {
        self.call(Call::Ledger, |state| Ok(backfills::stale(&self.shared, state, sweep))).await
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept> {
        self.stand_still().await;
        let fate = self.faults().draw(Call::Ledger);
        self.reach(&fate).await?;
        let turn = self.shared.writers.lock().await;
        let result = backfills::step(&self.shared, &mut self.state(), sweep);
        drop(turn);
        self.answer(&fate).await?;
        result
    }
}

/// A batch on its way: when its caller dies, the server may commit it all the same.
struct Orphan<'a> {
    shared: &'a Shared,
    batch: &'a Batch,
    after: Option<Duration>,
}

impl Drop for Orphan<'_> {
    fn drop(&mut self) {
        let Some(after) = self.after else { return };
        let due = self.shared.clock.now() + after;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.leave_in_flight(due, self.batch.clone());
    }
}

/// The transaction: nothing is written unless everything is.
pub fn commit(shared: &Shared, state: &mut State, batch: &Batch) -> Result<Applied> {
    let knobs = shared.faults.lock().unwrap_or_else(PoisonError::into_inner).knobs;
    let worker = &batch.fence.worker;
    if batch.fence.advances.is_empty() {
        return Err(Error::new(ErrorKind::Unknown, "a batch without advances has no fence"));
    }
    accepts(knobs.refuses, &batch.rows.units)?;
    if knobs.sabotage != Some(Sabotage::NoFence) {
        fence(state, batch, worker)?;
    }
    let units = match knobs.sabotage {
        Some(Sabotage::PositionsOnly) => &[],
        _ => batch.rows.units.as_slice(),
    };
    let rejected = |unit: &&Unit| {
        batch.rows.rejects.iter().any(|letter| letter.version == unit.version)
            && knobs.sabotage == Some(Sabotage::RejectsStay)
    };
    let written: Vec<Unit> = units.iter().filter(|unit| !rejected(unit)).cloned().collect();
    let (tables, effects) = write_rows(shared, state, (batch, &written), knobs);
    let rejects = match knobs.sabotage {
        Some(Sabotage::NoDeadLetters) => &[],
        _ => batch.rows.rejects.as_slice(),
    };
    let now = state.now();
    let source = state.source(&batch.source)?;
    shared.count("letters that met a newer change of their item", letters::store(source, rejects));
    let dead_letters_superseded = letters::supersede(source, batch);
    let applied = Applied { tables, dead_letters_superseded };
    if !batch.lineage.shards.is_empty() {
        source.add_shards(&batch.lineage.stream_arn, &batch.lineage.shards, now);
        source.note_continued(&batch.lineage.shards);
    }
    for advance in &batch.fence.advances {
        let Some(partition) = source.partitions.get_mut(&advance.partition) else { continue };
        partition.position = advance.to.clone();
        partition.records += advance.records;
        partition.last_event_at = advance.last_event_at.max(partition.last_event_at);
        if advance.drained {
            source.end(&advance.partition, now);
        }
    }
    let commit = Commit {
        worker: worker.clone(),
        generation: batch.fence.generation,
        tombstones: batch.phase != Phase::Steady,
        units: units.to_vec(),
        effects,
        rejects: rejects.to_vec(),
        advances: batch.fence.advances.clone(),
        touched: batch.rows.touched.clone(),
        discovered: batch.lineage.shards.clone(),
        applied: applied.clone(),
    };
    let changed: Vec<_> =
        commit.effects.iter().map(|(table, key, _)| (*table, key.clone())).collect();
    state.record(Event::Committed(Arc::new(commit)));
    histories::keep(shared, state, units, &changed);
    Ok(applied)
}

/// Whether the database takes the data of these rows.
fn accepts(refuses: fn(&RowOp) -> bool, units: &[Unit]) -> Result<()> {
    accepted(refuses, units.iter().map(|unit| &unit.op))
}

/// The same of the rows alone.
pub fn accepted<'a>(
    refuses: fn(&RowOp) -> bool,
    mut ops: impl Iterator<Item = &'a RowOp>,
) -> Result<()> {
    if ops.any(|op| op.action == RowAction::Upsert && refuses(op)) {
        return Err(Error::new(ErrorKind::Data, "the database refuses a row").with_code("23514"));
    }
    Ok(())
}

/// Owner, epoch, generation and position of every advance, or nothing.
fn fence(state: &mut State, batch: &Batch, worker: &WorkerId) -> Result<()> {
    let fenced = || Error::new(ErrorKind::Fenced, "the lease or the position is another's");
    let source = state.source(&batch.source)?;
    let holds = batch.fence.advances.iter().all(|advance| {
        source.partitions.get(&advance.partition).is_some_and(|partition| {
            partition.held_by(worker, advance.epoch)
                && partition.position == advance.from
                && partition.state == PartitionState::Open
        })
    });
    if holds && source.generation == batch.fence.generation { Ok(()) } else { Err(fenced()) }
}

type Effects = Vec<(TableIndex, Key, Option<Row>)>;

fn write_rows(
    shared: &Shared,
    state: &mut State,
    (batch, units): (&Batch, &[Unit]),
    knobs: Knobs,
) -> (Vec<TableApplied>, Effects) {
    let mut counts = vec![TableApplied::default(); shared.specs.len()];
    let mut effects = Effects::new();
    let mut seen = BTreeSet::new();
    // A soft delete comes after the row that it marks, as in the statements of the real sink.
    let (soft, others): (Vec<&Unit>, Vec<&Unit>) =
        units.iter().partition(|unit| unit.op.action == RowAction::SoftDelete);
    for unit in others.into_iter().chain(soft) {
        let at = usize::from(unit.op.table.0);
        let key = key_of(&unit.op.cells, shared.specs[at].key_columns);
        // Postgres refuses to touch a row twice in one statement (SQLSTATE 21000), sometimes.
        let soft = unit.op.action == RowAction::SoftDelete;
        let once = (unit.op.table, key.clone(), unit.op.item, soft);
        assert!(seen.insert(once), "a key stands twice in one batch");
        let count = &mut counts[at];
        let tombstones =
            batch.phase != Phase::Steady && knobs.sabotage != Some(Sabotage::NoTombstones);
        let claim = if tombstones { take_claim(state, unit, &key) } else { Claim::Taken };
        let claimed = !matches!(claim, Claim::Gone);
        if shared.specs[at].names_items && shared.specs[at].history_of.is_none() {
            let own = Own { at, unit, key, claimed };
            write_own(shared, state, own, count, &mut effects);
            continue;
        }
        let rows = &mut state.tables[at];
        let stored = rows.get(&key).map(|row| row.version);
        let newer = stored.is_none_or(|stored| stored < unit.version)
            || knobs.sabotage == Some(Sabotage::NoGuard);
        match unit.op.action {
            RowAction::Upsert if claimed && newer => {
                count.upserted += 1;
                let (cells, version) = match claim {
                    Claim::Marked(version, at) => {
                        let mut faults =
                            shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
                        *faults.tally.entry("rows read before their soft delete").or_insert(0) += 1;
                        (marked(&unit.op.cells, &at), version)
                    }
                    _ => (unit.op.cells.clone(), unit.version),
                };
                let children = sorted_children(&unit.op);
                let row = Row { cells, version, children, item: unit.op.item };
                rows.insert(key.clone(), row.clone());
                effects.push((unit.op.table, key, Some(row)));
            }
            RowAction::Delete if newer && stored.is_some() => {
                count.deleted += 1;
                rows.remove(&key);
                effects.push((unit.op.table, key, None));
            }
            RowAction::SoftDelete if newer && stored.is_some() => {
                count.deleted += 1;
                let Some(row) = rows.get_mut(&key) else { continue };
                row.version = unit.version;
                row.cells = marked(&row.cells, &unit.op.cells);
                effects.push((unit.op.table, key, Some(row.clone())));
            }
            RowAction::Record if stored.is_none() => {
                count.upserted += 1;
                let (cells, version) = (unit.op.cells.clone(), unit.version);
                let row = Row { cells, version, children: Vec::new(), item: unit.op.item };
                rows.insert(key.clone(), row.clone());
                effects.push((unit.op.table, key, Some(row)));
            }
            _ => count.superseded += 1,
        }
    }
    show(shared, state, units, &mut effects);
    (counts, effects)
}

/// What a row of a load meets.
enum Claim {
    /// Nothing newer.
    Taken,
    /// A newer delete.
    Gone,
    /// A newer soft delete, with its version and cells: the row is marked as soon as it is there.
    Marked(Version, Cells),
}

/// A unit of a table whose rows name their items.
struct Own<'a> {
    at: usize,
    unit: &'a Unit,
    key: Key,
    claimed: bool,
}

/// What a change does counts for its item alone; the row that was applied last hides another item's.
fn write_own(
    shared: &Shared,
    state: &mut State,
    own: Own<'_>,
    count: &mut TableApplied,
    effects: &mut Effects,
) {
    let Own { at, unit, key, claimed } = own;
    let sabotage = shared.knobs().sabotage;
    let (table, item) = (unit.op.table, unit.op.item);
    let rows = &mut state.tables[at];
    let hidden = state.hidden.entry((table, key.clone())).or_default();
    let below = |row: &Row| row.version < unit.version || sabotage == Some(Sabotage::NoGuard);
    let older = item.and_then(|item| hidden.get(&item)).is_none_or(below);
    let stored = rows.get(&key);
    if unit.op.action == RowAction::Upsert {
        let other = stored.filter(|row| row.is_anothers(item)).cloned();
        if !claimed || !older || other.is_none() && !stored.is_none_or(below) {
            count.superseded += 1;
            return;
        }
        let deleted_at = shared.specs[at].deleted_at;
        let hides = |row: &Row| {
            !backfills::is_marked(row, deleted_at) && sabotage != Some(Sabotage::HidesNothing)
        };
        if let Some((other, row)) = other.filter(hides).and_then(|row| Some((row.item?, row))) {
            hidden.insert(other, row);
            shared.tell("rows hidden by another item's");
        }
        item.and_then(|item| hidden.remove(&item));
        let (cells, version) = (unit.op.cells.clone(), unit.version);
        let row = Row { cells, version, children: sorted_children(&unit.op), item };
        rows.insert(key.clone(), row.clone());
        count.upserted += 1;
        effects.push((table, key, Some(row)));
        return;
    }
    if older {
        item.and_then(|item| hidden.remove(&item));
    }
    let mine = |row: &&Row| !row.is_anothers(item) || sabotage == Some(Sabotage::EndsAnybodys);
    if stored.filter(mine).is_none_or(|row| !below(row)) {
        count.superseded += 1;
        return;
    }
    count.deleted += 1;
    if unit.op.action == RowAction::Delete {
        rows.remove(&key);
    } else if let Some(row) = rows.get_mut(&key) {
        row.version = unit.version;
        row.cells = marked(&row.cells, &unit.op.cells);
    }
    let row = rows.get(&key).cloned();
    effects.push((table, key, row));
}

/// Where an item has left, the newest row that it hid shows again.
fn show(shared: &Shared, state: &mut State, units: &[Unit], effects: &mut Effects) {
    for unit in units.iter().filter(|unit| unit.op.action.ends_row()) {
        let at = usize::from(unit.op.table.0);
        let spec = &shared.specs[at];
        let key = key_of(&unit.op.cells, spec.key_columns);
        let live = |row: &&Row| !backfills::is_marked(row, spec.deleted_at);
        if state.tables[at].get(&key).filter(live).is_some() {
            continue;
        }
        let Some(hidden) = state.hidden.get_mut(&(unit.op.table, key.clone())) else { continue };
        let newest = hidden.iter().max_by_key(|(_, row)| row.version).map(|(item, _)| *item);
        if let Some(row) = newest.and_then(|item| hidden.remove(&item)) {
            state.tables[at].insert(key.clone(), row.clone());
            shared.tell("hidden rows shown again");
            effects.push((unit.op.table, key, Some(row)));
        }
    }
}

/// While a backfill is active, a delete leaves its version and a scan page takes only what is lower.
fn take_claim(state: &mut State, unit: &Unit, key: &Key) -> Claim {
    let at = (unit.op.table, key.clone(), unit.op.item);
    let scanned = unit.version.sequence == SequenceNumber::ZERO;
    if scanned {
        return match state.tombstones.get(&at).filter(|(newest, _)| *newest >= unit.version) {
            None => Claim::Taken,
            Some((version, Some(cells))) if unit.op.item.is_none() => {
                Claim::Marked(*version, cells.clone())
            }
            Some(_) => Claim::Gone,
        };
    }
    if unit.op.action.ends_row() {
        let soft = (unit.op.action == RowAction::SoftDelete).then(|| unit.op.cells.clone());
        let newest = state.tombstones.entry(at).or_insert((unit.version, soft.clone()));
        if newest.0 < unit.version {
            *newest = (unit.version, soft);
        }
    }
    Claim::Taken
}

/// A row with its last cell, the mark of a deletion, from the cells of a soft delete.
pub fn marked(row: &Cells, soft_delete: &Cells) -> Cells {
    let mut cells = row.prefix(row.len() - 1);
    match soft_delete.iter().last().flatten() {
        Some(at) => cells.push(at),
        None => cells.push("now"),
    }
    cells
}

/// Child rows are a set: their order in the batch means nothing.
pub fn sorted_children(op: &RowOp) -> Vec<(TableIndex, Cells)> {
    let mut children = op.children.clone();
    children.sort_by_cached_key(|(table, cells)| (*table, key_of(cells, cells.len())));
    children
}
