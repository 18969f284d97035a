use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::model::{ChangeOp, EpochMillis, PartitionId, RecordCounts, RecordOutcome};
use crate::telemetry::exposition;
use crate::telemetry::metrics::Kind;
use crate::telemetry::tests::recorded;

#[test]
fn every_metric_of_the_table_is_emitted_and_shown_as_its_row_says() {
    let families = exposition::parse(&recorded(emit_all).render()).unwrap();
    let shown: BTreeSet<_> = families.keys().map(String::as_str).collect();
    assert_eq!(shown, metrics::TABLE.iter().map(|row| row.name).collect());
    for row in metrics::TABLE {
        let family = &families[row.name];
        let kind = match row.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert_eq!((&*family.kind, &*family.help), (kind, row.help), "{}", row.name);
        let labels: BTreeSet<_> = row.labels.iter().map(|label| label.name).collect();
        for sample in &family.samples {
            let given = sample.labels.keys().map(String::as_str).filter(|name| *name != "le");
            assert_eq!(given.collect::<BTreeSet<_>>(), labels, "{}", row.name);
        }
    }
}

/// Emits each event once.
fn emit_all() {
    let source = "santa";
    Started { version: "0.0.0", worker: "elf", sources: 1 }.emit();
    let mut records = RecordCounts::default();
    records.count(ChangeOp::Insert, RecordOutcome::Mapped);
    records.count(ChangeOp::Modify, RecordOutcome::Filtered);
    records.count(ChangeOp::Scan, RecordOutcome::Unmatched);
    records.count(ChangeOp::Remove, RecordOutcome::Rejected);
    BatchApplied {
        source,
        records: &records,
        tables: &[("children".into(), 3, 2, 1)],
        partitions: 1,
        took: Duration::from_millis(3),
        last_event_at: Some(EpochMillis(1_700_000_000_000)),
        now: EpochMillis(1_700_000_001_500),
        rejected: &[("type", 1)],
    }
    .emit();
    Freshness {
        source,
        synced_up_to: Some(EpochMillis(1_700_000_000_000)),
        last_poll_at: Some(EpochMillis(1_700_000_001_000)),
        retention_headroom: Duration::from_secs(86_400),
        shards: [("reading", 1), ("free", 2), ("waiting", 3), ("drained", 4)],
        dead_letters: 5,
        gaps: 6,
        verified: Some((7, EpochMillis(1_700_000_002_000))),
        halted: false,
    }
    .emit();
    AwsRequest { operation: "GetRecords", code: "ok" }.emit();
    let error = Error::new(ErrorKind::Throttled, "read");
    let delay = Duration::from_secs(1);
    Retry { source, stage: "read", error: &error, failures: 1, delay }.emit();
    LeasesLost { source, count: 2, why: "no renewal in time" }.emit();
    let partition = PartitionId::new("shardId-1");
    GapFound { source, reason: "trimmed", partition: Some(&partition), halts: true }.emit();
    Halted { source, reason: "a gap" }.emit();
    PartitionEvent { source, partition: &partition, what: "acquired" }.emit();
    MappingsDiffer { source, others: 1, warning: None }.emit();
    BackfillBegun { source, generation: 2 }.emit();
    GenerationChanged { source, generation: 2 }.emit();
    BackfillProgress { source, ratio: 0.5 }.emit();
    BackfillWaits { source, why: "a gap" }.emit();
    BackfillEnded { source, generation: 2, swept: 8 }.emit();
}
