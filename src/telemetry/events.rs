//! Typed events: each emits its log line and its metrics together.
//!
//! An event of the hot path is emitted once per batch, not once per record. INFO is lifecycle, WARN is
//! something that mends itself, ERROR needs a human. What the metrics are called stands in [`metrics`].

use super::metrics::{self, VERSION};

mod attempts;
mod backfills;
mod batches;
mod fleet;
mod sources;
pub use attempts::{AwsRequest, Retry};
pub use backfills::{
    BackfillBegun, BackfillEnded, BackfillProgress, BackfillWaits, GenerationChanged,
};
pub use batches::BatchApplied;
pub use fleet::{LeasesLost, MappingsDiffer, PartitionEvent, ServerChanged};
pub use sources::{Freshness, GapFound, Halted, Headroom, StreamEnded};

/// The process started.
pub struct Started<'a> {
    /// The version of the program.
    pub version: &'static str,
    /// The worker's name.
    pub worker: &'a str,
    /// How many sources the config has.
    pub sources: usize,
}

impl Started<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::BUILD_INFO.gauge([VERSION.is(self.version)]).set(1.0);
        tracing::info!(
            version = self.version,
            worker = self.worker,
            sources = self.sources,
            "dynaurora started"
        );
    }
}

#[cfg(test)]
mod tests;
