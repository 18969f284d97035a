//! Simulated time: tokio's paused clock, and for each worker a time of day that is off by its own skew.

use std::time::Duration;

use dynaurora::engine::ports::Clock;
use dynaurora::model::EpochMillis;
use tokio::time::Instant;

use crate::world::BEGINNING;

/// A clock over tokio's paused time. The database and the world have one without skew.
#[derive(Debug, Clone, Copy)]
pub struct SimClock {
    start: Instant,
    skew_millis: i64,
}

impl SimClock {
    /// A clock whose day starts now.
    pub fn start() -> Self {
        Self { start: tokio_now(), skew_millis: 0 }
    }

    /// The same clock with a time of day that is off.
    pub fn skewed(self, skew_millis: i64) -> Self {
        Self { skew_millis, ..self }
    }

    /// How long the run has lasted.
    pub fn elapsed(self) -> Duration {
        tokio_now() - self.start
    }

    /// How long after the start a time of day without skew is.
    pub fn since_start(self, wall: EpochMillis) -> Duration {
        Duration::from_millis(u64::try_from(wall.0 - BEGINNING.0).unwrap_or(0))
    }

    /// The time of day, without skew, at `instant`.
    pub fn wall_at(self, instant: Instant) -> EpochMillis {
        let since = instant.saturating_duration_since(self.start).as_millis();
        EpochMillis(BEGINNING.0 + i64::try_from(since).unwrap())
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        tokio_now()
    }

    fn wall(&self) -> EpochMillis {
        EpochMillis(self.wall_at(tokio_now()).0 + self.skew_millis)
    }

    async fn sleep_until(&self, until: Instant) {
        tokio::time::sleep_until(until).await;
    }
}

/// Lets simulated time pass.
pub async fn pause(clock: SimClock, time: Duration) {
    clock.sleep_until(clock.now() + time).await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokio's clock is paused here: this is simulated time"
)]
fn tokio_now() -> Instant {
    Instant::now()
}
