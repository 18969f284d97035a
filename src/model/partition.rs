//! What is read in order: shards, segments and files, and shards as a listing shows them.

use std::fmt;
use std::sync::Arc;

use super::{Position, SequenceNumber};

/// Anything that is read in order from a [`Position`]: a stream shard, a segment of a backfill scan, or a
/// file of an export. The text is unique within its source and stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(Arc<str>);

/// What a partition is a part of; its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionKind {
    /// A shard of the stream.
    Shard,
    /// A segment of a backfill's scan: `scan/NNN-of-MMM`.
    Segment,
    /// A file of an export: `file/…`.
    File,
}

impl PartitionId {
    /// What it is a part of.
    #[must_use]
    pub fn kind(&self) -> PartitionKind {
        if self.0.starts_with("scan/") {
            PartitionKind::Segment
        } else if self.0.starts_with("file/") {
            PartitionKind::File
        } else {
            PartitionKind::Shard
        }
    }

    /// Wraps a shard id, or the name of a segment or file.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One shard as a listing shows it. `EndingSequenceNumber` is left out: an end is learnt by reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardListing {
    /// The shard.
    pub id: PartitionId,
    /// The shard that it continues, listed or not.
    pub parent: Option<PartitionId>,
    /// The first sequence number that it can hold, where the listing gives one.
    pub starting: Option<SequenceNumber>,
}

impl ShardListing {
    /// Where the reading of this shard starts: at its starting sequence number where that is known, so that
    /// trimming shows as an error; the horizon never reports a loss.
    #[must_use]
    pub fn start(&self) -> Position {
        self.starting.map_or(Position::Horizon, Position::At)
    }
}
