//! Batches, purely: mapped pages are added as they arrive; sealing collapses and sorts them.
//!
//! A page's records are never split over two positions. Sealing keeps the last change per table and key
//! (Postgres refuses to touch a row twice in one statement) and sorts by key (unsorted keys deadlock two
//! writers). It also keeps the change before a soft delete, in another statement: that change creates the
//! row that is marked, or ends it. Where rows name their items each item has a last change of its own: the
//! end of one item's row does not undo another's. The batch keeps its records until it is committed, because
//! dead letters store them complete.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::letters::{dead_letter, key_hash, key_json};
use super::page::{MappedPage, Page, order};
use super::ports::{
    Advance, Batch, DeadLetter, Fence, KeyHash, Lineage, Phase, RecordRef, Rows, Unit,
};
use crate::mapping::spec::{HISTORY_COLUMNS, HISTORY_ENDS};
use crate::model::{
    Change, Generation, Lease, PartitionId, RecordCounts, RecordOutcome, Reject, RejectReason,
    RowAction, ShardListing, TableIndex, Version, WorkerId,
};

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows: beyond about a thousand, larger upserts are no faster (measured).
    pub rows_max: usize,
    /// Bytes of the records, as the service counts them.
    pub bytes_max: usize,
}

/// A batch that pages are still added to.
#[derive(Debug, Default)]
pub struct Filling {
    pages: Vec<HeldPage>,
    units: Vec<Unit>,
    rejects: Vec<DeadLetter>,
    advances: Vec<Advance>,
    advance_of: HashMap<PartitionId, usize>,
    discovered: Vec<ShardListing>,
    touched: BTreeMap<KeyHash, Version>,
    records: RecordCounts,
    bytes: usize,
}

/// The records of one page, kept until the commit.
#[derive(Debug)]
struct HeldPage {
    partition: PartitionId,
    changes: Vec<Change>,
}

impl Filling {
    /// Whether there is nothing to apply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.advances.is_empty()
    }

    /// Whether no further page should be added.
    #[must_use]
    pub fn is_full(&self, limits: Limits) -> bool {
        self.units.len() >= limits.rows_max || self.bytes >= limits.bytes_max
    }

    /// Whether the batch holds a page of this partition.
    #[must_use]
    pub fn holds(&self, partition: &PartitionId) -> bool {
        self.advance_of.contains_key(partition)
    }

    /// Adds a page read under `lease`, whose position is where the read began. Set `note_keys` while dead
    /// letters may be open, or may come that are older, so that the keys of its records are known.
    pub fn add(
        &mut self,
        mapped: MappedPage,
        children: Vec<ShardListing>,
        lease: &Lease,
        note_keys: bool,
    ) {
        let MappedPage { page, units, rejects, passed_over, records, bytes, last_event_at, .. } =
            mapped;
        let Page { changes, next, end, .. } = page;
        let number = u32::try_from(self.pages.len()).expect("a batch has few pages");
        if note_keys || self.has_rejects() || !rejects.is_empty() {
            let noted = (0_u32..).zip(&changes).filter(|(at, _)| !passed_over.contains(at));
            for (_, change) in noted {
                let version = Version { generation: mapped.generation, sequence: change.sequence };
                self.touched.insert(key_hash(&key_json(&change.keys)), version);
            }
        }
        self.units.extend(units.into_iter().map(|mut unit| {
            unit.record.page = number;
            unit
        }));
        self.rejects.extend(rejects);
        self.records.add(&records);
        self.bytes += bytes;
        if let Some(&earlier) = self.advance_of.get(&lease.partition) {
            let advance = &mut self.advances[earlier];
            advance.to = next;
            advance.drained = end;
            advance.records += changes.len() as u64;
            advance.last_event_at = advance.last_event_at.max(last_event_at);
        } else {
            self.advance_of.insert(lease.partition.clone(), self.advances.len());
            self.advances.push(Advance {
                partition: lease.partition.clone(),
                epoch: lease.epoch,
                from: lease.position.clone(),
                to: next,
                drained: end,
                records: changes.len() as u64,
                last_event_at,
            });
        }
        self.discovered.extend(children);
        self.pages.push(HeldPage { partition: lease.partition.clone(), changes });
    }

    /// The partitions whose pages the batch holds.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionId> {
        self.advance_of.keys()
    }

    /// Whether the batch holds rejects, so that applying it opens dead letters.
    #[must_use]
    pub fn has_rejects(&self) -> bool {
        !self.rejects.is_empty()
    }

    /// Collapses and sorts; afterwards the batch only loses refused records.
    #[must_use]
    pub fn seal(self, label: Label, tables: &[usize]) -> Sealed {
        let Self { mut units, rejects, advances, discovered, touched, records, pages, .. } = self;
        let key_columns = |table: TableIndex| tables[usize::from(table.0)];
        // Each page's units are sorted already, and a stable sort merges runs with few comparisons.
        units.sort_by(|a, b| order(a, b, tables));
        let mut superseded = vec![0; tables.len()];
        let mut kept: Vec<Unit> = Vec::with_capacity(units.len());
        let mut shadowed = Vec::new();
        for unit in units {
            let table = unit.op.table;
            let same = |last: &Unit| {
                last.op.table == table
                    && last.op.item == unit.op.item
                    && last.op.cells.cmp_prefix(&unit.op.cells, key_columns(table)).is_eq()
            };
            if kept.last().is_some_and(|last| same(last) && !stands_behind(&unit, last)) {
                superseded[usize::from(table.0)] += 1;
                shadowed.push(unit);
            } else {
                kept.push(unit);
            }
        }
        let batch = Batch {
            source: label.source,
            phase: Phase::of(label.backfilling, &advances),
            rows: Rows { units: kept, rejects, touched: touched.into_iter().collect() },
            lineage: Lineage { stream_arn: label.stream_arn, shards: discovered },
            fence: Fence { worker: label.worker, generation: label.generation, advances },
        };
        let key_columns = tables.to_vec();
        Sealed { batch, records, superseded, pages, refused: 0, shadowed, key_columns }
    }
}

