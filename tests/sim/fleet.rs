//! Large fleets over large streams: everything shared evenly, and the service asked no more than it allows.

use std::time::Duration;

use super::driver;
use super::plan::Plan;

#[test]
fn a_fleet_shares_five_thousand_shards() {
    shares(5, 5_000, Duration::from_secs(60));
}

#[test]
fn a_fleet_of_twenty_asks_for_listings_no_more_than_one_of_five() {
    shares(20, 300, Duration::from_secs(120));
}

/// I11: each worker ends up with its share; how often `DescribeStream` was called the driver judges.
fn shares(workers: usize, shards: usize, chaos: Duration) {
    let verdict = driver::run(Plan::fleet(workers, shards, chaos));
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations.first());
    println!(
        "{shards} shards, {workers} workers, {:?}; in step {:?} and balanced {:?} after the last \
         fault, DescribeStream {:?} times a second at most",
        verdict.faults, verdict.lag, verdict.balanced, verdict.listings_per_sec_max
    );
    assert!(verdict.balanced.is_some());
}
