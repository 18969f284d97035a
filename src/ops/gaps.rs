//! What was lost before it was read: listed, or accepted.

use super::{named, wire};
use crate::config::Config;
use crate::error::Result;
use crate::postgres::listings::gaps::{self, StoredGap};

/// The gaps of all sources, or of the one that is named; with `past` also those that were repaired or
/// accepted.
///
/// # Errors
/// `Usage` when there is no such source, and as the target answers.
pub async fn list(config: &Config, only: Option<&str>, past: bool) -> Result<Vec<StoredGap>> {
    named::source(config, only)?;
    gaps::list(&wire::target(config).await?.pool().await?, only, past).await
}

/// Lives with a gap: what was lost stays lost, and the source goes on.
///
/// # Errors
/// When the target cannot be reached, or there is no such gap.
pub async fn accept(config: &Config, id: i64) -> Result<StoredGap> {
    gaps::accept(&wire::target(config).await?.pool().await?, id).await
}
