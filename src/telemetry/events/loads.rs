//! What happens to loads.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const BACKFILL_PROGRESS: &str = "dynaurora_backfill_progress_ratio";
const ROWS_SWEPT: &str = "dynaurora_rows_swept_total";

/// Describes the metrics of loads.
pub(super) fn describe() {
    describe_gauge!(
        BACKFILL_PROGRESS,
        "How far the active load of the table is, from 0 to 1; 1 where none is active."
    );
    describe_counter!(ROWS_SWEPT, "Rows that a load did not find and deleted at its end.");
}

/// Starts the series of a source.
pub(super) fn zero(source: &str) {
    gauge!(BACKFILL_PROGRESS, "source" => source.to_owned()).set(1.0);
    counter!(ROWS_SWEPT, "source" => source.to_owned()).absolute(0);
}

/// This worker began a load.
pub struct LoadBegun<'a> {
    /// The source.
    pub source: &'a str,
    /// The load's generation.
    pub generation: u32,
}

impl LoadBegun<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        gauge!(BACKFILL_PROGRESS, "source" => self.source.to_owned()).set(0.0);
        tracing::info!(
            source = self.source,
            generation = self.generation,
            "a load of the whole table begins beside its stream"
        );
    }
}

/// The ledger shows another generation: a load began, say, and all pages are read under it.
pub struct GenerationChanged<'a> {
    /// The source.
    pub source: &'a str,
    /// The new one.
    pub generation: u32,
}

impl GenerationChanged<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        let (source, generation) = (self.source, self.generation);
        tracing::info!(
            source,
            generation,
            "another generation, a load began: what is in hand is read again"
        );
    }
}

/// A load went on.
pub struct LoadProgress<'a> {
    /// The source.
    pub source: &'a str,
    /// How far it is, from 0 to 1.
    pub ratio: f64,
}

impl LoadProgress<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        gauge!(BACKFILL_PROGRESS, "source" => self.source.to_owned()).set(self.ratio);
        tracing::debug!(source = self.source, ratio = self.ratio, "load");
    }
}

/// A load waits for an operator.
pub struct LoadWaits<'a> {
    /// The source.
    pub source: &'a str,
    /// Why.
    pub why: &'a str,
}

impl LoadWaits<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        tracing::error!(
            source = self.source,
            why = self.why,
            "the end of a load waits for an operator"
        );
    }
}

/// This worker ended a load.
pub struct LoadEnded<'a> {
    /// The source.
    pub source: &'a str,
    /// The load's generation.
    pub generation: u32,
    /// Rows that it deleted because it did not find their items.
    pub swept: u64,
}

impl LoadEnded<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        gauge!(BACKFILL_PROGRESS, "source" => self.source.to_owned()).set(1.0);
        counter!(ROWS_SWEPT, "source" => self.source.to_owned()).increment(self.swept);
        tracing::info!(
            source = self.source,
            generation = self.generation,
            swept = self.swept,
            "the load is complete"
        );
    }
}
