//! What must hold at each commit: I1 to I5 and I8.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dynaurora::apply::ports::{Advance, Unit};
use dynaurora::engine::ports::GapReason;
use dynaurora::model::{
    Change, Epoch, EpochMillis, Generation, ItemTag, PartitionId, Position, RowAction,
    SequenceNumber, ShardListing, TableIndex, Version, WorkerId,
};

use super::backfills::{Backfills, is_of_backfill};
use super::fold::{Effect, Fold, Folded, Place, effect_of, left};
use super::histories::Histories;
use super::repairs::Repairs;
use super::{Invariant, Run, Violation};
use crate::sim::store::{Commit, Event, Key, Row};

/// What the replay knows once every entry was taken.
pub struct Replay<'a> {
    pub(super) run: &'a Run<'a>,
    entry: usize,
    at: Duration,
    pub(super) generation: Generation,
    pub positions: BTreeMap<PartitionId, Position>,
    pub drained: BTreeSet<PartitionId>,
    lost: BTreeSet<PartitionId>,
    /// When somebody last accepted that the stream is another one.
    accepted_at: Option<Duration>,
    pub(super) leases: BTreeMap<PartitionId, (Epoch, Option<WorkerId>)>,
    pub rows: BTreeMap<(TableIndex, Key), Row>,
    pub loads: Backfills,
    pub repairs: Repairs,
    pub fold: Fold,
    pub histories: Histories,
    pub violations: Vec<Violation>,
}

/// Replays the journal up to its end or to the first broken invariant.
pub fn replay<'a>(run: &'a Run<'a>) -> Replay<'a> {
    let mut replay = Replay {
        run,
        entry: 0,
        at: Duration::ZERO,
        generation: 0,
        positions: BTreeMap::new(),
        drained: BTreeSet::new(),
        lost: BTreeSet::new(),
        accepted_at: None,
        leases: BTreeMap::new(),
        rows: BTreeMap::new(),
        loads: Backfills::default(),
        repairs: Repairs::default(),
        fold: Fold::default(),
        histories: Histories::default(),
        violations: Vec::new(),
    };
    for (number, entry) in run.journal.iter().enumerate() {
        (replay.entry, replay.at) = (number, entry.at);
        replay.take(&entry.event);
        if !replay.violations.is_empty() {
            break;
        }
    }
    replay
}

