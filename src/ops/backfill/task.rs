//! The backfill of one source: begun, then watched to its end, whoever does the work.

use std::sync::Arc;

use super::super::service::Service;
use super::export::ExportBackfill;
use super::host::Host;
use super::options::{Loaded, Options, Progress, items_read};
use super::watch::{Watched, served, watch};
use crate::engine::backfill::{self, Backfill, BackfillOptions};
use crate::engine::ports::{Clock, Ledger, LedgerView};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{GapReason, Halt};

/// The backfill of one source.
#[derive(Debug)]
pub struct Task<'a, H, G> {
    /// The process that asks for it.
    pub host: &'a H,
    /// The source's name.
    pub source: Arc<str>,
    /// The fingerprint of its mapping.
    pub mapping: i64,
    /// How it is asked for.
    pub options: &'a Options,
    /// Who is told of its way.
    pub progress: &'a G,
}

impl<H: Host, G: Progress> Task<'_, H, G> {
    /// Begins the backfill, of the export where there is one, and goes on until it is over.
    ///
    /// # Errors
    /// `Usage` where nobody runs that could do the work, `Conflict` where it cannot begin, and as the ledger,
    /// the source and the worker of this process answer.
    pub async fn run(&self, mut export: Option<ExportBackfill<H::Ports>>) -> Result<Loaded> {
        let Self { host, options, .. } = self;
        let started = host.clock().now();
        let known = match host.ledger().view(&self.source).await {
            Ok(view) => Some(view),
            // This process registers a source that no daemon ever ran.
            Err(error) if error.kind() == ErrorKind::NotEnrolled => None,
            Err(error) => return Err(error),
        };
        let workers = known.as_ref().map_or(0, |view| view.workers);
        if workers == 0 && options.detach {
            return Err(Error::new(ErrorKind::Usage, "no daemon runs")
                .with_hint("without --detach this process does the work"));
        }
        // Before a worker of this process takes up what an earlier load has left. One that nobody has listed
        // yet waits for that worker.
        let may_begin = |view: &LedgerView| view.listed || workers > 0;
        if let Some(export) = export.take_if(|_| known.as_ref().is_some_and(may_begin)) {
            Box::pin(export.begin(options.restart)).await?;
        }
        let mut service = None;
        if workers == 0 {
            let active =
                known.as_ref().is_some_and(|view| view.backfill.active) && !options.restart;
            let scans = !active && options.scans();
            let when = if scans { Backfill::Force } else { Backfill::Never };
            service = Some(self.own_worker(when).await?);
        } else if let Some(view) = known.as_ref().filter(|_| options.scans()) {
            self.begin(view).await?;
        }
        if options.confirm_sweep {
            host.confirm_sweep().await?;
        }
        let (view, complete) = self.end(service, export).await?;
        let seconds = (host.clock().now() - started).as_secs_f64();
        let (source, generation) = (self.source.to_string(), view.generation);
        Ok(Loaded { source, generation, complete, items: items_read(&view), seconds })
    }

    /// The ledger's view at the end of the backfill, and whether that is reached.
    async fn end(
        &self,
        service: Option<Service>,
        export: Option<ExportBackfill<H::Ports>>,
    ) -> Result<(LedgerView, bool)> {
        // This process's worker begins a scan once it has listed the shards.
        let begins = service.is_some() && self.options.scans();
        let watch = async {
            if let Some(export) = &export {
                Box::pin(export.begin(self.options.restart)).await?;
            }
            watch(self.host, &self.source, self.progress, begins).await
        };
        match service {
            None if self.options.detach => {
                Ok((self.host.ledger().view(&self.source).await?, false))
            }
            None => match watch.await? {
                Watched::Over(view) => Ok((*view, true)),
                // The daemon that should do the work has ended, or was already dead.
                Watched::Abandoned => {
                    let own = self.own_worker(Backfill::Never).await?;
                    let watch = self::watch(self.host, &self.source, self.progress, false);
                    Ok((served(self.host, own, watch).await?, true))
                }
            },
            Some(service) => Ok((served(self.host, service, watch).await?, true)),
        }
    }

    /// A daemon within this process.
    async fn own_worker(&self, when: Backfill) -> Result<Service> {
        self.progress.own_worker();
        self.host.worker(self.options.wish(when)).await
    }

    /// Begins a backfill that the running daemons do.
    async fn begin(&self, view: &LedgerView) -> Result<()> {
        if view.backfill.active && !self.options.restart {
            self.progress.active_already(&self.source);
            return Ok(());
        }
        let ports = self.host.ports().await?;
        let Options { segments, rcu_max, .. } = *self.options;
        let options = BackfillOptions { segments, rcu_max, mapping: self.mapping };
        let source = Arc::clone(&self.source);
        if backfill::begin(&ports, source, view.generation, &options).await? {
            return Ok(());
        }
        let now = self.host.ledger().view(&self.source).await?;
        if now.backfill.active { Ok(()) } else { Err(self.refused(now.halted.as_ref())) }
    }

    /// Why a backfill could not begin.
    fn refused(&self, halted: Option<&Halt>) -> Error {
        let why = match halted {
            Some(reason) => format!("source {} is halted: {reason}", self.source),
            None => format!("the shards of source {} are not listed yet", self.source),
        };
        let hint = match halted {
            Some(Halt::Gap(GapReason::TableChanged)) => {
                "another table has this name now: confirm it with `dynaurora gaps accept`"
            }
            Some(_) => "fix the cause, restart the daemon, then try again",
            None => "try again in a minute; `dynaurora status` shows what the daemon does",
        };
        Error::new(ErrorKind::Conflict, why).with_hint(hint)
    }
}
