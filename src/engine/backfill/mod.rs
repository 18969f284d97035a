//! Backfills: when one begins, its partitions, and how it ends.
//!
//! A backfill is a state of the ledger, not of a worker: [`next_step`] uses only the ledger's view, so any
//! worker can continue where another one died.

pub mod budget;
pub mod rewind;

use std::sync::Arc;

use super::ports::{
    Ledger, LedgerView, NewBackfill, OpenLetter, PartitionState, Settling, Source, Sweep, Swept,
};
use super::tail::discovery::{Newest, newest_stream};
pub use crate::engine::options::Backfill;
use crate::engine::options::OnGap;
use crate::engine::ports::{Backfills, Seams, Target};
use crate::error::Result;
use crate::mapping::Mapper;
use crate::model::{Cells, Generation, PartitionId, Segment, StoredRecord, TableIndex};

/// Items per segment by default: some minutes of reading for one worker, and enough segments for a fleet to
/// share.
const ITEMS_PER_SEGMENT: u64 = 50_000;
/// The fewest segments: twice the pages that a worker has in flight.
const SEGMENTS_MIN: u32 = 4;
/// The most segments by default; the service allows a million.
const SEGMENTS_MAX: u32 = 256;
/// The most open dead letters that a sweep can spare; each costs a parameter of its statements.
const SPARED_MAX: u32 = 10_000;
/// A sweep of fewer rows needs no confirmation: in a small table any share is large.
const SWEEP_FREE_ROWS: u64 = 100;

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Begin a backfill.
    Begin,
    /// End the active backfill: sweep the rows that it did not find.
    Finish,
}

/// The next step, by the ledger alone.
#[must_use]
pub fn next_step(view: &LedgerView, wish: Backfill, on_gap: OnGap) -> Step {
    if view.halted.is_some() {
        return Step::Rest;
    }
    if view.gaps_open > 0 && on_gap == OnGap::Resync {
        return Step::Begin;
    }
    if !view.listed {
        return Step::Rest;
    }
    if view.backfill.active {
        let unread = view
            .partitions
            .iter()
            .any(|row| !row.id.is_shard() && row.state == PartitionState::Open);
        return if unread || view.backfill.replaying > 0 { Step::Rest } else { Step::Finish };
    }
    match wish {
        Backfill::Force => Step::Begin,
        Backfill::Auto if !view.backfill.loaded => Step::Begin,
        Backfill::Auto | Backfill::Never => Step::Rest,
    }
}

/// The progress of the active backfill, from 0 to 1; `None` without one. Drained segments count in full, the
/// others by their items read, relative to the service's item count.
#[must_use]
pub fn progress(view: &LedgerView) -> Option<f64> {
    if !view.backfill.active {
        return None;
    }
    let rows = view.partitions.iter().filter(|row| !row.id.is_shard());
    let (mut all, mut ended, mut records) = (0_u32, 0_u32, 0_u64);
    for row in rows {
        all += 1;
        ended += u32::from(row.state == PartitionState::Drained);
        records += row.records;
    }
    if all == 0 || ended == all {
        return Some(1.0);
    }
    let by_end = f64::from(ended) / f64::from(all);
    let items = view.backfill.items.unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    let by_items = if items == 0 { 0.0 } else { (records as f64 / items as f64).min(0.99) };
    Some(by_end.max(by_items))
}

/// The segments of a scan: as many as requested, or as the number of items suggests.
#[must_use]
pub fn segments(asked: Option<u32>, items: Option<u64>) -> Vec<PartitionId> {
    let fitting = u32::try_from(items.unwrap_or(0) / ITEMS_PER_SEGMENT).unwrap_or(SEGMENTS_MAX);
    let total = asked.unwrap_or(fitting.clamp(SEGMENTS_MIN, SEGMENTS_MAX)).max(1);
    (0..total).map(|index| Segment { index, total }.partition()).collect()
}

/// How to begin a backfill.
#[derive(Debug, Clone)]
pub struct BackfillOptions {
    /// The number of segments; by default the number of items decides.
    pub segments: Option<u32>,
    /// The limit of read units a second for all workers together; none by default.
    pub rcu_max: Option<f64>,
    /// The fingerprint of the mapping.
    pub mapping: i64,
}

