//! Every metric, a row each: its name, what it tells, its labels, and the value at which its series start.
//!
//! Rules: prefix `dynaurora_`, base units, counters end in `_total`, timestamps rather than ages; no label
//! is a shard id, a key or an error's text. Description, first values and buckets come from the table, and
//! only the typed events of `events` emit.
#![expect(clippy::disallowed_macros, reason = "this is the one file that emits by a metric's name")]

use metrics::Unit::{Count, Seconds};
use metrics::{Counter, Gauge, Histogram, SharedString, Unit, counter, gauge, histogram};

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name in the exposition.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// The unit of its values, where it is told to the recorder.
    pub unit: Option<Unit>,
    /// What it tells, for people.
    pub help: &'static str,
    /// Its labels, in the order in which they are emitted.
    pub labels: &'static [Label],
    /// The value at which its series start: those with a source when the source starts, for each of its
    /// tables where that is a label, all others with the process. `None`: with their first event.
    pub start: Option<f64>,
}

/// How the values of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They are set.
    Gauge,
    /// They are counted by size: the upper bounds of the buckets.
    Histogram(&'static [f64]),
}

/// A label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All values that it can have; empty where they come from the config or from outside.
    pub values: &'static [&'static str],
}

pub(super) const SOURCE: Label = open("source");
pub(super) const TARGET_TABLE: Label = open("table");
pub(super) const VERSION: Label = open("version");
pub(super) const CODE: Label = open("code");
pub(super) const OP: Label = closed("op", &["insert", "modify", "remove", "scan"]);
pub(super) const ROW_OP: Label = closed("op", &["upsert", "delete"]);
pub(super) const OUTCOME: Label =
    closed("outcome", &["mapped", "filtered", "unmatched", "rejected"]);
pub(super) const REJECT_REASON: Label = closed(
    "reason",
    &["unmatched", "missing", "type", "format", "range", "nul", "limit", "refused"],
);
pub(super) const STATE: Label = closed("state", &["reading", "free", "waiting", "drained"]);
pub(super) const GAP_REASON: Label =
    closed("reason", &["trimmed", "vanished", "stream_changed", "table_changed", "unpolled"]);
pub(super) const OPERATION: Label =
    closed("operation", &["DescribeTable", "DescribeStream", "GetRecords"]);
pub(super) const STAGE: Label = closed("stage", &["discover", "read", "ledger", "apply", "load"]);
pub(super) const KIND: Label = closed(
    "kind",
    &[
        "usage",
        "config",
        "unreachable",
        "throttled",
        "unavailable",
        "denied",
        "expired",
        "trimmed",
        "gone",
        "fenced",
        "not_enrolled",
        "conflict",
        "capacity",
        "read_only",
        "data",
        "schema",
        "unknown",
    ],
);

/// From a local commit to a long outage.
const DELAY_SECONDS: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0];
/// From a commit on a local disk to one that waits for others.
const COMMIT_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// From a trickle to the largest batch.
const ROWS: &[f64] = &[1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0];

