//! What a batch brought.

use std::time::Duration;

use crate::model::{EpochMillis, RecordCounts, RecordOutcome};
use crate::telemetry::metrics::{self, OP, OUTCOME, REJECT_REASON, ROW_OP, TARGET_TABLE, source};

/// A batch was committed.
pub struct BatchApplied<'a> {
    /// The source.
    pub source: &'a str,
    /// The outcomes for its records.
    pub records: &'a RecordCounts,
    /// Per table: name, rows upserted, rows deleted, row changes superseded.
    pub tables: &'a [(String, u64, u64, u64)],
    /// How many partitions it advanced.
    pub partitions: usize,
    /// From the first attempt to the commit, the probes of a bisection included.
    pub took: Duration,
    /// The time of its newest change.
    pub last_event_at: Option<EpochMillis>,
    /// The time of day after the commit.
    pub now: EpochMillis,
    /// The reasons of rejected records, with counts.
    pub rejected: &'a [(&'static str, u64)],
}

impl BatchApplied<'_> {
    /// Emits the event.
    #[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^52")]
    pub fn emit(&self) {
        for (op, outcome, count) in self.records.each().filter(|(_, _, count)| *count > 0) {
            let (op, outcome) = (OP.is(op.label()), OUTCOME.is(outcome.label()));
            metrics::RECORDS.counter([source(self.source), op, outcome]).increment(count);
        }
        let mut rows = 0;
        for (table, upserted, deleted, superseded) in self.tables {
            rows += upserted + deleted;
            for (op, count) in [("upsert", *upserted), ("delete", *deleted)] {
                let (table, op) = (TARGET_TABLE.is(table.clone()), ROW_OP.is(op));
                metrics::ROWS_WRITTEN.counter([source(self.source), table, op]).increment(count);
            }
            metrics::ROWS_SUPERSEDED
                .counter([source(self.source), TARGET_TABLE.is(table.clone())])
                .increment(*superseded);
        }
        for (reason, count) in self.rejected {
            metrics::REJECTED
                .counter([source(self.source), REJECT_REASON.is(*reason)])
                .increment(*count);
            tracing::warn!(source = self.source, reason, count, "records became dead letters");
        }
        let unmatched = self.records.of(RecordOutcome::Unmatched);
        if unmatched > 0 {
            metrics::UNMATCHED.counter([source(self.source)]).increment(unmatched);
        }
        metrics::COMMIT_DURATION.histogram([source(self.source)]).record(self.took);
        metrics::BATCH_ROWS.histogram([source(self.source)]).record(rows as f64);
        if let Some(at) = self.last_event_at {
            metrics::LAST_EVENT.gauge([source(self.source)]).set(at.as_secs_f64());
            let delay = (self.now.as_secs_f64() - at.as_secs_f64()).max(0.0);
            metrics::REPLICATION_DELAY.histogram([source(self.source)]).record(delay);
        }
        tracing::debug!(
            source = self.source,
            records = self.records.total(),
            rows,
            partitions = self.partitions,
            took_ms = self.took.as_millis(),
            "batch applied"
        );
    }
}
