//! What must hold of loads: the fence, the versions of scanned rows, I9 and I10.

use std::collections::{BTreeMap, BTreeSet};

use dynaurora::apply::ports::{Advance, KeyHash};
use dynaurora::model::{
    Change, Generation, Item, PartitionId, PartitionKind, Position, SequenceNumber, TableIndex,
    Version,
};

use super::fold::{Effect, Place, effect_of};
use super::replay::Replay;
use super::{Invariant, Run};
use crate::sim::store::{Commit, Key, OpenLetter, Row, key_of};

/// What is known of the loads so far.
#[derive(Default)]
pub struct Backfills {
    /// How many began.
    pub begun: u32,
    /// The generation of the one that is active.
    pub active: Option<Generation>,
    segments: BTreeSet<PartitionId>,
    ended: BTreeSet<PartitionId>,
    /// Shards whose position was trimmed since the last load began.
    pub trimmed: BTreeSet<PartitionId>,
    /// Shards whose loss is on record, `None` for a whole stream's.
    pub gaps: BTreeSet<Option<PartitionId>>,
    /// The version of the newest delete of each row.
    deleted: BTreeMap<Place, Version>,
    /// The newest open dead letter of each item.
    letters: BTreeMap<KeyHash, (Version, String)>,
}

impl Backfills {
    /// The version of the newest delete of a row.
    pub fn deleted_at(&self, at: &(TableIndex, Key)) -> Option<Version> {
        self.deleted.get(&(at.0, at.1.clone(), None)).copied()
    }

    /// The ledger is lost, and the load that follows counts from now on.
    pub fn forgotten(&mut self) {
        self.begun += 1;
        self.segments.clear();
        self.ended.clear();
        self.trimmed.clear();
        self.letters.clear();
    }

    /// The keys of the items that an open dead letter holds.
    pub fn letters(&self) -> impl Iterator<Item = Item> {
        self.letters.values().map(|(_, key)| serde_json::from_str(key).expect("a key"))
    }
}

/// Whether a commit is of a load's partitions.
pub fn is_of_backfill(commit: &Commit) -> bool {
    let kinds = commit.advances.iter().map(|advance| advance.partition.kind());
    kinds.clone().count() > 0 && kinds.into_iter().all(|kind| kind != PartitionKind::Shard)
}

