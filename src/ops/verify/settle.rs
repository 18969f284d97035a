//! Tells lag from drift: a row that looks wrong is read again with its item, until it is right, or until
//! neither has changed for longer than a change takes to arrive.
//!
//! A difference counts once item and row were seen twice, unchanged, a lag time apart, and, if the ledger
//! knows how far the source is synced, once that has passed the first sighting. A row that keeps changing
//! starts over each time; the number of tries is limited, and rows left then are reported as undecided,
//! never as right.

use std::time::Duration;

use tokio::time::Instant;

use super::context::{Context, Expected, RowAsked};
use crate::engine::ports::Clock;
use crate::error::Result;
use crate::model::{Cells, Item, RowOp, TableIndex, Version};
use crate::ops::ports::{Comparison, Fault, Progress, Rows, Sides, Verifications};

/// Readings of both sides per lag time.
const LOOKS: u32 = 4;
/// How many lag times may pass before a row that still changes is undecided.
const WAITS_MAX: u32 = 6;
/// The shortest wait for the ledger's progress, which is some seconds late.
const WAIT_MIN: Duration = Duration::from_secs(30);
/// The longest pause between two readings.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The ledger's clock may differ from ours.
const CLOCK_MARGIN_MS: i64 = 2_000;
/// Rows compared in one statement.
pub(super) const CHUNK_ROWS: usize = 500;

/// A row that looks wrong.
#[derive(Debug, Clone)]
pub(crate) struct Suspect {
    /// Its item's key; `None` if only the row is known.
    pub(crate) item: Option<Item>,
    /// The entity's table.
    pub(crate) table: TableIndex,
    /// The row's primary key.
    pub(crate) row: Cells,
    /// The first sighting, if it was compared already.
    seen: Option<Sighting>,
}

/// Both sides at one moment.
#[derive(Debug, Clone)]
struct Sighting {
    expected: RowOp,
    comparison: Comparison,
    at: Instant,
    at_ms: i64,
}

/// A confirmed difference.
#[derive(Debug, Clone)]
pub struct Drift {
    /// Its item's key; `None` if only the row is known.
    pub item: Option<Item>,
    /// The entity's table.
    pub table: TableIndex,
    /// The row's primary key.
    pub row: Cells,
    /// The target's row, with all its faults.
    pub comparison: Comparison,
    /// What became of it.
    pub repaired: bool,
}

/// The results for the suspects.
#[derive(Debug, Default)]
pub struct Settled {
    /// The differences that stand.
    pub drift: Vec<Drift>,
    /// Rows whose item has an open dead letter that is newer.
    pub dead_letters: u64,
    /// Rows whose item cannot be mapped and has no open dead letter.
    pub unmappable: u64,
    /// Rows without an item that the mapping may have kept.
    pub kept: u64,
    /// Rows without an item that dynaurora never wrote.
    pub foreign: u64,
    /// Rows that kept changing.
    pub undecided: u64,
}

impl Suspect {
    pub(crate) fn new(item: Option<Item>, table: TableIndex, row: Cells) -> Self {
        Self { item, table, row, seen: None }
    }

    fn absent<S: Sides>(&self, context: &Context<S>) -> RowOp {
        context.absence(self.table, self.row.clone())
    }
}

impl Drift {
    /// Whether the row should not exist.
    fn is_unexpected(&self) -> bool {
        let mut own = self.comparison.differences.iter().filter(|own| own.table == self.table);
        own.any(|own| own.fault == Fault::Unexpected)
    }
}

impl Settled {
    pub(crate) fn add(&mut self, more: Self) {
        self.drift.extend(more.drift);
        self.dead_letters += more.dead_letters;
        self.unmappable += more.unmappable;
        self.kept += more.kept;
        self.foreign += more.foreign;
        self.undecided += more.undecided;
    }
}

/// Reads the suspects again until each is settled; `lag` is the time that a change may take.
pub(crate) async fn settle<S: Sides>(
    context: &Context<S>,
    mut suspects: Vec<Suspect>,
    lag: Duration,
) -> Result<Settled> {
    let clock = context.sides.clock();
    let mut settled = Settled::default();
    let pause = (lag / LOOKS).clamp(Duration::from_millis(50), PAUSE_MAX);
    let deadline = clock.now() + ((lag + pause) * WAITS_MAX).max(WAIT_MIN);
    while !suspects.is_empty() {
        suspects = look(context, suspects, lag, &mut settled).await?;
        if suspects.is_empty() {
            break;
        }
        if clock.now() >= deadline {
            settled.undecided += suspects.len() as u64;
            break;
        }
        clock.sleep_until(clock.now() + pause).await;
    }
    Ok(settled)
}

