//! The jobs that come again and again, in one list: when each runs, and what follows from its end.
//!
//! Another one is a variant of [`Job`] with its row, and the function that does it (`worker/recurring.rs`).

use std::time::Duration;

use tokio::time::Instant;

use super::backfill::Step;
use super::phase::Phase;
use super::retry::Stage;

/// How often the state is published at least, for readiness and the watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How often shards are listed while a drained shard has no known child: its children may appear late.
const CHILDLESS_DISCOVERY: Duration = Duration::from_secs(5);
/// How often a worker publishes: queries that wait for a caught-up shard wait this long plus the margin.
const PUBLICATION_EVERY: Duration = Duration::from_secs(1);
/// Renewals per lease time: two may fail before the lease is given up at two thirds.
const RENEWALS_PER_LEASE: u32 = 3;

/// The jobs, and `ALL` with every one of them: a job cannot be in the one and not in the other.
macro_rules! jobs {
    ($($(#[$doc:meta])* $job:ident,)*) => {
        /// What is done again and again, never twice at once; of those due at once the first one first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Job {
            $($(#[$doc])* $job,)*
        }

        impl Job {
            /// All of them, in the order of their variants.
            pub(super) const ALL: [Self; Self::COUNT] = [$(Self::$job),*];

            /// How many jobs there are.
            pub(super) const COUNT: usize = [$(stringify!($job)),*].len();
        }
    };
}

jobs! {
    /// The state is told to this process.
    Status,
    /// The source is asked what its stream is, and for its shards.
    Discovery,
    /// The leases are renewed, and the ledger is looked at.
    Upkeep,
    /// The ledger is told how far this worker is.
    Publication,
    /// A backfill is begun, or ended.
    BackfillStep,
}

/// How a job is done.
pub(super) struct Row {
    /// Under which conditions it may start.
    pub(super) when: fn(&Conditions<'_>) -> bool,
    /// Whether it waits for the end of a pause in which nothing is read and applied.
    pub(super) waits: bool,
    /// How long until it is due again.
    pub(super) every: fn(&Rhythm) -> Duration,
    /// From when on that counts.
    pub(super) counted: Counted,
    /// The stage to which its failures belong; `None` where it cannot fail.
    pub(super) stage: Option<Stage>,
    /// Whether its success shows that all of the stage works again.
    pub(super) proves: bool,
    /// Whether a failure delays it no longer than a success does.
    pub(super) keeps_pace: bool,
}

/// From when on a job's rhythm counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// From its start.
    FromStart,
    /// From its answer.
    FromAnswer,
}

/// What must be known of a worker to tell which jobs may start.
#[derive(Debug)]
pub(super) struct Conditions<'a> {
    pub(super) phase: &'a Phase,
    /// Whether the ledger was looked at, and so knows the worker.
    pub(super) seen: bool,
    /// What comes next of a backfill.
    pub(super) step: Step,
}

/// What the jobs' rhythms depend on.
#[derive(Debug)]
pub(super) struct Rhythm {
    pub(super) lease_ttl: Duration,
    pub(super) discovery_interval: Duration,
    /// Whether a drained shard has no known child.
    pub(super) childless: bool,
}

impl Rhythm {
    fn renewals(&self) -> Duration {
        self.lease_ttl / RENEWALS_PER_LEASE
    }
}

impl Job {
    /// The job's row: this is the list.
    pub(super) fn row(self) -> Row {
        match self {
            Self::Status => Row {
                when: |_| true,
                waits: false,
                every: |_| STATUS_EVERY,
                counted: Counted::FromStart,
                stage: None,
                proves: false,
                keeps_pace: false,
            },
            Self::Discovery => Row {
                when: |worker| !worker.phase.is_draining(),
                waits: false,
                every: |rhythm| match rhythm.childless {
                    true => CHILDLESS_DISCOVERY,
                    false => rhythm.discovery_interval,
                },
                counted: Counted::FromAnswer,
                stage: Some(Stage::Discover),
                proves: true,
                keeps_pace: false,
            },
            Self::Upkeep => Row {
                when: |worker| worker.phase.stream().is_some(),
                waits: false,
                every: Rhythm::renewals,
                counted: Counted::FromAnswer,
                stage: Some(Stage::Ledger),
                proves: true,
                keeps_pace: true,
            },
            // One row of the ledger: that it was written says little of all the others.
            Self::Publication => Row {
                when: |worker| worker.phase.stream().is_some() && worker.seen,
                waits: false,
                every: |_| PUBLICATION_EVERY,
                counted: Counted::FromStart,
                stage: Some(Stage::Ledger),
                proves: false,
                keeps_pace: false,
            },
            // The ledger's next view shows the step; until then the old one asks for it again.
            Self::BackfillStep => Row {
                when: |worker| worker.phase.reads() && worker.step != Step::Rest,
                waits: true,
                every: Rhythm::renewals,
                counted: Counted::FromAnswer,
                stage: Some(Stage::Backfill),
                proves: true,
                keeps_pace: false,
            },
        }
    }
}

/// How one job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle { due: Instant },
    Running { since: Instant },
}

/// How one job stands, and how often it failed in a row.
#[derive(Debug, Clone, Copy)]
struct Recurring {
    state: State,
    failures: u32,
}

/// How all jobs stand.
#[derive(Debug, Clone)]
pub(super) struct Jobs([Recurring; Job::COUNT]);

impl Jobs {
    /// All of them are due.
    pub(super) fn new(now: Instant) -> Self {
        Self([Recurring { state: State::Idle { due: now }, failures: 0 }; Job::COUNT])
    }

    /// When the job is due; `None` while it runs.
    pub(super) fn due(&self, job: Job) -> Option<Instant> {
        match self.0[job as usize].state {
            State::Idle { due } => Some(due),
            State::Running { .. } => None,
        }
    }

    /// Has an idle job become due then. While it runs its own end says when.
    pub(super) fn due_at(&mut self, job: Job, at: Instant) {
        if let State::Idle { due } = &mut self.0[job as usize].state {
            *due = at;
        }
    }

    /// It starts.
    pub(super) fn start(&mut self, job: Job, now: Instant) {
        let state = &mut self.0[job as usize].state;
        debug_assert!(matches!(state, State::Idle { .. }), "{job:?} started twice");
        *state = State::Running { since: now };
    }

    /// It succeeded: it is due again in its rhythm.
    pub(super) fn succeeded(&mut self, job: Job, now: Instant, rhythm: &Rhythm) {
        let Row { every, counted, .. } = job.row();
        let own = &mut self.0[job as usize];
        let start = match (own.state, counted) {
            (State::Running { since }, Counted::FromStart) => since,
            (state, _) => {
                debug_assert!(matches!(state, State::Running { .. }), "{job:?} was not started");
                now
            }
        };
        *own = Recurring { state: State::Idle { due: start + every(rhythm) }, failures: 0 };
    }

    /// It failed, or what belongs to it did. How often it did so in a row.
    pub(super) fn failed(&mut self, job: Job) -> u32 {
        let failures = &mut self.0[job as usize].failures;
        *failures = failures.saturating_add(1);
        *failures
    }

    /// It failed and is due again after this delay.
    pub(super) fn delay(&mut self, job: Job, now: Instant, delay: Duration, rhythm: &Rhythm) {
        let Row { every, keeps_pace, .. } = job.row();
        let state = &mut self.0[job as usize].state;
        debug_assert!(matches!(state, State::Running { .. }), "{job:?} was not started");
        let delay = if keeps_pace { delay.min(every(rhythm)) } else { delay };
        *state = State::Idle { due: now + delay };
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    const RHYTHM: Rhythm = Rhythm {
        lease_ttl: Duration::from_secs(9),
        discovery_interval: Duration::from_secs(60),
        childless: false,
    };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_success_is_counted_from_the_start_or_from_the_answer() {
        let now = Instant::now();
        let mut jobs = Jobs::new(now);
        jobs.start(Job::Publication, now);
        jobs.start(Job::Upkeep, now);
        assert_eq!(jobs.due(Job::Publication), None);
        jobs.succeeded(Job::Publication, now + 5 * SECOND, &RHYTHM);
        jobs.succeeded(Job::Upkeep, now + 5 * SECOND, &RHYTHM);
        assert_eq!(jobs.due(Job::Publication), Some(now + SECOND));
        assert_eq!(jobs.due(Job::Upkeep), Some(now + 8 * SECOND));
    }

    #[test]
    fn a_failure_delays_a_renewal_no_longer_than_a_success() {
        let now = Instant::now();
        let mut jobs = Jobs::new(now);
        for job in [Job::Upkeep, Job::Discovery] {
            jobs.start(job, now);
            assert_eq!((jobs.failed(job), jobs.failed(job)), (1, 2));
            jobs.delay(job, now, 30 * SECOND, &RHYTHM);
        }
        assert_eq!(jobs.due(Job::Upkeep), Some(now + 3 * SECOND));
        assert_eq!(jobs.due(Job::Discovery), Some(now + 30 * SECOND));
        jobs.start(Job::Discovery, now);
        jobs.succeeded(Job::Discovery, now, &Rhythm { childless: true, ..RHYTHM });
        assert_eq!(jobs.due(Job::Discovery), Some(now + CHILDLESS_DISCOVERY));
        assert_eq!(jobs.failed(Job::Discovery), 1, "a success ends the row of failures");
    }

    #[test]
    fn a_job_under_way_is_not_made_due() {
        let now = Instant::now();
        let mut jobs = Jobs::new(now);
        jobs.start(Job::Upkeep, now);
        jobs.due_at(Job::Upkeep, now);
        assert_eq!(jobs.due(Job::Upkeep), None);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "started twice")]
    fn a_job_never_runs_twice_at_once() {
        let now = Instant::now();
        let mut jobs = Jobs::new(now);
        jobs.start(Job::Status, now);
        jobs.start(Job::Status, now);
    }
}
