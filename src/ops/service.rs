//! The running sources of one process, as `run`, `demo` and the tests start them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::backfill::progress;
use crate::engine::ports::Clock;
use crate::engine::tail::freshness::SourceState;
use crate::engine::tail::lineage::{Readiness, readiness};
use crate::engine::{self, Options, Seams, SourceRun};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::Mapper;
use crate::model::{EpochMillis, Position, WorkerId};
use crate::telemetry::{events, status};

/// A loop without a turn for this long is stuck: it publishes every second.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// A source synced up to less than this long ago is up to date: a poll interval or two, and the margin for
/// times in whole seconds.
const IN_STEP: Duration = Duration::from_secs(10);
/// An up-to-date source without a change for this long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// The sources of this process.
#[derive(Debug)]
pub struct Service {
    worker: WorkerId,
    seed: u64,
    stop: CancellationToken,
    tasks: JoinSet<(Arc<str>, Result<()>)>,
    watched: Vec<Watched>,
}

/// One source to add.
#[derive(Debug)]
pub struct SourcePlan {
    /// Its name in the config.
    pub name: Arc<str>,
    /// The DynamoDB table.
    pub table: String,
    /// Its mapping.
    pub mapper: Arc<Mapper>,
    /// How its worker behaves.
    pub options: Options,
}

#[derive(Debug, Clone)]
struct Watched {
    name: Arc<str>,
    table: String,
    status: watch::Receiver<SourceState>,
}

/// Reports the state of a service's sources at any time, without blocking.
#[derive(Debug, Clone)]
pub struct Observer(Vec<Watched>);

impl Service {
    /// A service without sources yet. `seed` seeds the jitter of pauses.
    #[must_use]
    pub fn new(worker: WorkerId, seed: u64) -> Self {
        let stop = CancellationToken::new();
        Self { worker, seed, stop, tasks: JoinSet::new(), watched: Vec::new() }
    }

    /// Starts a source.
    pub fn add<P: Seams>(&mut self, plan: SourcePlan, ports: P) {
        let SourcePlan { name, table, mapper, options } = plan;
        let turned_at = ports.clock().wall();
        let (status, receiver) =
            watch::channel(SourceState { turned_at, ..SourceState::default() });
        self.watched.push(Watched { name: Arc::clone(&name), table, status: receiver });
        let seed = self.seed.wrapping_add(self.watched.len() as u64);
        let worker = self.worker.clone();
        let run = SourceRun { name: Arc::clone(&name), worker, mapper, options, seed, status };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let result = engine::run(Arc::new(ports), run, stop).await;
            (name, result)
        });
    }

    /// Reports the sources' state.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer(self.watched.clone())
    }

    /// Stops the service: once cancelled, each source applies what it holds and ends.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until every source has ended. A halted source leaves the others running: the status shows it,
    /// and its error is returned at the end.
    ///
    /// # Errors
    /// The first error that halted a source.
    pub async fn finished(mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(done) = self.tasks.join_next().await {
            let result = match done {
                Ok((_, result)) => result,
                Err(panic) => {
                    Err(Error::new(ErrorKind::Unknown, "a source's worker died").with_source(panic))
                }
            };
            let halted = result.is_err();
            if first.is_ok() {
                first = result;
            }
            if halted {
                // A halted source needs an operator, who must be able to ask why: the process stays until it
                // is told to stop.
                self.stop.cancelled().await;
            }
        }
        first
    }
}

impl Observer {
    /// A number that changes while every loop runs, for the watchdog. The loop of a source that waits for a
    /// person has ended, which is no reason to end the others.
    #[must_use]
    pub fn progress(&self, now: EpochMillis) -> u64 {
        let turned = self.0.iter().filter_map(|source| {
            let known = source.status.borrow();
            known.halted.is_none().then_some(known.turned_at)
        });
        turned.min().unwrap_or(now).0.unsigned_abs()
    }

    /// Counts on by the clock what is told of sources that are halted: their workers may have ended.
    pub fn count_on(&self, now: EpochMillis) {
        for source in &self.0 {
            let known = source.status.borrow();
            if known.halted.is_some() {
                let left = headroom(&known, now);
                events::Headroom { source: &source.name, left }.emit();
            }
        }
    }

    /// The records applied by this process.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.0.iter().map(|source| source.status.borrow().records).sum()
    }

    /// The state of all sources.
    #[must_use]
    pub fn status(&self, now: EpochMillis) -> status::Status {
        let mut whole = status::Status {
            ready: true,
            live: true,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..status::Status::default()
        };
        for source in &self.0 {
            let known = source.status.borrow();
            if !turns(&known, now) {
                whole.live = false;
                whole.reasons.push(format!("source {}: its loop is stuck", source.name));
            }
            if let Some(reason) = unready(&known) {
                whole.ready = false;
                whole.reasons.push(format!("source {}: {reason}", source.name));
            }
            whole.sources.push(tell(source, &known, now));
        }
        whole.ready &= whole.live;
        whole
    }
}

fn turns(status: &SourceState, now: EpochMillis) -> bool {
    status.halted.is_some() || age(status.turned_at, now) < STUCK_AFTER
}

fn unready(status: &SourceState) -> Option<String> {
    if let Some(reason) = &status.halted {
        return Some(format!("halted: {reason}"));
    }
    if !status.started {
        let why = status.failing.as_deref().unwrap_or("waiting for the stream and the ledger");
        return Some(format!("starting: {why}"));
    }
    status.failing.as_ref().map(|failing| format!("failing: {failing}"))
}

