//! Batches, purely: pages are mapped into one as they arrive, and sealing collapses and sorts it.
//!
//! A page's records are never split over two positions. Sealing keeps the last change per table and key
//! (Postgres refuses to touch a row twice in one statement) and sorts by key (unsorted keys deadlock two
//! writers). The records stay with the batch until it is committed, for dead letters need them whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::ports::{
    Advance, Batch, DeadLetter, KeyHash, Lease, Page, RecordRef, ShardListing, Unit, WorkerId,
};
use crate::mapping::{self, Mapper, Unmatched};
use crate::model::{
    Change, Generation, Item, PartitionId, Reject, RejectReason, RowOp, TableIndex, Version,
};
use crate::telemetry::events::{Outcome, RecordCounts};

/// When a batch takes no further page.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows: about a thousand is the flat part of the upsert's measured curve.
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
    scratch: Vec<RowOp>,
}

/// The records of one page, kept until the commit.
#[derive(Debug)]
struct HeldPage {
    partition: PartitionId,
    changes: Vec<Change>,
}

/// What a page is added with.
#[derive(Debug, Clone, Copy)]
pub struct PageContext<'a> {
    /// The mapping of the source.
    pub mapper: &'a Mapper,
    /// The generation in which the page was read.
    pub generation: Generation,
    /// The lease under which it was read, with the position from which it was read.
    pub lease: &'a Lease,
    /// Whether dead letters may be open, so that keys must be noted.
    pub note_keys: bool,
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

    /// Maps a page into the batch.
    ///
    /// # Errors
    /// The unmatched change, where the mapping says that such a change halts the source; the batch is then
    /// to be thrown away.
    pub fn add(
        &mut self,
        page: Page,
        children: Vec<ShardListing>,
        context: PageContext<'_>,
    ) -> Result<(), UnmatchedItem> {
        let Page { changes, next, end, .. } = page;
        let number = u32::try_from(self.pages.len()).expect("a batch has few pages");
        let mut last_event_at = None;
        for (index, change) in (0_u32..).zip(&changes) {
            self.add_change(change, RecordRef { page: number, index }, context)?;
            self.bytes += change.bytes;
            last_event_at = last_event_at.max(change.changed_at);
        }
        let lease = context.lease;
        if let Some(&earlier) = self.advance_of.get(&lease.partition) {
            let advance = &mut self.advances[earlier];
            advance.to = next;
            advance.drained = end;
            advance.last_event_at = advance.last_event_at.max(last_event_at);
        } else {
            self.advance_of.insert(lease.partition.clone(), self.advances.len());
            self.advances.push(Advance {
                partition: lease.partition.clone(),
                epoch: lease.epoch,
                from: lease.position.clone(),
                to: next,
                drained: end,
                last_event_at,
            });
        }
        self.discovered.extend(children);
        self.pages.push(HeldPage { partition: lease.partition.clone(), changes });
        Ok(())
    }

    fn add_change(
        &mut self,
        change: &Change,
        record: RecordRef,
        context: PageContext<'_>,
    ) -> Result<(), UnmatchedItem> {
        let version = Version { generation: context.generation, sequence: change.sequence };
        let outcome = match context.mapper.map(change, &mut self.scratch) {
            mapping::Outcome::Mapped => Outcome::Mapped,
            mapping::Outcome::Filtered => Outcome::Filtered,
            mapping::Outcome::Unmatched => match context.mapper.unmatched() {
                Unmatched::Halt => return Err(UnmatchedItem { keys: change.keys.clone() }),
                Unmatched::DeadLetter => self.reject(change, version, unmatched(), context),
                Unmatched::Ignore | Unmatched::Count => Outcome::Unmatched,
            },
            mapping::Outcome::Rejected(reject) => self.reject(change, version, reject, context),
        };
        self.records.count(change.op, outcome);
        let note_keys = context.note_keys || self.has_rejects();
        if note_keys && matches!(outcome, Outcome::Mapped | Outcome::Filtered) {
            self.touched.insert(key_hash(&key_json(&change.keys)), version);
        }
        self.units.extend(self.scratch.drain(..).map(|op| Unit { op, version, record }));
        Ok(())
    }

    fn reject(
        &mut self,
        change: &Change,
        version: Version,
        reject: Reject,
        context: PageContext<'_>,
    ) -> Outcome {
        self.rejects.push(dead_letter(&context.lease.partition, change, version, reject));
        Outcome::Rejected
    }

    /// Whether the batch holds rejects, so that dead letters will be open once it is applied.
    #[must_use]
    pub fn has_rejects(&self) -> bool {
        !self.rejects.is_empty()
    }

    /// Collapses and sorts: afterwards the batch only changes by losing refused records.
    #[must_use]
    pub fn seal(self, label: Label<'_>, tables: &[usize]) -> Sealed {
        let Self { mut units, rejects, advances, discovered, touched, records, pages, .. } = self;
        let key_columns = |table: TableIndex| tables[usize::from(table.0)];
        units.sort_unstable_by(|a, b| {
            let keys = key_columns(a.op.table);
            (a.op.table.cmp(&b.op.table))
                .then_with(|| a.op.cells.cmp_prefix(&b.op.cells, keys))
                .then_with(|| b.version.cmp(&a.version))
                .then_with(|| b.record.cmp(&a.record))
        });
        let mut superseded = vec![0; tables.len()];
        let mut kept: Vec<Unit> = Vec::with_capacity(units.len());
        let mut shadowed = Vec::new();
        for unit in units {
            let table = unit.op.table;
            let same = |last: &Unit| {
                last.op.table == table
                    && last.op.cells.cmp_prefix(&unit.op.cells, key_columns(table)).is_eq()
            };
            if kept.last().is_some_and(same) {
                superseded[usize::from(table.0)] += 1;
                shadowed.push(unit);
            } else {
                kept.push(unit);
            }
        }
        let batch = Batch {
            source: Arc::clone(label.source),
            generation: label.generation,
            worker: Some(label.worker.clone()),
            claims: label.claims,
            units: kept,
            rejects,
            advances,
            touched: touched.into_iter().collect(),
            discovered,
            stream_arn: Arc::clone(label.stream_arn),
        };
        let key_columns = tables.to_vec();
        Sealed { batch, records, superseded, pages, refused: 0, shadowed, key_columns }
    }
}

