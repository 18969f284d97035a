//! What a seed means: how many workers, which faults and how often, and what happens when.

use std::time::Duration;

use dynaurora::apply::batch::Limits;
use dynaurora::engine::backfill::Backfill;
use dynaurora::engine::ports::StreamView;
use dynaurora::engine::readers::Pace;
use dynaurora::engine::tail::freshness;
use dynaurora::engine::{OnGap, Options};

use super::north_pole::{self, Oddities};
use super::store::{Knobs, Sabotage};
use crate::world::Faults;

/// One simulated run, drawn from its seed.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub workers: usize,
    pub initial_shards: usize,
    pub view: StreamView,
    /// How long things go wrong; then the source is quiet.
    pub chaos: Duration,
    /// Within which time after that the target must be in step.
    pub calm_max: Duration,
    /// Within which time every worker must have its share, where that is looked at.
    pub balanced_within: Option<Duration>,
    pub options: Options,
    pub store: Knobs,
    pub world: Faults,
    pub latency_max: Duration,
    pub oddities: Oddities,
    /// How far each worker's time of day may be off, in milliseconds.
    pub skew_millis_max: i64,
    pub every: Every,
}

/// How often each thing happens on the average; `None` is never.
#[derive(Debug, Clone)]
pub struct Every {
    pub write: Duration,
    pub rotate: Option<Duration>,
    pub kill: Option<Duration>,
    pub leave: Option<Duration>,
    pub stall: Option<Duration>,
    pub outage: Option<Duration>,
    pub trim: Option<Duration>,
    pub widen: Option<Duration>,
    /// The stream is disabled and enabled again: what was written between is lost.
    pub reenable: Option<Duration>,
    /// An operator has the table loaded.
    pub backfill: Option<Duration>,
    /// An operator accepts that the stream is another one.
    pub accept: Option<Duration>,
    /// The database crashes, or fails over to a replica that lags: it loses what was committed last.
    pub crash: Option<Duration>,
    /// Every process is gone for about as long as the stream keeps its records.
    pub night: Option<Duration>,
    /// Somebody damages a row by hand.
    pub damage: Option<Duration>,
    /// Somebody verifies and repairs.
    pub verify: Option<Duration>,
    /// The ledger is lost, and the rows stay.
    pub forget: Option<Duration>,
    /// An operator has the table exported, and loads that.
    pub export: Option<Duration>,
}

/// Within how many lease times a fleet shares its shards evenly after the last fault.
const BALANCED_LEASES: u32 = 5;
/// How long a load of so small a table may take once all is well.
const LOADED_WITHIN: Duration = Duration::from_secs(60);

impl Plan {
    /// The plan of a seed. Every eighth seed is calm: what fails there fails without any fault.
    pub fn of(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rough = !seed.is_multiple_of(8);
        let lease_ttl = Duration::from_millis(rng.u64(3_000..12_000));
        let mut maybe = |seconds: std::ops::Range<u64>| {
            (rng.bool() && rough).then(|| Duration::from_millis(rng.u64(seconds) * 1000))
        };
        let every = Every {
            write: Duration::from_millis(250),
            rotate: maybe(4..20),
            kill: maybe(5..20),
            leave: maybe(8..30),
            stall: maybe(5..25),
            outage: maybe(10..40),
            trim: maybe(15..60).filter(|_| seed % 4 == 1),
            widen: maybe(20..60),
            reenable: maybe(30..90).filter(|_| seed % 8 == 5),
            night: maybe(20..60).filter(|_| seed % 4 == 3),
            backfill: None,
            accept: None,
            crash: None,
            damage: None,
            verify: None,
            forget: None,
            export: None,
        };
        let store = if rough { store_faults(&mut rng, lease_ttl) } else { Knobs::default() };
        let world = if rough { world_faults(&mut rng) } else { Faults::default() };
        let refusals = rng.u8(..3) == 0;
        let refuses = if refusals { north_pole::refuses } else { |_: &_| false };
        let options = options(&mut rng, lease_ttl);
        // Not in all, so that what a seed has shown once it still shows.
        let moves = seed.is_multiple_of(2) || seed % 7 == 4;
        let plan = Self {
            seed,
            workers: rng.usize(1..=3),
            initial_shards: rng.usize(1..=3),
            view: match *rng.choice(&[StreamView::NewImage, StreamView::NewAndOldImages]).unwrap() {
                StreamView::NewImage if moves => StreamView::NewAndOldImages,
                view => view,
            },
            chaos: Duration::from_secs(rng.u64(20..60)),
            calm_max: calm_max(&options, &world),
            balanced_within: None,
            options,
            store: Knobs { refuses, ..store },
            world,
            latency_max: Duration::from_millis(if rough { rng.u64(0..200) } else { 0 }),
            oddities: Oddities { rejects: rng.bool(), refusals, moves },
            skew_millis_max: if rough { 5_000 } else { 0 },
            every,
        };
        let plan = if seed % 3 == 2 { plan.with_loads() } else { plan };
        let plan = if rough && [0, 4].contains(&(seed % 7)) { plan.with_crashes() } else { plan };
        let plan = if rough && [0, 5].contains(&(seed % 9)) { plan.with_refusals() } else { plan };
        let damaged = rough && [2, 4].contains(&(seed % 6));
        let plan = if damaged { plan.with_damage() } else { plan };
        match seed % 21 {
            4 if rough => plan.with_accepted_streams(),
            11 if rough => plan.with_lost_ledgers(),
            14 if rough => plan.with_exports(),
            _ => plan,
        }
    }

