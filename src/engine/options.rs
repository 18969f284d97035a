//! How a source runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::readers::Pace;
use super::tail::freshness::SourceState;
use crate::apply::batch::Limits;
use crate::mapping::Mapper;
use crate::model::{GapReason, WorkerId};

/// What happens when changes were lost unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGap {
    /// The source halts until an operator acts.
    #[default]
    Halt,
    /// The whole table is read again beside its stream, and vanished rows are swept.
    Resync,
}

impl OnGap {
    /// Whether a gap of this reason halts the source. A recreated table always does: a sweep could empty the
    /// target.
    #[must_use]
    pub fn halts(self, reason: GapReason) -> bool {
        self == Self::Halt || reason == GapReason::TableChanged
    }
}

/// When a worker begins a backfill by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backfill {
    /// Only for an operator or a gap.
    #[default]
    Never,
    /// When the table was never backfilled.
    Auto,
    /// Once, when the process starts.
    Force,
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
    /// When a batch is full.
    pub limits: Limits,
    /// The most partitions that this process reads.
    pub partitions_max: usize,
    /// The share of rejects, from 0 to 1, above which the source halts.
    pub reject_share_max: f64,
    /// What happens when changes were lost.
    pub on_gap: OnGap,
    /// When a backfill begins by itself.
    pub backfill: Backfill,
    /// How many segments a backfill has; by default the number of items decides.
    pub segments: Option<u32>,
    /// The read units a second for a backfill, all workers together; no limit by default.
    pub rcu_max: Option<f64>,
    /// The share of rows, from 0 to 1, that a backfill's sweep may delete without confirmation.
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
    /// Seed for the jitter of pauses.
    pub seed: u64,
    /// Where the source's state is published.
    pub status: watch::Sender<SourceState>,
}
