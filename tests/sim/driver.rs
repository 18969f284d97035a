//! One simulated run: chaos for a while, then a quiet source, then the checker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynaurora::engine::backfill::segments;
use dynaurora::engine::ports::Clock;
use dynaurora::error::Result;
use dynaurora::model::{PartitionId, Position};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::checker::{self, Invariant, Run, ShardTruth, Truth, Violation};
use super::clock::SimClock;
use super::north_pole::{self, TABLE};
use super::plan::Plan;
use super::process::{Process, Surroundings};
use super::store::{Entry, Store};
use crate::contract::SOURCE;
use crate::world::World;
use crate::world::streams::RETENTION_MILLIS;

mod calm;
mod export;
mod operator;

/// `DescribeStream` calls a second that the service takes for each stream.
const LISTINGS_PER_SEC_MAX: usize = 10;
/// How long a stream keeps a closed shard.
const RETENTION: Duration = Duration::from_millis(RETENTION_MILLIS as u64);

/// What came of a run.
pub struct Verdict {
    pub violations: Vec<Violation>,
    pub journal: Vec<Entry>,
    /// Whether the source was halted by a gap.
    pub halted: bool,
    /// How many records the table's stream got.
    pub records: usize,
    /// How long the run was, in simulated time.
    pub simulated: Duration,
    /// How often each thing went wrong.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long the target took to come in step once the source was quiet and nothing failed.
    pub lag: Duration,
    /// How long it took until each worker had its share, where the plan asks for that.
    pub balanced: Option<Duration>,
    /// The most `DescribeStream` calls within one second, where the service tells a shard's children alone.
    pub listings_per_sec_max: Option<usize>,
}

impl Verdict {
    /// A number that two runs share only if they committed the same, in the same order, at the same times.
    pub fn trace(&self) -> u64 {
        let text = format!("{:?}", self.journal);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// Runs a plan under simulated time.
pub fn run(plan: Plan) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async { Simulation::new(plan).run().await })
}

/// What happens at some moment of the chaos.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Write,
    Rotate,
    Kill,
    Leave,
    Stall,
    Resume(usize),
    Outage,
    Trim,
    Widen,
    Reenable,
    Load,
    Night,
    Restart(usize),
    Damage,
    Verify,
    Lag,
    Crash,
    Forget,
    Export,
    Accept,
}

struct Simulation {
    around: Surroundings,
    rng: fastrand::Rng,
    truth: Truth,
    agenda: BTreeMap<(Instant, u64), Happening>,
    entered: u64,
    slots: Vec<(u32, Option<Process>)>,
    tasks: JoinSet<(usize, u32, Result<()>)>,
    operators: JoinSet<()>,
    exports: JoinSet<()>,
    violations: Vec<Violation>,
    tally: BTreeMap<&'static str, u64>,
}

impl Happening {
    /// What is counted as a fault.
    fn fault(self) -> Option<&'static str> {
        Some(match self {
            Self::Write
            | Self::Resume(_)
            | Self::Restart(_)
            | Self::Lag
            | Self::Crash
            | Self::Accept => return None,
            Self::Rotate => "splits and rollovers",
            Self::Kill => "kills",
            Self::Leave => "shutdowns",
            Self::Stall => "stopped processes",
            Self::Outage => "outages of the database",
            Self::Trim => "trimmed streams",
            Self::Widen => "wider sequence numbers",
            Self::Reenable => "streams enabled again",
            Self::Load => "loads by hand",
            Self::Night => "days without a worker",
            Self::Damage => "rows damaged by hand",
            Self::Verify => "repairs by hand",
            Self::Forget => "ledgers lost, their rows kept",
            Self::Export => "exports of the table",
        })
    }
}

