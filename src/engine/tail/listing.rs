//! Listings of shards: page by page, at a pace that leaves the service room, and no child before its parent.
//!
//! The service answers ten questions a second about the shards of a stream, whoever asks. The one worker
//! whose turn it is to list asks four of them, those that ask for the children of an ended shard at most six.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::ports::{Clock, Listing, ReadFrom, Seams, Source};
use crate::engine::retry::is_transient;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{PartitionId, Position};

/// The pause between two pages of a listing; a page has a hundred shards.
const PAGE_EVERY: Duration = Duration::from_millis(250);
/// How often a page is retried, with doubled pauses, before the listing ends early.
pub const PAGE_RETRIES: u32 = 4;
/// How many pages in a row may bring nothing new before the listing ends early: pages can repeat.
const PAGES_IDLE_MAX: u32 = 10;

/// All shards of the stream. If a page keeps failing after others succeeded, the shards so far are returned
/// with `complete: false`.
///
/// # Errors
/// As the source answers the first page.
pub async fn list<S: Source, C: Clock>(source: &S, clock: &C, stream_arn: &str) -> Result<Listing> {
    let (mut shards, mut known) = (Vec::new(), HashSet::new());
    let (mut after, mut idle, mut failures) = (None, 0, 0);
    while idle < PAGES_IDLE_MAX {
        match source.list_shards(stream_arn, after.as_ref()).await {
            Ok(page) => {
                let before = shards.len();
                let new = page.shards.into_iter().filter(|shard| known.insert(shard.id.clone()));
                shards.extend(new);
                (idle, failures) = if shards.len() > before { (0, 0) } else { (idle + 1, 0) };
                after = page.next;
                if after.is_none() {
                    return Ok(Listing { shards, complete: true });
                }
            }
            Err(error) if shards.is_empty() => return Err(error),
            Err(error) => {
                failures += 1;
                if failures > PAGE_RETRIES || !is_transient(error.kind()) {
                    let cause = error.chain();
                    tracing::debug!(shards = shards.len(), %cause, "a listing is incomplete");
                    return Ok(Listing { shards, complete: false });
                }
            }
        }
        clock.sleep_until(clock.now() + PAGE_EVERY * 2_u32.pow(failures)).await;
    }
    if shards.is_empty() {
        return Err(Error::new(ErrorKind::Unknown, "a listing of shards repeats endlessly"));
    }
    Ok(Listing { shards, complete: false })
}

/// The listing without shards whose parent is neither known to the ledger, nor listed, nor gone.
///
/// A listing may omit an existing shard, and a late one may show a child before its parent. The ledger takes
/// an unknown parent for a trimmed one, so its child would be read too early (invariant I3). Only an attempt
/// to read a parent shows whether it is gone; that costs one call for each of the oldest shards, once.
pub(crate) async fn with_parents<P: Seams>(
    ports: &P,
    stream_arn: &Arc<str>,
    mut entered: HashSet<PartitionId>,
    listing: Listing,
) -> Listing {
    let Listing { shards: mut waiting, complete } = listing;
    let mut shards = Vec::with_capacity(waiting.len());
    loop {
        let before = shards.len();
        for shard in std::mem::take(&mut waiting) {
            let parent = shard.parent.as_ref();
            let next =
                entered.contains(&shard.id) || parent.is_none_or(|own| entered.contains(own));
            if next {
                entered.insert(shard.id.clone());
                shards.push(shard);
            } else {
                waiting.push(shard);
            }
        }
        if shards.len() > before {
            continue;
        }
        let listed: HashSet<_> = waiting.iter().map(|shard| &shard.id).collect();
        let parents = waiting.iter().filter_map(|shard| shard.parent.as_ref());
        let unlisted: BTreeSet<PartitionId> =
            parents.filter(|parent| !listed.contains(parent)).cloned().collect();
        let asked = entered.len();
        for partition in unlisted {
            let stream_arn = Arc::clone(stream_arn);
            let position = Position::Horizon;
            let from = ReadFrom { stream_arn, partition, position, iterator: None };
            let answer = ports.source().read(&from).await;
            if answer.is_err_and(|error| error.kind() == ErrorKind::Gone) {
                entered.insert(from.partition);
            }
        }
        if entered.len() == asked {
            let complete = complete && waiting.is_empty();
            return Listing { shards, complete };
        }
    }
}