impl<'a> Replay<'a> {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Forgotten => self.forgotten(),
            Event::Enrolled { generation } => self.enrolled(*generation),
            Event::Registered { listing } => self.enter(&listing.shards),
            Event::Leased { worker, partition, epoch } => {
                let before = self.leases.get(partition).map_or(0, |(epoch, _)| *epoch);
                if *epoch <= before {
                    self.broken(Invariant::Fence, format!("{partition}: epoch {epoch} again"));
                }
                self.leases.insert(partition.clone(), (*epoch, Some(worker.clone())));
            }
            Event::Released { partition, epoch, .. } => {
                self.leases.insert(partition.clone(), (*epoch, None));
            }
            Event::Gap { gap, .. } => {
                self.loads.gaps.insert(gap.partition.clone());
                if let (GapReason::Trimmed, Some(partition)) = (gap.reason, &gap.partition) {
                    self.loads.trimmed.insert(partition.clone());
                }
                if let (GapReason::Vanished | GapReason::Trimmed, Some(partition)) =
                    (gap.reason, &gap.partition)
                {
                    self.lost.insert(partition.clone());
                }
            }
            Event::Accepted { generation } => {
                self.next_generation(*generation);
                self.accepted_at = Some(self.at);
            }
            Event::BackfillBegun { generation, partitions, rewound } => {
                self.backfill_begun(*generation, partitions);
                for (shard, start) in rewound {
                    self.positions.insert(shard.clone(), start.clone());
                    self.drained.remove(shard);
                }
            }
            Event::Swept { table, key, row } => self.swept((*table, key.clone()), row.as_ref()),
            Event::Settled { letters } => self.settled(letters),
            Event::BackfillEnded { generation } => self.backfill_ended(*generation),
            Event::Damaged { table, key, row } => {
                self.histories.damaged(self.run.specs, (*table, key.clone()));
                self.damaged((*table, key.clone()), row.as_ref());
            }
            Event::HistoryDamaged { histories } => self.histories.rewritten(histories),
            Event::Kept { histories } => self.kept(histories),
            Event::Repaired { since, generation, effects } => {
                self.repaired((*since, *generation), effects);
            }
            Event::Synced { synced_up_to } => self.synced(*synced_up_to),
            Event::Committed(commit) => self.commit(&Arc::clone(commit)),
        }
    }

    /// What was known of shards, leases and loads is gone; the next load makes the target what it is.
    fn forgotten(&mut self) {
        self.positions.clear();
        self.drained.clear();
        self.lost.clear();
        self.leases.clear();
        self.loads.forgotten();
    }

    /// I1: no row may be newer than what comes.
    fn enrolled(&mut self, generation: Generation) {
        self.generation = generation;
        let newer = self.rows.iter().find(|(_, row)| row.version.generation >= generation);
        if let Some((key, row)) = newer {
            let what = format!(
                "generation {generation} begins, but row {key:?} has version {}",
                row.version
            );
            self.broken(Invariant::Order, what);
        }
    }

    fn enter(&mut self, shards: &[ShardListing]) {
        for shard in shards {
            self.positions.entry(shard.id.clone()).or_insert_with(|| shard.start());
        }
    }

    fn commit(&mut self, commit: &Commit) {
        if commit.generation != self.generation {
            self.broken(Invariant::Fence, format!("generation {}", commit.generation));
        }
        if is_of_backfill(commit) {
            self.scan(commit);
            return;
        }
        let mut touched = BTreeMap::new();
        let mut rejects: BTreeSet<(PartitionId, SequenceNumber)> = (commit.rejects.iter())
            .map(|letter| (letter.partition.clone(), letter.version.sequence))
            .collect();
        if rejects.len() != commit.rejects.len() {
            self.broken(Invariant::Books, "a record is a dead letter twice".to_owned());
        }
        for advance in &commit.advances {
            self.fence(commit, advance);
            let records = self.step(advance);
            if !records.is_empty() || advance.drained {
                self.lineage(&advance.partition);
            }
            for change in records {
                let rejected = rejects.remove(&(advance.partition.clone(), change.sequence));
                self.record(&advance.partition, change, rejected, &mut touched);
            }
            self.end(advance);
        }
        for (partition, sequence) in rejects {
            let what = format!("{partition}: dead letter {sequence} is of no record of this batch");
            self.broken(Invariant::Books, what);
        }
        self.books(commit);
        self.units(commit, &touched);
        self.effects(commit, &touched);
        self.note_deletes(commit);
        self.note_letters(commit);
        self.histories.note_records(self.run.specs, commit);
        self.enter(&commit.discovered);
    }

    /// I4: the newest lease of the partition, and no other, allows this step.
    pub(super) fn fence(&mut self, commit: &Commit, advance: &Advance) {
        let (partition, epoch) = (&advance.partition, advance.epoch);
        let allowed = match self.leases.get(partition) {
            Some((newest, owner)) => *newest == epoch && owner.as_ref() == Some(&commit.worker),
            None => false,
        };
        if !allowed {
            let what = format!("{partition}: {} commits with epoch {epoch}", commit.worker);
            self.broken(Invariant::Fence, what);
        }
    }

    /// I2: a step starts where the last one ended and ends at a record; returns the records between.
    fn step(&mut self, advance: &Advance) -> Vec<&'a Change> {
        let Advance { partition, from, to, .. } = advance;
        let Some(shard) = self.run.truth.shards.get(partition) else {
            self.broken(Invariant::Together, format!("{partition}: no such shard"));
            return Vec::new();
        };
        let stood = self.positions.insert(partition.clone(), to.clone());
        if stood.as_ref() != Some(from) {
            let what = format!("{partition}: from {from}, but it stood at {stood:?}");
            self.broken(Invariant::Together, what);
        }
        if from == to {
            return Vec::new();
        }
        let Position::After(last) = *to else {
            self.broken(Invariant::Together, format!("{partition}: moved to {to}"));
            return Vec::new();
        };
        let next = |change: &&Change| match *from {
            Position::At(first) => change.sequence >= first,
            Position::After(done) => change.sequence > done,
            _ => true,
        };
        let mut range: Vec<_> = shard
            .records
            .iter()
            .filter(next)
            .take_while(|change| change.sequence <= last)
            .collect();
        if *from == Position::Horizon && self.loads.begun > 0 {
            // A load that repairs a gap goes on wherever the stream then began.
            let passed = usize::try_from(advance.records).unwrap_or(usize::MAX);
            range.drain(..range.len().saturating_sub(passed));
        }
        if range.last().is_none_or(|change| change.sequence != last) {
            let what = format!("{partition}: {from} to {to} does not end at a record");
            self.broken(Invariant::Together, what);
        }
        range
    }

    /// I3: the parent is at its end, or lost, or was gone before anyone could know it.
    fn lineage(&mut self, partition: &PartitionId) {
        let shards = &self.run.truth.shards;
        let Some(parent) = shards.get(partition).and_then(|shard| shard.parent.as_ref()) else {
            return;
        };
        let at = self.at;
        let dropped = shards.get(parent).and_then(|shard| shard.dropped_at);
        let unknown = !self.positions.contains_key(parent);
        let satisfied = self.drained.contains(parent)
            || self.lost.contains(parent)
            || (unknown && dropped.is_some_and(|dropped| dropped <= at));
        if !satisfied {
            let what = format!("{partition} commits before its parent {parent} is at its end");
            self.broken(Invariant::Lineage, what);
        }
    }

    /// I1 and I5: takes one record into the fold.
    fn record(
        &mut self,
        partition: &PartitionId,
        change: &'a Change,
        rejected: bool,
        touched: &mut BTreeMap<Place, Version>,
    ) {
        let version = Version { generation: self.generation, sequence: change.sequence };
        if !self.fold.in_order(change, version) {
            let what =
                format!("{partition}: {} comes after a later one of its key", change.sequence);
            self.broken(Invariant::Order, what);
        }
        if !rejected {
            self.fold.apply(change, version);
        }
        match (effect_of(self.run, change), rejected) {
            (Effect::Rows(ops) | Effect::Refused(ops), false) => {
                for key in self.fold.write(self.run, (change, version), ops) {
                    touched.insert(key, version);
                }
            }
            // It has no row, and settles what was rejected before.
            (Effect::Nothing, false) => {
                self.fold.write(self.run, (change, version), Vec::new());
            }
            (Effect::Reject | Effect::Refused(_), true) => {
                self.fold.reject(partition, change);
                let left = left(self.run, change);
                for key in self.fold.take(self.run, (change, version), left) {
                    touched.insert(key, version);
                }
            }
            (Effect::Reject, false) => {
                let what = format!("{partition}: {} should be a dead letter", change.sequence);
                self.broken(Invariant::Books, what);
            }
            (_, true) => {
                let what = format!("{partition}: {} is a dead letter for nothing", change.sequence);
                self.broken(Invariant::Books, what);
            }
        }
    }

    /// A shard is drained once it is closed and every record of it is applied, and never goes on.
    fn end(&mut self, advance: &Advance) {
        let Advance { partition, to, drained, .. } = advance;
        if self.drained.contains(partition) {
            self.broken(Invariant::Lineage, format!("{partition} goes on after its end"));
        }
        let Some(shard) = self.run.truth.shards.get(partition).filter(|_| *drained) else { return };
        let unread = |change: &Change| match *to {
            Position::After(done) => change.sequence > done,
            // After a load that repairs a gap, the horizon is behind what was trimmed.
            Position::Horizon if self.loads.begun > 0 => {
                shard.trimmed_through.is_none_or(|through| change.sequence > through)
            }
            _ => true,
        };
        if !shard.closed || shard.records.last().is_some_and(unread) {
            self.broken(Invariant::Lineage, format!("{partition} is drained before its end"));
        }
        self.drained.insert(partition.clone());
    }

    /// What is said of how far the source is, is never too fresh: each change before that time is applied.
    fn synced(&mut self, synced_up_to: Option<EpochMillis>) {
        let Some(synced_up_to) = synced_up_to.filter(|_| self.run.prompt) else { return };
        if self.loads.begun > 0 && !self.loads.gaps.is_empty() {
            // What a load has repaired is in the target, though no position tells.
            return;
        }
        let at = self.at;
        for (partition, shard) in &self.run.truth.shards {
            // What was gone before anybody came can only be loaded, not read.
            let gone = shard.dropped_at.is_some_and(|dropped| dropped <= at);
            if gone && !self.positions.contains_key(partition) {
                continue;
            }
            // What an earlier stream still held is lost, and somebody lives with that.
            let ended = shard.closed_at.or(shard.dropped_at);
            if self.accepted_at.zip(ended).is_some_and(|(accepted, ended)| ended <= accepted) {
                continue;
            }
            let read = self.positions.get(partition).map_or(0, |position| match *position {
                Position::At(first) => {
                    shard.records.partition_point(|change| change.sequence < first)
                }
                Position::After(done) => {
                    shard.records.partition_point(|change| change.sequence <= done)
                }
                _ => 0,
            });
            let unread = shard.written_at.get(read).filter(|at| **at < synced_up_to);
            if let Some(at) = unread {
                let what = format!(
                    "said to be synced up to {}, but {partition} has a change of {} unapplied",
                    synced_up_to.0, at.0
                );
                self.broken(Invariant::Fresh, what);
            }
        }
    }

    /// I5: every row change of the batch is counted once.
    pub(super) fn books(&mut self, commit: &Commit) {
        for (table, applied) in (0..).map(TableIndex).zip(&commit.applied.tables) {
            let units = commit.units.iter().filter(|unit| unit.op.table == table).count() as u64;
            let counted = applied.upserted + applied.deleted + applied.superseded;
            if counted != units {
                let what = format!("table {}: {units} units, {counted} counted", table.0);
                self.broken(Invariant::Books, what);
            }
        }
    }

    /// I2: the batch names each row of its records once, with its newest version, and no other row.
    fn units(&mut self, commit: &Commit, touched: &BTreeMap<Place, Version>) {
        let mut missing = touched.clone();
        let order = |one: &Unit, other: &Unit| {
            let columns = self.run.specs[usize::from(one.op.table.0)].key_columns;
            let tables = one.op.table.cmp(&other.op.table);
            tables
                .then_with(|| one.op.cells.cmp_prefix(&other.op.cells, columns))
                .then_with(|| one.op.item.cmp(&other.op.item))
        };
        // Behind a soft delete stands the change before it.
        let mut units: Vec<&Unit> = Vec::new();
        for unit in &commit.units {
            let behind = |last: &&Unit| {
                let soft = |unit: &Unit| unit.op.action == RowAction::SoftDelete;
                order(last, unit).is_eq()
                    && soft(last)
                    && !soft(unit)
                    && last.version > unit.version
            };
            if !units.last().is_some_and(behind) {
                units.push(unit);
            }
        }
        let sorted = units.is_sorted_by(|one, other| order(one, other).is_lt());
        if !sorted {
            self.broken(Invariant::Together, "the rows of a batch are not sorted".to_owned());
        }
        for unit in units {
            let columns = self.run.specs[usize::from(unit.op.table.0)].key_columns;
            let cells = crate::sim::store::key_of(&unit.op.cells, columns);
            let key = (unit.op.table, cells, unit.op.item);
            if missing.remove(&key) != Some(unit.version) {
                let what = format!("row {key:?} has version {} of no record", unit.version);
                self.broken(Invariant::Together, what);
            }
        }
        if let Some((key, version)) = missing.first_key_value() {
            let what = format!("row {key:?} of record {version} is not in its batch");
            self.broken(Invariant::Together, what);
        }
    }

    /// I1 and I8: versions rise, and after the commit every row that its records name is as folded.
    fn effects(&mut self, commit: &Commit, touched: &BTreeMap<Place, Version>) {
        let named: BTreeSet<_> =
            touched.keys().map(|(table, key, _)| (*table, key.clone())).collect();
        for (table, key, row) in &commit.effects {
            let at = (*table, key.clone());
            self.effect(at.clone(), row.as_ref());
            if !named.contains(&at) {
                self.broken(Invariant::KillSafe, format!("row {at:?} changes without a record"));
            }
        }
        for key in &named {
            if let Some(holders) = self.fold.holders.get(key) {
                // What was damaged may be hidden, and show again.
                if !self.is_held(holders, key) && !self.repairs.excuse(key) {
                    let what = format!("row {key:?} is of no item that holds its key");
                    self.broken(Invariant::KillSafe, what);
                }
                continue;
            }
            let folded: Option<&Folded> = self.fold.rows.get(key);
            // What a soft delete marks may be what a load wrote.
            let judged = |folded: &&Folded| self.loads.begun == 0 || !folded.soft;
            let row = self.rows.get(key);
            if folded.is_some_and(|folded| folded.is(row)) {
                self.repairs.heal(key);
            } else if folded.is_some_and(|own| judged(&own)) && !self.repairs.excuse(key) {
                let what = format!("row {key:?} is not the fold of its records");
                self.broken(Invariant::KillSafe, what);
            }
        }
    }

    /// Whether a row is what one of the items that hold its key says, and there if one does. After a load it
    /// may be what a page brought, and what was held before the load may have been lost.
    fn is_held(&self, holders: &BTreeMap<ItemTag, Folded>, key: &(TableIndex, Key)) -> bool {
        let loaded = self.loads.begun > 0;
        match self.rows.get(key) {
            None => {
                let lost = |own: &Folded| loaded && own.version.generation < self.generation;
                holders.values().all(lost)
            }
            Some(row) => {
                let own = row.item.and_then(|item| holders.get(&item));
                own.is_some_and(|own| own.is(Some(row)))
                    || loaded
                        && (row.version.sequence == SequenceNumber::ZERO
                            || row.version.generation < self.generation)
            }
        }
    }

    /// When the entry under way was committed, since the run started.
    pub(super) fn at(&self) -> Duration {
        self.at
    }

    pub fn broken(&mut self, invariant: Invariant, what: String) {
        self.violations.push(Violation { invariant, entry: Some(self.entry), what });
    }
}
