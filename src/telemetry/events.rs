//! Typed events: each emits its log line and its metrics together, and every metric's name lives here.
//!
//! Rules: prefix `dynaurora_`, base units, counters end in `_total`, timestamps rather than ages; labels
//! are source, table, op, outcome, reason, state, stage, kind, operation and code, never a shard id, a key
//! or an error's text. An event of the hot path is emitted once per batch, not once per record.
//! INFO is lifecycle, WARN is something that mends itself, ERROR needs a human.
#![expect(clippy::disallowed_macros, reason = "this is the one file that may name a metric")]

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::error::{Error, ErrorKind};
use crate::model::{ChangeOp, EpochMillis, PartitionId, RecordCounts, RecordOutcome};

mod fleet;
mod loads;
pub use fleet::MappingsDiffer;
pub use loads::{GenerationChanged, LoadBegun, LoadEnded, LoadProgress, LoadWaits};

const BUILD_INFO: &str = "dynaurora_build_info";
const SYNCED_UP_TO: &str = "dynaurora_synced_up_to_timestamp_seconds";
const LAST_EVENT: &str = "dynaurora_last_event_timestamp_seconds";
const LAST_POLL: &str = "dynaurora_last_poll_timestamp_seconds";
const RETENTION_HEADROOM: &str = "dynaurora_retention_headroom_seconds";
const REPLICATION_DELAY: &str = "dynaurora_replication_delay_seconds";
const RECORDS: &str = "dynaurora_records_total";
const ROWS_WRITTEN: &str = "dynaurora_rows_written_total";
const ROWS_SUPERSEDED: &str = "dynaurora_rows_superseded_total";
const COMMIT_DURATION: &str = "dynaurora_commit_duration_seconds";
const BATCH_ROWS: &str = "dynaurora_batch_rows";
const DEAD_LETTERS: &str = "dynaurora_dead_letters";
const REJECTED: &str = "dynaurora_rejected_records_total";
const UNMATCHED: &str = "dynaurora_unmatched_items_total";
const SHARDS: &str = "dynaurora_shards";
const LEASES_LOST: &str = "dynaurora_leases_lost_total";
const GAPS: &str = "dynaurora_gaps_total";
const GAPS_OPEN: &str = "dynaurora_gaps_open";
const VERIFY_MISMATCHED: &str = "dynaurora_verify_mismatched_rows";
const VERIFY_AT: &str = "dynaurora_verify_timestamp_seconds";
const AWS_REQUESTS: &str = "dynaurora_aws_requests_total";
const RETRIES: &str = "dynaurora_retries_total";
const HALTED: &str = "dynaurora_halted";

/// The histograms and their buckets, for the recorder's set-up. Delays reach from a local commit to a long
/// outage, rows from a trickle to the largest batch.
pub const HISTOGRAMS: &[(&str, &[f64])] = &[
    (
        REPLICATION_DELAY,
        &[0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0],
    ),
    (COMMIT_DURATION, &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]),
    (BATCH_ROWS, &[1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0]),
];

/// Describes every metric once, when the recorder is installed.
pub fn describe() {
    describe_gauge!(BUILD_INFO, "Always 1; the labels tell the version.");
    describe_gauge!(SYNCED_UP_TO, Unit::Seconds, "Every change up to this time is in the target.");
    describe_gauge!(LAST_EVENT, Unit::Seconds, "Time of the newest applied change.");
    describe_gauge!(LAST_POLL, Unit::Seconds, "Time of the oldest of the shards' last polls.");
    describe_gauge!(
        RETENTION_HEADROOM,
        Unit::Seconds,
        "24 h less the age of the oldest unread change: the time left before data is lost."
    );
    describe_histogram!(
        REPLICATION_DELAY,
        Unit::Seconds,
        "From the newest change of a batch to its commit; the stream's times are whole seconds."
    );
    describe_counter!(RECORDS, "Stream records and scanned items by what became of them.");
    describe_counter!(ROWS_WRITTEN, "Rows written by table and operation.");
    describe_counter!(
        ROWS_SUPERSEDED,
        "Row changes that needed no write: a newer change of the same key was there already."
    );
    describe_histogram!(
        COMMIT_DURATION,
        Unit::Seconds,
        "One batch's transaction, begin to commit."
    );
    describe_histogram!(BATCH_ROWS, Unit::Count, "Rows in a batch.");
    describe_gauge!(DEAD_LETTERS, "Open dead letters.");
    describe_counter!(REJECTED, "Records that became dead letters, by reason.");
    describe_counter!(UNMATCHED, "Items that no entity's key template matches.");
    describe_gauge!(SHARDS, "Partitions of the stream by state.");
    describe_counter!(LEASES_LOST, "Leases that ended before they were given back.");
    describe_counter!(GAPS, "Intervals of lost changes, by reason.");
    describe_gauge!(GAPS_OPEN, "Gaps that are not repaired yet.");
    describe_gauge!(VERIFY_MISMATCHED, "Rows that the last verification left wrong.");
    describe_gauge!(VERIFY_AT, "When the last verification came to its end.");
    describe_counter!(AWS_REQUESTS, "Requests to AWS by operation and answer.");
    describe_counter!(RETRIES, "Attempts that failed and are made again, by stage and kind.");
    describe_gauge!(HALTED, "1 while the source is halted and needs an operator.");
    fleet::describe();
    loads::describe();
}

