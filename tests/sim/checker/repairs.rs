//! What must hold of repairs beside a stream that goes on: I1, I8 and I9.

use std::collections::BTreeSet;
use std::time::Duration;

use dynaurora::model::{Cells, Change, Generation, RowAction, SequenceNumber, TableIndex, Version};

use super::Invariant;
use super::fold::{Effect, effect_of};
use super::replay::Replay;
use crate::sim::store::{Key, Row, key_of};
use crate::world::BEGINNING;

/// Records carry whole milliseconds.
const ROUNDING_MS: i64 = 2;

/// Rows that were damaged or repaired and, since then, not written whole by a change: what they hold is no
/// fold of records.
#[derive(Default)]
pub struct Repairs {
    touched: BTreeSet<(TableIndex, Key)>,
    /// Whether a row was ever damaged or repaired.
    pub any: bool,
}

impl Repairs {
    /// Whether the row may be something else than the fold of its records.
    pub fn excuse(&self, at: &(TableIndex, Key)) -> bool {
        self.touched.contains(at)
    }

    /// A change wrote the row whole.
    pub fn heal(&mut self, at: &(TableIndex, Key)) {
        self.touched.remove(at);
    }

    fn note(&mut self, at: &(TableIndex, Key)) {
        self.any = true;
        self.touched.insert(at.clone());
    }
}

/// What an item was after one of its records.
struct Moment {
    sequence: SequenceNumber,
    written_ms: i64,
    row: Option<Cells>,
}

impl Replay<'_> {
    /// Somebody did what nobody should: whatever the row is now, it is not our doing.
    pub(super) fn damaged(&mut self, at: (TableIndex, Key), row: Option<&Row>) {
        self.repairs.note(&at);
        match row {
            Some(row) => drop(self.rows.insert(at, row.clone())),
            None => drop(self.rows.remove(&at)),
        }
    }

    pub(super) fn repaired(
        &mut self,
        (since, generation): (Duration, Generation),
        effects: &[(TableIndex, Key, Option<Row>)],
    ) {
        for (table, key, row) in effects {
            let at = (*table, key.clone());
            self.repairs.note(&at);
            self.histories.repaired(self.run.specs, &at);
            let before = match row {
                Some(row) => self.rows.insert(at.clone(), row.clone()),
                None => self.rows.remove(&at),
            };
            self.version_kept(&at, generation, (before.as_ref(), row.as_ref()));
            self.as_its_item(&at, since, row.as_ref());
        }
    }

    /// I1: a row keeps the version that some change gave it; any other has that of a scanned one.
    fn version_kept(
        &mut self,
        at: &(TableIndex, Key),
        generation: Generation,
        (before, row): (Option<&Row>, Option<&Row>),
    ) {
        let Some(row) = row else { return };
        let given = before.map(|row| row.version);
        let given = given.filter(|own| (1..=generation).contains(&own.generation));
        let due = given.unwrap_or(Version::scanned(generation));
        if row.version != due {
            let what = format!("row {at:?} is repaired with version {}, not {due}", row.version);
            self.broken(Invariant::Order, what);
        }
    }

    /// I8 and I9: the row is what its item was at some moment while the writers were kept off, and no delete
    /// that was applied comes after that moment.
    fn as_its_item(&mut self, at: &(TableIndex, Key), since: Duration, row: Option<&Row>) {
        if self.run.specs[usize::from(at.0.0)].names_items {
            self.as_some_item(at, row);
            return;
        }
        let moments = self.moments(at);
        let since_ms = BEGINNING.0 + i64::try_from(since.as_millis()).unwrap() - ROUNDING_MS;
        let until_ms = BEGINNING.0 + i64::try_from(self.at().as_millis()).unwrap() + ROUNDING_MS;
        let known = moments.iter().filter(|own| own.written_ms <= until_ms);
        let known: Vec<&Moment> = known.collect();
        let first = known.iter().rposition(|own| own.written_ms <= since_ms);
        let deleted_at = self.run.specs[usize::from(at.0.0)].deleted_at;
        let marked = |row: &Row| deleted_at.is_some_and(|column| row.cells.cell(column).is_some());
        let Some(row) = row.filter(|row| !marked(row)) else {
            let absent =
                first.is_none() || known[first.unwrap()..].iter().any(|own| own.row.is_none());
            if !absent {
                let what = format!("row {at:?} is taken away though its item was there");
                self.broken(Invariant::KillSafe, what);
            }
            return;
        };
        let seen = |own: &&&Moment| own.row.as_ref() == Some(&row.cells);
        let fitting: Vec<_> = known[first.unwrap_or(0)..].iter().filter(seen).collect();
        if fitting.is_empty() {
            let what = format!("row {at:?} is repaired to what its item was not by then");
            self.broken(Invariant::KillSafe, what);
            return;
        }
        let Some(deleted) = self.loads.deleted_at(at).filter(|own| *own > row.version) else {
            return;
        };
        if fitting.iter().all(|own| own.sequence <= deleted.sequence) {
            let what = format!("row {at:?} is brought back after its delete of version {deleted}");
            self.broken(Invariant::Resurrection, what);
        }
    }

    /// I8, where the key tells no item: the row is what some item was by then.
    fn as_some_item(&mut self, at: &(TableIndex, Key), row: Option<&Row>) {
        let Some(row) = row else { return };
        let until_ms = BEGINNING.0 + i64::try_from(self.at().as_millis()).unwrap() + ROUNDING_MS;
        let shards = self.run.truth.shards.values();
        let mut records = shards.flat_map(|shard| shard.records.iter().zip(&shard.written_at));
        let was = records.any(|(change, written_at)| {
            let image = change.new_image.clone().filter(|_| written_at.0 <= until_ms);
            let Some(image) = image else { return false };
            match effect_of(self.run, &Change::scanned(change.keys.clone(), image)) {
                Effect::Rows(ops) | Effect::Refused(ops) => {
                    ops.iter().any(|op| op.table == at.0 && op.cells == row.cells)
                }
                _ => false,
            }
        });
        if !was {
            let what = format!("row {at:?} is repaired to what no item was by then");
            self.broken(Invariant::KillSafe, what);
        }
    }

    /// What the row should have been after each record of its item, by the time of the records.
    fn moments(&self, at: &(TableIndex, Key)) -> Vec<Moment> {
        let mut moments = Vec::new();
        let columns = self.run.specs[usize::from(at.0.0)].key_columns;
        for shard in self.run.truth.shards.values() {
            for (change, written_at) in shard.records.iter().zip(&shard.written_at) {
                let own = super::backfills::keys_of(self.run, change.keys.clone());
                if !own.contains(at) {
                    continue;
                }
                let scan = change
                    .new_image
                    .clone()
                    .map(|image| Change::scanned(change.keys.clone(), image));
                let effect = scan.map(|scan| effect_of(self.run, &scan));
                let row = match effect {
                    Some(Effect::Rows(ops) | Effect::Refused(ops)) => {
                        let mut ops = ops.into_iter();
                        let same = |op: &dynaurora::model::RowOp| {
                            op.action == RowAction::Upsert
                                && (op.table, key_of(&op.cells, columns)) == *at
                        };
                        ops.find(same).map(|op| op.cells)
                    }
                    _ => None,
                };
                let (sequence, written_ms) = (change.sequence, written_at.0);
                moments.push(Moment { sequence, written_ms, row });
            }
        }
        moments.sort_by_key(|own| (own.written_ms, own.sequence));
        moments
    }
}