impl Simulation {
    fn new(plan: Plan) -> Self {
        let clock = SimClock::start();
        let mut world = World::new(plan.seed);
        world.initial_shards = plan.initial_shards;
        world.faults = plan.world.clone();
        world.set_now(clock.wall());
        world.create_table(TABLE, &north_pole::KEYS, plan.view);
        let mapper = Arc::new(north_pole::mapper(plan.oddities.moves));
        let store = Store::new(mapper.tables().to_vec(), clock);
        store.set_faults(plan.store, plan.seed);
        let slots = (0..plan.workers).map(|_| (0, None)).collect();
        let rng = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
        let world = Arc::new(Mutex::new(world));
        Self {
            around: Surroundings { plan, clock, world, store, mapper },
            rng,
            truth: Truth::default(),
            agenda: BTreeMap::new(),
            entered: 0,
            slots,
            tasks: JoinSet::new(),
            operators: JoinSet::new(),
            exports: JoinSet::new(),
            violations: Vec::new(),
            tally: BTreeMap::new(),
        }
    }

    async fn run(mut self) -> Verdict {
        self.chaos().await;
        let (lag, balanced) = self.calm().await;
        self.observe(true);
        let store = &self.around.store;
        let (journal, gaps) = (store.journal(), store.gaps(SOURCE));
        let run = Run {
            truth: &self.truth,
            journal: &journal,
            contents: &store.contents(),
            gaps: &gaps,
            dead_letters: &store.dead_letters(SOURCE),
            specs: self.around.mapper.tables(),
            map: &|change, rows| self.around.mapper.map(change, rows),
            refuses: self.around.plan.store.refuses,
            quiet: true,
            prompt: self.around.plan.prompt(),
        };
        let mut violations = checker::check(&run);
        violations.append(&mut self.violations);
        let records = self.truth.shards.values().map(|shard| shard.records.len()).sum();
        let simulated = self.around.clock.elapsed();
        let mut faults = self.around.store.tally();
        faults.append(&mut self.around.world.lock().unwrap().tally);
        faults.append(&mut self.tally);
        let filters = !self.around.plan.world.ignores_shard_filter;
        let listings = self.around.world.lock().unwrap().listings_per_sec_max();
        let listings_per_sec_max = filters.then_some(listings);
        if listings_per_sec_max.is_some_and(|most| most > LISTINGS_PER_SEC_MAX) {
            let what = format!("DescribeStream was called {listings} times within a second");
            let violation = Violation { invariant: Invariant::Convergence, entry: None, what };
            violations.push(violation);
        }
        Verdict {
            violations,
            journal,
            halted: !gaps.is_empty(),
            records,
            simulated,
            faults,
            lag,
            balanced,
            listings_per_sec_max,
        }
    }

