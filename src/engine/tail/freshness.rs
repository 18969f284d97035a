//! What is synced up to when, purely; idle and stuck are told apart by their timestamps.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::ports::LedgerView;
use crate::model::{EpochMillis, Generation, RETENTION};

/// Empty pages in a row after which a shard counts as caught up. One proves nothing: the service may answer
/// with an empty page in the midst of a shard. From this one on, an empty page is taken at its word.
pub const CAUGHT_UP_POLLS: u32 = 3;
/// The stream's times are whole seconds rounded down and a record shows up a little after its write, so a
/// caught-up shard is taken to be synced only up to this long before its last poll. A shard that was closed
/// is taken to show its end, and all its children, within this time too.
pub const MARGIN: Duration = Duration::from_secs(2);
/// How far one live shard is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardProgress {
    /// The newest record's time, once it is applied.
    pub last_event_at: Option<EpochMillis>,
    /// The last poll that was answered.
    pub last_poll_at: Option<EpochMillis>,
    /// Every change of this shard before this time is in the target; `None` while nothing is known. It
    /// never falls while the shard is read.
    pub synced_up_to: Option<EpochMillis>,
}

/// Every change before this time is in the target: the least over the live shards.
#[must_use]
pub fn synced_up_to(shards: &[ShardProgress]) -> Option<EpochMillis> {
    shards.iter().map(|shard| shard.synced_up_to).min().flatten()
}

/// What is synced of a shard that had nothing more to give, and has nothing waiting to be applied, when it
/// was asked at this time. The asking counts: an answer may be on its way for as long as it likes.
#[must_use]
pub fn caught_up(asked_at: EpochMillis) -> EpochMillis {
    EpochMillis(asked_at.0 - i64::try_from(MARGIN.as_millis()).unwrap_or(0))
}

/// Which of a worker's shards it speaks for, and the time that it publishes for all of them.
///
/// That time never falls. A shard that is further back, because it was taken over or thrown away and read
/// again, is left out until it has come as far: meanwhile the ledger's own row says where it is.
#[must_use]
pub fn spoken_for<T>(
    shards: Vec<(T, ShardProgress)>,
    before: Option<EpochMillis>,
) -> (Vec<T>, Option<EpochMillis>) {
    let known = |progress: &ShardProgress| {
        progress.synced_up_to.is_some() && progress.synced_up_to >= before
    };
    let covered: Vec<_> = shards.into_iter().filter(|(_, progress)| known(progress)).collect();
    let least = covered.iter().filter_map(|(_, progress)| progress.synced_up_to).min();
    (covered.into_iter().map(|(lease, _)| lease).collect(), least.or(before))
}

/// How long until the stream may drop the oldest change that was not read yet.
#[must_use]
pub fn retention_headroom(shards: &[ShardProgress], now: EpochMillis) -> Duration {
    let oldest = shards.iter().filter_map(|shard| shard.synced_up_to).min().unwrap_or(now);
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
    /// What is not as it should be though the source is kept in step.
    pub warning: Option<String>,
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

    fn at(millis: i64) -> ShardProgress {
        ShardProgress { synced_up_to: Some(EpochMillis(millis)), ..ShardProgress::default() }
    }

    #[test]
    fn the_slowest_shard_decides() {
        assert_eq!(synced_up_to(&[at(10_000), at(97_000)]), Some(EpochMillis(10_000)));
        assert_eq!(caught_up(EpochMillis(99_000)), EpochMillis(97_000));
    }

    #[test]
    fn an_unread_shard_makes_it_unknown() {
        assert_eq!(synced_up_to(&[ShardProgress::default(), at(5)]), None);
        assert_eq!(synced_up_to(&[]), None);
    }

    #[test]
    fn what_is_published_never_falls_and_never_speaks_for_a_shard_further_back() {
        let unread = ShardProgress::default();
        let first = spoken_for(vec![("a", at(10)), ("b", at(20)), ("c", unread)], None);
        assert_eq!(first, (vec!["a", "b"], Some(EpochMillis(10))));
        let second = spoken_for(vec![("b", at(20)), ("c", at(15))], Some(EpochMillis(18)));
        assert_eq!(second, (vec!["b"], Some(EpochMillis(20))));
        assert_eq!(spoken_for::<&str>(vec![], second.1), (vec![], second.1));
    }

    #[test]
    fn headroom_shrinks_with_the_age_of_the_oldest_unread_change() {
        let now = EpochMillis(100 * 3_600_000);
        let behind = at(now.0 - 3_600_000);
        assert_eq!(retention_headroom(&[behind], now), Duration::from_secs(23 * 3600));
        assert_eq!(retention_headroom(&[at(0)], now), Duration::ZERO);
        assert_eq!(retention_headroom(&[], now), RETENTION);
    }
}
