//! What happens among the workers of one source.

use metrics::{describe_gauge, gauge};

const MAPPINGS_DIFFER: &str = "dynaurora_workers_of_another_mapping";

/// Describes the metrics of the fleet.
pub(super) fn describe() {
    describe_gauge!(
        MAPPINGS_DIFFER,
        "Other living workers of the source that map it otherwise; more than 0 while a deployment rolls."
    );
}

/// Starts the series of a source.
pub(super) fn zero(source: &str) {
    gauge!(MAPPINGS_DIFFER, "source" => source.to_owned()).set(0.0);
}

/// The number of living workers with another mapping changed.
pub struct MappingsDiffer<'a> {
    /// The source.
    pub source: &'a str,
    /// How many others there are now; none is the end of it.
    pub others: usize,
    /// What that means, for people.
    pub warning: Option<&'a str>,
}

impl MappingsDiffer<'_> {
    /// Emits the event.
    #[expect(clippy::cast_precision_loss, reason = "there are few workers")]
    pub fn emit(&self) {
        gauge!(MAPPINGS_DIFFER, "source" => self.source.to_owned()).set(self.others as f64);
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
