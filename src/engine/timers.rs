//! The one table of all that a worker's loop waits for. It answers both "what is due" and "when next", so
//! that the loop can neither sleep past what it should start nor wake for nothing.

use std::iter;

use tokio::time::Instant;

use super::jobs::Job;
use super::lane::LaneId;

/// What the loop waits for; of those due at once the first one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The leases held were not renewed in time.
    LeaseDeadline,
    /// A recurring job.
    Job(Job),
    /// Leases that were planned away can be given back.
    GiveBack,
    /// A lane's batch can be applied.
    Apply(LaneId),
    /// A lane's next partition can be read.
    Read(LaneId),
}

/// When each is due; nothing is while it has to wait for something else than time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Timers([Option<Instant>; Timer::COUNT]);

impl Timer {
    const COUNT: usize = 2 + Job::COUNT + 2 * LaneId::ALL.len();

    /// All of them, in order.
    fn all() -> impl Iterator<Item = Self> {
        let lanes = LaneId::ALL.into_iter().flat_map(|id| [Self::Apply(id), Self::Read(id)]);
        let jobs = Job::ALL.into_iter().map(Self::Job);
        iter::once(Self::LeaseDeadline).chain(jobs).chain([Self::GiveBack]).chain(lanes)
    }

    fn slot(self) -> usize {
        match self {
            Self::LeaseDeadline => 0,
            Self::Job(job) => 1 + job as usize,
            Self::GiveBack => 1 + Job::COUNT,
            Self::Apply(lane) => 2 + Job::COUNT + 2 * lane as usize,
            Self::Read(lane) => 3 + Job::COUNT + 2 * lane as usize,
        }
    }
}

impl Timers {
    /// It is due then.
    pub(super) fn set(&mut self, timer: Timer, due: Instant) {
        self.0[timer.slot()] = Some(due);
    }

    /// When the first one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Those that are due now.
    pub(super) fn expired(&self, now: Instant) -> impl Iterator<Item = Timer> {
        let due = move |timer: &Timer| self.0[timer.slot()].is_some_and(|due| due <= now);
        Timer::all().filter(due)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_timer_has_a_place_of_its_own() {
        for (place, timer) in Timer::all().enumerate() {
            assert_eq!(timer.slot(), place, "{timer:?}");
        }
        assert_eq!(Timer::all().count(), Timer::COUNT);
    }

    #[test]
    fn what_is_due_comes_in_order_and_not_before_its_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut timers = Timers::default();
        assert_eq!((timers.next_due(), timers.expired(later).next()), (None, None));
        timers.set(Timer::Read(LaneId::Tail), now);
        timers.set(Timer::LeaseDeadline, later);
        assert_eq!(timers.next_due(), Some(now));
        assert_eq!(timers.expired(now).collect::<Vec<_>>(), [Timer::Read(LaneId::Tail)]);
        let both = [Timer::LeaseDeadline, Timer::Read(LaneId::Tail)];
        assert_eq!(timers.expired(later).collect::<Vec<_>>(), both);
    }
}
