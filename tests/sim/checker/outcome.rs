//! What must hold at the end: I6, and once the source was quiet, I7.

use std::collections::{BTreeMap, BTreeSet};

use dynaurora::model::{
    Change, PartitionId, Position, RowAction, SequenceNumber, TableIndex, Version,
};

use super::backfills::keys_of;
use super::fold::{Effect, effect_of};
use super::replay::Replay;
use super::{Invariant, Run, ShardTruth, Violation};
use crate::sim::store::{Entry, Event, Key};

/// Adds what is broken at the end to what was broken on the way.
pub fn check(run: &Run<'_>, replay: Replay<'_>) -> Vec<Violation> {
    let mut end = End { run, replay, violations: Vec::new() };
    if end.replay.violations.is_empty() {
        end.losses();
        end.rows();
        end.letters();
        if run.quiet && run.gaps.is_empty() {
            end.positions();
            if !end.is_loaded() {
                end.dead_letters();
            }
            end.items();
        }
    }
    end.replay.violations.append(&mut end.violations);
    end.replay.violations
}

struct End<'a> {
    run: &'a Run<'a>,
    replay: Replay<'a>,
    violations: Vec<Violation>,
}

impl End<'_> {
    /// Whether a load, and not the stream alone, made the target what it is.
    fn is_loaded(&self) -> bool {
        self.replay.loads.begun > 0
    }

    /// Whether the loss of a shard's records is on record: as its own, as that of a shard that it continues,
    /// or as that of the whole stream.
    fn is_told(&self, partition: &PartitionId) -> bool {
        let gaps = &self.replay.loads.gaps;
        let parent = |id: &PartitionId| self.run.truth.shards.get(id)?.parent.clone();
        let mut line = std::iter::successors(Some(partition.clone()), parent);
        gaps.contains(&None) || line.any(|id| gaps.contains(&Some(id)))
    }

    /// I6: records that the stream dropped before a known shard's reader came to them are a gap, once
    /// somebody had the time to notice.
    fn losses(&mut self) {
        let mut unread_of = Vec::new();
        for (partition, position) in &self.replay.positions {
            let Some(shard) = self.run.truth.shards.get(partition) else { continue };
            let dropped = |change: &&Change| {
                shard.dropped_at.is_some()
                    || shard.trimmed_through.is_some_and(|through| change.sequence <= through)
            };
            let gone = unread(shard, position).filter(dropped).count();
            if gone > 0 {
                unread_of.push((partition.clone(), gone));
            }
        }
        // Before the ledger's first listing nobody could know a shard, and nothing is promised.
        let lost = |entry: &Entry| matches!(entry.event, Event::Forgotten);
        let since = self.run.journal.iter().rposition(lost).unwrap_or(0);
        let listed = |entry: &Entry| matches!(entry.event, Event::Registered { .. });
        let first = self.run.journal[since..].iter().find(|entry| listed(entry));
        let first = first.map(|entry| entry.at);
        for (partition, shard) in &self.run.truth.shards {
            let unknown = !self.replay.positions.contains_key(partition);
            let dropped = shard.dropped_at.zip(first).is_some_and(|(at, first)| at > first);
            if unknown && dropped && !shard.records.is_empty() {
                unread_of.push((partition.clone(), shard.records.len()));
            }
        }
        if !self.run.quiet || !self.run.gaps.is_empty() {
            return;
        }
        unread_of.retain(|(partition, _)| !self.is_told(partition));
        for (partition, gone) in unread_of {
            self.broken(Invariant::Gaps, format!("{partition}: {gone} records lost in silence"));
        }
    }

    /// I8 at the end: the tables are what the journal says, row by row.
    fn rows(&mut self) {
        if self.is_loaded() || self.replay.repairs.any {
            if self.replay.rows != *self.run.contents {
                let what = "the tables are not what the journal says".to_owned();
                self.broken(Invariant::KillSafe, what);
            }
            return;
        }
        let folded = &self.replay.fold.rows;
        let kept = folded.iter().filter(|(_, folded)| folded.row.is_some());
        let holders = self.replay.fold.holders.iter();
        let held = holders.filter(|(_, holders)| !holders.is_empty()).map(|(key, _)| key);
        let expected: BTreeSet<_> = kept.map(|(key, _)| key).chain(held).collect();
        let stored: BTreeSet<_> = self.run.contents.keys().collect();
        if let Some(key) = expected.symmetric_difference(&stored).next() {
            let what = format!("row {key:?} is there or not, against its records");
            self.broken(Invariant::KillSafe, what);
        }
    }

    /// I7: every shard is known and read to its end.
    fn positions(&mut self) {
        let mut behind = Vec::new();
        for (partition, shard) in &self.run.truth.shards {
            if self.is_loaded() && shard.dropped_at.is_some() {
                continue;
            }
            match self.replay.positions.get(partition) {
                None if shard.records.is_empty() || shard.dropped_at.is_some() => {}
                None => behind.push(format!("{partition} was never found")),
                Some(position) => {
                    let kept = |change: &&Change| {
                        !self.is_loaded()
                            || shard.trimmed_through.is_none_or(|through| change.sequence > through)
                    };
                    let left = unread(shard, position).filter(kept).count();
                    if left > 0 {
                        behind.push(format!("{partition}: {left} records are left"));
                    }
                }
            }
        }
        for what in behind {
            self.broken(Invariant::Convergence, what);
        }
    }

    /// I14: outside of loads, each open dead letter is newer than what was applied of its item, and the only
    /// one.
    fn letters(&mut self) {
        if self.replay.loads.active.is_some() {
            return;
        }
        let (mut items, mut wrong) = (BTreeSet::new(), Vec::new());
        for letter in self.run.dead_letters {
            let (version, key) = (letter.version, &letter.key);
            if self.is_loaded() && version < Version::scanned(self.replay.generation) {
                wrong.push(format!("dead letter {version} of {key} is of an older generation"));
            } else if self.replay.is_overtaken(letter) {
                wrong
                    .push(format!("dead letter {version} of {key} is older than what was applied"));
            }
            if !items.insert(key) {
                wrong.push(format!("several dead letters of {key} are open"));
            }
        }
        for what in wrong {
            self.broken(Invariant::Letters, what);
        }
    }

    /// The open dead letters are those that no later record of their key succeeded.
    fn dead_letters(&mut self) {
        let fold = &self.replay.fold;
        let letters = self.run.dead_letters.iter();
        let stored: BTreeSet<(&str, SequenceNumber)> =
            letters.map(|own| (own.partition.as_str(), own.version.sequence)).collect();
        let mut wrong = Vec::new();
        for (item, rejected) in &fold.rejected {
            for (at, partition) in rejected {
                let succeeded = fold.succeeded.get(item).filter(|newer| *newer > at);
                let newer =
                    succeeded.or_else(|| rejected.keys().next_back().filter(|newer| *newer > at));
                let open = stored.contains(&(partition.as_str(), *at));
                if open == newer.is_some() {
                    let newer = newer.map(ToString::to_string).unwrap_or_default();
                    wrong.push(format!("dead letter {at} of {item}: open {open}, newer {newer}"));
                }
            }
        }
        for what in wrong {
            self.broken(Invariant::Convergence, what);
        }
    }

    /// I7: the target is what the items now map to, computed from the items alone.
    fn items(&mut self) {
        // What was gone before anybody came can only be loaded, not read.
        let unseen = |(partition, shard): (&PartitionId, &ShardTruth)| {
            !shard.records.is_empty() && !self.replay.positions.contains_key(partition)
        };
        if !self.is_loaded() && self.run.truth.shards.iter().any(unseen) {
            return;
        }
        let mut expected = BTreeMap::new();
        let rejected: BTreeSet<String> = self.replay.fold.rejected.keys().cloned().collect();
        let letters = self.replay.loads.letters();
        let mut held: BTreeSet<_> = letters.flat_map(|keys| keys_of(self.run, keys)).collect();
        for item in &self.run.truth.items {
            let Effect::Rows(ops) =
                effect_of(self.run, &Change::scanned(item.clone(), item.clone()))
            else {
                held.extend(keys_of(self.run, item.clone()));
                continue;
            };
            for op in ops.into_iter().filter(|op| op.action == RowAction::Upsert) {
                let columns = self.run.specs[usize::from(op.table.0)].key_columns;
                let key = (op.table, crate::sim::store::key_of(&op.cells, columns));
                expected.insert(key, op.cells);
            }
        }
        // A key with a dead letter may rightly show an older image: the fold has judged it already.
        let judged = |key: &(TableIndex, Key)| {
            let folded = self.replay.fold.rows.get(key);
            let holders = self.replay.fold.holders.get(key).into_iter().flatten();
            let mut of = folded.into_iter().chain(holders.map(|(_, own)| own));
            held.contains(key) || of.any(|folded| rejected.contains(&folded.item))
        };
        let mut wrong = Vec::new();
        for (key, cells) in &expected {
            let row = self.run.contents.get(key);
            if row.is_none_or(|row| row.cells != *cells) && !judged(key) {
                wrong.push(format!("row {key:?} is not what its item maps to"));
            }
        }
        for (key, row) in self.run.contents {
            let spec = &self.run.specs[usize::from(key.0.0)];
            let gone = spec.deleted_at.is_some_and(|at| row.cells.cell(at).is_some());
            // What outlives its item is judged by the fold alone.
            if gone || spec.history_of.is_some() {
                continue;
            }
            if !expected.contains_key(key) && !judged(key) {
                wrong.push(format!("row {key:?} has no item"));
            }
        }
        for what in wrong {
            self.broken(Invariant::Convergence, what);
        }
    }

    fn broken(&mut self, invariant: Invariant, what: String) {
        self.violations.push(Violation { invariant, entry: None, what });
    }
}

fn unread<'a>(shard: &'a ShardTruth, position: &'a Position) -> impl Iterator<Item = &'a Change> {
    shard.records.iter().filter(move |change| match position {
        Position::At(first) => change.sequence >= *first,
        Position::After(done) => change.sequence > *done,
        _ => true,
    })
}
