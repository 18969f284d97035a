//! The daemon: every source of the config, until a signal.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::service::{Observer, Service};
use super::start;
use super::wire::{self, BackfillWish};
use crate::config::Config;
use crate::engine::ports::Clock;
use crate::engine::retry::{is_waited_out, pause, remedy};
use crate::error::{Error, ErrorKind, Result};
use crate::model::WorkerId;
use crate::runtime::{
    self, SystemClock, notify_ready, notify_status, notify_stopping, signals, watchdog,
};
use crate::telemetry::status::Status;
use crate::telemetry::{Telemetry, events, http};

/// What is said before anything is known.
const STARTING: &str = "starting";
/// How often the service manager gets a status.
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
/// What a person must mend before it can start, or the error of a halted source.
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

    let (shown, look) = watch::channel(Shown::Waiting(STARTING.to_owned()));
    let status = move || look.borrow().status();
    let ending = CancellationToken::new();
    let server = http::serve(listener, telemetry, status, ending.clone().cancelled_owned());
    let tending = tend(shown.subscribe());
    tokio::pin!(server, tending);
    let service = tokio::select! {
        biased;
        signal = signals.signal() => {
            tracing::info!(signal, "stopped during the start");
            return Ok(Ended::Drained);
        }
        served = &mut server => return served.map(|()| Ended::Drained),
        service = started(&mut config, &worker, backfill, &shown) => service?,
        () = &mut tending => return Ok(Ended::Drained),
    };
    let stop = service.stop();
    shown.send_replace(Shown::Working(service.observer()));
    let finished = service.finished();
    tokio::pin!(finished);

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
    ending.cancel();
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

/// Starts the sources. What is away is waited for, as long as it takes.
async fn started(
    config: &mut Config,
    worker: &WorkerId,
    backfill: BackfillWish,
    shown: &watch::Sender<Shown>,
) -> Result<Service> {
    let mut random = fastrand::Rng::new();
    for failures in 1.. {
        let error = match start(config, worker.clone(), backfill).await {
            Ok(service) => return Ok(service),
            Err(error) if !is_waited_out(error.kind()) => return Err(error),
            Err(error) => error,
        };
        let delay = pause(failures, &mut random);
        let remedy = error.hint().unwrap_or_else(|| remedy(error.kind()));
        let reason = format!("starting: {}; {remedy}", error.chain());
        tracing::warn!(%reason, failures, ?delay, "the start failed, retrying");
        shown.send_replace(Shown::Waiting(reason));
        SystemClock.sleep_until(SystemClock.now() + delay).await;
    }
    unreachable!("it is tried without end")
}

async fn start(config: &mut Config, worker: WorkerId, backfill: BackfillWish) -> Result<Service> {
    let pools = wire::target(config).await?;
    start::prepare_target(config, &pools).await?;
    let mut service = Service::new(worker, fastrand::u64(..));
    start::add_sources(&mut service, config, None, &pools, backfill).await?;
    Ok(service)
}

/// What the status shows.
enum Shown {
    /// The start waits for something.
    Waiting(String),
    /// The sources' workers run.
    Working(Observer),
}

impl Shown {
    fn status(&self) -> Status {
        match self {
            Self::Waiting(reason) => Status { reasons: vec![reason.clone()], ..Status::starting() },
            Self::Working(observer) => observer.status(SystemClock.wall()),
        }
    }

    fn count_on(&self) {
        if let Self::Working(observer) = self {
            observer.count_on(SystemClock.wall());
        }
    }

    fn progress(&self) -> u64 {
        let now = SystemClock.wall();
        match self {
            Self::Waiting(_) => now.0.unsigned_abs(),
            Self::Working(observer) => observer.progress(now),
        }
    }
}

/// Keeps the service manager informed: that the process is in charge of its work, whether all of it is well
/// or not; the status line; the watchdog.
async fn tend(shown: watch::Receiver<Shown>) {
    notify_ready();
    let tell = async {
        let mut told = false;
        loop {
            shown.borrow().count_on();
            let status = shown.borrow().status();
            if status.ready && !told {
                tracing::info!("ready");
                told = true;
            }
            notify_status(status.reasons.first().map_or("up to date", String::as_str));
            SystemClock.sleep_until(SystemClock.now() + NOTIFY_EVERY).await;
        }
    };
    let progress = || shown.borrow().progress();
    tokio::join!(tell, watchdog(SystemClock, progress));
}
