//! What a process does before its sources run: the target is as they need it, their streams can feed them.

use std::sync::Arc;

use super::resolve::resolve;
use super::service::{Service, SourcePlan};
use super::sources::refused;
use super::stream::describe;
use super::wire::{self, BackfillWish};
use crate::config::{Config, SourceConfig};
use crate::engine::retry::is_waited_out;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::migrations;
use crate::postgres::session::Pools;
use crate::postgres::tables::ddl;

/// Checks that the ledger and the target tables fit this version and this mapping. Runs the ledger's
/// migrations if the config allows it, and compiles the mapping against the tables.
///
/// # Errors
/// `Schema` when the target needs `dynaurora apply` first; `Denied` if the role may not migrate; `Config` if
/// a source of another name keeps one of the tables.
pub async fn prepare_target(config: &mut Config, pools: &Pools) -> Result<()> {
    let apply = "dynaurora apply";
    let pool = pools.pool().await?;
    let pending = migrations::pending(&pool).await?;
    if !pending.is_empty() {
        // A migration holds a session lock, which a pooler would pass on to another client.
        if !config.target.migrate || !config.target.prepared_statements {
            let what = format!("the ledger needs {} migrations", pending.len());
            return Err(Error::new(ErrorKind::Schema, what).with_hint(apply));
        }
        migrations::migrate(&pools.pool().await?).await.map_err(|error| {
            if error.kind() == ErrorKind::Denied { error.with_hint(apply) } else { error }
        })?;
    }
    if let Some(refused) = refused(config, &pool).await? {
        return Err(refused);
    }
    resolve(config, &pool).await?;
    let mut missing = Vec::new();
    for source in &config.sources {
        missing.extend(ddl::plan(&pool, source.mapper.tables()).await?);
    }
    match missing.first() {
        None => Ok(()),
        Some(first) => {
            let what = format!(
                "the target's tables need {} changes first, for example: {}",
                missing.len(),
                first.what
            );
            Err(Error::new(ErrorKind::Schema, what).with_hint(apply))
        }
    }
}

/// Adds the config's sources, or the named one, to the service, over the real servers.
///
/// What keeps one source from working does not keep the others: its worker tells, and tries again.
///
/// # Errors
/// As for [`describe`], if a person must mend each of the sources.
pub async fn add_sources(
    service: &mut Service,
    config: &Config,
    only: Option<&str>,
    pools: &Arc<Pools>,
    backfill: BackfillWish,
) -> Result<()> {
    let wanted = |source: &&SourceConfig| only.is_none_or(|name| *source.name == *name);
    let mut refused = None;
    let mut ready = Vec::new();
    for source in config.sources.iter().filter(wanted) {
        let ports = wire::ports(config, source, pools).await?;
        match describe(&ports.source, source).await {
            Err(error) if !is_waited_out(error.kind()) => {
                tracing::error!(source = &*source.name, error = %error.chain(), "a source waits");
                refused = refused.or(Some(error));
                ready.push((source, ports, false));
            }
            _ => ready.push((source, ports, true)),
        }
    }
    if let Some(error) = refused.filter(|_| ready.iter().all(|(_, _, fit)| !fit)) {
        return Err(error);
    }
    for (source, ports, _) in ready {
        let plan = SourcePlan {
            name: Arc::clone(&source.name),
            table: source.table.clone(),
            mapper: Arc::clone(&source.mapper),
            options: wire::options(config, source, backfill),
        };
        service.add(plan, ports);
    }
    Ok(())
}