/// Begins a backfill of the whole table; false if one cannot begin now.
///
/// # Errors
/// Errors of the source's description and the ledger.
pub async fn begin<P: Seams>(
    ports: &P,
    source: Arc<str>,
    replaces: Generation,
    options: &BackfillOptions,
) -> Result<bool> {
    let info = ports.source().describe().await?;
    let known = ports.ledger().view(&source).await?.stream_arn;
    let stream = match newest_stream(ports, info.stream_arn, &known).await? {
        Newest::Known => None,
        Newest::Another(stream) => Some(stream),
        Newest::Unlisted => return Ok(false),
    };
    let items = info.items;
    let partitions = segments(options.segments, items);
    let rewind = None;
    let backfill = NewBackfill {
        source,
        replaces,
        stream,
        partitions,
        items,
        rcu_max: options.rcu_max,
        mapping: Some(options.mapping),
        rewind,
    };
    ports.ledger().begin_backfill(&backfill).await
}

/// How to end a backfill.
#[derive(Debug, Clone)]
pub(crate) struct Finish {
    pub source: Arc<str>,
    pub mapper: Arc<Mapper>,
    pub generation: Generation,
    /// Whether the backfill began with another mapping than this worker's.
    pub remapped: bool,
    pub sweeps: bool,
    /// Whether an operator allowed a sweep of any size.
    pub confirmed: bool,
    /// The share of rows, from 0 to 1, that a sweep may delete without confirmation.
    pub share_max: f64,
}

/// The result of trying to end a backfill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finished {
    /// The backfill is over; this many rows were swept.
    Ended { swept: u64 },
    /// This backfill cannot end yet.
    NotYet,
    /// An operator must act first, for this reason.
    Waits(String),
}

/// Settles the letters of a backfill whose partitions are all drained, sweeps and ends it. All workers of a
/// fleet may do so at once: each step of a sweep is its own transaction, and the end counts once.
pub(crate) async fn finish<P: Seams>(ports: &P, finish: &Finish) -> Result<Finished> {
    if finish.remapped {
        let what = "the mapping has changed since the backfill began, and rows of both may \
                    exist: dynaurora backfill --restart";
        return Ok(Finished::Waits(what.to_owned()));
    }
    loop {
        match ports.ledger().settle_letters(&finish.source, finish.generation).await? {
            Settling::More => {}
            Settling::Done => break,
            Settling::Over => return Ok(Finished::NotYet),
        }
    }
    let mut swept = 0;
    if finish.sweeps {
        let letters = ports.ledger().open_letters(&finish.source, SPARED_MAX + 1).await?;
        if letters.len() > SPARED_MAX as usize {
            let what = format!(
                "more than {SPARED_MAX} dead letters are open: `dynaurora dead-letters retry` or \
                 `drop` some before the sweep"
            );
            return Ok(Finished::Waits(what));
        }
        let spared = match spared(&finish.mapper, &letters) {
            Ok(spared) => spared,
            Err(id) => {
                let what = format!(
                    "the row of dead letter {id} is not known: `dynaurora dead-letters \
                     retry` or `drop` it before the sweep"
                );
                return Ok(Finished::Waits(what));
            }
        };
        let sweep = Sweep {
            source: Arc::clone(&finish.source),
            generation: finish.generation,
            tables: finish.mapper.swept_tables(),
            spared,
            letters: letters.iter().map(|letter| letter.id).collect(),
        };
        if !finish.confirmed {
            let stale = ports.sink().stale(&sweep).await?;
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
            let limit = stale.of as f64 * finish.share_max;
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
            let above = stale.rows as f64 > limit;
            if above && stale.rows > SWEEP_FREE_ROWS {
                let what = format!(
                    "the sweep would delete {} of {} rows, more than worker.sweep_share_max of {:.0} %; \
                     to allow it: dynaurora backfill --confirm-sweep",
                    stale.rows,
                    stale.of,
                    finish.share_max * 100.0
                );
                return Ok(Finished::Waits(what));
            }
        }
        loop {
            match ports.sink().sweep(&sweep).await? {
                Swept::Rows(rows) => swept += rows,
                Swept::Done => break,
                Swept::Over => return Ok(Finished::NotYet),
            }
        }
    }
    let ended = ports.ledger().end_backfill(&finish.source, finish.generation).await?;
    Ok(if ended { Finished::Ended { swept } } else { Finished::NotYet })
}

