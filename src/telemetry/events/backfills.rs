//! Events of backfills.

use crate::telemetry::metrics::{self, source};

/// This worker began a backfill.
pub struct BackfillBegun<'a> {
    /// The source.
    pub source: &'a str,
    /// The backfill's generation.
    pub generation: u32,
}

impl BackfillBegun<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::BACKFILL_PROGRESS.gauge([source(self.source)]).set(0.0);
        tracing::info!(
            source = self.source,
            generation = self.generation,
            "a backfill of the whole table begins beside its stream"
        );
    }
}

/// The ledger shows a new generation, for example because a backfill began; all pages are read under it.
pub struct GenerationChanged<'a> {
    /// The source.
    pub source: &'a str,
    /// The new generation.
    pub generation: u32,
}

impl GenerationChanged<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        let (source, generation) = (self.source, self.generation);
        tracing::info!(
            source,
            generation,
            "a backfill began a new generation: unapplied pages are read again"
        );
    }
}

/// A backfill made progress.
pub struct BackfillProgress<'a> {
    /// The source.
    pub source: &'a str,
    /// Its progress, from 0 to 1.
    pub ratio: f64,
}

impl BackfillProgress<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::BACKFILL_PROGRESS.gauge([source(self.source)]).set(self.ratio);
        tracing::debug!(source = self.source, ratio = self.ratio, "load");
    }
}

/// A backfill waits for an operator.
pub struct BackfillWaits<'a> {
    /// The source.
    pub source: &'a str,
    /// Why.
    pub why: &'a str,
}

impl BackfillWaits<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        tracing::error!(
            source = self.source,
            why = self.why,
            "the end of a backfill waits for an operator"
        );
    }
}

/// This worker ended a backfill.
pub struct BackfillEnded<'a> {
    /// The source.
    pub source: &'a str,
    /// The backfill's generation.
    pub generation: u32,
    /// The rows that it deleted because it did not find their items.
    pub swept: u64,
}

impl BackfillEnded<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::BACKFILL_PROGRESS.gauge([source(self.source)]).set(1.0);
        metrics::ROWS_SWEPT.counter([source(self.source)]).increment(self.swept);
        tracing::info!(
            source = self.source,
            generation = self.generation,
            swept = self.swept,
            "the backfill is complete"
        );
    }
}
