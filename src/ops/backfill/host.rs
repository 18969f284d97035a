//! The process that asks for a load: what it reaches, and the worker that it becomes where no daemon runs.

use std::sync::Arc;

use super::super::service::Service;
use super::super::start;
use super::super::wire::{self, BackfillWish, RealPorts};
use crate::config::{Config, SourceConfig};
use crate::engine::Seams;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::ledger::PostgresLedger;
use crate::postgres::session::Pools;
use crate::runtime::{self, SystemClock, signals};

/// The ledger of a host.
pub type LedgerOf<H> = <<H as Host>::Ports as Seams>::Ledger;
/// The clock of a host.
pub type ClockOf<H> = <<H as Host>::Ports as Seams>::Clock;

/// What the backfill of one source needs of the process that asks for it.
pub trait Host {
    /// The source's seams.
    type Ports: Seams;

    /// Where loads are kept.
    fn ledger(&self) -> &LedgerOf<Self>;

    /// Time.
    fn clock(&self) -> &ClockOf<Self>;

    /// The source's seams: a backfill that is active already needs none.
    fn ports(&self) -> impl Future<Output = Result<Self::Ports>>;

    /// Records an operator's consent: the active backfill's sweep may delete as much as it must.
    fn confirm_sweep(&self) -> impl Future<Output = Result<()>>;

    /// Starts a worker in this process, for this source alone.
    fn worker(&self, wish: BackfillWish) -> impl Future<Output = Result<Service>>;

    /// Waits until the process is told to stop, and answers by what.
    fn stopped(&self) -> impl Future<Output = Result<&'static str>>;
}

/// This process, over the real servers.
#[derive(Debug)]
pub struct RealHost<'a> {
    config: &'a Config,
    source: &'a SourceConfig,
    pools: &'a Arc<Pools>,
    ledger: PostgresLedger,
}

impl<'a> RealHost<'a> {
    /// For a backfill of this source.
    #[must_use]
    pub fn new(config: &'a Config, source: &'a SourceConfig, pools: &'a Arc<Pools>) -> Self {
        Self { config, source, pools, ledger: PostgresLedger::new(Arc::clone(pools)) }
    }
}

impl Host for RealHost<'_> {
    type Ports = RealPorts;

    fn ledger(&self) -> &PostgresLedger {
        &self.ledger
    }

    fn clock(&self) -> &SystemClock {
        &SystemClock
    }

    async fn ports(&self) -> Result<RealPorts> {
        wire::ports(self.config, self.source, self.pools).await
    }

    async fn confirm_sweep(&self) -> Result<()> {
        self.ledger.confirm_sweep(&self.source.name).await
    }

    async fn worker(&self, wish: BackfillWish) -> Result<Service> {
        let mut own = Service::new(runtime::worker_id(), fastrand::u64(..));
        let only = Some(&*self.source.name);
        start::add_sources(&mut own, self.config, only, self.pools, wish).await?;
        Ok(own)
    }

    async fn stopped(&self) -> Result<&'static str> {
        let mut signals = signals().map_err(|error| {
            Error::new(ErrorKind::Unknown, "listen for signals").with_source(error)
        })?;
        Ok(signals.signal().await)
    }
}
