//! Decides what is read, mapped and applied when.
//!
//! One [`run`] per source: a single loop owns all state (`worker.rs`), starts reads, applies and upkeep as
//! tasks that own nothing but their request, and takes their answers one at a time. The decisions are pure
//! leaves: [`lineage`] says what may be read, [`lease`] who should read it, [`readers`] what is read next,
//! [`batch`] what is applied together, [`retry`] what follows from a failure, [`freshness`] what is synced.

mod apply;
pub mod backfill;
pub mod batch;
pub mod budget;
pub mod freshness;
mod lane;
pub mod lease;
pub mod lineage;
pub mod listing;
pub mod ports;
pub mod readers;
pub mod rejects;
pub mod retry;
pub mod rewind;
mod upkeep;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::mapping::Mapper;
use backfill::Backfill;
use batch::Limits;
use freshness::SourceStatus;
use ports::{Clock, GapReason, Ledger, Sink, Source, WorkerId};
use readers::Pace;
pub use upkeep::usable;

/// The four seams that a source's worker runs over.
#[derive(Debug)]
pub struct Ports<S, L, K, C> {
    /// Where changes come from.
    pub source: S,
    /// Where positions and leases are kept.
    pub ledger: L,
    /// Where rows go.
    pub sink: K,
    /// Time.
    pub clock: C,
}

/// What happens when changes were lost before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGap {
    /// The source halts until an operator acts.
    #[default]
    Halt,
    /// The table is read again as a whole beside its stream, and what is no longer there is swept.
    Resync,
}

impl OnGap {
    /// Whether a gap of this reason halts the source. A table that was deleted and created again always
    /// does: a sweep could empty the target.
    #[must_use]
    pub fn halts(self, reason: GapReason) -> bool {
        self == Self::Halt || reason == GapReason::TableChanged
    }
}

/// How a source's worker behaves; the defaults and their reasons are in the config room.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a lease is held without renewal.
    pub lease_ttl: Duration,
    /// How often shards are polled.
    pub pace: Pace,
    /// How often all shards are listed.
    pub discovery_interval: Duration,
    /// When a batch takes no further page.
    pub limits: Limits,
    /// How many partitions this process reads at most.
    pub partitions_max: usize,
    /// The share of rejects, from 0 to 1, above which the source halts.
    pub reject_share_max: f64,
    /// What happens when changes were lost.
    pub on_gap: OnGap,
    /// When a load begins by itself.
    pub backfill: Backfill,
    /// How many segments a load has; by the number of items where nobody says.
    pub segments: Option<u32>,
    /// The read units a second that a load may take, all workers together; no limit where nobody says.
    pub rcu_max: Option<f64>,
    /// The share of rows, from 0 to 1, that the sweep of a load may delete without an operator's word.
    pub sweep_share_max: f64,
}

/// One source to run.
#[derive(Debug)]
pub struct SourceRun {
    /// The source's name.
    pub name: Arc<str>,
    /// This process.
    pub worker: WorkerId,
    /// The mapping.
    pub mapper: Arc<Mapper>,
    /// How to behave.
    pub options: Options,
    /// Seeds the jitter of pauses.
    pub seed: u64,
    /// Where the source's state is published.
    pub status: watch::Sender<SourceStatus>,
}

/// Keeps the target in step with one source until `stop` is cancelled, then applies what is in hand, gives
/// the leases back and returns.
///
/// Dropping the future at any point is safe: it is what a crash does.
///
/// # Errors
/// What nobody may retry (see [`retry::directive`]): the source has halted, its leases are given back.
pub async fn run<S, L, K, C>(
    ports: Arc<Ports<S, L, K, C>>,
    run: SourceRun,
    stop: CancellationToken,
) -> Result<()>
where
    S: Source,
    L: Ledger,
    K: Sink,
    C: Clock,
{
    worker::Worker::new(ports, run).drive(stop).await
}