fn tell(source: &Watched, known: &SourceState, now: EpochMillis) -> status::SourceStatus {
    let lag = known.synced_up_to.map(|at| age(at, now));
    let mut told = status::SourceStatus {
        source: source.name.to_string(),
        table: source.table.clone(),
        state: state(known, lag, now).to_owned(),
        generation: known.generation,
        synced_up_to: known.synced_up_to,
        last_event_at: known.last_event_at,
        last_poll_at: known.last_poll_at,
        lag_secs: lag.map(|lag| lag.as_secs_f64()),
        retention_headroom_secs: known.started.then(|| headroom(known, now).as_secs_f64()),
        backfilling: known.view.backfill.active,
        backfill_progress_ratio: progress(&known.view),
        dead_letters: known.view.dead_letters,
        gaps: known.view.gaps,
        halted: known.halted.clone(),
        warnings: known.warning.iter().cloned().collect(),
        ..status::SourceStatus::default()
    };
    let rows = &known.view.partitions;
    for (row, readiness) in rows.iter().zip(readiness(rows)) {
        let counts = &mut told.partitions;
        let (count, state) = match readiness {
            Readiness::Readable if row.owner.is_some() => (&mut counts.owned, "owned"),
            Readiness::Readable => (&mut counts.open, "open"),
            Readiness::Waiting => (&mut counts.waiting, "waiting"),
            Readiness::Drained => (&mut counts.drained, "drained"),
            Readiness::Lost => (&mut counts.lost, "lost"),
        };
        *count += 1;
        let position = match &row.position {
            Position::Key(_) => "key".to_owned(),
            other => other.to_string(),
        };
        told.shards.push(status::ShardStatus {
            id: row.id.to_string(),
            parent: row.parent.as_ref().map(ToString::to_string),
            state: state.to_owned(),
            owner: row.owner.as_ref().map(ToString::to_string),
            position,
        });
    }
    told
}

/// The same words, in the same order, as those of the view `dynaurora.freshness`.
fn state(known: &SourceState, lag: Option<Duration>, now: EpochMillis) -> &'static str {
    if known.halted.is_some() {
        return "halted";
    }
    if !known.started {
        return "starting";
    }
    if known.view.gaps_open > 0 {
        return "gapped";
    }
    if known.view.backfill.active {
        return "backfilling";
    }
    if !turns(known, now) {
        return "stuck";
    }
    if lag.is_none_or(|lag| lag > IN_STEP) {
        return "behind";
    }
    let quiet = known.last_event_at.is_none_or(|at| age(at, now) > IDLE_AFTER);
    if quiet { "idle" } else { "live" }
}

/// The time left before the stream drops unread data, now.
fn headroom(known: &SourceState, now: EpochMillis) -> Duration {
    known.retention_headroom.saturating_sub(age(known.turned_at, now))
}

fn age(at: EpochMillis, now: EpochMillis) -> Duration {
    Duration::from_millis(u64::try_from(now.0 - at.0).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ports::LedgerView;

    fn known(synced: Option<i64>, event: Option<i64>) -> SourceState {
        SourceState {
            started: true,
            turned_at: EpochMillis(100_000),
            synced_up_to: synced.map(EpochMillis),
            last_event_at: event.map(EpochMillis),
            ..SourceState::default()
        }
    }

    #[test]
    fn idle_behind_and_halted_are_told_apart() {
        let now = EpochMillis(100_000);
        let word =
            |known: &SourceState| state(known, known.synced_up_to.map(|at| age(at, now)), now);
        assert_eq!(word(&known(Some(98_000), Some(97_000))), "live");
        assert_eq!(word(&known(Some(98_000), Some(1_000))), "idle");
        assert_eq!(word(&known(Some(50_000), Some(50_000))), "behind");
        assert_eq!(word(&known(None, None)), "behind");
        let halted = SourceState { halted: Some("why".to_owned()), ..known(None, None) };
        assert_eq!(word(&halted), "halted");
        assert_eq!(word(&SourceState::default()), "starting");
        let stopped = SourceState { turned_at: EpochMillis(1), ..known(None, None) };
        assert_eq!(word(&stopped), "stuck");
        let mut gapped = known(Some(98_000), None);
        gapped.view = Arc::new(LedgerView { gaps_open: 1, ..LedgerView::default() });
        assert_eq!(word(&gapped), "gapped");
    }

    #[test]
    fn the_headroom_of_a_source_whose_worker_has_ended_counts_on() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let halted = SourceState {
            halted: Some("why".to_owned()),
            retention_headroom: hours(20),
            ..known(None, None)
        };
        let later = |own: u64| EpochMillis(100_000 + i64::try_from(own).unwrap() * 3_600_000);
        assert_eq!(headroom(&halted, later(0)), hours(20));
        assert_eq!(headroom(&halted, later(5)), hours(15));
        assert_eq!(headroom(&halted, later(30)), Duration::ZERO);
    }

    #[test]
    fn a_stuck_loop_is_not_alive_and_a_failing_source_not_ready() {
        let stuck = known(Some(98_000), None);
        assert!(turns(&stuck, EpochMillis(120_000)));
        assert!(!turns(&stuck, EpochMillis(140_000)));
        let failing = SourceState { failing: Some("apply: gone".to_owned()), ..stuck };
        assert_eq!(unready(&failing).as_deref(), Some("failing: apply: gone"));
    }
}
