//! One source's loop: it owns all state, starts tasks, and takes their answers one at a time.
//!
//! Priorities of the loop, highest first: 1. the stop signal; 2. answers of tasks; 3. the next due time.
//! `answers.rs` takes the answers, `report.rs` tells what happened.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backfill::Backfill;
use super::backfill::budget::RateBudget;
use super::lane::{Lane, LaneId};
use super::ports::{Clock, Ledger, LedgerView, Page, ReadFrom, Source};
use super::readers::Ticket;
use super::rejects::RejectShare;
use super::retry::{Stage, remedy};
use super::tail::listing::Turns;
use super::tail::upkeep::{Ask, Discovered, Survey, Upkept, discover, keep_up, request};
use crate::apply::apply_whole;
use crate::apply::batch::{Label, Sealed};
use crate::apply::page::{MappedPage, PageContext, UnmatchedItem};
use crate::apply::ports::Applied;
use crate::engine::options::SourceRun;
use crate::engine::ports::Seams;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Epoch, Generation, PartitionId, PartitionKind, ShardListing};
use crate::telemetry::{events, metrics};

mod answers;
mod loads;
mod publish;
mod report;

use loads::LoadStepped;
use publish::Publishing;

/// How often the state is published at least; readiness and the watchdog look at it.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// How often shards are listed while a drained shard has no known child: its children may show up late.
const CHILDLESS_DISCOVERY: Duration = Duration::from_secs(5);
/// Questions for the children of a shard at its end; after that the periodic listing finds them.
const CHILD_LOOKUPS: u32 = 3;
/// Renewals per lease: one may fail, and a second, before the lease is given up at two thirds.
const RENEWALS_PER_LEASE: u32 = 3;

/// What a task answers.
enum Done {
    Discovered(Result<Discovered>),
    Upkept { era: u64, result: Result<Upkept> },
    Read { ticket: Ticket, result: Result<(Box<MappedPage>, Vec<ShardListing>)> },
    Applied { lane: LaneId, era: u64, outcome: Outcome },
    LoadStepped(Result<LoadStepped>),
    GapRecorded(Result<()>),
    Published(publish::Answer),
    Released(Result<()>),
}

/// How the apply of a batch ended.
struct Outcome {
    sealed: Box<Sealed>,
    took: Duration,
    result: Result<Applied>,
}

/// Something done again and again, never twice at once.
struct Recurring {
    running: bool,
    due: Instant,
    failures: u32,
}

pub(super) struct Worker<P: Seams> {
    ports: Arc<P>,
    run: SourceRun,
    tasks: JoinSet<Done>,
    random: fastrand::Rng,
    key_columns: Arc<[usize]>,
    table_names: Vec<String>,

    stream_arn: Option<Arc<str>>,
    generation: Generation,
    view: Arc<LedgerView>,
    discovery: Recurring,
    upkeep: Recurring,
    loading: Recurring,
    /// What this worker still wants to begin by itself.
    backfill: Backfill,
    /// The fingerprint of this worker's mapping.
    mapping: i64,
    /// How many living workers have another one, as was told last.
    others_told: usize,
    budget: RateBudget,
    budget_share: Option<f64>,
    publishing: Publishing,
    lease_deadline: Instant,
    /// Changes whenever everything in hand is thrown away; answers of an earlier era are too.
    era: u64,
    /// Partitions that this worker is done with, and since when: an older view may still show them as its
    /// own. What a view shows for longer was not given back.
    settled: HashMap<PartitionId, Instant>,
    childless: HashSet<PartitionId>,
    /// When this worker's reads may ask for the children of a shard.
    turns: Arc<Mutex<Turns>>,

    lanes: [Lane; 2],
    resume_at: Instant,
    note_keys: bool,
    rejects: RejectShare,
    /// When a batch with rejects was last applied: an older view may not know them yet.
    rejected_at: Option<Instant>,
    draining: bool,
    halt_told: bool,
    /// By stage: what fails just now and is being tried again.
    failing: [Option<String>; Stage::COUNT],
    publish_due: Instant,
    records: u64,
}

