//! What a worker does next and when, purely: from how it stands to the table of timers.

use tokio::time::Instant;

use super::jobs::{Conditions, Job, Jobs};
use super::lane::LaneId;
use super::timers::{Timer, Timers};

/// How a worker stands, as far as that decides what it does next.
#[derive(Debug)]
pub(super) struct Agenda<'a> {
    pub(super) conditions: Conditions<'a>,
    pub(super) jobs: &'a Jobs,
    /// Until when nothing is read, applied and given back: after a failure that threw away what was in hand.
    pub(super) resume_at: Instant,
    /// Until when the leases hold without another renewal.
    pub(super) lease_deadline: Instant,
    pub(super) lanes: [LaneAgenda; 2],
}

/// How one lane stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LaneAgenda {
    /// Whether it holds leases.
    pub(super) held: bool,
    /// Whether it holds leases that can be given back.
    pub(super) left: bool,
    /// Whether pages wait, and no batch is being applied.
    pub(super) applies: bool,
    /// When the next read is due, where there is room for what it brings.
    pub(super) reads_at: Option<Instant>,
}

impl Agenda<'_> {
    /// When what is due.
    pub(super) fn timers(&self) -> Timers {
        let mut timers = Timers::default();
        let phase = self.conditions.phase;
        if phase.stream().is_some() && self.lanes.iter().any(|lane| lane.held) {
            timers.set(Timer::LeaseDeadline, self.lease_deadline);
        }
        for job in Job::ALL {
            let row = job.row();
            if let Some(due) = self.jobs.due(job).filter(|_| (row.when)(&self.conditions)) {
                timers.set(Timer::Job(job), if row.waits { due.max(self.resume_at) } else { due });
            }
        }
        if phase.applies() && self.lanes.iter().any(|lane| lane.left) {
            timers.set(Timer::GiveBack, self.resume_at);
        }
        for id in LaneId::ALL {
            let lane = self.lanes[id as usize];
            if phase.applies() && lane.applies {
                timers.set(Timer::Apply(id), self.resume_at);
            }
            if let Some(due) = lane.reads_at.filter(|_| phase.reads()) {
                timers.set(Timer::Read(id), due.max(self.resume_at));
            }
        }
        timers
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::backfill::Step;
    use crate::engine::jobs::Rhythm;
    use crate::engine::phase::{Phase, Stream};

    const RHYTHM: Rhythm = Rhythm {
        lease_ttl: Duration::from_secs(9),
        discovery_interval: Duration::from_secs(60),
        childless: false,
    };

    /// A worker without its tasks: what is started ends when the test says so.
    #[derive(Debug)]
    struct Model {
        start: Instant,
        now: Instant,
        phase: Phase,
        seen: bool,
        step: Step,
        jobs: Jobs,
        resume_at: Instant,
        lease_deadline: Instant,
        lanes: [LaneAgenda; 2],
    }

    /// What happens to it. Times are in seconds.
    #[derive(Debug, Clone)]
    enum Event {
        Sleep,
        Pass(u64),
        Phase(u8),
        Seen,
        Step(Step),
        Succeeds(Job),
        Fails(Job, u64),
        Due(Job, u64),
        Resume(u64),
        Deadline(u64),
        Lane(LaneId, LaneAgenda, Option<u64>),
    }

    impl Model {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                start: now,
                now,
                phase: Phase::Starting,
                seen: false,
                step: Step::Rest,
                jobs: Jobs::new(now),
                resume_at: now,
                lease_deadline: now,
                lanes: [LaneAgenda::default(); 2],
            }
        }

        fn timers(&self) -> Timers {
            let (phase, seen, step) = (&self.phase, self.seen, self.step);
            let agenda = Agenda {
                conditions: Conditions { phase, seen, step },
                jobs: &self.jobs,
                resume_at: self.resume_at,
                lease_deadline: self.lease_deadline,
                lanes: self.lanes,
            };
            agenda.timers()
        }

        /// What may start at this moment, said in another way than the agenda says it.
        fn startable(&self, at: Instant) -> Vec<Timer> {
            let (draining, known) = (self.phase.is_draining(), self.phase.stream().is_some());
            let halted =
                matches!(self.phase, Phase::Halted(_) | Phase::Draining { halted: true, .. });
            let idle = |job| self.jobs.due(job).is_some_and(|due| at >= due);
            let mut found = Vec::new();
            if known && at >= self.lease_deadline && self.lanes.iter().any(|lane| lane.held) {
                found.push(Timer::LeaseDeadline);
            }
            let may = |job| match job {
                Job::Status => true,
                Job::Discovery => !draining,
                Job::Upkeep => known,
                Job::Publication => known && self.seen,
                Job::BackfillStep => {
                    let asked = self.step != Step::Rest;
                    known && asked && !draining && !halted && at >= self.resume_at
                }
            };
            found
                .extend(Job::ALL.into_iter().filter(|job| may(*job) && idle(*job)).map(Timer::Job));
            if !known || halted || at < self.resume_at {
                return found;
            }
            if self.lanes.iter().any(|lane| lane.left) {
                found.push(Timer::GiveBack);
            }
            for id in LaneId::ALL {
                let lane = self.lanes[id as usize];
                found.extend(lane.applies.then_some(Timer::Apply(id)));
                let reads = !draining && lane.reads_at.is_some_and(|due| at >= due);
                found.extend(reads.then_some(Timer::Read(id)));
            }
            found
        }

        /// Starts what is due, as the worker does: each ends what it was started for.
        fn start(&mut self, timer: Timer) {
            match timer {
                Timer::LeaseDeadline => {
                    self.lanes = [LaneAgenda::default(); 2];
                    self.resume_at = self.now;
                    self.jobs.due_at(Job::Upkeep, self.now);
                }
                Timer::Job(job) => self.jobs.start(job, self.now),
                Timer::GiveBack => self.lanes.iter_mut().for_each(|lane| lane.left = false),
                Timer::Apply(id) => self.lanes[id as usize].applies = false,
                Timer::Read(id) => self.lanes[id as usize].reads_at = None,
            }
        }

        fn happen(&mut self, event: Event) {
            let at = |seconds: u64| self.start + Duration::from_secs(seconds);
            let runs = |job: &Job| self.jobs.due(*job).is_none();
            match event {
                Event::Sleep => {
                    self.now = self.timers().next_due().unwrap_or(self.now).max(self.now);
                }
                Event::Pass(seconds) => self.now += Duration::from_secs(seconds),
                Event::Phase(choice) => self.turn(choice),
                Event::Seen => self.seen = true,
                Event::Step(step) => self.step = step,
                Event::Succeeds(job) if runs(&job) => self.jobs.succeeded(job, self.now, &RHYTHM),
                Event::Fails(job, seconds) if runs(&job) => {
                    self.jobs.failed(job);
                    self.jobs.delay(job, self.now, Duration::from_secs(seconds), &RHYTHM);
                }
                Event::Succeeds(_) | Event::Fails(..) => {}
                Event::Due(job, seconds) => self.jobs.due_at(job, at(seconds)),
                Event::Resume(seconds) => self.resume_at = at(seconds),
                Event::Deadline(seconds) => self.lease_deadline = at(seconds),
                Event::Lane(id, lane, reads_at) => {
                    self.lanes[id as usize] = LaneAgenda { reads_at: reads_at.map(at), ..lane };
                }
            }
        }

        fn turn(&mut self, choice: u8) {
            match (choice, self.phase.stream().is_some()) {
                (0, _) if !self.phase.is_draining() => self.phase.drain(),
                (1, true) => drop(self.phase.halt()),
                (2, true) => self.phase.resume(),
                (3, false) if self.phase == Phase::Starting => {
                    self.phase.begin(Stream { arn: "arn".into(), generation: 1 });
                }
                _ => {}
            }
        }
    }

    fn job() -> impl Strategy<Value = Job> {
        proptest::sample::select(Job::ALL.to_vec())
    }

    fn lane() -> impl Strategy<Value = LaneAgenda> {
        any::<(bool, bool, bool)>().prop_map(|(held, left, applies)| LaneAgenda {
            held,
            left,
            applies,
            reads_at: None,
        })
    }

    fn event() -> impl Strategy<Value = Event> {
        let steps = vec![Step::Rest, Step::Begin, Step::Finish];
        let id = proptest::sample::select(LaneId::ALL.to_vec());
        let seconds = || 0..120_u64;
        prop_oneof![
            4 => Just(Event::Sleep),
            1 => (0..20_u64).prop_map(Event::Pass),
            // To drain is the end of much: it should come late.
            2 => prop_oneof![1 => Just(0_u8), 9 => 1..4_u8].prop_map(Event::Phase),
            1 => Just(Event::Seen),
            1 => proptest::sample::select(steps).prop_map(Event::Step),
            4 => job().prop_map(Event::Succeeds),
            2 => (job(), seconds()).prop_map(|(job, delay)| Event::Fails(job, delay)),
            1 => (job(), seconds()).prop_map(|(job, due)| Event::Due(job, due)),
            1 => seconds().prop_map(Event::Resume),
            1 => seconds().prop_map(Event::Deadline),
            3 => (id, lane(), proptest::option::of(seconds()))
                .prop_map(|(id, lane, reads_at)| Event::Lane(id, lane, reads_at)),
        ]
    }

    proptest! {
        /// The loop sleeps until exactly the first moment at which something may start, and what is due then
        /// starts, once.
        #[test]
        fn it_never_sleeps_past_what_may_start_and_never_wakes_for_nothing(
            events in proptest::collection::vec(event(), 1..60)
        ) {
            let mut model = Model::new();
            for event in events {
                model.happen(event);
                loop {
                    let timers = model.timers();
                    let expired: Vec<_> = timers.expired(model.now).collect();
                    prop_assert_eq!(&expired, &model.startable(model.now));
                    let Some(first) = expired.first() else { break };
                    model.start(*first);
                    let again = model.timers().expired(model.now).any(|timer| timer == *first);
                    prop_assert!(!again, "{:?} is due still", first);
                }
                let Some(wake) = model.timers().next_due() else { continue };
                prop_assert!(wake > model.now);
                prop_assert_ne!(model.startable(wake), vec![]);
                let before = wake - Duration::from_nanos(1);
                prop_assert_eq!(model.startable(before), vec![], "nothing else waits till then");
            }
        }
    }
}
