//! What is read in order: shards, segments and files, and shards as a listing shows them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::{Position, Segment, SequenceNumber};

/// Anything that is read in order from a [`Position`]. Its text is unique within its source and stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PartitionId {
    /// A file of an export: `file/…`.
    File(Arc<str>),
    /// A segment of a backfill's scan: `scan/NNN-of-MMM`.
    Segment(Arc<str>, Segment),
    /// A shard of the stream, by the service's own id.
    Shard(Arc<str>),
}

/// What a partition is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionKind {
    /// Of the stream.
    Shard,
    /// Of a backfill's scan.
    Segment,
    /// Of an export.
    File,
}

impl PartitionKind {
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
    /// Reads the text of an id. No shard's id holds a slash: the service allows letters, digits and dashes.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let name_of = |kind: PartitionKind| text.strip_prefix(kind.prefix()?);
        if name_of(PartitionKind::File).is_some() {
            return Self::File(text);
        }
        match name_of(PartitionKind::Segment).and_then(Segment::parse) {
            Some(segment) => Self::Segment(text, segment),
            None => Self::Shard(text),
        }
    }

    /// Names a part of a backfill.
    #[must_use]
    pub fn of_backfill(kind: PartitionKind, name: fmt::Arguments<'_>) -> Self {
        Self::new(format!("{}{name}", kind.prefix().unwrap_or_default()))
    }

    /// The name behind the prefix of its kind, if it is of this kind.
    #[must_use]
    pub fn name_of(&self, kind: PartitionKind) -> Option<&str> {
        (self.kind() == kind)
            .then(|| self.as_str().strip_prefix(kind.prefix().unwrap_or_default()))?
    }

    /// The partition's kind.
    #[must_use]
    pub fn kind(&self) -> PartitionKind {
        match self {
            Self::File(_) => PartitionKind::File,
            Self::Segment(..) => PartitionKind::Segment,
            Self::Shard(_) => PartitionKind::Shard,
        }
    }

    /// Whether it is a shard of the stream; all else belongs to a backfill.
    #[must_use]
    pub fn is_shard(&self) -> bool {
        matches!(self, Self::Shard(_))
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::File(text) | Self::Segment(text, _) | Self::Shard(text) => text,
        }
    }
}

impl Ord for PartitionId {
    /// By the text, as the ledger sorts.
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for PartitionId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Segment {
    /// The partition of this segment, `scan/NNN-of-MMM`.
    #[must_use]
    pub fn partition(self) -> PartitionId {
        let name = format_args!("{:03}-of-{:03}", self.index, self.total);
        PartitionId::of_backfill(PartitionKind::Segment, name)
    }
}

/// One shard in a listing. `EndingSequenceNumber` is omitted: only reading shows an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardListing {
    /// The shard.
    pub id: PartitionId,
    /// The shard that it continues, listed or not.
    pub parent: Option<PartitionId>,
    /// The first sequence number that it can hold, if the listing gives one.
    pub starting: Option<SequenceNumber>,
}

impl ShardListing {
    /// Where reading this shard starts: at its starting sequence number if known, so that trimming shows as
    /// an error. A read from the horizon never reports a loss.
    #[must_use]
    pub fn start(&self) -> Position {
        self.starting.map_or(Position::Horizon, Position::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_knows_what_it_is_a_part_of_and_keeps_its_text() {
        let kinds = [
            ("shardId-00000001695097218-3c1e8f12", PartitionKind::Shard),
            ("scan/002-of-016", PartitionKind::Segment),
            ("file/12/-/s3://bucket/data/a.json.gz", PartitionKind::File),
        ];
        for (text, kind) in kinds {
            let partition = PartitionId::new(text);
            assert_eq!((partition.kind(), partition.as_str()), (kind, text));
            assert_eq!(partition.is_shard(), kind == PartitionKind::Shard);
        }
    }
}