    async fn chaos(&mut self) {
        let now = self.around.clock.now();
        let end = now + self.around.plan.chaos;
        for slot in 0..self.slots.len() {
            let after = Duration::from_millis(self.rng.u64(0..3_000));
            self.enter(now + after, Happening::Restart(slot));
        }
        let every = self.around.plan.every.clone();
        let happenings = [
            (Some(every.write), Happening::Write),
            (every.rotate, Happening::Rotate),
            (every.kill, Happening::Kill),
            (every.leave, Happening::Leave),
            (every.stall, Happening::Stall),
            (every.outage, Happening::Outage),
            (every.trim, Happening::Trim),
            (every.widen, Happening::Widen),
            (every.reenable, Happening::Reenable),
            (every.backfill, Happening::Load),
            (every.night, Happening::Night),
            (every.damage, Happening::Damage),
            (every.verify, Happening::Verify),
            (every.crash, Happening::Lag),
            (every.forget, Happening::Forget),
            (every.export, Happening::Export),
            (every.accept, Happening::Accept),
        ];
        for (every, happening) in happenings {
            let Some(every) = every else { continue };
            let mut at = now;
            loop {
                at += every.mul_f64(-(1.0 - self.rng.f64()).ln());
                if at > end {
                    break;
                }
                self.enter(at, happening);
            }
        }
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            self.around.clock.sleep_until(at).await;
            self.gather();
            if let Some(fault) = happening.fault() {
                *self.tally.entry(fault).or_insert(0) += 1;
            }
            if matches!(happening, Happening::Night) {
                self.night().await;
            } else {
                self.happen(happening);
            }
        }
        self.around.clock.sleep_until(end).await;
    }

    fn enter(&mut self, at: Instant, happening: Happening) {
        self.entered += 1;
        self.agenda.insert((at, self.entered), happening);
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.around.clock.now();
        let lease = self.around.plan.options.lease_ttl;
        let slot = self.rng.usize(..self.slots.len());
        match happening {
            Happening::Write => {
                let (count, oddities) = (self.rng.u8(1..=4), self.around.plan.oddities);
                let mut world = self.around.world.lock().unwrap();
                world.set_now(self.around.clock.wall());
                for _ in 0..count {
                    north_pole::write(&mut world, &mut self.rng, oddities);
                }
                if oddities.moves {
                    north_pole::write_elf(&mut world, &mut self.rng, oddities);
                }
            }
            Happening::Rotate => self.world(|world| world.rotate(TABLE)),
            Happening::Widen => self.world(|world| world.widen_sequence_numbers(TABLE)),
            Happening::Reenable => {
                let view = self.around.plan.view;
                self.around.store.catch_up();
                self.observe(false);
                self.world(|world| world.enable_stream(TABLE, view));
                self.observe(false);
            }
            Happening::Trim => self.trim(),
            Happening::Load => {
                let segments = segments(self.around.plan.options.segments, None);
                self.around.store.begin_by_hand(SOURCE, segments);
            }
            Happening::Damage => self.damage(),
            Happening::Verify => self.verify(),
            Happening::Lag => self.lag(now),
            Happening::Crash => self.crash(lease),
            Happening::Forget => self.forget(now),
            Happening::Export => self.export(),
            Happening::Accept => self.accept(),
            Happening::Outage => {
                let lasting = lease.mul_f64(self.rng.f64() * 2.0);
                self.around.store.outage(lasting);
            }
            Happening::Kill => {
                if let Some(process) = self.slots[slot].1.take() {
                    process.kill();
                    self.restart_later(slot, now);
                }
            }
            Happening::Leave => {
                if let Some(process) = self.slots[slot].1.take() {
                    process.leave();
                    // It may be stopped for ever: then nothing but its leases' end helps the others.
                    self.restart_later(slot, now);
                }
            }
            Happening::Stall => {
                if let Some(process) = &self.slots[slot].1 {
                    process.stall(true);
                    let lasting = lease.mul_f64(self.rng.f64() * 3.0);
                    self.enter(now + lasting, Happening::Resume(slot));
                }
            }
            Happening::Resume(slot) => {
                if let Some(process) = &self.slots[slot].1 {
                    process.stall(false);
                }
            }
            Happening::Restart(slot) if self.slots[slot].1.is_none() => self.start(slot),
            // The night has a moment of its own: it takes time.
            Happening::Restart(_) | Happening::Night => {}
        }
    }

    /// The stream drops what it may.
    fn trim(&mut self) {
        self.around.store.catch_up();
        self.observe(false);
        // A record is kept for a day: no shard is gone before any listing shows it, nor what came
        // after a load began, and the horizon is where a shard stands that lost what came before.
        let positions = self.around.store.positions(SOURCE);
        let young = |shard: &PartitionId| {
            positions.get(shard).is_none_or(|(at, _)| *at == Position::Horizon)
        };
        self.world(|world| world.trim_all(TABLE, young));
        self.observe(false);
    }

    /// An operator accepts that the stream is another one, where it is.
    fn accept(&mut self) {
        if self.around.store.accept(SOURCE) {
            *self.tally.entry("changed streams accepted").or_insert(0) += 1;
        }
    }

    /// A replica lags, and will take over.
    fn lag(&mut self, now: Instant) {
        self.around.store.lag();
        let lag = Duration::from_millis(self.rng.u64(0..5_000));
        self.enter(now + lag, Happening::Crash);
    }

    /// Another server takes over, without what was committed last, and soon takes connections.
    fn crash(&mut self, lease: Duration) {
        let Some(lost) = self.around.store.crash() else { return };
        *self.tally.entry("crashes of the database").or_insert(0) += 1;
        *self.tally.entry("batches that the database lost").or_insert(0) += lost;
        self.around.store.outage(lease.mul_f64(self.rng.f64() * 0.6));
    }

    /// Nobody is there for about a day: what was written last may be trimmed before it is read.
    async fn night(&mut self) {
        for (_, process) in &mut self.slots {
            if let Some(process) = process.take() {
                process.kill();
            }
        }
        for _ in 0..self.rng.u8(..4) {
            self.happen(Happening::Write);
            self.happen(Happening::Rotate);
        }
        self.observe(false);
        let morning = self.around.clock.now() + Duration::from_secs(self.rng.u64(20..28) * 3600);
        self.around.clock.sleep_until(morning).await;
        self.world(|_| ());
        self.observe(false);
        for slot in 0..self.slots.len() {
            self.restart_later(slot, morning);
        }
    }

    /// Everybody is gone, and so is the ledger: its schema was dropped, or only the tables were restored.
    fn forget(&mut self, now: Instant) {
        // Those that are leaving too.
        self.tasks.abort_all();
        for slot in 0..self.slots.len() {
            if self.slots[slot].1.take().is_some() {
                self.restart_later(slot, now);
            }
        }
        self.around.store.forget();
    }

    fn restart_later(&mut self, slot: usize, now: Instant) {
        let lease = self.around.plan.options.lease_ttl;
        let after = lease.mul_f64(self.rng.f64() * 2.0);
        self.enter(now + after, Happening::Restart(slot));
    }

    fn start(&mut self, slot: usize) {
        let seed = self.rng.u64(..);
        let (life, process) = &mut self.slots[slot];
        *life += 1;
        *process = Some(Process::start(&self.around, (slot, *life), &mut self.tasks, seed));
    }

    fn world(&self, change: impl FnOnce(&mut World)) {
        let mut world = self.around.world.lock().unwrap();
        world.set_now(self.around.clock.wall());
        change(&mut world);
    }

    /// Takes the ends of processes. One that ends by itself has halted, which only a gap may bring about.
    fn gather(&mut self) {
        while let Some(end) = self.tasks.try_join_next() {
            let what = match end {
                Ok((_, _, Ok(()))) => continue,
                Ok((slot, life, Err(error))) => {
                    format!("worker-{slot}-{life} halted: {}", error.chain())
                }
                Err(end) if end.is_cancelled() => continue,
                Err(end) => format!("a worker panicked: {end}"),
            };
            self.violations.push(Violation {
                invariant: Invariant::Convergence,
                entry: None,
                what,
            });
        }
    }

    /// Notes the shards that there are, and with `records` what they ever held.
    fn observe(&mut self, records: bool) {
        let elapsed = self.around.clock.elapsed();
        let world = self.around.world.lock().unwrap();
        let Some(stream) = world.stream(TABLE) else { return };
        for (id, known) in &mut self.truth.shards {
            if known.dropped_at.is_none() && !stream.shards.iter().any(|shard| shard.id == *id) {
                // Of age since its end, or thrown away just now.
                let of_age = known.closed_at.map(|at| at + RETENTION);
                known.dropped_at = Some(of_age.map_or(elapsed, |at| at.min(elapsed)));
                known.closed = true;
            }
        }
        for shard in &stream.shards {
            let known: &mut ShardTruth = self.truth.shards.entry(shard.id.clone()).or_default();
            known.parent.clone_from(&shard.parent);
            known.closed = shard.closed.is_some();
            known.closed_at = shard.closed.map(|(at, _)| self.around.clock.since_start(at));
            known.trimmed_through = shard.trimmed_through;
        }
        if !records {
            return;
        }
        let view = stream.view;
        for shard in self.truth.shards.values_mut() {
            shard.records.clear();
            shard.written_at.clear();
        }
        for record in &world.table(TABLE).history {
            let shard: &PartitionId = &record.shard;
            let known = self.truth.shards.entry(shard.clone()).or_default();
            known.records.push(record.change(view));
            known.written_at.push(record.written_at);
        }
        self.truth.items = world.table(TABLE).items.values().cloned().collect();
    }
}
