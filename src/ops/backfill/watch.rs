//! A backfill is watched to its end; where this process works on it, the worker too.

use std::time::Duration;

use super::super::service::Service;
use super::host::Host;
use super::options::{Progress, Reached};
use crate::engine::ports::{Clock, Ledger, LedgerView};
use crate::error::{Error, ErrorKind, Result};

/// How often the ledger is asked for progress.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A worker of this process is alive to the ledger within this time.
const ALIVE_WITHIN: Duration = Duration::from_secs(15);
/// A backfill that has read everything usually ends within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How watching a backfill ended.
pub(super) enum Watched {
    /// The backfill is over; this is the ledger's view at that time.
    Over(Box<LedgerView>),
    /// No worker is alive to continue.
    Abandoned,
}

/// Watches how far the backfill is until it is over. With `to_begin` it is not begun yet.
pub(super) async fn watch<H: Host>(
    host: &H,
    source: &str,
    progress: &impl Progress,
    mut to_begin: bool,
) -> Result<Watched> {
    let clock = host.clock();
    progress.watching(source);
    let began = clock.now();
    let mut read_at = None;
    loop {
        let view = match host.ledger().view(source).await {
            Ok(view) => view,
            Err(error) if to_begin && error.kind() == ErrorKind::NotEnrolled => {
                LedgerView::default()
            }
            Err(error) => return Err(error),
        };
        if view.backfill.active {
            to_begin = false;
            let reached = Reached::by(&view);
            progress.reached(source, reached);
            let now = clock.now();
            if view.workers == 0 && now - began > ALIVE_WITHIN {
                progress.watched();
                return Ok(Watched::Abandoned);
            }
            if reached.ratio >= 1.0 && now - *read_at.get_or_insert(now) > ENDS_WITHIN {
                read_at = Some(now);
                progress.waits(source);
            }
        } else if !to_begin {
            progress.watched();
            return Ok(Watched::Over(Box::new(view)));
        }
        clock.sleep_until(clock.now() + LOOK_EVERY).await;
    }
}

/// Runs the worker until the backfill that it does is watched to its end, or the process is told to stop.
pub(super) async fn served<H: Host>(
    host: &H,
    service: Service,
    watch: impl Future<Output = Result<Watched>>,
) -> Result<LedgerView> {
    let clock = host.clock();
    let stop = service.stop();
    let observer = service.observer();
    let halted = async {
        loop {
            let status = observer.status(clock.wall());
            let halted = status.sources.iter().find_map(|source| source.halted.clone());
            if let Some(reason) = halted {
                return reason;
            }
            clock.sleep_until(clock.now() + LOOK_EVERY).await;
        }
    };
    let watched = tokio::select! {
        biased;
        signal = host.stopped() => Err(signal.map_or_else(|error| error, stopped)),
        view = watch => view,
        reason = halted => Err(Error::new(ErrorKind::Unknown, format!("halted: {reason}"))),
    };
    stop.cancel();
    let finished = service.finished().await;
    match watched? {
        Watched::Over(view) => finished.map(|()| *view),
        Watched::Abandoned => {
            Err(Error::new(ErrorKind::Unavailable, "the worker of this process ended")
                .with_hint("run it again: the backfill resumes where it stopped"))
        }
    }
}

fn stopped(signal: &str) -> Error {
    let what = format!("stopped by {signal}; the rows so far are kept");
    Error::new(ErrorKind::Unavailable, what)
        .with_hint("run it again, or a daemon: the backfill resumes where it stopped")
}
