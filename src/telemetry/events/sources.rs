//! How a source is: fresh, with a gap, halted.

use std::time::Duration;

use crate::model::{EpochMillis, PartitionId};
use crate::telemetry::metrics::{self, GAP_REASON, STATE, source};

/// A source's freshness, published about once a second.
pub struct Freshness<'a> {
    /// The source.
    pub source: &'a str,
    /// Every change up to this time is in the target; `None` while unknown.
    pub synced_up_to: Option<EpochMillis>,
    /// The oldest of its shards' last polls.
    pub last_poll_at: Option<EpochMillis>,
    /// The time left before the stream drops unread data.
    pub retention_headroom: Duration,
    /// Partitions by state.
    pub shards: [(&'static str, u64); 4],
    /// Open dead letters.
    pub dead_letters: u64,
    /// Open gaps.
    pub gaps: u64,
    /// The number of wrong rows after the last verification, and when it ended.
    pub verified: Option<(u64, EpochMillis)>,
    /// Whether an operator is needed.
    pub halted: bool,
}

impl Freshness<'_> {
    /// Emits the event.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn emit(&self) {
        if let Some(at) = self.synced_up_to {
            metrics::SYNCED_UP_TO.gauge([source(self.source)]).set(at.as_secs_f64());
        }
        if let Some(at) = self.last_poll_at {
            metrics::LAST_POLL.gauge([source(self.source)]).set(at.as_secs_f64());
        }
        metrics::RETENTION_HEADROOM
            .gauge([source(self.source)])
            .set(self.retention_headroom.as_secs_f64());
        for (state, count) in self.shards {
            metrics::SHARDS.gauge([source(self.source), STATE.is(state)]).set(count as f64);
        }
        metrics::DEAD_LETTERS.gauge([source(self.source)]).set(self.dead_letters as f64);
        metrics::GAPS_OPEN.gauge([source(self.source)]).set(self.gaps as f64);
        if let Some((rows, at)) = self.verified {
            metrics::VERIFY_MISMATCHED.gauge([source(self.source)]).set(rows as f64);
            metrics::VERIFY_AT.gauge([source(self.source)]).set(at.as_secs_f64());
        }
        metrics::HALTED.gauge([source(self.source)]).set(f64::from(u8::from(self.halted)));
    }
}

/// The time that is left while a source is halted, counted on by the clock.
pub struct Headroom<'a> {
    /// The source.
    pub source: &'a str,
    /// The time left before the stream drops unread data.
    pub left: Duration,
}

impl Headroom<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::RETENTION_HEADROOM.gauge([source(self.source)]).set(self.left.as_secs_f64());
    }
}

/// A stream was disabled, or another one has taken its place.
pub struct StreamEnded<'a> {
    /// The source.
    pub source: &'a str,
    /// What that means, and what to do; `None` once it is over.
    pub why: Option<&'a str>,
}

impl StreamEnded<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        match self.why {
            Some(why) => tracing::warn!(source = self.source, why, "the stream has ended"),
            None => tracing::info!(source = self.source, "there is a stream again"),
        }
    }
}

/// Changes were lost.
pub struct GapFound<'a> {
    /// The source.
    pub source: &'a str,
    /// Why.
    pub reason: &'static str,
    /// The partition.
    pub partition: Option<&'a PartitionId>,
    /// Whether the source halts for it.
    pub halts: bool,
}

impl GapFound<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::GAPS.counter([source(self.source), GAP_REASON.is(self.reason)]).increment(1);
        tracing::error!(
            source = self.source,
            reason = self.reason,
            partition = self.partition.map(PartitionId::as_str),
            halts = self.halts,
            "changes were lost before they were read"
        );
    }
}

/// A source stopped and needs an operator.
pub struct Halted<'a> {
    /// The source.
    pub source: &'a str,
    /// Why, and if known what to do.
    pub reason: &'a str,
}

impl Halted<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::HALTED.gauge([source(self.source)]).set(1.0);
        tracing::error!(source = self.source, reason = self.reason, "source halted");
    }
}
