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

impl PartitionKind {
    const ALL: [Self; 3] = [Self::Shard, Self::Segment, Self::File];

    /// The label that the ledger carries.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Shard => "shard",
            Self::Segment => "segment",
            Self::File => "file",
        }
    }

    /// What its names begin with; those of shards are the service's own.
    #[must_use]
    pub const fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Shard => None,
            Self::Segment => Some("scan/"),
            Self::File => Some("file/"),
        }
    }
}

impl PartitionId {
    /// Names a part of a load.
    #[must_use]
    pub fn of_load(kind: PartitionKind, name: fmt::Arguments<'_>) -> Self {
        Self::new(format!("{}{name}", kind.prefix().unwrap_or_default()))
    }

    /// The name behind the prefix of its kind, if it is of this kind.
    #[must_use]
    pub fn name_of(&self, kind: PartitionKind) -> Option<&str> {
        (self.kind() == kind).then(|| self.0.strip_prefix(kind.prefix().unwrap_or_default()))?
    }

    /// What it is a part of.
    #[must_use]
    pub fn kind(&self) -> PartitionKind {
        let named = |kind: &PartitionKind| kind.prefix().is_some_and(|own| self.0.starts_with(own));
        PartitionKind::ALL.into_iter().find(named).unwrap_or(PartitionKind::Shard)
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
