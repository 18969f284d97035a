//! The daemon: every source of the config, until a signal.

use std::time::Duration;

use super::service::{Observer, Service};
use super::start;
use super::wire::{self, BackfillWish};
use crate::config::Config;
use crate::engine::ports::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::WorkerId;
use crate::runtime::{
    self, SystemClock, notify_ready, notify_status, notify_stopping, signals, watchdog,
};
use crate::telemetry::{Telemetry, events, http};

/// How often the start checks whether every source is ready, and the service manager gets a status.
const NOTIFY_EVERY: Duration = Duration::from_secs(1);

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// What was in hand is applied.
    Drained,
    /// At once, on a second signal; what was not committed will be read again.
    AtOnce,
}

/// Runs until a signal; the first drains, the second stops at once.
///
/// # Errors
/// What prevents the start, or the error of a halted source.
pub async fn run(
    mut config: Config,
    telemetry: Telemetry,
    backfill: BackfillWish,
) -> Result<Ended> {
    let listener = http::bind(config.telemetry.listen)?;
    let mut signals = signals()
        .map_err(|error| Error::new(ErrorKind::Unknown, "listen for signals").with_source(error))?;
    let worker = runtime::worker_id();
    let version = env!("CARGO_PKG_VERSION");
    let sources = config.sources.len();
    events::Started { version, worker: worker.as_str(), sources }.emit();
    if let Ok(address) = listener.local_addr() {
        // With port 0 only this line tells the port.
        tracing::info!(%address, "listening");
    }

    let service = tokio::select! {
        biased;
        signal = signals.signal() => {
            tracing::info!(signal, "stopped during the start");
            return Ok(Ended::Drained);
        }
        service = start(&mut config, worker, backfill) => service?,
    };
    let stop = service.stop();
    let observer = service.observer();
    let shown = observer.clone();
    let status = move || shown.status(SystemClock.wall());
    let server = http::serve(listener, telemetry, status, stop.clone().cancelled_owned());
    let tending = tend(observer);
    let finished = service.finished();
    tokio::pin!(server, tending, finished);

    let mut serving = true;
    loop {
        tokio::select! {
            biased;
            signal = signals.signal() => {
                tracing::info!(signal, "draining");
                break;
            }
            served = &mut server, if serving => {
                serving = false;
                served?;
            }
            result = &mut finished => return result.map(|()| Ended::Drained),
            () = &mut tending => {}
        }
    }
    stop.cancel();
    notify_stopping();
    let grace = Duration::from_secs(config.worker.grace_secs);
    tokio::select! {
        biased;
        signal = signals.signal() => {
            tracing::warn!(signal, "stopped at once; uncommitted changes will be read again");
            Ok(Ended::AtOnce)
        }
        result = &mut finished => {
            tracing::info!("stopped");
            result.map(|()| Ended::Drained)
        }
        () = SystemClock.sleep_until(SystemClock.now() + grace) => {
            let what = format!("draining took longer than {} s", grace.as_secs());
            Err(Error::new(ErrorKind::Unavailable, what)
                .with_hint("nothing is lost: uncommitted changes will be read again"))
        }
    }
}

async fn start(config: &mut Config, worker: WorkerId, backfill: BackfillWish) -> Result<Service> {
    let pools = wire::target(config).await?;
    start::prepare_target(config, &pools).await?;
    let mut service = Service::new(worker, fastrand::u64(..));
    start::add_sources(&mut service, config, None, &pools, backfill).await?;
    Ok(service)
}

/// Keeps the service manager informed: readiness of all sources, status line, watchdog.
async fn tend(observer: Observer) {
    let tell = async {
        let mut told = false;
        loop {
            let status = observer.status(SystemClock.wall());
            if status.ready && !told {
                tracing::info!("ready");
                notify_ready();
                told = true;
            }
            notify_status(status.reasons.first().map_or("up to date", String::as_str));
            SystemClock.sleep_until(SystemClock.now() + NOTIFY_EVERY).await;
        }
    };
    let progress = || observer.progress();
    tokio::join!(tell, watchdog(SystemClock, progress));
}