    /// The same run with rows damaged by hand, and repaired, while everything else goes on.
    pub fn with_damage(mut self) -> Self {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0xda3a);
        self.every.damage = Some(Duration::from_millis(rng.u64(200..2_000)));
        self.every.verify = Some(Duration::from_secs(rng.u64(2..10)));
        self.chaos += Duration::from_secs(rng.u64(10..40));
        self
    }

    /// The same run with a database that loses what was committed last.
    pub fn with_crashes(mut self) -> Self {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0xc4a5);
        self.every.crash = Some(Duration::from_secs(rng.u64(5..20)));
        self
    }

    /// The same run with credentials, rights and tables that are not as they should be, for moments.
    pub fn with_refusals(mut self) -> Self {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0xacce);
        self.world.denied = rng.f64() * 0.1;
        self.world.invalid = rng.f64() * 0.05;
        self.store.refused = rng.f64() * 0.05;
        self
    }

    /// The same run with loads in the midst: an operator's, the first one of a new source, those of gaps.
    pub fn with_loads(mut self) -> Self {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0x10ad);
        self.every.backfill = rng.bool().then(|| Duration::from_secs(rng.u64(10..40)));
        if rng.bool() {
            self.options.backfill = Backfill::Auto;
        }
        if rng.u8(..4) > 0 {
            self.options.on_gap = OnGap::Resync;
        }
        self.options.segments = Some(rng.u32(1..4));
        // The others keep what they once have shown.
        if self.seed % 4 != 1 {
            self.store.page_waits = 0.5;
        }
        self.calm_max += self.options.lease_ttl * 4 + LOADED_WITHIN;
        self
    }

    /// The same run with loads, and ledgers that are lost while the rows stay; a new one begins with a load.
    pub fn with_lost_ledgers(self) -> Self {
        let mut plan = self.with_loads();
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0x1057);
        plan.every.forget = Some(Duration::from_secs(rng.u64(10..40)));
        plan.options.backfill = Backfill::Auto;
        plan
    }

    /// The same run with a stream that is enabled again and again, and an operator who accepts that. What was
    /// lost in between is nobody's fault, so rows are not compared with their items.
    pub fn with_accepted_streams(mut self) -> Self {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0xacc3);
        self.every.reenable = Some(Duration::from_secs(rng.u64(8..25)));
        self.every.accept = Some(Duration::from_secs(rng.u64(2..8)));
        (self.every.damage, self.every.verify, self.every.crash) = (None, None, None);
        self
    }

    /// The same run with exports that are loaded, beside a stream that is enabled again. Nothing is damaged
    /// then: whoever judges repairs compares sequence numbers, and those of two streams do not compare. Nor
    /// is anything trimmed before its time: no export is older than the records behind it.
    pub fn with_exports(self) -> Self {
        let mut plan = self.with_loads();
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0xe490);
        plan.every.export = Some(Duration::from_secs(rng.u64(5..20)));
        plan.every.reenable = rng.bool().then(|| Duration::from_secs(rng.u64(10..40)));
        plan.options.on_gap = OnGap::Resync;
        (plan.every.damage, plan.every.verify, plan.every.trim) = (None, None, None);
        plan
    }

    /// The same run with many loads, all of whose pages wait, and many records that cannot be mapped.
    pub fn with_slow_loads(self) -> Self {
        let mut slow = self.with_loads();
        slow.every.backfill = Some(Duration::from_secs(8));
        slow.oddities.rejects = true;
        slow.store.page_waits = 1.0;
        slow
    }

    /// As many shards as the largest tables have, and a fleet whose processes die, leave and stop; the
    /// service itself is well.
    pub fn fleet(workers: usize, shards: usize, chaos: Duration) -> Self {
        let calm = Self::of(0);
        let some = |secs| Some(Duration::from_secs(secs));
        let every = Every {
            write: Duration::from_millis(50),
            rotate: some(5),
            kill: some(30),
            leave: some(40),
            stall: some(30),
            ..calm.every
        };
        let options = Options { partitions_max: shards, ..calm.options };
        // Each shard is polled in its turn, fifty a second by each worker, and twice until it has caught up.
        let polled = Duration::from_secs(shards as u64 / workers as u64 / 50 * 2);
        let calm_max = calm.calm_max + polled;
        let balanced_within = Some(options.lease_ttl * BALANCED_LEASES);
        let initial_shards = shards;
        let oddities = Oddities { moves: false, ..calm.oddities };
        Self {
            oddities,
            workers,
            initial_shards,
            chaos,
            calm_max,
            balanced_within,
            options,
            every,
            ..calm
        }
    }

    /// Whether the service keeps what freshness relies on; most of the others lie about a shard's end for
    /// longer than any margin.
    pub fn prompt(&self) -> bool {
        let margin = i64::try_from(freshness::MARGIN.as_millis()).unwrap();
        let Faults { listing_delay_millis, closing_delay_millis, .. } = self.world;
        let listed = listing_delay_millis == 0 && self.world.omitted_shard == 0.0;
        let read =
            self.world.empty_page == 0.0 || self.world.empty_pages_max < freshness::CAUGHT_UP_POLLS;
        listed && read && closing_delay_millis < margin
    }

    /// The same run over a store that breaks its contract.
    pub fn sabotaged(self, sabotage: Sabotage) -> Self {
        let store = Knobs { sabotage: Some(sabotage), ..self.store };
        Self { store, ..self }
    }
}