/// The origin of a batch.
#[derive(Debug, Clone)]
pub struct Label {
    /// The source.
    pub source: Arc<str>,
    /// The stream.
    pub stream_arn: Arc<str>,
    /// The generation.
    pub generation: Generation,
    /// The worker.
    pub worker: WorkerId,
    /// Whether a backfill is active.
    pub backfilling: bool,
}

/// A sealed batch with the records that it came from.
#[derive(Debug)]
pub struct Sealed {
    /// What the sink applies.
    pub batch: Batch,
    /// The results for the records.
    pub records: RecordCounts,
    /// Per table: row changes replaced by a later one of the same key in this batch.
    pub superseded: Vec<u64>,
    pages: Vec<HeldPage>,
    refused: usize,
    /// Changes replaced by later ones of the same key in this batch. If the later change is refused, the one
    /// before it takes effect.
    shadowed: Vec<Unit>,
    key_columns: Vec<usize>,
}

impl Sealed {
    /// Whether the database refused some of its records.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.refused > 0
    }

    /// Turns the records of the refused units into dead letters; all rows of such a record leave the batch
    /// but the ends of rows that its item has left. `refused` holds indices into the batch's units with the
    /// database's messages.
    pub fn refuse(&mut self, refused: &[(usize, String)]) {
        let mut records: Vec<Refused> = Vec::new();
        let mut letters = 0;
        for (unit, said) in refused {
            let unit = &self.batch.rows.units[*unit];
            let (record, whole) = (unit.record, stays(unit));
            if let Some(known) = records.iter_mut().find(|known| known.record == record) {
                known.whole |= whole;
                continue;
            }
            records.push(Refused { record, whole });
            letters += usize::from(self.set_aside(record, unit.version, said.clone()));
        }
        self.touch_again(letters);
        self.refused += letters;
        let goes = |unit: &Unit| {
            let own = records.iter().find(|own| own.record == unit.record);
            own.is_some_and(|own| own.whole || !stays(unit))
        };
        self.shadowed.retain(|unit| !goes(unit));
        let (gone, mut units): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.batch.rows.units).into_iter().partition(goes);
        for lost in gone {
            let keys = self.key_columns[usize::from(lost.op.table.0)];
            let order = |unit: &Unit| {
                let by_table = unit.op.table.cmp(&lost.op.table);
                by_table
                    .then_with(|| unit.op.cells.cmp_prefix(&lost.op.cells, keys))
                    .then_with(|| unit.op.item.cmp(&lost.op.item))
            };
            // Collapse the remaining changes of this key again.
            let superseded = &mut self.superseded[usize::from(lost.op.table.0)];
            let mut left: Vec<Unit> = self.shadowed.extract_if(.., |u| order(u).is_eq()).collect();
            *superseded -= left.len() as u64;
            left.extend(units.extract_if(.., |unit| order(unit).is_eq()));
            left.sort_by_key(|unit| std::cmp::Reverse((unit.version, unit.record)));
            let mut place = units.partition_point(|unit| order(unit).is_lt());
            let mut last: Option<Unit> = None;
            for unit in left {
                if last.as_ref().is_none_or(|last| stands_behind(&unit, last)) {
                    last = Some(unit.clone());
                    units.insert(place, unit);
                    place += 1;
                } else {
                    *superseded += 1;
                    self.shadowed.push(unit);
                }
            }
        }
        self.batch.rows.units = units;
    }

    /// Stores a refused record as a dead letter; false where it is one already, and the end of a row that its
    /// item has left was refused too.
    fn set_aside(&mut self, record: RecordRef, version: Version, said: String) -> bool {
        let RecordRef { page, index } = record;
        let held = &self.pages[page as usize];
        let change = &held.changes[index as usize];
        let reject =
            Reject { reason: RejectReason::Refused, entity: None, place: None, detail: said };
        let letter = dead_letter(&held.partition, change, version, reject);
        let same = |own: &DeadLetter| {
            (&own.partition, own.version, own.key_hash)
                == (&letter.partition, version, letter.key_hash)
        };
        if self.batch.rows.rejects.iter().any(same) {
            return false;
        }
        self.records.reclassify(change.op, RecordOutcome::Mapped, RecordOutcome::Rejected);
        self.batch.rows.rejects.push(letter);
        true
    }

    /// For the keys of the newest rejects: the newest record that is not rejected now supersedes.
    fn touch_again(&mut self, newest: usize) {
        let generation = self.batch.fence.generation;
        let Rows { rejects, touched, .. } = &mut self.batch.rows;
        let rejected: BTreeSet<(KeyHash, Version)> =
            rejects.iter().map(|letter| (letter.key_hash, letter.version)).collect();
        for letter in &rejects[rejects.len() - newest..] {
            let own = touched.binary_search_by_key(&letter.key_hash, |(hash, _)| *hash);
            let changes = self.pages.iter().flat_map(|page| &page.changes);
            let version = changes
                .map(|change| (change, Version { generation, sequence: change.sequence }))
                .filter(|(change, version)| {
                    !rejected.contains(&(letter.key_hash, *version))
                        && key_json(&change.keys) == letter.key
                })
                .map(|(_, version)| version)
                .max();
            match (own, version) {
                (Ok(own), Some(version)) => touched[own].1 = version,
                (Ok(own), None) => drop(touched.remove(own)),
                // No keys were noted, but a soft delete of this key came after the refused record.
                (Err(place), Some(version)) if version > letter.version => {
                    touched.insert(place, (letter.key_hash, version));
                }
                (Err(_), _) => {}
            }
        }
    }

    /// The reasons of the batch's rejects, each with its count.
    #[must_use]
    pub fn rejected(&self) -> Vec<(&'static str, u64)> {
        let mut counts: Vec<(&'static str, u64)> = Vec::new();
        for letter in &self.batch.rows.rejects {
            let reason = letter.reject.reason.label();
            match counts.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => counts.push((reason, 1)),
            }
        }
        counts
    }
}

/// A record with a refused row.
struct Refused {
    record: RecordRef,
    /// Whether all of its rows leave the batch, since what is refused is itself an end.
    whole: bool,
}

/// Whether the unit stays when its record is refused: it ends a row that the item has left, and no later
/// change of the item would name that row.
fn stays(unit: &Unit) -> bool {
    let cells = &unit.op.cells;
    let word = || cells.len().checked_sub(HISTORY_COLUMNS.len()).and_then(|at| cells.cell(at));
    match unit.op.action {
        _ if unit.op.item.is_none() => false,
        RowAction::Delete | RowAction::SoftDelete => true,
        RowAction::Record => word().is_some_and(|word| HISTORY_ENDS.contains(&word)),
        RowAction::Upsert => false,
    }
}

/// Whether the batch keeps an older change of the same key besides the newer one.
fn stands_behind(older: &Unit, newer: &Unit) -> bool {
    newer.op.action == RowAction::SoftDelete && older.op.action != RowAction::SoftDelete
}

#[cfg(test)]
mod tests;
