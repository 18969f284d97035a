//! Planted faults: the checker must find a broken contract for what it is, within a few seeds.

use super::checker::Invariant;
use super::driver;
use super::plan::Plan;
use super::store::Sabotage;

/// Seeds until a planted fault must have shown.
const SEEDS_MAX: u64 = 120;

#[test]
fn i2_i4_a_sink_without_fence_is_found() {
    found(Sabotage::NoFence, &[Invariant::Together, Invariant::Fence]);
}

#[test]
fn i2_a_sink_that_moves_positions_alone_is_found() {
    found(Sabotage::PositionsOnly, &[Invariant::Together]);
}

#[test]
fn i1_i3_a_ledger_that_shows_parents_as_drained_is_found() {
    found(Sabotage::ParentsDrained, &[Invariant::Order, Invariant::Lineage]);
}

#[test]
fn i5_a_sink_that_forgets_rejects_is_found() {
    found(Sabotage::NoDeadLetters, &[Invariant::Books]);
}

#[test]
fn i6_a_ledger_that_forgets_gaps_is_found() {
    found(Sabotage::NoGaps, &[Invariant::Gaps]);
}

#[test]
fn i12_a_ledger_that_covers_what_nobody_speaks_for_is_found() {
    found(Sabotage::NoUncover, &[Invariant::Fresh]);
}

#[test]
fn i9_a_sink_without_tombstones_is_found() {
    let expected = [Invariant::Resurrection, Invariant::Convergence];
    found_among(|seed| Plan::of(seed).with_loads(), Sabotage::NoTombstones, &expected);
}

#[test]
fn i10_a_sweep_that_spares_no_dead_letter_is_found() {
    found_among(|seed| Plan::of(seed).with_loads(), Sabotage::SparesNothing, &[Invariant::Sweep]);
}

#[test]
fn i14_a_load_that_settles_no_overtaken_letter_is_found() {
    // Mostly a later change of the same item hides it: it shows where the last one came before the page.
    let expected = [Invariant::Letters];
    found_among(|seed| Plan::of(seed).with_slow_loads(), Sabotage::SettlesNothing, &expected);
}

#[test]
fn i1_a_sink_that_writes_over_newer_rows_is_found() {
    // Along the stream alone the fence keeps older versions away; beside a load only the guard does.
    let expected = [Invariant::Order, Invariant::Convergence];
    found_among(|seed| Plan::of(seed).with_loads(), Sabotage::NoGuard, &expected);
}

#[test]
fn i1_a_ledger_that_begins_anew_below_the_rows_is_found() {
    let expected = [Invariant::Order];
    found_among(|seed| Plan::of(seed).with_lost_ledgers(), Sabotage::BeginsAtOne, &expected);
}

#[test]
fn i7_a_ledger_that_loads_an_export_into_a_later_stream_is_found() {
    let expected = [Invariant::Convergence];
    found_among(|seed| Plan::of(seed).with_exports(), Sabotage::TakesAnyStream, &expected);
}

#[test]
fn i8_a_sink_whose_ends_take_any_items_row_is_found() {
    found(Sabotage::EndsAnybodys, &[Invariant::KillSafe]);
}

#[test]
fn i8_a_sink_that_forgets_what_it_hides_is_found() {
    found(Sabotage::HidesNothing, &[Invariant::KillSafe]);
}

#[test]
fn i8_a_rejected_record_that_leaves_its_old_row_is_found() {
    found(Sabotage::RejectsStay, &[Invariant::KillSafe]);
}

#[test]
fn i1_a_repair_that_raises_versions_is_found() {
    let expected = [Invariant::Order, Invariant::Convergence];
    found_among(|seed| Plan::of(seed).with_damage(), Sabotage::RepairsRaise, &expected);
}

#[test]
fn i9_a_repair_without_its_lock_is_found() {
    let expected = [Invariant::Resurrection];
    found_among(|seed| Plan::of(seed).with_damage(), Sabotage::RepairsUnlocked, &expected);
}

#[test]
fn i15_a_history_that_takes_what_its_table_does_not_is_found() {
    found_among(|seed| Plan::of(seed).with_loads(), Sabotage::KeepsAll, &[Invariant::History]);
}

#[test]
fn i15_a_history_whose_times_are_as_told_is_found() {
    found_among(|seed| Plan::of(seed).with_loads(), Sabotage::TimesAsTold, &[Invariant::History]);
}

#[test]
fn i1_a_changed_stream_that_is_accepted_in_its_old_generation_is_found() {
    let expected = [Invariant::Order, Invariant::KillSafe, Invariant::Fence];
    let plan = |seed| Plan::of(seed).with_accepted_streams();
    found_among(plan, Sabotage::AcceptsInPlace, &expected);
}

#[test]
fn i7_i12_a_server_that_lost_commits_and_passes_for_the_old_one_is_found() {
    let expected = [Invariant::Convergence, Invariant::Fresh];
    found_among(|seed| Plan::of(seed).with_crashes(), Sabotage::NoIncarnation, &expected);
}

fn found(sabotage: Sabotage, expected: &[Invariant]) {
    found_among(Plan::of, sabotage, expected);
}

fn found_among(plan: impl Fn(u64) -> Plan, sabotage: Sabotage, expected: &[Invariant]) {
    for seed in 1..=SEEDS_MAX {
        let verdict = driver::run(plan(seed).sabotaged(sabotage));
        // Not every seed shows the matching one: a run that stands still shows nothing but that.
        if verdict.violations.iter().any(|broken| expected.contains(&broken.invariant)) {
            return;
        }
    }
    panic!("{sabotage:?} was not found in {SEEDS_MAX} seeds");
}