/// I11: a lease that nobody gives back is free after one lease time and taken within the next; a retry waits
/// for half a minute at most; a listing lags and is repeated.
fn calm_max(options: &Options, world: &Faults) -> Duration {
    let lags = world.listing_delay_millis + world.closing_delay_millis;
    let lags = Duration::from_millis(u64::try_from(lags).unwrap());
    options.lease_ttl * 2 + Duration::from_secs(30) + options.discovery_interval + lags
}

fn options(rng: &mut fastrand::Rng, lease_ttl: Duration) -> Options {
    Options {
        lease_ttl,
        pace: Pace {
            poll_min: Duration::from_millis(rng.u64(100..500)),
            poll_idle_max: Duration::from_secs(2),
            idle_polls_per_sec_max: 50,
        },
        discovery_interval: Duration::from_secs(rng.u64(5..30)),
        limits: Limits { rows_max: rng.usize(1..60), bytes_max: rng.usize(50..20_000) },
        partitions_max: 64,
        reject_share_max: 1.0,
        on_gap: OnGap::Halt,
        backfill: Backfill::Never,
        segments: Some(2),
        rcu_max: None,
        sweep_share_max: 1.0,
    }
}

fn store_faults(rng: &mut fastrand::Rng, lease_ttl: Duration) -> Knobs {
    let mut share = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
    Knobs {
        fails: share(0.1),
        conflicts: share(0.1),
        answer_lost: share(0.1),
        renew_fails: share(0.3),
        orphan_commits: share(1.0),
        slow: Duration::from_secs_f64(share(2.0)),
        freezes: share(0.05),
        freeze_max: lease_ttl * 3,
        ..Knobs::default()
    }
}

fn world_faults(rng: &mut fastrand::Rng) -> Faults {
    if rng.u8(..4) == 0 {
        return Faults::default();
    }
    let mut share = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
    let mut faults = Faults {
        throttle: share(0.15),
        internal: share(0.1),
        unreachable: share(0.1),
        expired: share(0.1),
        empty_page: share(0.3),
        short_page: share(0.6),
        late_end: share(1.0),
        omitted_shard: share(0.3),
        repeated_page: share(0.1),
        ..Faults::default()
    };
    faults.listing_delay_millis = rng.i64(0..20_000);
    faults.closing_delay_millis = rng.i64(0..20_000);
    if rng.bool() {
        faults.listing_delay_millis = 0;
        faults.closing_delay_millis %= 1_900;
        faults.omitted_shard = 0.0;
        faults.empty_pages_max = freshness::CAUGHT_UP_POLLS - 1;
    }
    faults.ignores_shard_filter = rng.u8(..4) == 0;
    faults.strict_trimming = rng.u8(..4) == 0;
    faults.listing_page_max = rng.usize(1..20);
    faults
}