/// Whose batch it is.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    /// The source.
    pub source: &'a Arc<str>,
    /// The stream.
    pub stream_arn: &'a Arc<str>,
    /// The generation.
    pub generation: Generation,
    /// The worker.
    pub worker: &'a WorkerId,
    /// Whether a backfill is active.
    pub claims: bool,
}

/// A change that no entity matched in a source that halts on such a change.
#[derive(Debug)]
pub struct UnmatchedItem {
    /// The item's key.
    pub keys: Item,
}

/// A sealed batch with the records that it came from.
#[derive(Debug)]
pub struct Sealed {
    /// What the sink applies.
    pub batch: Batch,
    /// What became of the records.
    pub records: RecordCounts,
    /// Per table: row changes that a later one of the same key in this batch made needless.
    pub superseded: Vec<u64>,
    pages: Vec<HeldPage>,
    refused: usize,
    /// What later changes of the same key in this batch made needless, in the order of the units, newest
    /// first: should the later change be refused, the one before it takes effect.
    shadowed: Vec<Unit>,
    key_columns: Vec<usize>,
}

impl Sealed {
    /// Whether the database refused some of its records.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.refused > 0
    }

    /// Turns the records of the refused units into dead letters, whole: all rows of such a record leave the
    /// batch. `refused` holds indices into the batch's units with what the database said.
    pub fn refuse(&mut self, refused: &[(usize, String)]) {
        let mut records: Vec<RecordRef> = Vec::new();
        for (unit, said) in refused {
            let record = self.batch.units[*unit].record;
            if records.contains(&record) {
                continue;
            }
            records.push(record);
            let RecordRef { page, index } = record;
            let held = &self.pages[page as usize];
            let change = &held.changes[index as usize];
            let version = self.batch.units[*unit].version;
            let reject = Reject {
                reason: RejectReason::Refused,
                entity: None,
                place: None,
                detail: said.clone(),
            };
            self.records.reclassify(change.op, Outcome::Mapped, Outcome::Rejected);
            let letter = dead_letter(&held.partition, change, version, reject);
            self.batch.rejects.push(letter);
        }
        self.touch_again(records.len());
        self.refused += records.len();
        self.shadowed.retain(|unit| !records.contains(&unit.record));
        let (gone, mut units): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batch.units)
            .into_iter()
            .partition(|unit| records.contains(&unit.record));
        for lost in gone {
            let keys = self.key_columns[usize::from(lost.op.table.0)];
            let order = |unit: &Unit| {
                let by_table = unit.op.table.cmp(&lost.op.table);
                by_table.then_with(|| unit.op.cells.cmp_prefix(&lost.op.cells, keys))
            };
            let Some(before) = self.shadowed.iter().position(|unit| order(unit).is_eq()) else {
                continue;
            };
            let unit = self.shadowed.remove(before);
            self.superseded[usize::from(unit.op.table.0)] -= 1;
            let place = units.partition_point(|unit| order(unit).is_lt());
            units.insert(place, unit);
        }
        self.batch.units = units;
    }

    /// For the keys of the newest rejects: the newest record that is none is what supersedes now.
    fn touch_again(&mut self, newest: usize) {
        let Batch { rejects, touched, generation, .. } = &mut self.batch;
        let rejected: BTreeSet<(KeyHash, Version)> =
            rejects.iter().map(|letter| (letter.key_hash, letter.version)).collect();
        for letter in &rejects[rejects.len() - newest..] {
            let Some(own) = touched.iter().position(|(hash, _)| *hash == letter.key_hash) else {
                continue;
            };
            let changes = self.pages.iter().flat_map(|page| &page.changes);
            let version = changes
                .map(|change| {
                    (change, Version { generation: *generation, sequence: change.sequence })
                })
                .filter(|(change, version)| {
                    !rejected.contains(&(letter.key_hash, *version))
                        && key_json(&change.keys) == letter.key
                })
                .map(|(_, version)| version)
                .max();
            match version {
                Some(version) => touched[own].1 = version,
                None => drop(touched.remove(own)),
            }
        }
    }

    /// The reasons of the batch's rejects with how many there are of each.
    #[must_use]
    pub fn rejected(&self) -> Vec<(&'static str, u64)> {
        let mut counts: Vec<(&'static str, u64)> = Vec::new();
        for letter in &self.batch.rejects {
            let reason = letter.reject.reason.label();
            match counts.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => counts.push((reason, 1)),
            }
        }
        counts
    }
}

