//! Names of the partitions that a backfill's scan is divided into.

use super::{PartitionId, PartitionKind};

/// One of the equal parts into which a scan divides a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which part, from 0.
    pub index: u32,
    /// How many parts there are.
    pub total: u32,
}

impl Segment {
    /// Reads the partition's name; `None` when it names no segment.
    #[must_use]
    pub fn of(partition: &PartitionId) -> Option<Self> {
        let (index, total) = partition.name_of(PartitionKind::Segment)?.split_once("-of-")?;
        let segment = Self { index: index.parse().ok()?, total: total.parse().ok()? };
        (segment.index < segment.total).then_some(segment)
    }

    /// The partition of this segment, `scan/NNN-of-MMM`.
    #[must_use]
    pub fn partition(self) -> PartitionId {
        let name = format_args!("{:03}-of-{:03}", self.index, self.total);
        PartitionId::of_load(PartitionKind::Segment, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_and_read_back() {
        let segment = Segment { index: 2, total: 16 };
        assert_eq!(segment.partition().as_str(), "scan/002-of-016");
        assert_eq!(Segment::of(&segment.partition()), Some(segment));
        for other in ["scan/004-of-004", "shardId-00000001-0000", "scan/1", "scan/a-of-b"] {
            assert_eq!(Segment::of(&PartitionId::new(other)), None, "{other}");
        }
    }
}
