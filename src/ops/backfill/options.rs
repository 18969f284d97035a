//! How a backfill is asked for, how its way is told, and what it came to.

use super::super::wire::BackfillWish;
use crate::engine::backfill::{Backfill, progress};
use crate::engine::ports::LedgerView;

/// How a backfill is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The number of segments; by default the number of items decides.
    pub segments: Option<u32>,
    /// The limit of read units a second for all workers together; none by default.
    pub rcu_max: Option<f64>,
    /// The places of a full export and of those that follow it, in place of a scan.
    pub from_export: Vec<String>,
    /// Whether to begin anew even though a backfill is active.
    pub restart: bool,
    /// Whether the sweep may delete more than the usual share.
    pub confirm_sweep: bool,
    /// Whether to begin and not to wait for the end.
    pub detach: bool,
}

impl Options {
    /// Whether the table is read, rather than an export of it.
    #[must_use]
    pub fn scans(&self) -> bool {
        self.from_export.is_empty()
    }

    /// What a worker of this process is to do.
    pub(super) fn wish(&self, backfill: Backfill) -> BackfillWish {
        BackfillWish { backfill, segments: self.segments, rcu_max: self.rcu_max }
    }
}

/// Who is told of a backfill's way; `()` does not listen.
pub trait Progress {
    /// No daemon runs, so this process does its work.
    fn own_worker(&self);

    /// A backfill of the source is active already, and is watched.
    fn active_already(&self, source: &str);

    /// The backfill is watched from now on.
    fn watching(&self, source: &str);

    /// How far the backfill is, every second.
    fn reached(&self, source: &str, reached: Reached);

    /// All is read, and the backfill has not ended for some time.
    fn waits(&self, source: &str);

    /// The backfill is watched no more.
    fn watched(&self);
}

impl Progress for () {
    fn own_worker(&self) {}

    fn active_already(&self, _: &str) {}

    fn watching(&self, _: &str) {}

    fn reached(&self, _: &str, _: Reached) {}

    fn waits(&self, _: &str) {}

    fn watched(&self) {}
}

/// How far a backfill is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reached {
    /// The items read.
    pub items: u64,
    /// How many there are: the service's count is some hours old, so it is no less than those read.
    pub of: u64,
    /// The share that is done, from 0 to 1.
    pub ratio: f64,
    /// Whether all is read, and rows that were not found are deleted now.
    pub sweeps: bool,
}

impl Reached {
    /// As the ledger says.
    #[must_use]
    pub fn by(view: &LedgerView) -> Self {
        let items = items_read(view);
        let ratio = progress(view).unwrap_or_default();
        let of = view.backfill.items.unwrap_or(items).max(items);
        Self { items, of, ratio, sweeps: ratio >= 1.0 && view.backfill.sweeps }
    }
}

/// The result of a backfill; the JSON only gains fields.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Loaded {
    /// The source.
    pub source: String,
    /// The backfill's generation.
    pub generation: u32,
    /// Whether it is over; otherwise a daemon goes on with it.
    pub complete: bool,
    /// The items read.
    pub items: u64,
    /// How long it was watched.
    pub seconds: f64,
}

/// The items that the backfill has read.
pub(super) fn items_read(view: &LedgerView) -> u64 {
    let rows = view.partitions.iter().filter(|row| !row.id.is_shard());
    rows.map(|row| row.records).sum()
}
