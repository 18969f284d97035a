//! Backfills: the whole table is read beside its stream, under a new generation.

use std::future::Future;
use std::sync::Arc;

use super::rewind::Rewind;
use crate::error::Result;
use crate::model::{Cells, Generation, PartitionId, ShardListing, TableIndex};

/// Begins and ends backfills; a part of the ledger.
pub trait Backfills: Send + Sync + 'static {
    /// Begins a backfill in one transaction. The generation and every partition's epoch grow, so that each
    /// batch in flight fails at the fence. Its partitions are added, old tombstones are deleted, open gaps
    /// are marked as being repaired, a trimmed shard continues at its horizon, and a halt for a gap ends.
    /// Every shard at its horizon counts as registered now, since the backfill covers its earlier records.
    ///
    /// It does nothing and returns false unless the generation is the expected one, the stream's shards were
    /// listed completely (those of a new stream count), the source is not halted for anything but a gap, and
    /// the table is the registered one. Nor does it begin with another stream than the newest that an open
    /// gap names: whoever asks for that describes the source as it was.
    ///
    /// A backfill of older items rewinds the shards that were applied past them ([`Rewind::shards`]): such a
    /// shard is open at its start again, and its old position is kept, because the backfill ends only once
    /// the shard is back there. It returns false too if a start is not known, or if the stream with which the
    /// backfill would begin is not the one that holds the items' moment ([`Rewind::stream_arn`]): what was
    /// changed between the two would stay as it was.
    fn begin_backfill(&self, backfill: &NewBackfill) -> impl Future<Output = Result<bool>> + Send;

    /// Ends the backfill of this generation once all its partitions are drained and every shard is back at
    /// the position from which it was rewound: tombstones are deleted, its gaps are repaired. False if there
    /// is no such backfill, or it is not at its end.
    fn end_backfill(
        &self,
        source: &str,
        generation: Generation,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Settles dead letters, a part of them at a time, once all partitions of the backfill of this generation
    /// are drained: those of older generations, since the backfill has read whatever items are left, and each
    /// that is older than what a batch applied of its item. Such a letter comes of a page that waited while
    /// the stream went on. Once it is done, no letter of the source is open that is older than what was
    /// applied of its item, nor will one be.
    fn settle_letters(
        &self,
        source: &str,
        generation: Generation,
    ) -> impl Future<Output = Result<Settling>> + Send;

    /// The open dead letters of a source, oldest first, at most `limit`.
    fn open_letters(
        &self,
        source: &str,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<OpenLetter>>> + Send;
}

/// A backfill to begin.
#[derive(Debug, Clone)]
pub struct NewBackfill {
    /// The source.
    pub source: Arc<str>,
    /// The generation that the backfill replaces.
    pub replaces: Generation,
    /// The source's new stream, if it is not the ledger's. Its shards are registered in the same transaction,
    /// so that none of its records is ever applied under the old generation: sequence numbers of two streams
    /// cannot be compared.
    pub stream: Option<NewStream>,
    /// Its segments or files.
    pub partitions: Vec<PartitionId>,
    /// The number of items, as far as the service knows.
    pub items: Option<u64>,
    /// The read units a second for all workers together.
    pub rcu_max: Option<f64>,
    /// The fingerprint of its mapping.
    pub mapping: Option<i64>,
    /// The shards' starts, if the items are older than what was applied.
    pub rewind: Option<Rewind>,
}

/// A stream that replaces another one.
#[derive(Debug, Clone)]
pub struct NewStream {
    /// Its ARN.
    pub stream_arn: Arc<str>,
    /// All of its shards.
    pub shards: Vec<ShardListing>,
}

/// The result of one step of settling dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    /// There may be more to settle.
    More,
    /// Every open letter is newer than what was applied of its item.
    Done,
    /// Another backfill began, or this one is over or not at its end: nothing was settled.
    Over,
}

/// The record of a dead letter, as its DynamoDB JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLetter {
    /// The dead letter's number.
    pub id: i64,
    /// The whole record: `{"op", "keys", "new_image", "old_image"}`.
    pub image: String,
}

/// The rows that a backfill did not find, to be deleted in steps.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The source.
    pub source: Arc<str>,
    /// The backfill's generation: rows of older ones are deleted.
    pub generation: Generation,
    /// The tables; child rows go with their parent rows.
    pub tables: Vec<TableIndex>,
    /// Keys of rows that stay: those of open dead letters.
    pub spared: Vec<(TableIndex, Cells)>,
    /// The numbers of those letters: if another one is open, nothing is deleted.
    pub letters: Vec<i64>,
}

/// How many rows a sweep would delete, and of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stale {
    /// Rows of an older generation.
    pub rows: u64,
    /// All rows that dynaurora wrote.
    pub of: u64,
}

/// The result of one step of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// This many rows were deleted; there may be more.
    Rows(u64),
    /// Only spared rows of older generations remain.
    Done,
    /// Another backfill began, this one is not at its end, or there are other dead letters: nothing was
    /// deleted.
    Over,
}
