//! Begins a backfill of items that are older than what was applied: those of an export.
//!
//! `engine/ports/rewind.rs` explains why shards must be read again, and which. This module asks the stream
//! where each of them starts now.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::ports::{
    Backfills, Ledger, NewBackfill, PartitionRow, PartitionState, ReadFrom, Rewind, Seams, Source,
    past,
};
use crate::engine::tail::discovery::{Newest, newest_stream};
use crate::engine::tail::listing::list;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EpochMillis, Generation, PartitionId, Position, ShardListing};

/// A backfill of items as of a past moment.
#[derive(Debug, Clone)]
pub struct DatedBackfill {
    /// Its partitions.
    pub partitions: Vec<PartitionId>,
    /// The number of items.
    pub items: u64,
    /// Changes after this moment must be applied in the backfill's generation.
    pub as_of: EpochMillis,
    /// The stream that holds that moment, and began before it.
    pub stream_arn: Arc<str>,
    /// The fingerprint of the mapping.
    pub mapping: i64,
}

/// Begins a backfill of older items; false if one cannot begin now. The stream is read again from that moment
/// on.
///
/// # Errors
/// `Config` if the stream no longer holds what must be read again, or another one has taken its place; errors
/// of the source and the ledger.
pub async fn begin<P: Seams>(
    ports: &P,
    source: Arc<str>,
    replaces: Generation,
    backfill: DatedBackfill,
) -> Result<bool> {
    let DatedBackfill { partitions, items, as_of, stream_arn, mapping } = backfill;
    let mapping = Some(mapping);
    let view = ports.ledger().view(&source).await?;
    if view.generation != replaces || !view.listed {
        return Ok(false);
    }
    let newest = ports.source().describe().await?.stream_arn;
    let (stream, starts) = match newest_stream(ports, newest, &view.stream_arn).await? {
        Newest::Unlisted => return Ok(false),
        // None of its records were applied yet.
        Newest::Another(stream) => (Some(stream), HashMap::new()),
        Newest::Known => {
            let past = past(&view.partitions, as_of);
            (None, starts(ports, &view.stream_arn, &past).await?)
        }
    };
    let with = stream.as_ref().map_or(&view.stream_arn, |stream| &stream.stream_arn);
    let another = *with != stream_arn;
    let rewind = Some(Rewind { stream_arn, as_of, starts });
    let items = Some(items);
    let backfill =
        NewBackfill { source, replaces, stream, partitions, items, rcu_max: None, mapping, rewind };
    // The ledger decides, in the transaction that begins.
    match ports.ledger().begin_backfill(&backfill).await? {
        false if another => {
            let what = "the stream was enabled again since the export was checked: changes between \
                        the two are lost";
            Err(Error::new(ErrorKind::Config, what).with_hint(
                "make a new export, at least five minutes later, or `dynaurora backfill`",
            ))
        }
        begun => Ok(begun),
    }
}

/// Where the stream now holds the first record of each of these shards.
async fn starts<P: Seams>(
    ports: &P,
    stream_arn: &Arc<str>,
    shards: &[&PartitionRow],
) -> Result<HashMap<PartitionId, Position>> {
    let mut starts = HashMap::new();
    if shards.is_empty() {
        return Ok(starts);
    }
    let listed = list(ports.source(), ports.clock(), stream_arn).await;
    // A shard missing in the listing is queried separately, so an incomplete listing does no harm.
    let listed: HashMap<PartitionId, ShardListing> =
        listed?.shards.into_iter().map(|shard| (shard.id.clone(), shard)).collect();
    for row in shards {
        if row.state == PartitionState::Lost {
            return Err(unreadable(&row.id));
        }
        let first = listed.get(&row.id).map_or(Position::Horizon, ShardListing::start);
        let from = ReadFrom {
            stream_arn: Arc::clone(stream_arn),
            partition: row.id.clone(),
            position: first,
            iterator: None,
        };
        starts.insert(row.id.clone(), start(ports.source(), from).await?);
    }
    Ok(starts)
}

/// The shard's start, by number if possible, so that trimming before the read shows.
async fn start<S: Source>(source: &S, mut from: ReadFrom) -> Result<Position> {
    loop {
        let page = match source.read(&from).await {
            // An old shard loses its first records before it vanishes.
            Err(error)
                if error.kind() == ErrorKind::Trimmed && from.position != Position::Horizon =>
            {
                from.position = Position::Horizon;
                continue;
            }
            Err(error) if matches!(error.kind(), ErrorKind::Trimmed | ErrorKind::Gone) => {
                return Err(unreadable(&from.partition).with_source(error));
            }
            answer => answer?,
        };
        return Ok(match (from.position, page.changes.first()) {
            (Position::Horizon, Some(change)) => Position::At(change.sequence),
            (position, _) => position,
        });
    }
}

fn unreadable(shard: &PartitionId) -> Error {
    let what = format!("the stream no longer holds shard {shard}, which must be read again");
    Error::new(ErrorKind::Config, what).with_hint("make a new export and use that one")
}
