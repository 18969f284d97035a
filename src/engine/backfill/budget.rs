//! A budget of read capacity, purely: how long to wait before the next page.
//!
//! The service reports a page's cost only after the read, so the bucket may go below zero; the next page
//! waits until it is refilled.

use std::time::Duration;

use tokio::time::Instant;

/// How many seconds of unused capacity may be spent at once: a page of 1 MB takes 256 units (one per 4 KB,
/// read consistently), and pages come unevenly.
const BURST_SECS: f64 = 1.0;

/// A token bucket of units a second; without a rate it never waits.
#[derive(Debug, Clone)]
pub struct RateBudget {
    units_per_sec: Option<f64>,
    left: f64,
    at: Instant,
}

impl RateBudget {
    /// A full bucket. `None` or a rate not above zero means no limit.
    #[must_use]
    pub fn new(units_per_sec: Option<f64>, now: Instant) -> Self {
        let units_per_sec = units_per_sec.filter(|rate| *rate > 0.0 && rate.is_finite());
        Self { units_per_sec, left: units_per_sec.unwrap_or(0.0) * BURST_SECS, at: now }
    }

    /// When the next page may be requested: now, or once the debt is paid.
    #[must_use]
    pub fn ready_at(&self, now: Instant) -> Instant {
        let Some(rate) = self.units_per_sec else { return now };
        let left = self.left_at(now, rate);
        if left < 0.0 { now + Duration::from_secs_f64(-left / rate) } else { now }
    }

    /// Takes the reported cost of a page.
    pub fn take(&mut self, units: f64, now: Instant) {
        self.refill(now);
        if self.units_per_sec.is_some() {
            self.left -= units.max(0.0);
        }
    }

    fn refill(&mut self, now: Instant) {
        let Some(rate) = self.units_per_sec else { return };
        self.left = self.left_at(now, rate);
        self.at = self.at.max(now);
    }

    fn left_at(&self, now: Instant, rate: f64) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed * rate).min(rate * BURST_SECS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let now = start();
        let mut budget = RateBudget::new(None, now);
        budget.take(1e9, now);
        assert_eq!(budget.ready_at(now), now);
        let mut zero = RateBudget::new(Some(0.0), now);
        zero.take(1e9, now);
        assert_eq!(zero.ready_at(now), now);
    }

    #[test]
    fn a_debt_is_waited_out_and_what_is_unused_is_kept_for_a_second_only() {
        let now = start();
        let mut budget = RateBudget::new(Some(100.0), now);
        budget.take(300.0, now);
        assert_eq!(budget.ready_at(now), now + Duration::from_secs(2));
        let later = now + Duration::from_secs(2);
        assert_eq!(budget.ready_at(later), later);
        let idle = later + Duration::from_secs(3600);
        budget.take(200.0, idle);
        assert_eq!(budget.ready_at(idle), idle + Duration::from_secs(1));
    }

    #[test]
    fn over_an_hour_the_rate_holds() {
        let mut now = start();
        let end = now + Duration::from_secs(3600);
        let mut budget = RateBudget::new(Some(50.0), now);
        let mut taken = 0.0;
        while now < end {
            now = budget.ready_at(now);
            budget.take(128.5, now);
            taken += 128.5;
        }
        assert!((179_000.0..=181_000.0).contains(&taken), "{taken}");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let now = start() + Duration::from_secs(10);
        let mut budget = RateBudget::new(Some(1.0), now);
        budget.take(2.0, now);
        let before = now - Duration::from_secs(5);
        assert!(budget.ready_at(before) > before);
        assert_eq!(budget.ready_at(now), now + Duration::from_secs(1));
    }
}
