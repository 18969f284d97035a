//! The ledger's sources: renamed as the config renamed them, or forgotten; and who keeps which tables.

use sqlx::PgPool;

use super::{named, wire};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::ledger::enrolment::kept;
use crate::postgres::listings::sources::{self, Forgotten};

/// Gives a source that the ledger knows the name that the config has for it now.
///
/// # Errors
/// `Usage` if the config has no source of the new name, or the ledger none of the old one; `Conflict` while a
/// worker of it is alive.
pub async fn rename(config: &Config, source: &str, to: &str) -> Result<()> {
    named::source(config, Some(to))?;
    sources::rename(&wire::target(config).await?.pool().await?, source, to).await
}

/// Forgets a source: the next daemon begins it anew, above the rows that are there.
///
/// # Errors
/// `Usage` if the ledger does not know it; `Conflict` while a worker of it is alive.
pub async fn forget(config: &Config, source: &str) -> Result<Forgotten> {
    sources::forget(&wire::target(config).await?.pool().await?, source).await
}

/// Why a source of the config cannot have its tables, if a source that the config does not have keeps one.
/// One that it has lets go of the table when its daemon starts.
///
/// # Errors
/// As the target answers.
pub(super) async fn refused(config: &Config, pool: &PgPool) -> Result<Option<Error>> {
    for source in &config.sources {
        let kept = kept(pool, &source.name, source.mapper.tables()).await?;
        let ours = |name: &str| config.sources.iter().any(|own| *own.name == *name);
        if let Some(kept) = kept.filter(|kept| !ours(&kept.by)) {
            return Ok(Some(kept.refusal(&source.name, ErrorKind::Config)));
        }
    }
    Ok(None)
}
