//! How a source runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::backfill::Backfill;
use super::readers::Pace;
use super::tail::freshness::SourceStatus;
use crate::apply::batch::Limits;
use crate::mapping::Mapper;
use crate::model::GapReason;
use crate::model::WorkerId;

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