/// The rows protected by open dead letters, or the number of a letter whose row is not known.
fn spared(mapper: &Mapper, letters: &[OpenLetter]) -> Result<Vec<(TableIndex, Cells)>, i64> {
    let mut spared = Vec::new();
    for letter in letters {
        let record = StoredRecord::read(&letter.image).ok_or(letter.id)?;
        for change in record.removals() {
            mapper.row_keys(&change, &mut spared).map_err(|_| letter.id)?;
        }
    }
    Ok(spared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ports::{BackfillView, PartitionRow};
    use crate::model::{GapReason, Position};

    fn row(id: PartitionId, state: PartitionState, records: u64) -> PartitionRow {
        PartitionRow {
            id,
            parent: None,
            state,
            position: Position::Start,
            records,
            epoch: 0,
            owner: None,
            last_event_at: None,
            overdue: false,
        }
    }

    fn view(backfill: BackfillView) -> LedgerView {
        LedgerView { generation: 1, listed: true, backfill, ..LedgerView::default() }
    }

    #[test]
    fn a_load_begins_only_once_the_shards_are_listed() {
        let unlisted = LedgerView { listed: false, ..view(BackfillView::default()) };
        assert_eq!(next_step(&unlisted, Backfill::Force, OnGap::Resync), Step::Rest);
        let listed = view(BackfillView::default());
        assert_eq!(next_step(&listed, Backfill::Auto, OnGap::Halt), Step::Begin);
        assert_eq!(next_step(&listed, Backfill::Never, OnGap::Halt), Step::Rest);
        let loaded = view(BackfillView { loaded: true, ..BackfillView::default() });
        assert_eq!(next_step(&loaded, Backfill::Auto, OnGap::Halt), Step::Rest);
        assert_eq!(next_step(&loaded, Backfill::Force, OnGap::Halt), Step::Begin);
    }

    #[test]
    fn a_gap_begins_a_load_where_the_source_resyncs_even_within_another() {
        let active = BackfillView { active: true, ..BackfillView::default() };
        for backfill in [BackfillView::default(), active] {
            let gapped = LedgerView { gaps: 1, gaps_open: 1, ..view(backfill) };
            assert_eq!(next_step(&gapped, Backfill::Never, OnGap::Resync), Step::Begin);
        }
        let halted = LedgerView {
            halted: Some(GapReason::TableChanged.into()),
            gaps_open: 1,
            ..view(active)
        };
        assert_eq!(next_step(&halted, Backfill::Force, OnGap::Resync), Step::Rest);
        let repairing = LedgerView {
            gaps: 1,
            ..view(BackfillView { loaded: true, ..BackfillView::default() })
        };
        assert_eq!(next_step(&repairing, Backfill::Never, OnGap::Resync), Step::Rest);
    }

    #[test]
    fn a_load_ends_when_every_segment_is_drained() {
        let mut active =
            view(BackfillView { active: true, items: Some(100), ..BackfillView::default() });
        let ids = segments(Some(2), None);
        active.partitions = vec![
            row(ids[0].clone(), PartitionState::Drained, 30),
            row(ids[1].clone(), PartitionState::Open, 40),
        ];
        assert_eq!(next_step(&active, Backfill::Auto, OnGap::Halt), Step::Rest);
        assert_eq!(progress(&active), Some(0.7));
        active.partitions[1].state = PartitionState::Drained;
        assert_eq!(next_step(&active, Backfill::Auto, OnGap::Halt), Step::Finish);
        assert_eq!(progress(&active), Some(1.0));
        active.backfill.replaying = 1;
        assert_eq!(next_step(&active, Backfill::Auto, OnGap::Halt), Step::Rest);
        assert_eq!(progress(&view(BackfillView::default())), None);
    }

    #[test]
    fn segments_grow_with_the_table() {
        assert_eq!(segments(None, Some(10)).len(), 4);
        assert_eq!(segments(None, Some(1_000_000)).len(), 20);
        assert_eq!(segments(None, Some(u64::MAX)).len(), 256);
        assert_eq!(segments(Some(1), Some(1_000_000))[0].as_str(), "scan/000-of-001");
    }
}