impl<P: Seams> Worker<P> {
    pub(super) fn new(ports: Arc<P>, run: SourceRun) -> Self {
        let now = ports.clock().now();
        let tables = run.mapper.tables();
        Self {
            tasks: JoinSet::new(),
            random: fastrand::Rng::with_seed(run.seed),
            key_columns: tables.iter().map(|table| table.key_columns).collect(),
            table_names: tables.iter().map(|table| table.name.to_string()).collect(),
            stream_arn: None,
            generation: 0,
            view: Arc::default(),
            discovery: Recurring { running: false, due: now, failures: 0 },
            upkeep: Recurring { running: false, due: now, failures: 0 },
            loading: Recurring { running: false, due: now, failures: 0 },
            backfill: run.options.backfill,
            mapping: run.mapper.fingerprint(),
            others_told: 0,
            budget: RateBudget::new(None, now),
            budget_share: None,
            publishing: Publishing::new(now),
            lease_deadline: now,
            era: 0,
            settled: HashMap::new(),
            childless: HashSet::new(),
            turns: Arc::default(),
            lanes: LaneId::ALL.map(Lane::new),
            resume_at: now,
            note_keys: false,
            rejects: RejectShare::new(run.options.reject_share_max),
            rejected_at: None,
            draining: false,
            halt_told: false,
            failing: Default::default(),
            publish_due: now,
            records: 0,
            ports,
            run,
        }
    }

