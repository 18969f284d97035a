//! The only real clock, the only signal handlers, the process's name, and the service manager.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, process};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::engine::ports::Clock;
use crate::model::{EpochMillis, WorkerId};

/// The machine's own time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one real clock")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one real clock")]
    fn wall(&self) -> EpochMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        EpochMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep_until(&self, until: Instant) {
        tokio::time::sleep_until(until).await;
    }
}

/// A unique name for this process: host, process id and a random number.
#[must_use]
pub fn worker_id() -> WorkerId {
    WorkerId::new(format!("{}-{}-{:08x}", host(), process::id(), fastrand::u32(..)))
}

/// The host's name, from wherever this process may read it; a hardened unit hides most of `/proc`.
fn host() -> String {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let from_file = files.iter().find_map(|path| std::fs::read_to_string(path).ok());
    let name = from_file.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    // The name appears in logs and in the ledger, so it keeps only the characters of host names.
    let name: String = name
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
        .take(64)
        .collect();
    if name.is_empty() { "localhost".into() } else { name }
}

/// Listens for SIGTERM and SIGINT from now on; they no longer end the process by themselves.
///
/// # Errors
/// When the system refuses.
pub fn signals() -> io::Result<Shutdown> {
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    Ok(Shutdown { terminate, interrupt })
}

/// The signals that end the process. The first asks it to drain, the second to stop at once.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Waits for the next signal and returns its name. Dropping the future loses no signal.
    pub async fn signal(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            // Neither stream ever ends while the runtime lives.
            else => std::future::pending().await,
        }
    }
}

/// Tells the service manager that the start is done.
pub fn notify_ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells the service manager that the process is draining.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Shows one line in the service manager's status; without one it does nothing. A newline would end the field
/// of its protocol.
pub fn notify_status(line: &str) {
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    notify(&[NotifyState::Status(&line)]);
}

/// Feeds the service manager's watchdog while `progress` changes between checks; then it stops, and the
/// manager restarts the process. Never returns, with or without a watchdog.
pub async fn watchdog(clock: impl Clock, progress: impl Fn() -> u64) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Three checks per interval: a late one does not end the process.
    feed(clock, interval / 3, progress, || notify(&[NotifyState::Watchdog])).await;
}

async fn feed(
    clock: impl Clock,
    every: Duration,
    progress: impl Fn() -> u64,
    mut food: impl FnMut(),
) {
    let mut seen = None;
    loop {
        let now = Some(progress());
        if now != seen {
            food();
        }
        seen = now;
        clock.sleep_until(clock.now() + every).await;
    }
}

/// Notifies the service manager; it is no error if there is none.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be notified");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_starves_once_the_loop_is_stuck() {
        let (turns, meals) = (Cell::new(0), Cell::new(0));
        let every = Duration::from_secs(20);
        let progress = || {
            // The loop turns four times and then hangs.
            turns.set((turns.get() + 1).min(4));
            turns.get()
        };
        let feeding = feed(SystemClock, every, progress, || meals.set(meals.get() + 1));
        tokio::time::timeout(every * 20, feeding).await.unwrap_err();
        assert_eq!(meals.get(), 4);
    }

    #[test]
    fn worker_ids_differ_and_hold_no_space() {
        let (one, other) = (worker_id(), worker_id());
        assert_ne!(one, other);
        assert!(!one.as_str().contains(char::is_whitespace));
    }

    #[tokio::test]
    async fn the_first_and_the_second_signal_arrive_one_by_one() {
        let mut shutdown = signals().unwrap();
        for (flag, name) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
            let pid = process::id().to_string();
            let sent = tokio::process::Command::new("sh")
                .args(["-c", "kill \"$0\" \"$1\"", flag, &pid])
                .status()
                .await
                .unwrap();
            assert!(sent.success());
            assert_eq!(shutdown.signal().await, name);
        }
    }
}
