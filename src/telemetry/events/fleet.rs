//! What happens among the workers of one source: whose partitions are whose, and who maps otherwise.

use crate::model::PartitionId;
use crate::telemetry::metrics::{self, source};

/// Leases ended before they were released.
pub struct LeasesLost<'a> {
    /// The source.
    pub source: &'a str,
    /// How many.
    pub count: usize,
    /// How it was noticed.
    pub why: &'static str,
}

impl LeasesLost<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::LEASES_LOST.counter([source(self.source)]).increment(self.count as u64);
        tracing::warn!(source = self.source, count = self.count, why = self.why, "leases lost");
    }
}

/// The database crashed, restarted or failed over; the worker goes on from the positions that it has now.
pub struct ServerChanged<'a> {
    /// The source.
    pub source: &'a str,
}

impl ServerChanged<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        let source = self.source;
        tracing::warn!(source, "another run of the database answers; reading from its positions");
    }
}

/// A partition was `acquired`, `drained` or `released`.
pub struct PartitionEvent<'a> {
    /// The source.
    pub source: &'a str,
    /// The partition.
    pub partition: &'a PartitionId,
    /// What happened.
    pub what: &'static str,
}

impl PartitionEvent<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        tracing::info!(
            source = self.source,
            partition = self.partition.as_str(),
            what = self.what,
            "partition"
        );
    }
}

/// The number of living workers with another mapping changed.
pub struct MappingsDiffer<'a> {
    /// The source.
    pub source: &'a str,
    /// The number of others now; 0 ends the event.
    pub others: usize,
    /// The meaning, for people.
    pub warning: Option<&'a str>,
}

impl MappingsDiffer<'_> {
    /// Emits the event.
    #[expect(clippy::cast_precision_loss, reason = "there are few workers")]
    pub fn emit(&self) {
        metrics::MAPPINGS_DIFFER.gauge([source(self.source)]).set(self.others as f64);
        match self.warning {
            Some(warning) => tracing::warn!(
                source = self.source,
                others = self.others,
                warning,
                "workers map the source differently"
            ),
            None => tracing::info!(source = self.source, "all workers map the source alike"),
        }
    }
}