/// Starts every series of a source at zero, so that a first increase is seen.
pub fn zero(source: &str, tables: &[String]) {
    for (op, outcome, _) in RecordCounts::default().each() {
        records(source, op, outcome).absolute(0);
    }
    for table in tables {
        for op in ["upsert", "delete"] {
            rows_written(source, table, op).absolute(0);
        }
        counter!(ROWS_SUPERSEDED, "source" => source.to_owned(), "table" => table.clone())
            .absolute(0);
    }
    counter!(UNMATCHED, "source" => source.to_owned()).absolute(0);
    counter!(LEASES_LOST, "source" => source.to_owned()).absolute(0);
    gauge!(DEAD_LETTERS, "source" => source.to_owned()).set(0.0);
    gauge!(GAPS_OPEN, "source" => source.to_owned()).set(0.0);
    gauge!(HALTED, "source" => source.to_owned()).set(0.0);
    fleet::zero(source);
    loads::zero(source);
}

fn records(source: &str, op: ChangeOp, outcome: RecordOutcome) -> metrics::Counter {
    let (op, outcome) = (op.label(), outcome.label());
    counter!(RECORDS, "source" => source.to_owned(), "op" => op, "outcome" => outcome)
}

fn rows_written(source: &str, table: &str, op: &'static str) -> metrics::Counter {
    counter!(ROWS_WRITTEN, "source" => source.to_owned(), "table" => table.to_owned(), "op" => op)
}

/// The process started.
pub struct Started<'a> {
    /// The version of the program.
    pub version: &'static str,
    /// The worker's name.
    pub worker: &'a str,
    /// How many sources the config names.
    pub sources: usize,
}

impl Started<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        gauge!(BUILD_INFO, "version" => self.version).set(1.0);
        tracing::info!(
            version = self.version,
            worker = self.worker,
            sources = self.sources,
            "dynaurora started"
        );
    }
}

/// A batch was committed.
pub struct BatchApplied<'a> {
    /// The source.
    pub source: &'a str,
    /// What became of its records.
    pub records: &'a RecordCounts,
    /// Per table: name, rows upserted, rows deleted, row changes superseded.
    pub tables: &'a [(String, u64, u64, u64)],
    /// How many partitions it advanced.
    pub partitions: usize,
    /// The transaction's time.
    pub took: Duration,
    /// The time of its newest change.
    pub last_event_at: Option<EpochMillis>,
    /// The time of day after the commit.
    pub now: EpochMillis,
    /// Why records were rejected, with how many.
    pub rejected: &'a [(&'static str, u64)],
}