impl Replay<'_> {
    /// I4: every lease of the generation before is void.
    pub(super) fn next_generation(&mut self, generation: Generation) {
        if generation != self.generation + 1 {
            self.broken(Invariant::Fence, format!("generation {generation} is not the next"));
        }
        self.generation = generation;
        for (epoch, owner) in self.leases.values_mut() {
            (*epoch, *owner) = (*epoch + 1, None);
        }
    }

    pub(super) fn backfill_begun(&mut self, generation: Generation, partitions: &[PartitionId]) {
        self.next_generation(generation);
        for partition in std::mem::take(&mut self.loads.trimmed) {
            self.positions.insert(partition, Position::Horizon);
        }
        for partition in partitions {
            self.positions.insert(partition.clone(), Position::Start);
        }
        self.loads.begun += 1;
        self.loads.active = Some(generation);
        self.loads.segments = partitions.iter().cloned().collect();
        self.loads.ended.clear();
    }

    pub(super) fn backfill_ended(&mut self, generation: Generation) {
        if generation != self.generation {
            self.broken(Invariant::Fence, format!("a load of generation {generation} ends"));
        }
        if self.loads.ended != self.loads.segments {
            let what = "a load ends before its segments do".to_owned();
            self.broken(Invariant::Together, what);
        }
        self.loads.active = None;
    }

    /// What the end of a load settles is out of date, and nothing else is settled.
    pub(super) fn settled(&mut self, letters: &[OpenLetter]) {
        for letter in letters {
            let older = letter.version < Version::scanned(self.generation);
            if self.loads.ended != self.loads.segments || !(older || self.is_overtaken(letter)) {
                let what = format!("{} of {} is settled for nothing", letter.version, letter.key);
                self.broken(Invariant::Letters, what);
            }
            self.loads.letters.retain(|_, own| *own != (letter.version, letter.key.clone()));
        }
    }

    /// Whether something newer was applied of the letter's item.
    pub(super) fn is_overtaken(&self, letter: &OpenLetter) -> bool {
        self.fold.applied(&letter.key).is_some_and(|applied| letter.version < applied)
    }

    /// A commit of scanned pages.
    pub(super) fn scan(&mut self, commit: &Commit) {
        for advance in &commit.advances {
            self.fence(commit, advance);
            let Advance { partition, from, to, drained, .. } = advance;
            let stood = self.positions.insert(partition.clone(), to.clone());
            if stood.as_ref() != Some(from) {
                let what = format!("{partition}: from {from}, but it stood at {stood:?}");
                self.broken(Invariant::Together, what);
            }
            let known = self.loads.segments.contains(partition);
            if !known || self.loads.ended.contains(partition) {
                self.broken(Invariant::Fence, format!("{partition} is not to be read"));
            }
            if *drained {
                self.loads.ended.insert(partition.clone());
            }
        }
        self.books(commit);
        let own = Version { generation: self.generation, sequence: SequenceNumber::ZERO };
        if commit.units.iter().any(|unit| unit.version != own) {
            self.broken(Invariant::Order, "a scanned row has a version of its own".to_owned());
        }
        for (table, key, row) in &commit.effects {
            self.effect((*table, key.clone()), row.as_ref());
        }
        self.note_letters(commit);
    }

    /// I1, I9: what became of one row.
    pub(super) fn effect(&mut self, at: (TableIndex, Key), row: Option<&Row>) {
        self.histories.written(self.run.specs, &at);
        let before = match row {
            Some(row) => self.rows.insert(at.clone(), row.clone()),
            None => self.rows.remove(&at),
        };
        let Some(row) = row else { return };
        let same = |old: &Row| old.item == row.item;
        if before.filter(same).is_some_and(|old| old.version >= row.version) {
            self.broken(Invariant::Order, format!("the version of row {at:?} falls"));
        }
        let place = (at.0, at.1.clone(), row.item);
        // A row that was damaged may have been hidden, and shows again.
        if row.item.is_some() && self.repairs.excuse(&at) {
            return;
        }
        // Of a row that was aged by hand a scan may mark anew that it is deleted.
        let mark = self.run.specs[usize::from(at.0.0)].deleted_at;
        let gone = mark.is_some_and(|mark| row.cells.cell(mark).is_some());
        let deleted = self.loads.deleted.get(&place).filter(|own| !gone && **own > row.version);
        if let Some(deleted) = deleted {
            let what = format!("row {at:?} comes back after its delete of version {deleted}");
            self.broken(Invariant::Resurrection, what);
        }
    }

    /// Notes the deletes of a commit, whether they found a row or not.
    pub(super) fn note_deletes(&mut self, commit: &Commit) {
        for unit in commit.units.iter().filter(|unit| unit.op.action.ends_row()) {
            let columns = self.run.specs[usize::from(unit.op.table.0)].key_columns;
            let at = (unit.op.table, key_of(&unit.op.cells, columns), unit.op.item);
            let newest = self.loads.deleted.entry(at).or_insert(unit.version);
            *newest = (*newest).max(unit.version);
        }
    }

    /// Notes which items a dead letter holds.
    pub(super) fn note_letters(&mut self, commit: &Commit) {
        for letter in &commit.rejects {
            if self.is_overtaken(&OpenLetter::of(letter)) {
                continue;
            }
            let own = (letter.version, letter.key.clone());
            let known = self.loads.letters.entry(letter.key_hash).or_insert(own.clone());
            *known = known.clone().max(own);
        }
        for (hash, version) in &commit.touched {
            if self.loads.letters.get(hash).is_some_and(|(own, _)| own < version) {
                self.loads.letters.remove(hash);
            }
        }
    }

    /// I10: what is swept was not seen in this generation, and no dead letter holds it.
    pub(super) fn swept(&mut self, at: (TableIndex, Key), row: Option<&Row>) {
        let first = Version { generation: self.generation, sequence: SequenceNumber::ZERO };
        let seen = self.rows.remove(&at).is_none_or(|row| row.version >= first);
        self.histories.written(self.run.specs, &at);
        self.rows.extend(row.map(|row| (at.clone(), row.clone())));
        let held = self.loads.letters().any(|keys| keys_of(self.run, keys).contains(&at));
        if seen || held {
            let why = if held { "is held by a dead letter" } else { "was seen" };
            self.broken(Invariant::Sweep, format!("row {at:?} is swept though it {why}"));
        }
    }
}

/// The rows that an item of this key may have.
pub fn keys_of(run: &Run<'_>, keys: Item) -> BTreeSet<(TableIndex, Key)> {
    let Effect::Rows(ops) = effect_of(run, &Change::removal(keys, None)) else {
        return BTreeSet::new();
    };
    ops.into_iter()
        .map(|op| {
            let columns = run.specs[usize::from(op.table.0)].key_columns;
            (op.table, key_of(&op.cells, columns))
        })
        .collect()
}
