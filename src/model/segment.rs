//! Names of the segments of a backfill's scan.

/// One of the equal parts of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Which part, from 0.
    pub index: u32,
    /// How many parts there are.
    pub total: u32,
}

impl Segment {
    /// Reads a segment's name behind its prefix; `None` for any other.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (index, total) = name.split_once("-of-")?;
        let segment = Self { index: index.parse().ok()?, total: total.parse().ok()? };
        (segment.index < segment.total).then_some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PartitionId;

    #[test]
    fn segments_are_named_and_read_back() {
        let segment = Segment { index: 2, total: 16 };
        assert_eq!(segment.partition().as_str(), "scan/002-of-016");
        assert_eq!(PartitionId::new("scan/002-of-016"), segment.partition());
        for other in ["004-of-004", "shardId-00000001-0000", "1", "a-of-b"] {
            assert_eq!(Segment::parse(other), None, "{other}");
        }
    }
}