fn unmatched() -> Reject {
    Reject {
        reason: RejectReason::Unmatched,
        entity: None,
        place: None,
        detail: "no entity's key template matches this key".to_owned(),
    }
}

fn dead_letter(
    partition: &PartitionId,
    change: &Change,
    version: Version,
    reject: Reject,
) -> DeadLetter {
    #[derive(serde::Serialize)]
    struct Image<'a> {
        op: &'static str,
        keys: &'a Item,
        new_image: Option<&'a Item>,
        old_image: Option<&'a Item>,
    }
    let image = Image {
        op: change.op.label(),
        keys: &change.keys,
        new_image: change.new_image.as_ref(),
        old_image: change.old_image.as_ref(),
    };
    let key = key_json(&change.keys);
    DeadLetter {
        partition: partition.clone(),
        version,
        key_hash: key_hash(&key),
        key,
        image: serde_json::to_string(&image).expect("items always have a JSON form"),
        reject,
    }
}

/// The key as DynamoDB JSON with its attributes sorted. DynamoDB itself brings numbers into one form, so
/// equal keys give equal text.
fn key_json(keys: &Item) -> String {
    serde_json::to_string(keys).expect("items always have a JSON form")
}

fn key_hash(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

/// The hash by which an item's dead letters are found.
#[must_use]
pub fn key_hash_of(keys: &Item) -> KeyHash {
    key_hash(&key_json(keys))
}

/// Finds the units that the database refuses, by halves, never by savepoints.
///
/// It asks for ever smaller ranges, left to right, each together with all that was accepted before it, so
/// that rows which only clash with one another are found too. `k` bad ones among `n` cost about
/// `2 k log2(n/k)` probes.
#[derive(Debug)]
pub struct Bisect {
    open: Vec<std::ops::Range<usize>>,
    refused: Vec<(usize, String)>,
}

impl Bisect {
    /// Among `units`, of which some are known to be bad.
    #[must_use]
    pub fn new(units: usize) -> Self {
        let mut bisect = Self { open: Vec::new(), refused: Vec::new() };
        bisect.split(0..units);
        bisect
    }

    /// The units to probe next: those below the end of the range in question that are not refused already.
    /// `None` when all is known.
    #[must_use]
    pub fn probe(&self) -> Option<Vec<usize>> {
        let end = self.open.last()?.end;
        let refused = |unit: &usize| self.refused.iter().any(|(bad, _)| bad == unit);
        Some((0..end).filter(|unit| !refused(unit)).collect())
    }

    /// Takes the database's answer to the last probe: what it said where it refused.
    pub fn answer(&mut self, answer: Result<(), String>) {
        let Some(range) = self.open.pop() else { return };
        if let Err(said) = answer {
            if range.len() == 1 {
                self.refused.push((range.start, said));
            } else {
                self.split(range);
            }
        }
    }

    /// The refused units, in ascending order.
    #[must_use]
    pub fn into_refused(self) -> Vec<(usize, String)> {
        self.refused
    }

    fn split(&mut self, range: std::ops::Range<usize>) {
        let middle = range.start + range.len() / 2;
        for half in [middle..range.end, range.start..middle] {
            if !half.is_empty() {
                self.open.push(half);
            }
        }
    }
}

#[cfg(test)]
mod tests;
