//! Waits until the target has every change made up to a time.

use std::time::Duration;

use tokio::time::Instant;

use super::{named, wire};
use crate::config::Config;
use crate::engine::ports::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::EpochMillis;
use crate::postgres::listings::freshness::{Freshness, look};
use crate::telemetry::status::{duration, timestamp};

/// The pause between two checks; as in `dynaurora.wait_for`.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A time may be this far ahead of this machine's clock: freshness assumes that clocks agree within it.
const CLOCKS_AGREE_WITHIN: Duration = Duration::from_secs(2);

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    /// The source's name in the config.
    pub source: &'a str,
    /// The time after the writes in question.
    pub after: EpochMillis,
    /// How long to wait.
    pub timeout: Duration,
}

/// Waits until the source is fresh, or the time for that is over; how fresh it is then.
///
/// # Errors
/// `Usage` for a source that the config has not and for a time that has not come yet; `Unavailable` when the
/// ledger does not know the source; what the database meets.
pub async fn wait(config: &Config, wait: Wait<'_>, clock: &impl Clock) -> Result<Freshness> {
    let Wait { source, after, timeout } = wait;
    named::source(config, Some(source))?;
    in_the_past(after, clock.wall())?;
    let ends_at = clock.now() + timeout;
    let pools = wire::target_to_read(config).await?;
    let seen = until(ends_at, clock, async || look(&pools.pool().await?, source, after).await);
    seen.await?.ok_or_else(|| {
        let what = format!("the ledger does not know the source {source} yet");
        Error::new(ErrorKind::Unavailable, what).with_hint("start the daemon: dynaurora run")
    })
}

impl Wait<'_> {
    /// That it was not fresh in time, and what may help.
    #[must_use]
    pub fn in_vain(&self, seen: &Freshness) -> Error {
        let Freshness { state, synced_up_to, .. } = seen;
        let reached = synced_up_to.map_or_else(|| "an unknown time".to_owned(), timestamp);
        let (source, after) = (self.source, timestamp(self.after));
        let what = format!("source {source} is {state}, synced up to {reached}, not {after}");
        Error::new(ErrorKind::Unavailable, what).with_hint(remedy(state))
    }
}

/// Looks until what is seen is fresh, or the time is over.
async fn until(
    ends_at: Instant,
    clock: &impl Clock,
    mut look: impl AsyncFnMut() -> Result<Option<Freshness>>,
) -> Result<Option<Freshness>> {
    loop {
        let seen = look().await?;
        let now = clock.now();
        if now >= ends_at || seen.as_ref().is_some_and(|seen| seen.fresh) {
            return Ok(seen);
        }
        clock.sleep_until(ends_at.min(now + LOOK_EVERY)).await;
    }
}

/// A time in the future cannot be after the writes.
fn in_the_past(after: EpochMillis, now: EpochMillis) -> Result<()> {
    let ahead = Duration::from_millis(u64::try_from(after.0 - now.0).unwrap_or(0));
    if ahead <= CLOCKS_AGREE_WITHIN {
        return Ok(());
    }
    let what =
        format!("--after {} is {} in the future", timestamp(after), duration(ahead.as_secs_f64()));
    Err(Error::new(ErrorKind::Usage, what).with_hint(format!(
        "give a time after the writes, but not after now, {}; clocks may differ by {} s",
        timestamp(now),
        CLOCKS_AGREE_WITHIN.as_secs()
    )))
}

/// A hint for each state.
fn remedy(state: &str) -> &'static str {
    match state {
        "halted" | "gapped" => "dynaurora status says what was lost, and what to do",
        "backfilling" => "a backfill runs; dynaurora status shows its progress",
        "stuck" => "no worker reports: is `dynaurora run` running, and can it reach the target?",
        _ => "wait longer, with --timeout 1m; a quiet source is synced up to 3 to 5 s ago",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SystemClock;

    fn seen(fresh: bool) -> Freshness {
        Freshness {
            state: "live".to_owned(),
            synced_up_to: None,
            last_event_at: None,
            last_poll_at: None,
            lag_secs: None,
            alive: true,
            fresh,
        }
    }

    #[tokio::test]
    async fn it_looks_until_the_source_is_fresh_or_the_time_is_over() {
        let (now, mut looks) = (SystemClock.now(), 0);
        let look = async || {
            looks += 1;
            Ok((looks > 1).then(|| seen(looks == 3)))
        };
        let last = until(now + Duration::from_secs(600), &SystemClock, look).await.unwrap();
        assert_eq!((last, looks), (Some(seen(true)), 3));
        let last = until(now, &SystemClock, async || Ok(Some(seen(false)))).await.unwrap();
        assert_eq!(last, Some(seen(false)), "the time is over, so it looked once");
    }

    #[test]
    fn a_time_that_has_not_come_yet_is_refused_but_for_what_clocks_differ() {
        let now = EpochMillis(1_000_000);
        for after in [0, 1_000_000, 1_002_000] {
            assert!(in_the_past(EpochMillis(after), now).is_ok(), "{after}");
        }
        let error = in_the_past(EpochMillis(1_002_001), now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("2.0 s in the future"), "{error}");
    }
}
