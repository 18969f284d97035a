//! What must hold of histories after each transaction: I15.

use std::collections::{BTreeMap, BTreeSet};

use dynaurora::mapping::spec::{HISTORY_ENDS, TableSpec};
use dynaurora::model::{RowAction, TableIndex, Version};

use super::Invariant;
use super::replay::Replay;
use crate::sim::store::{Chain, Commit, Kept, Key, history_of, key_of, shown, wrong_times};

/// What is known of histories so far.
#[derive(Default)]
pub struct Histories {
    chains: BTreeMap<(TableIndex, Key), Chain>,
    /// Those that somebody damaged: they may be wrong until they are right again.
    damaged: BTreeSet<(TableIndex, Key)>,
    /// Those whose rows somebody damaged: they may disagree until the row is written or repaired.
    beside_damage: BTreeSet<(TableIndex, Key)>,
    /// The records of the commit under way that must be versions.
    due: BTreeMap<(TableIndex, Key), BTreeSet<Version>>,
}

impl Histories {
    /// Somebody damaged a row.
    pub fn damaged(&mut self, specs: &[TableSpec], (of, key): (TableIndex, Key)) {
        self.beside_damage.extend(history_of(specs, of).map(|table| (table, key)));
    }

    /// A change wrote a row, whatever somebody had made of it.
    pub fn written(&mut self, specs: &[TableSpec], (of, key): &(TableIndex, Key)) {
        let Some(table) = history_of(specs, *of) else { return };
        if self.beside_damage.remove(&(table, key.clone())) {
            self.damaged.insert((table, key.clone()));
        }
    }

    /// Somebody damaged histories themselves.
    pub fn rewritten(&mut self, histories: &[((TableIndex, Key), Chain)]) {
        for (at, chain) in histories {
            self.damaged.insert(at.clone());
            self.chains.insert(at.clone(), chain.clone());
        }
    }

    /// A repair made the row and its history what they should be.
    pub fn repaired(&mut self, specs: &[TableSpec], (of, key): &(TableIndex, Key)) {
        if let Some(table) = history_of(specs, *of) {
            self.damaged.remove(&(table, key.clone()));
            self.beside_damage.remove(&(table, key.clone()));
        }
    }

    fn excuses(&self, at: &(TableIndex, Key)) -> bool {
        self.damaged.contains(at) || self.beside_damage.contains(at)
    }

    /// Every image that a batch of the stream names is a version of its row.
    pub fn note_records(&mut self, specs: &[TableSpec], commit: &Commit) {
        self.due.clear();
        for unit in commit.units.iter().filter(|unit| unit.op.action == RowAction::Record) {
            let columns = specs[usize::from(unit.op.table.0)].key_columns - 1;
            let op = unit.op.cells.cell(unit.op.cells.len() - 3);
            if op.is_none_or(|op| !HISTORY_ENDS.contains(&op)) {
                let at = (unit.op.table, key_of(&unit.op.cells, columns));
                self.due.entry(at).or_default().insert(unit.version);
            }
        }
    }
}

impl Replay<'_> {
    /// Looks at the histories that a transaction may have changed, once its rows are known.
    pub(super) fn kept(&mut self, histories: &[((TableIndex, Key), Chain)]) {
        let due = std::mem::take(&mut self.histories.due);
        for (at, chain) in histories {
            let before = self.histories.chains.insert(at.clone(), chain.clone());
            let before = before.unwrap_or_default();
            let wrong = self.wrong(at, &before, chain);
            // A row with a version of the future, which somebody gave it, turns all away.
            let of = self.run.specs[usize::from(at.0.0)].history_of.unwrap();
            let row = self.rows.get(&(of, at.1.clone())).map(|row| row.version);
            let newest = due.get(at).and_then(BTreeSet::last);
            let due = due.get(at).filter(|_| row.as_ref() <= newest);
            let missing = due.into_iter().flatten();
            let missing = missing.filter(|own| !chain.contains_key(&(**own, 0))).min();
            let wrong = wrong.or_else(|| missing.map(|own| format!("has no version {own}")));
            match wrong {
                Some(_) if self.histories.excuses(at) => {}
                Some(what) => {
                    let what = format!("the history of row {at:?} {what}");
                    self.broken(Invariant::History, what);
                }
                None => drop(self.histories.damaged.remove(at)),
            }
        }
    }

    fn wrong(&self, at: &(TableIndex, Key), before: &Chain, chain: &Chain) -> Option<String> {
        if let Some((version, what)) = wrong_times(chain) {
            return Some(format!("has a version {version:?} that {what}"));
        }
        let of = self.run.specs[usize::from(at.0.0)].history_of.unwrap();
        let spec = &self.run.specs[usize::from(of.0)];
        let marked = |cells: &dynaurora::model::Cells| {
            spec.deleted_at.is_some_and(|column| cells.cell(column).is_some())
        };
        let row = self.rows.get(&(of, at.1.clone())).filter(|row| !marked(&row.cells));
        let row = row.map(|row| shown(spec, &row.cells));
        let mut open = chain.values().filter(|own| own.to.is_none());
        let (first, second) = (open.next(), open.next());
        if second.is_some() {
            return Some("has two open versions".to_owned());
        }
        if first.map(|own| &own.shown) != row.as_ref() {
            return Some(format!("is open as {first:?}, but the row is {row:?}"));
        }
        let mut versions = chain.iter().zip(chain.iter().skip(1));
        let again = versions.find(|((_, earlier), (version, own))| {
            !before.contains_key(*version) && version.0.sequence.is_of_load() && same(earlier, own)
        });
        again.map(|(_, (version, _))| format!("has an unchanged row again as {version:?}"))
    }
}

fn same(one: &Kept, other: &Kept) -> bool {
    one.is_end() == other.is_end() && one.shown == other.shown
}