impl BatchApplied<'_> {
    /// Emits the event.
    #[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^52")]
    pub fn emit(&self) {
        for (op, outcome, count) in self.records.each().filter(|(_, _, count)| *count > 0) {
            records(self.source, op, outcome).increment(count);
        }
        let mut rows = 0;
        for (table, upserted, deleted, superseded) in self.tables {
            rows += upserted + deleted;
            rows_written(self.source, table, "upsert").increment(*upserted);
            rows_written(self.source, table, "delete").increment(*deleted);
            counter!(ROWS_SUPERSEDED, "source" => self.source.to_owned(), "table" => table.clone())
                .increment(*superseded);
        }
        for (reason, count) in self.rejected {
            counter!(REJECTED, "source" => self.source.to_owned(), "reason" => *reason)
                .increment(*count);
            tracing::warn!(source = self.source, reason, count, "records became dead letters");
        }
        let unmatched = self.records.of(RecordOutcome::Unmatched);
        if unmatched > 0 {
            counter!(UNMATCHED, "source" => self.source.to_owned()).increment(unmatched);
        }
        histogram!(COMMIT_DURATION, "source" => self.source.to_owned()).record(self.took);
        histogram!(BATCH_ROWS, "source" => self.source.to_owned()).record(rows as f64);
        if let Some(at) = self.last_event_at {
            gauge!(LAST_EVENT, "source" => self.source.to_owned()).set(at.as_secs_f64());
            let delay = (self.now.as_secs_f64() - at.as_secs_f64()).max(0.0);
            histogram!(REPLICATION_DELAY, "source" => self.source.to_owned()).record(delay);
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

/// How fresh a source is, published about once a second.
pub struct Freshness<'a> {
    /// The source.
    pub source: &'a str,
    /// Every change up to this time is in the target; `None` while that is unknown.
    pub synced_up_to: Option<EpochMillis>,
    /// The oldest of its shards' last polls.
    pub last_poll_at: Option<EpochMillis>,
    /// The time left before the stream drops unread data.
    pub retention_headroom: Duration,
    /// Partitions by state.
    pub shards: [(&'static str, u64); 4],
    /// Open dead letters.
    pub dead_letters: u64,
    /// Open gaps.
    pub gaps: u64,
    /// The rows that the last verification left wrong, and when it ended.
    pub verified: Option<(u64, EpochMillis)>,
    /// Whether an operator is needed.
    pub halted: bool,
}

impl Freshness<'_> {
    /// Emits the event.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn emit(&self) {
        let source = || self.source.to_owned();
        if let Some(at) = self.synced_up_to {
            gauge!(SYNCED_UP_TO, "source" => source()).set(at.as_secs_f64());
        }
        if let Some(at) = self.last_poll_at {
            gauge!(LAST_POLL, "source" => source()).set(at.as_secs_f64());
        }
        gauge!(RETENTION_HEADROOM, "source" => source()).set(self.retention_headroom.as_secs_f64());
        for (state, count) in self.shards {
            gauge!(SHARDS, "source" => source(), "state" => state).set(count as f64);
        }
        gauge!(DEAD_LETTERS, "source" => source()).set(self.dead_letters as f64);
        gauge!(GAPS_OPEN, "source" => source()).set(self.gaps as f64);
        if let Some((rows, at)) = self.verified {
            gauge!(VERIFY_MISMATCHED, "source" => source()).set(rows as f64);
            gauge!(VERIFY_AT, "source" => source()).set(at.as_secs_f64());
        }
        gauge!(HALTED, "source" => source()).set(f64::from(u8::from(self.halted)));
    }
}

/// A request to AWS was answered, or not.
pub struct AwsRequest<'a> {
    /// The API's operation.
    pub operation: &'static str,
    /// `ok`, or the error's code.
    pub code: &'a str,
}

impl AwsRequest<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        counter!(AWS_REQUESTS, "operation" => self.operation, "code" => self.code.to_owned())
            .increment(1);
    }
}

/// An attempt failed and will be made again.
pub struct Retry<'a> {
    /// The source.
    pub source: &'a str,
    /// What failed: `discover`, `read`, `ledger` or `apply`.
    pub stage: &'static str,
    /// The failure.
    pub error: &'a Error,
    /// How many attempts in a row have failed.
    pub failures: u32,
    /// How long until the next one.
    pub delay: Duration,
}

impl Retry<'_> {
    /// Emits the event; the log only for the first failure and then at every doubling of the failures.
    /// That one batch is fenced is how a worker learns that a load began or that a lease is another's:
    /// the next look at the ledger says which, and only a lost lease, or another fence, is a warning.
    pub fn emit(&self) {
        let kind = self.error.kind().label();
        counter!(RETRIES, "source" => self.source.to_owned(), "stage" => self.stage, "kind" => kind)
            .increment(1);
        if self.error.kind() == ErrorKind::Fenced && self.failures == 1 {
            let (source, error) = (self.source, self.error.chain());
            tracing::info!(source, stage = self.stage, %error, "batch fenced, reading again");
            return;
        }
        if self.failures.is_power_of_two() {
            tracing::warn!(
                source = self.source,
                stage = self.stage,
                kind,
                code = self.error.code(),
                failures = self.failures,
                retry_in_ms = self.delay.as_millis(),
                error = %self.error.chain(),
                hint = self.error.hint(),
                "attempt failed, trying again"
            );
        }
    }
}

/// Leases ended before they were given back.
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
        counter!(LEASES_LOST, "source" => self.source.to_owned()).increment(self.count as u64);
        tracing::warn!(source = self.source, count = self.count, why = self.why, "leases lost");
    }
}

/// Changes were lost.
pub struct GapFound<'a> {
    /// The source.
    pub source: &'a str,
    /// Why.
    pub reason: &'static str,
    /// Where.
    pub partition: Option<&'a PartitionId>,
    /// Whether the source halts for it.
    pub halts: bool,
}

impl GapFound<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        counter!(GAPS, "source" => self.source.to_owned(), "reason" => self.reason).increment(1);
        tracing::error!(
            source = self.source,
            reason = self.reason,
            partition = self.partition.map(PartitionId::as_str),
            halts = self.halts,
            "changes were lost before they were read"
        );
    }
}

/// A source stopped and needs an operator.
pub struct Halted<'a> {
    /// The source.
    pub source: &'a str,
    /// Why, and where known what to do.
    pub reason: &'a str,
}

impl Halted<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        gauge!(HALTED, "source" => self.source.to_owned()).set(1.0);
        tracing::error!(source = self.source, reason = self.reason, "source halted");
    }
}

/// A partition's life: `acquired`, `drained` or `released`.
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
