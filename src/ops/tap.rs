//! Live records as they would be mapped; nothing is written, nothing is remembered.

use std::time::Duration;

use super::explain::{Fate, fate};
use super::resolve::resolve;
use super::stream::describe;
use super::{named, wire};
use crate::config::Config;
use crate::engine::ports::{Clock, Page, ReadFrom, ShardIterator, Source};
use crate::engine::tail::listing::list;
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::Mapper;
use crate::model::{Change, PartitionId, Position, ShardListing};
use crate::runtime::SystemClock;
use crate::source::DynamoSource;

/// The shortest time for a round over all shards: a shard gives its readers at most five pages a second
/// together, and most are for the daemon.
const ROUND: Duration = Duration::from_secs(1);

/// A source whose shards can be read from behind their newest record, by those who only look on.
pub trait Live: Source {
    /// A place in a shard behind its newest record.
    ///
    /// # Errors
    /// `Gone` when there is no such shard, and what any call can meet.
    fn latest(
        &self,
        stream_arn: &str,
        shard: &PartitionId,
    ) -> impl Future<Output = Result<ShardIterator>> + Send;
}

impl Live for DynamoSource {
    async fn latest(&self, stream_arn: &str, shard: &PartitionId) -> Result<ShardIterator> {
        Self::latest(self, stream_arn, shard).await
    }
}

/// Who is shown the records.
pub trait Viewer {
    /// So many shards of the table are read from now on.
    fn reading(&self, shards: usize, table: &str);

    /// A record, and what would become of it.
    ///
    /// # Errors
    /// When it cannot be shown; then the reading ends.
    fn record(&self, change: &Change, fate: Fate) -> Result<()>;

    /// A shard cannot be read for the moment.
    fn waiting(&self, why: &Error);

    /// Records of a shard are left out.
    fn left_out(&self, why: &Error);
}

/// The stream of one source.
#[derive(Debug, Clone, Copy)]
pub struct Tap<'a> {
    /// The DynamoDB table.
    pub table: &'a str,
    /// Its stream's ARN.
    pub stream: &'a str,
    /// Its mapping.
    pub mapper: &'a Mapper,
    /// Records after which to stop.
    pub limit: Option<u64>,
}

/// Shows the records of the source that is named, or of the only one, until the limit or the end of all
/// shards.
///
/// # Errors
/// When the target or the stream cannot be read.
pub async fn tap(
    config: &mut Config,
    name: Option<&str>,
    limit: Option<u64>,
    viewer: &impl Viewer,
) -> Result<()> {
    let pools = wire::target_to_read(config).await?;
    let pool = pools.pool().await?;
    resolve(config, &pool).await?;
    let source = named::one(config, name)?;
    let dynamo = wire::source(config, source).await?;
    let stream = describe(&dynamo, source).await?.stream_arn.ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("table {} has no stream", source.table))
    })?;
    let tap = Tap { table: &source.table, stream: &stream, mapper: &source.mapper, limit };
    tap.run(&dynamo, &SystemClock, viewer).await
}

impl Tap<'_> {
    /// Reads until the limit or the end of all shards.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub async fn run(
        &self,
        source: &impl Live,
        clock: &impl Clock,
        viewer: &impl Viewer,
    ) -> Result<()> {
        let mut readers = self.readers(source, clock).await?;
        viewer.reading(readers.len(), self.table);
        let mut left = self.limit.unwrap_or(u64::MAX);
        while !readers.is_empty() && left > 0 {
            let next = clock.now() + ROUND;
            let mut going_on = Vec::new();
            for mut reader in readers {
                let Some(page) = read(source, &mut reader, viewer).await? else {
                    going_on.push(reader);
                    continue;
                };
                for change in &page.changes {
                    if left == 0 {
                        return Ok(());
                    }
                    viewer.record(change, fate(self.mapper, change, &mut Vec::new()))?;
                    left -= 1;
                }
                if page.end {
                    // A child's records are newer than all of its parent's.
                    let children = source.child_shards(self.stream, &reader.partition).await?;
                    going_on.extend(children.iter().map(|child| self.reader(child, None)));
                } else {
                    reader.position = page.next;
                    reader.iterator = page.iterator;
                    going_on.push(reader);
                }
            }
            readers = going_on;
            clock.sleep_until(next).await;
        }
        Ok(())
    }

    /// A reader behind the newest record of each open shard.
    async fn readers(&self, source: &impl Live, clock: &impl Clock) -> Result<Vec<ReadFrom>> {
        let shards = list(source, clock, self.stream).await?.shards;
        let is_parent = |id: &PartitionId| shards.iter().any(|own| own.parent.as_ref() == Some(id));
        let mut readers = Vec::new();
        for shard in shards.iter().filter(|own| !is_parent(&own.id)) {
            let iterator = Some(source.latest(self.stream, &shard.id).await?);
            readers.push(self.reader(shard, iterator));
        }
        Ok(readers)
    }

    fn reader(&self, shard: &ShardListing, iterator: Option<ShardIterator>) -> ReadFrom {
        ReadFrom {
            stream_arn: self.stream.into(),
            partition: shard.id.clone(),
            position: Position::Horizon,
            iterator,
        }
    }
}

/// A page, or `None` for now if other readers took the shard's share.
async fn read(
    source: &impl Live,
    reader: &mut ReadFrom,
    viewer: &impl Viewer,
) -> Result<Option<Page>> {
    match source.read(reader).await {
        Ok(page) => Ok(Some(page)),
        Err(error) if matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Unavailable) => {
            viewer.waiting(&error);
            Ok(None)
        }
        Err(error) if matches!(error.kind(), ErrorKind::Expired | ErrorKind::Trimmed) => {
            viewer.left_out(&error);
            reader.iterator = Some(source.latest(&reader.stream_arn, &reader.partition).await?);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
