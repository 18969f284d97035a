//! A backfill from an export: checked first, begun once the shards are listed.

use std::sync::Arc;
use std::time::Duration;

use super::super::stream::describe;
use super::super::wire::RealPorts;
use super::watch::LOOK_EVERY;
use crate::config::SourceConfig;
use crate::engine::Seams;
use crate::engine::backfill::rewind::{self, DatedBackfill};
use crate::engine::ports::{Clock, Ledger, LedgerView};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::Mapper;
use crate::model::PartitionId;
use crate::source::Export;

/// How long the first listing of the shards may take.
const LISTED_WITHIN: Duration = Duration::from_secs(120);

/// An export that may be read into a source's target.
#[derive(Debug)]
pub struct ExportBackfill<P> {
    ports: P,
    source: Arc<str>,
    backfill: DatedBackfill,
}

impl ExportBackfill<RealPorts> {
    /// Reads the manifest and checks that the export is of this table and not too old; begins nothing.
    pub(super) async fn open(
        places: &[String],
        source: &SourceConfig,
        ports: RealPorts,
    ) -> Result<Self> {
        let export = ports.source.export(places).await?;
        tells_enough(&export, &source.mapper)?;
        describe(&ports.source, source).await?;
        let stream_arn = ports.source.check_export(&export, ports.clock.wall()).await?;
        let backfill = DatedBackfill {
            partitions: export.partitions,
            items: export.items,
            as_of: export.as_of,
            stream_arn,
            mapping: source.mapper.fingerprint(),
        };
        Ok(Self { ports, source: Arc::clone(&source.name), backfill })
    }
}

impl<P: Seams> ExportBackfill<P> {
    /// Begins the backfill as soon as the shards are listed, or resumes an active one.
    pub(super) async fn begin(&self, restart: bool) -> Result<()> {
        let clock = self.ports.clock();
        let deadline = clock.now() + LISTED_WITHIN;
        loop {
            let view = match self.ports.ledger().view(&self.source).await {
                Ok(view) => Some(view),
                // The worker of this process has not registered the source yet.
                Err(error) if error.kind() == ErrorKind::NotEnrolled => None,
                Err(error) => return Err(error),
            };
            if let Some(view) = view {
                if view.backfill.active && !restart {
                    return self.goes_on(&view);
                }
                let source = Arc::clone(&self.source);
                let backfill = self.backfill.clone();
                if rewind::begin(&self.ports, source, view.generation, backfill).await? {
                    return Ok(());
                }
            }
            if clock.now() > deadline {
                let what = format!("the backfill of source {} cannot begin", self.source);
                return Err(Error::new(ErrorKind::Conflict, what)
                    .with_hint("`dynaurora status` shows the state of the source"));
            }
            clock.sleep_until(clock.now() + LOOK_EVERY).await;
        }
    }

    /// Whether the active backfill is this one.
    fn goes_on(&self, view: &LedgerView) -> Result<()> {
        let own = |file: &PartitionId| view.partitions.iter().any(|row| row.id == *file);
        if self.backfill.partitions.iter().all(own) {
            return Ok(());
        }
        let what = format!("another backfill of source {} is active", self.source);
        Err(Error::new(ErrorKind::Conflict, what)
            .with_hint("wait until it ends, or begin anew with --restart"))
    }
}

/// Whether incremental exports hold all that this mapping needs to know about removals.
fn tells_enough(export: &Export, mapper: &Mapper) -> Result<()> {
    let Some((place, without_old_images)) = export.increments() else { return Ok(()) };
    let refused = |what: String| Err(Error::new(ErrorKind::Config, what));
    if let Some(entity) = mapper.tells_expiries() {
        return refused(format!(
            "the export at {place} does not tell expiries from deletes, but entity {entity} treats \
             them differently"
        ))
        .map_err(|error| error.with_hint("use a full export alone"));
    }
    match (without_old_images, mapper.needs_old_image()) {
        (Some(place), Some(need)) => refused(format!(
            "the export at {place} has no old images, and the primary key of entity {} needs them \
             for removals",
            need.entity
        ))
        .map_err(|error| error.with_hint("export it with ExportViewType=NEW_AND_OLD_IMAGES")),
        _ => Ok(()),
    }
}
