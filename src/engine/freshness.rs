//! What is synced up to when, purely; idle and stuck are told apart by their timestamps.

use std::sync::Arc;
use std::time::Duration;

use super::ports::LedgerView;
use crate::model::{EpochMillis, Generation};

/// Empty pages in a row after which a shard counts as caught up. One proves nothing: the service may answer
/// with an empty page in the midst of a shard.
pub const CAUGHT_UP_POLLS: u32 = 3;
/// The stream's times are whole seconds rounded down and a record shows up a little after its write, so a
/// caught-up shard is taken to be synced only up to this long before its last poll.
const MARGIN: Duration = Duration::from_secs(2);
/// How long a stream keeps its records (the service's documentation).
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// How far one live shard is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardProgress {
    /// The newest record's time, once it is applied.
    pub last_event_at: Option<EpochMillis>,
    /// The last poll that was answered.
    pub last_poll_at: Option<EpochMillis>,
    /// Whether the last [`CAUGHT_UP_POLLS`] pages were empty and nothing waits to be applied.
    pub caught_up: bool,
}

impl ShardProgress {
    /// Every change of this shard up to this time is in the target; `None` while nothing is known.
    #[must_use]
    pub fn synced_up_to(&self) -> Option<EpochMillis> {
        match self.last_poll_at {
            Some(at) if self.caught_up => {
                Some(EpochMillis(at.0 - i64::try_from(MARGIN.as_millis()).unwrap_or(0)))
            }
            _ => self.last_event_at,
        }
    }
}

/// Every change up to this time is in the target: the least over the live shards.
#[must_use]
pub fn synced_up_to(shards: &[ShardProgress]) -> Option<EpochMillis> {
    shards.iter().map(ShardProgress::synced_up_to).min().flatten()
}

/// How long until the stream may drop the oldest change that was not read yet.
#[must_use]
pub fn retention_headroom(shards: &[ShardProgress], now: EpochMillis) -> Duration {
    let oldest = shards.iter().filter_map(ShardProgress::synced_up_to).min().unwrap_or(now);
    let age = u64::try_from(now.0 - oldest.0).unwrap_or(0);
    RETENTION.saturating_sub(Duration::from_millis(age))
}

/// A source as its worker sees it, published for status, readiness and metrics.
#[derive(Debug, Clone, Default)]
pub struct SourceStatus {
    /// When the worker's loop last turned.
    pub turned_at: EpochMillis,
    /// The generation.
    pub generation: Generation,
    /// Why an operator is needed, where one is.
    pub halted: Option<String>,
    /// What is failing just now and is being tried again.
    pub failing: Option<String>,
    /// Whether the worker knows its stream and has talked to the ledger.
    pub started: bool,
    /// Every change up to this time is in the target, as far as this worker's shards go.
    pub synced_up_to: Option<EpochMillis>,
    /// The newest applied change's time.
    pub last_event_at: Option<EpochMillis>,
    /// The oldest of the last polls of this worker's shards.
    pub last_poll_at: Option<EpochMillis>,
    /// The time left before the stream drops unread data.
    pub retention_headroom: Duration,
    /// How many records this worker has applied.
    pub records: u64,
    /// How many partitions this worker reads.
    pub owned: usize,
    /// The source as the ledger had it at the last round of upkeep.
    pub view: Arc<LedgerView>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(event: Option<i64>, poll: Option<i64>, caught_up: bool) -> ShardProgress {
        ShardProgress {
            last_event_at: event.map(EpochMillis),
            last_poll_at: poll.map(EpochMillis),
            caught_up,
        }
    }

    #[test]
    fn the_slowest_shard_decides() {
        let behind = progress(Some(10_000), Some(99_000), false);
        let idle = progress(Some(1_000), Some(99_000), true);
        assert_eq!(synced_up_to(&[behind, idle]), Some(EpochMillis(10_000)));
        assert_eq!(synced_up_to(&[idle]), Some(EpochMillis(97_000)));
    }

    #[test]
    fn an_unread_shard_makes_it_unknown() {
        let unread = progress(None, None, false);
        assert_eq!(synced_up_to(&[unread, progress(Some(5), Some(9), false)]), None);
        assert_eq!(synced_up_to(&[]), None);
    }

    #[test]
    fn headroom_shrinks_with_the_age_of_the_oldest_unread_change() {
        let now = EpochMillis(100 * 3_600_000);
        let behind = progress(Some(now.0 - 3_600_000), Some(now.0), false);
        assert_eq!(retention_headroom(&[behind], now), Duration::from_secs(23 * 3600));
        let lost = progress(Some(0), Some(now.0), false);
        assert_eq!(retention_headroom(&[lost], now), Duration::ZERO);
        assert_eq!(retention_headroom(&[], now), RETENTION);
    }
}
