use std::collections::BTreeSet;

use super::*;
use crate::error::ErrorKind;
use crate::model::{RecordCounts, RejectReason};
use crate::telemetry::exposition;
use crate::telemetry::tests::recorded;

#[test]
fn the_table_keeps_its_rules() {
    let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), TABLE.len(), "a name stands twice");
    for row in TABLE {
        let name = row.name;
        assert!(name.starts_with("dynaurora_"), "{name}");
        assert_eq!(row.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert!(!row.help.is_empty(), "{name}");
        if let Kind::Histogram(buckets) = row.kind {
            assert!(!buckets.is_empty() && buckets.is_sorted(), "{name}");
        }
        let of_source = row.labels.contains(&SOURCE);
        assert!(of_source || !row.labels.contains(&TARGET_TABLE), "{name}: whose table is it?");
        // What comes from outside is not known at the start.
        let known = |label: &&Label| {
            **label == SOURCE || **label == TARGET_TABLE || !label.values.is_empty()
        };
        assert!(row.start.is_none() || row.labels.iter().all(|label| known(&label)), "{name}");
    }
}

#[test]
fn a_source_starts_with_these_series_and_no_others() {
    let tables = ["children".to_owned(), "letters".to_owned()];
    let text = recorded(|| start("santa", &tables)).render();
    let families = exposition::parse(&text).unwrap();
    let mut series: Vec<_> =
        families.iter().map(|(name, family)| (&**name, family.samples.len())).collect();
    series.sort_unstable();
    let expected = [
        ("dynaurora_backfill_progress_ratio", 1),
        ("dynaurora_dead_letters", 1),
        ("dynaurora_gaps_open", 1),
        ("dynaurora_halted", 1),
        ("dynaurora_leases_lost_total", 1),
        ("dynaurora_records_total", 16),
        ("dynaurora_rows_superseded_total", 2),
        ("dynaurora_rows_swept_total", 1),
        ("dynaurora_rows_written_total", 4),
        ("dynaurora_unmatched_items_total", 1),
        ("dynaurora_workers_of_another_mapping", 1),
    ];
    assert_eq!(series, expected);
    for (name, family) in &families {
        let first = if name == "dynaurora_backfill_progress_ratio" { 1.0 } else { 0.0 };
        for sample in &family.samples {
            assert!((sample.value - first).abs() < f64::EPSILON, "{name}: {}", sample.value);
            assert_eq!(sample.labels["source"], "santa", "{name}");
        }
    }
}

#[test]
fn series_without_a_source_start_for_each_value_of_their_labels() {
    let row = counter("dynaurora_sleighs_total", &[ROW_OP]).starts_at(0.0);
    let families = exposition::parse(&recorded(|| row.begin("", &[])).render()).unwrap();
    let ops: Vec<_> =
        families[row.name].samples.iter().map(|sample| &*sample.labels["op"]).collect();
    assert_eq!(BTreeSet::from_iter(ops), BTreeSet::from(["upsert", "delete"]));
}

#[test]
fn labels_that_a_row_does_not_have_are_noticed() {
    let santa = || source("santa");
    assert!(ROWS_WRITTEN.has(&[santa(), TARGET_TABLE.is("letters"), ROW_OP.is("upsert")]));
    assert!(!ROWS_WRITTEN.has(&[santa(), ROW_OP.is("upsert"), TARGET_TABLE.is("letters")]));
    assert!(!ROWS_WRITTEN.has(&[santa(), TARGET_TABLE.is("letters")]));
    assert!(!ROWS_WRITTEN.has(&[santa(), TARGET_TABLE.is("letters"), ROW_OP.is("scan")]));
    assert!(!HALTED.has(&[]));
    assert!(!HALTED.has(&[VERSION.is("1")]));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "dynaurora_halted has other labels than")]
fn a_debug_build_refuses_labels_that_a_row_does_not_have() {
    HALTED.gauge([VERSION.is("1")]).set(1.0);
}

#[test]
fn labels_have_the_values_that_the_vocabulary_knows() {
    let each: Vec<_> = RecordCounts::default().each().collect();
    let set = |label: Label| BTreeSet::from_iter(label.values.iter().copied());
    assert_eq!(set(OP), each.iter().map(|(op, _, _)| op.label()).collect());
    assert_eq!(set(OUTCOME), each.iter().map(|(_, outcome, _)| outcome.label()).collect());
    let reasons = [
        RejectReason::Unmatched,
        RejectReason::Missing,
        RejectReason::Type,
        RejectReason::Format,
        RejectReason::Range,
        RejectReason::Nul,
        RejectReason::Limit,
        RejectReason::Refused,
    ];
    assert_eq!(set(REJECT_REASON), reasons.map(RejectReason::label).into());
    let kinds = [
        ErrorKind::Usage,
        ErrorKind::Config,
        ErrorKind::Unreachable,
        ErrorKind::Throttled,
        ErrorKind::Unavailable,
        ErrorKind::Denied,
        ErrorKind::Expired,
        ErrorKind::Trimmed,
        ErrorKind::Gone,
        ErrorKind::Fenced,
        ErrorKind::NotEnrolled,
        ErrorKind::Conflict,
        ErrorKind::Capacity,
        ErrorKind::ReadOnly,
        ErrorKind::Data,
        ErrorKind::Schema,
        ErrorKind::Unknown,
    ];
    assert_eq!(set(KIND), kinds.map(ErrorKind::label).into());
}
