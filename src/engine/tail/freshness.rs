//! Computes what each shard is synced up to, purely, and tells idle from stuck.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::ports::LedgerView;
use crate::model::{EpochMillis, Generation, RETENTION};

/// After this many empty pages in a row a shard counts as caught up. One empty page proves nothing: the
/// service may send them in the middle of a shard.
pub const CAUGHT_UP_POLLS: u32 = 3;
/// The stream's times are rounded down to seconds and records appear shortly after their write, so a
/// caught-up shard counts as synced only up to this long before its last poll. The end of a closed shard and
/// all its children are assumed to appear within this time too.
pub const MARGIN: Duration = Duration::from_secs(2);
/// The progress of one live shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardProgress {
    /// The time of the newest applied record.
    pub last_event_at: Option<EpochMillis>,
    /// The last answered poll.
    pub last_poll_at: Option<EpochMillis>,
    /// Every change of this shard before this time is in the target; `None` while unknown. It never falls
    /// while the shard is read.
    pub synced_up_to: Option<EpochMillis>,
}

/// Every change before this time is in the target: the minimum over the live shards.
#[must_use]
pub fn synced_up_to(shards: &[ShardProgress]) -> Option<EpochMillis> {
    shards.iter().map(|shard| shard.synced_up_to).min().flatten()
}

/// The time that a shard is synced up to if a poll sent at `asked_at` found it empty and nothing waits to be
/// applied. The time of sending counts, because an answer may take long.
#[must_use]
pub fn caught_up(asked_at: EpochMillis) -> EpochMillis {
    EpochMillis(asked_at.0 - i64::try_from(MARGIN.as_millis()).unwrap_or(0))
}

/// The shards that a worker covers, and the one time that it publishes for them.
///
/// That time never falls. A shard that is further behind, because it was taken over or is read again, is
/// not covered until it has caught up; meanwhile the ledger's own row has its time.
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

/// The time left until the stream may drop the oldest unread change.
#[must_use]
pub fn retention_headroom(shards: &[ShardProgress], now: EpochMillis) -> Duration {
    let oldest = shards.iter().filter_map(|shard| shard.synced_up_to).min().unwrap_or(now);
    let age = u64::try_from(now.0 - oldest.0).unwrap_or(0);
    RETENTION.saturating_sub(Duration::from_millis(age))
}

/// A source as its worker sees it, for status, readiness and metrics.
#[derive(Debug, Clone, Default)]
pub struct SourceState {
    /// The last turn of the worker's loop.
    pub turned_at: EpochMillis,
    /// The generation.
    pub generation: Generation,
    /// Why an operator is needed, if so.
    pub halted: Option<String>,
    /// A current failure that is being retried.
    pub failing: Option<String>,
    /// A problem that does not keep the source from being up to date.
    pub warning: Option<String>,
    /// Whether the worker knows its stream and has reached the ledger.
    pub started: bool,
    /// Every change up to this time is in the target, for this worker's shards.
    pub synced_up_to: Option<EpochMillis>,
    /// The newest applied change's time.
    pub last_event_at: Option<EpochMillis>,
    /// The oldest of its shards' last polls.
    pub last_poll_at: Option<EpochMillis>,
    /// The time left before the stream drops unread data.
    pub retention_headroom: Duration,
    /// How many records this worker has applied.
    pub records: u64,
    /// How many partitions this worker reads.
    pub owned: usize,
    /// The source in the ledger at the last round of upkeep.
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