    pub(super) async fn drive(mut self, stop: CancellationToken) -> Result<()> {
        metrics::start(&self.run.name, &self.table_names);
        loop {
            let now = self.ports.clock().now();
            self.start_due(now);
            if self.draining && self.lanes.iter().all(Lane::is_idle) {
                return self.leave().await;
            }
            let wake = self.next_wake(now);
            let turned = tokio::select! {
                biased;
                () = stop.cancelled(), if !self.draining => {
                    self.draining = true;
                    Ok(())
                }
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.take(done),
                    Err(panic) => Err(Error::new(ErrorKind::Unknown, "a task of the worker died")
                        .with_source(panic)),
                },
                () = self.ports.clock().sleep_until(wake) => Ok(()),
            };
            if let Err(error) = turned {
                return self.halt(error).await;
            }
        }
    }

    /// When the loop must turn even if no task answers.
    fn next_wake(&mut self, now: Instant) -> Instant {
        let mut wake = self.publish_due;
        if !self.discovery.running && !self.draining {
            wake = wake.min(self.discovery.due);
        }
        if !self.upkeep.running && self.stream_arn.is_some() {
            wake = wake.min(self.upkeep.due);
        }
        if let Some(due) = self.publication_due() {
            wake = wake.min(due);
        }
        for id in LaneId::ALL {
            let from = self.reads_from(id, now);
            let lane = &self.lanes[id as usize];
            if let Some(due) = lane.readers.next_due().filter(|_| self.may_read(id)) {
                wake = wake.min(due.max(self.resume_at).max(from));
            }
            if !lane.running && !lane.filling.is_empty() && self.view.halted.is_none() {
                wake = wake.min(self.resume_at);
            }
        }
        wake.max(now)
    }

    fn start_due(&mut self, now: Instant) {
        if now >= self.publish_due {
            self.publish(now);
        }
        if !self.discovery.running && now >= self.discovery.due && !self.draining {
            self.start_discovery();
        }
        if self.stream_arn.is_none() {
            return;
        }
        let held: usize = self.lanes.iter().map(|lane| lane.readers.len()).sum();
        if held > 0 && now >= self.lease_deadline {
            let (source, count) = (&*self.run.name, held);
            events::LeasesLost { source, count, why: "no renewal in time" }.emit();
            self.reload(now);
        }
        if !self.upkeep.running && now >= self.upkeep.due {
            self.start_upkeep(now);
        }
        if self.publication_due().is_some_and(|due| now >= due) {
            self.start_publication(now);
        }
        if now < self.resume_at || self.view.halted.is_some() {
            return;
        }
        self.start_load_step(now);
        self.give_back_left(now);
        for id in LaneId::ALL {
            self.start_apply(id);
            self.start_reads(id, now);
        }
    }

    fn start_reads(&mut self, id: LaneId, now: Instant) {
        while self.may_read(id) && self.reads_from(id, now) <= now {
            let Some(stream_arn) = &self.stream_arn else { break };
            let readers = &mut self.lanes[id as usize].readers;
            let asked_at = self.publishing.database_time(now);
            let Some((from, ticket)) = readers.next_read(stream_arn, now, asked_at) else { break };
            let (ports, mapper) = (Arc::clone(&self.ports), Arc::clone(&self.run.mapper));
            let (tables, generation) = (Arc::clone(&self.key_columns), self.generation);
            let turns = Arc::clone(&self.turns);
            self.tasks.spawn(async move {
                let result = read(&*ports, &from, &turns).await.and_then(|(page, children)| {
                    let partition = &from.partition;
                    let (mapper, tables) = (&mapper, &tables);
                    let context = PageContext { mapper, tables, generation, partition };
                    let mapped = MappedPage::new(page, context).map_err(halted_by)?;
                    Ok((Box::new(mapped), children))
                });
                Done::Read { ticket, result }
            });
        }
    }

    fn may_read(&self, id: LaneId) -> bool {
        !self.draining
            && self.view.halted.is_none()
            && !self.stands_back(id)
            && !self.lanes[id as usize].filling.is_full(self.run.options.limits)
    }

    fn start_discovery(&mut self) {
        self.discovery.running = true;
        let every = self.discovery_every();
        let survey = Survey {
            source: Arc::clone(&self.run.name),
            worker: self.run.worker.clone(),
            mapper: Arc::clone(&self.run.mapper),
            stream_arn: self.stream_arn.clone(),
            generation: self.generation,
            every,
            lease_ttl: self.run.options.lease_ttl,
            on_gap: self.run.options.on_gap,
        };
        let ports = Arc::clone(&self.ports);
        self.tasks.spawn(async move { Done::Discovered(discover(&*ports, survey).await) });
    }

    fn start_upkeep(&mut self, now: Instant) {
        self.upkeep.running = true;
        let options = &self.run.options;
        let ask = Ask {
            source: Arc::clone(&self.run.name),
            worker: self.run.worker.clone(),
            lease_ttl: options.lease_ttl,
            partitions_max: options.partitions_max,
            acquire: !self.draining && now >= self.resume_at,
        };
        let (ports, era) = (Arc::clone(&self.ports), self.era);
        self.tasks.spawn(async move { Done::Upkept { era, result: keep_up(&*ports, ask).await } });
    }

    fn start_apply(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id as usize];
        let Some(stream_arn) = &self.stream_arn else { return };
        if lane.running || lane.filling.is_empty() {
            return;
        }
        self.note_keys |= lane.filling.has_rejects();
        let filling = std::mem::take(&mut lane.filling);
        lane.applying = filling.partitions().cloned().collect();
        lane.running = true;
        let label = Label {
            source: Arc::clone(&self.run.name),
            stream_arn: Arc::clone(stream_arn),
            generation: self.generation,
            worker: self.run.worker.clone(),
            backfilling: self.view.load.active,
        };
        let tables = Arc::clone(&self.key_columns);
        let (ports, era) = (Arc::clone(&self.ports), self.era);
        self.tasks.spawn(async move {
            let mut sealed = Box::new(filling.seal(label, &tables));
            let started = ports.clock().now();
            let result = apply_whole(ports.sink(), &mut sealed).await;
            let took = ports.clock().now().saturating_duration_since(started);
            Done::Applied { lane: id, era, outcome: Outcome { sealed, took, result } }
        });
    }

    /// Gives back the leases that were planned away, once nothing of them is in hand.
    fn give_back_left(&mut self, now: Instant) {
        let mut leases = Vec::new();
        for lane in &mut self.lanes {
            for partition in lane.readers.left() {
                if lane.in_hand(&partition) {
                    continue;
                }
                if let Some(epoch) = lane.readers.remove(&partition) {
                    self.settled.insert(partition.clone(), now);
                    leases.push((partition, epoch));
                }
            }
        }
        if leases.is_empty() {
            return;
        }
        let (name, worker) = (Arc::clone(&self.run.name), self.run.worker.clone());
        let ports = Arc::clone(&self.ports);
        self.tasks.spawn(async move {
            Done::Released(ports.ledger().release(&name, &worker, &leases, false).await)
        });
    }

    fn lane(&mut self, partition: &PartitionId) -> &mut Lane {
        &mut self.lanes[LaneId::of(partition) as usize]
    }

    fn leases(&self) -> Vec<(PartitionId, Epoch)> {
        self.lanes.iter().flat_map(|lane| lane.readers.leases()).collect()
    }

    fn discovery_every(&self) -> Duration {
        if self.childless.is_empty() {
            self.run.options.discovery_interval
        } else {
            CHILDLESS_DISCOVERY
        }
    }

    fn renew_every(&self) -> Duration {
        self.run.options.lease_ttl / RENEWALS_PER_LEASE
    }

    /// Throws away everything in hand; after `resume_at` the ledger says where to go on.
    fn reload(&mut self, resume_at: Instant) {
        self.era += 1;
        self.lanes.iter_mut().for_each(Lane::forget);
        self.settled.clear();
        self.resume_at = resume_at;
        self.upkeep.due = resume_at;
    }

    /// Ends a drain: gives everything back. Should that fail, the leases simply run out.
    async fn leave(mut self) -> Result<()> {
        self.tasks.abort_all();
        self.publish(self.ports.clock().now());
        let leases = self.leases();
        let (name, worker) = (&self.run.name, &self.run.worker);
        if let Err(error) = self.ports.ledger().release(name, worker, &leases, true).await {
            tracing::warn!(error = %error.chain(), "leases were not given back and will run out");
        }
        Ok(())
    }

    /// Ends the source: says why, and lets others see that its leases are free.
    async fn halt(mut self, error: Error) -> Result<()> {
        let remedy = error.hint().unwrap_or_else(|| remedy(error.kind()));
        let reason = format!("{}; {remedy}", error.chain());
        events::Halted { source: &self.run.name, reason: &reason }.emit();
        // What is published on leaving must still say so.
        self.view = Arc::new(LedgerView { halted: Some(reason), ..(*self.view).clone() });
        self.draining = true;
        self.leave().await?;
        Err(error)
    }
}

