//! Backfills tables as a whole beside their streams.
//!
//! A load is a state of the ledger, and the daemons that run do the work. Where none runs, this process is
//! one until the backfill is complete.

mod export;
pub mod host;
pub mod options;
pub mod task;
mod watch;

use std::sync::Arc;

use super::named;
use super::start::prepare_target;
use super::wire;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, ErrorKind, Result};
use export::ExportBackfill;
use host::RealHost;
use options::{Loaded, Options, Progress};
use task::Task;

/// Backfills one source after the other, or the one that is named.
///
/// # Errors
/// When the target or AWS cannot be reached, or a source is halted for a reason that a backfill cannot fix.
pub async fn backfill(
    config: &mut Config,
    only: Option<&str>,
    options: &Options,
    progress: &impl Progress,
) -> Result<Vec<Loaded>> {
    let asked = |source: &&SourceConfig| only.is_none_or(|name| *source.name == *name);
    named::source(config, only)?;
    if !options.scans() && config.sources.iter().filter(asked).count() > 1 {
        return Err(Error::new(ErrorKind::Usage, "an export belongs to one table")
            .with_hint("name its source: --source NAME"));
    }
    let pools = wire::target(config).await?;
    prepare_target(config, &pools).await?;
    let mut loaded = Vec::new();
    for source in config.sources.iter().filter(asked) {
        let export = match options.from_export.as_slice() {
            [] => None,
            places => {
                let ports = wire::ports(config, source, &pools).await?;
                Some(Box::pin(ExportBackfill::open(places, source, ports)).await?)
            }
        };
        let backfill = Task {
            host: &RealHost::new(config, source, &pools),
            source: Arc::clone(&source.name),
            mapping: source.mapper.fingerprint(),
            options,
            progress,
        };
        loaded.push(Box::pin(backfill.run(export)).await?);
    }
    Ok(loaded)
}