/// Declares a static for each row, whose help text is its comment, and the table of them all.
macro_rules! table {
    ($(#[doc = $help:literal] $id:ident = $row:expr;)*) => {
        $(pub(super) static $id: Row = Row { help: $help.trim_ascii(), ..$row };)*

        /// All metrics.
        pub static TABLE: &[&Row] = &[$(&$id),*];
    };
}

table! {
    /// Always 1; the labels have the version.
    BUILD_INFO = gauge("dynaurora_build_info", &[VERSION]);
    /// Every change up to this time is in the target.
    SYNCED_UP_TO = gauge("dynaurora_synced_up_to_timestamp_seconds", &[SOURCE]).of(Seconds);
    /// Time of the newest applied change.
    LAST_EVENT = gauge("dynaurora_last_event_timestamp_seconds", &[SOURCE]).of(Seconds);
    /// Time of the oldest of the shards' last polls.
    LAST_POLL = gauge("dynaurora_last_poll_timestamp_seconds", &[SOURCE]).of(Seconds);
    /// 24 h minus the age of the oldest unread change: the time left before data is lost.
    RETENTION_HEADROOM = gauge("dynaurora_retention_headroom_seconds", &[SOURCE]).of(Seconds);
    /// From the newest change of a batch to its commit; the stream's times are whole seconds.
    REPLICATION_DELAY =
        histogram("dynaurora_replication_delay_seconds", &[SOURCE], DELAY_SECONDS).of(Seconds);
    /// Stream records and scanned items by outcome.
    RECORDS = counter("dynaurora_records_total", &[SOURCE, OP, OUTCOME]).starts_at(0.0);
    /// Rows written by table and operation.
    ROWS_WRITTEN =
        counter("dynaurora_rows_written_total", &[SOURCE, TARGET_TABLE, ROW_OP]).starts_at(0.0);
    /// Row changes that needed no write, because a newer change of the same key was there.
    ROWS_SUPERSEDED =
        counter("dynaurora_rows_superseded_total", &[SOURCE, TARGET_TABLE]).starts_at(0.0);
    /// A batch's transaction, from begin to commit.
    COMMIT_DURATION =
        histogram("dynaurora_commit_duration_seconds", &[SOURCE], COMMIT_SECONDS).of(Seconds);
    /// Rows in a batch.
    BATCH_ROWS = histogram("dynaurora_batch_rows", &[SOURCE], ROWS).of(Count);
    /// Open dead letters.
    DEAD_LETTERS = gauge("dynaurora_dead_letters", &[SOURCE]).starts_at(0.0);
    /// Records that became dead letters, by reason.
    REJECTED = counter("dynaurora_rejected_records_total", &[SOURCE, REJECT_REASON]);
    /// Items that no entity's key template matches.
    UNMATCHED = counter("dynaurora_unmatched_items_total", &[SOURCE]).starts_at(0.0);
    /// Partitions of the stream by state.
    SHARDS = gauge("dynaurora_shards", &[SOURCE, STATE]);
    /// Leases that ended before they were released.
    LEASES_LOST = counter("dynaurora_leases_lost_total", &[SOURCE]).starts_at(0.0);
    /// Intervals of lost changes, by reason.
    GAPS = counter("dynaurora_gaps_total", &[SOURCE, GAP_REASON]);
    /// Gaps that are not repaired yet.
    GAPS_OPEN = gauge("dynaurora_gaps_open", &[SOURCE]).starts_at(0.0);
    /// Rows that the last verification left wrong.
    VERIFY_MISMATCHED = gauge("dynaurora_verify_mismatched_rows", &[SOURCE]);
    /// When the last verification ended.
    VERIFY_AT = gauge("dynaurora_verify_timestamp_seconds", &[SOURCE]);
    /// Requests to AWS by operation and answer.
    AWS_REQUESTS = counter("dynaurora_aws_requests_total", &[OPERATION, CODE]);
    /// Failed attempts that are retried, by stage and kind.
    RETRIES = counter("dynaurora_retries_total", &[SOURCE, STAGE, KIND]);
    /// 1 while the source is halted and needs an operator.
    HALTED = gauge("dynaurora_halted", &[SOURCE]).starts_at(0.0);
    /// Other living workers with a different mapping; above 0 during a rolling deployment.
    MAPPINGS_DIFFER = gauge("dynaurora_workers_of_another_mapping", &[SOURCE]).starts_at(0.0);
    /// Progress of the table's active backfill, from 0 to 1; 1 if none is active.
    BACKFILL_PROGRESS = gauge("dynaurora_backfill_progress_ratio", &[SOURCE]).starts_at(1.0);
    /// Rows that a backfill did not find and deleted at its end.
    ROWS_SWEPT = counter("dynaurora_rows_swept_total", &[SOURCE]).starts_at(0.0);
}

/// Describes every metric, when the recorder is installed, and starts those that are no source's.
pub fn describe() {
    for row in TABLE {
        metrics::with_recorder(|recorder| {
            let (name, help) = (row.name.into(), row.help.into());
            match row.kind {
                Kind::Counter => recorder.describe_counter(name, row.unit, help),
                Kind::Gauge => recorder.describe_gauge(name, row.unit, help),
                Kind::Histogram(_) => recorder.describe_histogram(name, row.unit, help),
            }
        });
    }
    TABLE.iter().filter(|row| !row.labels.contains(&SOURCE)).for_each(|row| row.begin("", &[]));
}

/// Starts the series of a source, so that a first increase is seen.
pub fn start(source: &str, tables: &[String]) {
    for row in TABLE.iter().filter(|row| row.labels.contains(&SOURCE)) {
        row.begin(source, tables);
    }
}

/// The label that nearly every metric has.
pub(super) fn source(name: &str) -> metrics::Label {
    SOURCE.is(name.to_owned())
}

impl Label {
    /// The label with a value.
    pub(super) fn is(&self, value: impl Into<SharedString>) -> metrics::Label {
        metrics::Label::new(self.name, value)
    }
}

impl Row {
    /// The counter with these labels.
    pub(super) fn counter<const N: usize>(&self, labels: [metrics::Label; N]) -> Counter {
        debug_assert!(self.kind == Kind::Counter, "{} is no counter", self.name);
        counter!(self.name, self.checked(labels))
    }

    /// The gauge with these labels.
    pub(super) fn gauge<const N: usize>(&self, labels: [metrics::Label; N]) -> Gauge {
        debug_assert!(self.kind == Kind::Gauge, "{} is no gauge", self.name);
        gauge!(self.name, self.checked(labels))
    }

    /// The histogram with these labels.
    pub(super) fn histogram<const N: usize>(&self, labels: [metrics::Label; N]) -> Histogram {
        debug_assert!(matches!(self.kind, Kind::Histogram(_)), "{} is no histogram", self.name);
        histogram!(self.name, self.checked(labels))
    }

    fn checked<const N: usize>(&self, labels: [metrics::Label; N]) -> Vec<metrics::Label> {
        debug_assert!(self.has(&labels), "{} has other labels than {labels:?}", self.name);
        labels.into()
    }

    /// Whether these are its labels, each with a value that it can have.
    fn has(&self, labels: &[metrics::Label]) -> bool {
        let fits = |(own, given): (&Label, &metrics::Label)| {
            own.name == given.key()
                && (own.values.is_empty() || own.values.contains(&given.value()))
        };
        self.labels.len() == labels.len() && self.labels.iter().zip(labels).all(fits)
    }

    /// Starts each series that the values of its labels give, where it has a first value.
    fn begin(&self, source: &str, tables: &[String]) {
        let Some(value) = self.start else { return };
        let mut series = vec![Vec::new()];
        for label in self.labels {
            let values: Vec<metrics::Label> = match *label {
                SOURCE => vec![label.is(source.to_owned())],
                TARGET_TABLE => tables.iter().map(|table| label.is(table.clone())).collect(),
                _ => label.values.iter().map(|value| label.is(*value)).collect(),
            };
            let with = |known: &Vec<_>, value: &metrics::Label| {
                known.iter().chain([value]).cloned().collect::<Vec<_>>()
            };
            series = (series.iter())
                .flat_map(|known| values.iter().map(move |value| with(known, value)))
                .collect();
        }
        for labels in series {
            match self.kind {
                Kind::Counter => counter!(self.name, labels).absolute(0),
                Kind::Gauge => gauge!(self.name, labels).set(value),
                Kind::Histogram(_) => {}
            }
        }
    }

    /// The same with a unit.
    const fn of(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }

    /// The same with a first value for its series.
    const fn starts_at(self, value: f64) -> Self {
        match self.kind {
            Kind::Counter => assert!(value == 0.0, "a counter starts at zero"),
            Kind::Gauge => {}
            Kind::Histogram(_) => panic!("a histogram starts empty"),
        }
        Self { start: Some(value), ..self }
    }
}

const fn open(name: &'static str) -> Label {
    Label { name, values: &[] }
}

const fn closed(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values }
}

const fn counter(name: &'static str, labels: &'static [Label]) -> Row {
    Row { name, kind: Kind::Counter, unit: None, help: "", labels, start: None }
}

const fn gauge(name: &'static str, labels: &'static [Label]) -> Row {
    Row { kind: Kind::Gauge, ..counter(name, labels) }
}

const fn histogram(name: &'static str, labels: &'static [Label], buckets: &'static [f64]) -> Row {
    Row { kind: Kind::Histogram(buckets), ..counter(name, labels) }
}

#[cfg(test)]
mod tests;
