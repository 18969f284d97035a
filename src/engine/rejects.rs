//! Tells a wrong mapping from bad data, purely: a few rejects are bad data; if a large share of all records
//! is rejected, the mapping is wrong and must not turn a stream into dead letters.

use tokio::time::Instant;

use super::lane::LaneId;

/// Records after which the share is checked: fewer say little.
const WINDOW_RECORDS: u64 = 1_000;

/// Counts records and rejects over windows of at least a thousand.
#[derive(Debug)]
pub struct RejectShare {
    share_max: f64,
    records: u64,
    rejected: u64,
}

impl RejectShare {
    /// Allows this share of rejects, from 0 to 1.
    #[must_use]
    pub fn new(share_max: f64) -> Self {
        Self { share_max, records: 0, rejected: 0 }
    }

    /// Counts a batch. At the end of a window returns the share, if it is too large.
    #[expect(clippy::cast_precision_loss, reason = "a window holds a few thousand records")]
    pub fn note(&mut self, records: u64, rejected: u64) -> Option<f64> {
        self.records += records;
        self.rejected += rejected;
        if self.records < WINDOW_RECORDS {
            return None;
        }
        let share = self.rejected as f64 / self.records as f64;
        (self.records, self.rejected) = (0, 0);
        (share > self.share_max).then_some(share)
    }
}

/// What one worker knows of rejects: their share, and whether dead letters may be open.
#[derive(Debug)]
pub(super) struct Rejects {
    share: RejectShare,
    may_be_open: bool,
    /// The lanes of which a batch with rejects is under way: no view shows them yet.
    under_way: [bool; 2],
    /// When dead letters may last have come that an older view does not show.
    last_at: Option<Instant>,
}

impl Rejects {
    pub(super) fn new(share_max: f64) -> Self {
        let (share, under_way) = (RejectShare::new(share_max), [false; 2]);
        Self { share, may_be_open: false, under_way, last_at: None }
    }

    /// Whether dead letters may be open, so that the keys of the records that follow must be known.
    pub(super) fn may_be_open(&self) -> bool {
        self.may_be_open
    }

    /// A batch with rejects goes to the target.
    pub(super) fn sent(&mut self, lane: LaneId) {
        self.may_be_open = true;
        self.under_way[lane as usize] = true;
    }

    /// The lane's batch has ended, well or not.
    pub(super) fn ended(&mut self, lane: LaneId, now: Instant) {
        if std::mem::take(&mut self.under_way[lane as usize]) {
            self.may_have_come(now);
        }
    }

    /// A batch was applied. At the end of a window: the share, where it is too large.
    pub(super) fn applied(&mut self, records: u64, rejected: u64, now: Instant) -> Option<f64> {
        if rejected > 0 {
            self.may_have_come(now);
        }
        self.share.note(records, rejected)
    }

    /// Partitions are taken up, and whoever read them before may have left dead letters.
    pub(super) fn took_over(&mut self, now: Instant) {
        self.may_have_come(now);
    }

    /// A view that was asked for at this time shows so many open dead letters.
    pub(super) fn seen(&mut self, open: u64, sent_at: Instant) {
        let unseen = self.last_at.is_some_and(|last| last >= sent_at);
        self.may_be_open = open > 0 || unseen || self.under_way.contains(&true);
    }

    fn may_have_come(&mut self, now: Instant) {
        self.may_be_open = true;
        self.last_at = Some(now);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_large_share_over_a_whole_window_is_told_and_a_burst_is_not() {
        let mut share = RejectShare::new(0.5);
        assert_eq!(share.note(600, 600), None);
        assert_eq!(share.note(600, 0), None);
        assert_eq!(share.note(900, 900), None);
        assert_eq!(share.note(100, 0), Some(0.9));
        assert_eq!(share.note(2_000, 1_000), None);
    }

    #[test]
    fn letters_may_be_open_until_a_view_that_is_late_enough_shows_none() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut rejects = Rejects::new(1.0);
        assert!(!rejects.may_be_open());
        rejects.sent(LaneId::Tail);
        rejects.seen(0, at(1));
        assert!(rejects.may_be_open(), "the batch is still under way");
        rejects.ended(LaneId::Tail, at(2));
        rejects.seen(0, at(1));
        assert!(rejects.may_be_open(), "the view was asked for before");
        rejects.seen(0, at(3));
        assert!(!rejects.may_be_open());
        rejects.ended(LaneId::Tail, at(4));
        assert!(!rejects.may_be_open(), "that batch had none");
        rejects.took_over(at(5));
        rejects.seen(0, at(5));
        assert!(rejects.may_be_open(), "another worker may have left some");
        rejects.seen(2, at(6));
        assert!(rejects.may_be_open());
        rejects.seen(0, at(7));
        assert!(!rejects.may_be_open());
        rejects.applied(10, 1, at(8));
        rejects.seen(0, at(8));
        assert!(rejects.may_be_open(), "the target refused one");
    }
}