/// Reads all of them once and returns the unsettled ones.
async fn look<S: Sides>(
    context: &Context<S>,
    suspects: Vec<Suspect>,
    lag: Duration,
    settled: &mut Settled,
) -> Result<Vec<Suspect>> {
    let target = context.sides.target();
    let progress = target.progress(&context.name).await?;
    let at = context.sides.clock().now();
    let expected = expectations(context, &suspects).await?;
    let mut by_table: Vec<(TableIndex, Vec<(Suspect, RowOp)>)> = Vec::new();
    for (suspect, truth) in suspects.into_iter().zip(expected) {
        let op = match truth {
            Expected::Row(op) => op,
            Expected::Kept => {
                settled.kept += 1;
                continue;
            }
            Expected::Unmappable => {
                count_unmappable(context, &suspect, settled).await?;
                continue;
            }
            Expected::Silent => continue,
        };
        match by_table.iter_mut().find(|(table, _)| *table == suspect.table) {
            Some((_, own)) => own.push((suspect, op)),
            None => by_table.push((suspect.table, vec![(suspect, op)])),
        }
    }
    let (mut open, mut stand) = (Vec::new(), Vec::new());
    for (table, own) in by_table {
        for chunk in own.chunks(CHUNK_ROWS) {
            let ops: Vec<RowOp> = chunk.iter().map(|(_, op)| op.clone()).collect();
            let comparisons = target.compare(table, &ops).await?;
            for ((suspect, op), comparison) in chunk.iter().cloned().zip(comparisons) {
                if comparison.differences.is_empty() {
                    continue;
                }
                let sighting = Sighting { expected: op, comparison, at, at_ms: progress.now_ms };
                match judge(suspect, sighting, at, progress, lag) {
                    Judged::Stands(drift) => stand.push(drift),
                    Judged::Open(suspect) => open.push(suspect),
                }
            }
        }
    }
    excuse(context, stand, settled).await?;
    Ok(open)
}

enum Judged {
    Stands(Drift),
    Open(Suspect),
}

fn judge(
    mut suspect: Suspect,
    now: Sighting,
    at: Instant,
    progress: Progress,
    lag: Duration,
) -> Judged {
    match &suspect.seen {
        Some(seen) if seen.expected == now.expected && seen.comparison == now.comparison => {
            let synced = progress.synced_ms.is_none_or(|ms| ms >= seen.at_ms + CLOCK_MARGIN_MS);
            if synced && at.saturating_duration_since(seen.at) >= lag {
                let Suspect { item, table, row, .. } = suspect;
                return Judged::Stands(Drift {
                    item,
                    table,
                    row,
                    comparison: now.comparison,
                    repaired: false,
                });
            }
        }
        _ => suspect.seen = Some(now),
    }
    Judged::Open(suspect)
}

/// What each row should be, given its item's current state.
async fn expectations<S: Sides>(
    context: &Context<S>,
    suspects: &[Suspect],
) -> Result<Vec<Expected>> {
    let keys: Vec<&Item> = suspects.iter().filter_map(|suspect| suspect.item.as_ref()).collect();
    let mut items = context.items(&keys).await?.into_iter();
    let truth = |suspect: &Suspect| {
        let Some(key) = &suspect.item else { return Expected::Row(suspect.absent(context)) };
        let item = items.next().flatten();
        let version = suspect.seen.as_ref().and_then(|seen| seen.comparison.live_version());
        context.truth(key, item, RowAsked { table: suspect.table, row: &suspect.row, version })
    };
    Ok(suspects.iter().map(truth).collect())
}

async fn count_unmappable<S: Sides>(
    context: &Context<S>,
    suspect: &Suspect,
    settled: &mut Settled,
) -> Result<()> {
    let keys: Vec<&Item> = suspect.item.iter().collect();
    if context.dead_lettered(&keys).await?.iter().any(Option::is_some) {
        settled.dead_letters += 1;
    } else {
        settled.unmappable += 1;
    }
    Ok(())
}

/// Drops rows whose item has a newer dead letter, since they are known to be old, and rows of others.
async fn excuse<S: Sides>(
    context: &Context<S>,
    mut stand: Vec<Drift>,
    settled: &mut Settled,
) -> Result<()> {
    let found = stand.len();
    stand.retain(|own| {
        !(own.is_unexpected() && Version::is_foreign(own.comparison.version.as_deref()))
    });
    settled.foreign += (found - stand.len()) as u64;
    let keys: Vec<&Item> = stand.iter().filter_map(|drift| drift.item.as_ref()).collect();
    let mut letters = context.dead_lettered(&keys).await?.into_iter();
    for drift in stand {
        let letter = drift.item.as_ref().and_then(|_| letters.next().flatten());
        let row = drift.comparison.version.as_deref();
        if letter.is_some_and(|letter| context.explains(letter, row)) {
            settled.dead_letters += 1;
        } else {
            settled.drift.push(drift);
        }
    }
    Ok(())
}
