//! Loads: the table is read as a whole beside its stream, under a new generation.

use std::future::Future;
use std::sync::Arc;

use super::rewind::Rewind;
use crate::error::Result;
use crate::model::{Cells, Generation, PartitionId, ShardListing, TableIndex};

/// What begins and ends a load; a part of the ledger.
pub trait Loads: Send + Sync + 'static {
    /// Begins a load in one transaction: the generation and every partition's epoch grow, so that each batch
    /// in flight fails at the fence; the load's partitions are entered; old claims go; open gaps count as
    /// being repaired, and a shard whose position was trimmed goes on at its horizon; a halt for a gap ends.
    /// Every shard at its horizon counts as entered now, since what it held before is part of the load.
    ///
    /// Nothing happens, and the answer is false, unless the generation is the expected one, the
    /// stream's shards were listed completely (those of a new stream count), the source is not halted
    /// for anything but a gap, and the table is the one that was enrolled.
    ///
    /// A load of older items rewinds the shards that were applied past them ([`Rewind::shards`]): such a
    /// shard is open at its start again, and what it was at is kept, since the load ends only once it
    /// is back there. Where a start is not known the answer is false too.
    fn begin_load(&self, load: &NewLoad) -> impl Future<Output = Result<bool>> + Send;

    /// Ends the load of this generation once all its partitions are drained and every shard is back at
    /// what it was rewound from: claims go, its gaps are repaired. False when there is no such load, or
    /// when it is not at its end.
    fn end_load(
        &self,
        source: &str,
        generation: Generation,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// The open dead letters of a source, oldest first, `limit` at most.
    fn open_letters(
        &self,
        source: &str,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<OpenLetter>>> + Send;
}

/// A load to begin.
#[derive(Debug, Clone)]
pub struct NewLoad {
    /// The source.
    pub source: Arc<str>,
    /// The generation that the load replaces.
    pub replaces: Generation,
    /// The stream that the source has now, where it is not the one of the ledger: its shards are
    /// entered in the same transaction, so that none of its records is ever applied under the old
    /// generation. Sequence numbers of two streams do not compare.
    pub stream: Option<NewStream>,
    /// The segments or files that make it up.
    pub partitions: Vec<PartitionId>,
    /// How many items there are, as far as the service knows.
    pub items: Option<u64>,
    /// The read units a second that all workers together may take.
    pub rcu_max: Option<f64>,
    /// The fingerprint of the mapping that it is made with.
    pub mapping: Option<i64>,
    /// The shards' starts, where what is loaded is older than what was applied.
    pub rewind: Option<Rewind>,
}

/// A stream that takes another one's place.
#[derive(Debug, Clone)]
pub struct NewStream {
    /// Its ARN.
    pub stream_arn: Arc<str>,
    /// All of its shards.
    pub shards: Vec<ShardListing>,
}

/// The record of a dead letter, as its DynamoDB JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLetter {
    /// The dead letter's number.
    pub id: i64,
    /// The whole record: `{"op", "keys", "new_image", "old_image"}`.
    pub image: String,
}

/// The rows that a load did not find, to be deleted in steps.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The source.
    pub source: Arc<str>,
    /// The load's generation: rows of an older one go.
    pub generation: Generation,
    /// The tables; child rows go with the rows that they hang on.
    pub tables: Vec<TableIndex>,
    /// Keys of rows that stay: those of open dead letters.
    pub spared: Vec<(TableIndex, Cells)>,
    /// The numbers of those letters: with another one open, nothing is deleted.
    pub letters: Vec<i64>,
}

/// How many rows a sweep would delete, of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stale {
    /// Rows of an older generation.
    pub rows: u64,
    /// All rows that dynaurora wrote.
    pub of: u64,
}

/// What became of one step of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// So many rows were deleted; there may be more.
    Rows(u64),
    /// No row of an older generation is left but those spared.
    Done,
    /// The load is not this one any more, or there are other dead letters: nothing was deleted.
    Over,
}