/// Reads a page; at a partition's end also asks for its children, so that they are entered in the
/// transaction that applies its last page. Where none are known yet, the next listing will have them.
async fn read<P: Seams>(
    ports: &P,
    from: &ReadFrom,
    turns: &Mutex<Turns>,
) -> Result<(Page, Vec<ShardListing>)> {
    let answer = ports.source().read(from).await;
    if from.partition.kind() != PartitionKind::File {
        request("GetRecords", answer.as_ref().err());
    }
    let page = answer?;
    let mut children = Vec::new();
    // Only shards are continued by others.
    let at_end = page.end && from.partition.is_shard();
    for _ in 0..if at_end { CHILD_LOOKUPS } else { 0 } {
        let now = ports.clock().now();
        let turn = turns.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        let Some(turn) = turn else { break };
        ports.clock().sleep_until(turn).await;
        let answer = ports.source().child_shards(&from.stream_arn, &from.partition).await;
        request("DescribeStream", answer.as_ref().err());
        children = answer.unwrap_or_default();
        if !children.is_empty() {
            break;
        }
    }
    Ok((page, children))
}

fn halted_by(item: UnmatchedItem) -> Error {
    let keys: Vec<&str> = item.keys.iter().map(|(name, _)| name).collect();
    let what = format!(
        "an item (key attributes {}) matches no entity, and unmatched = \"halt\"",
        keys.join(", ")
    );
    Error::new(ErrorKind::Config, what)
}
