//! The version of a row, and the two numbers that fence what is stale.

use std::fmt;

use super::{ItemTag, SequenceNumber};

/// A number that grows whenever continuity with the stream was lost and the table is read again. The first
/// generation of a source is 1.
pub type Generation = u32;

/// A number that grows at each change of a lease's owner.
pub type Epoch = i64;

/// The version of a row: generation first, then sequence number, which is zero for a scanned row.
///
/// In the target it is one `numeric`: generation x 10^40 + sequence number, which is what `Display` prints.
/// A [`Stamp`] adds the item, where rows name theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The generation in which the row was read.
    pub generation: Generation,
    /// The record's sequence number, or zero for a scan.
    pub sequence: SequenceNumber,
}

impl Version {
    /// Reads what `Display` prints: the generation, from 1, before the last forty digits; of a stamp its
    /// version. Anything else in the version's column is no version that a change, or a scan, can have given
    /// a row.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text.split_once('.') {
            Some((whole, tag)) => ItemTag::parse(tag).map(|_| whole)?,
            None => text,
        };
        let split = text.len().checked_sub(SequenceNumber::DIGITS_MAX)?;
        let (generation, sequence) = text.split_at_checked(split)?;
        let generation = generation.parse().ok().filter(|generation| *generation >= 1)?;
        Some(Self { generation, sequence: SequenceNumber::parse(sequence)? })
    }

    /// The version of a row that a scan of this generation read.
    #[must_use]
    pub fn scanned(generation: Generation) -> Self {
        Self { generation, sequence: SequenceNumber::ZERO }
    }

    /// What a row's version reads as, if some change or scan of this generation or an earlier one can have
    /// given it.
    #[must_use]
    pub fn given(text: &str, generation: Generation) -> Option<Self> {
        Self::parse(text).filter(|version| version.generation <= generation)
    }

    /// Whether an existing row was never written by dynaurora: its version is 0.
    #[must_use]
    pub fn is_foreign(text: Option<&str>) -> bool {
        text == Some("0")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, sequence } = self;
        write!(f, "{generation}{:021}{:019}", sequence.high, sequence.low)
    }
}

/// A version as a row holds it: where the key does not tell the item, the item's tag is the fraction.
///
/// So a row without a fraction is of an unknown item, and whoever writes the version writes the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The version.
    pub version: Version,
    /// The item, where rows name theirs.
    pub item: Option<ItemTag>,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            Some(item) => write!(f, "{}.{item}", self.version),
            None => self.version.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(text: &str) -> SequenceNumber {
        SequenceNumber::parse(text).unwrap()
    }

    #[test]
    fn versions_print_generation_times_ten_to_the_forty_plus_sequence() {
        let version = Version { generation: 3, sequence: seq("42") };
        assert_eq!(version.to_string(), format!("3{:040}", 42));
        let scan = Version { generation: 4, sequence: SequenceNumber::ZERO };
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        for odd in ["0", "-1", "17", "1.5", "NaN", &"9".repeat(40), &"9".repeat(60)] {
            assert_eq!(Version::parse(odd), None, "{odd}");
        }
        assert!(version < scan);
        assert!(scan < Version { generation: 4, sequence: seq("1") });
    }

    #[test]
    fn a_stamp_is_a_version_with_its_item_behind_the_point() {
        let version = Version { generation: 3, sequence: seq("42") };
        let item = ItemTag::numbered(7);
        let text = Stamp { version, item }.to_string();
        assert_eq!(text, format!("3{:040}.0000000000000007", 42));
        assert_eq!((Version::parse(&text), ItemTag::of_version(&text)), (Some(version), item));
        assert_eq!(Stamp { version, item: None }.to_string(), version.to_string());
    }

    #[test]
    fn only_what_a_change_can_have_given_is_a_version() {
        let own = Version { generation: 2, sequence: seq("000100000000003498069978") };
        assert_eq!(Version::given(&own.to_string(), 2), Some(own));
        assert_eq!(Version::given(&own.to_string(), 3), Some(own));
        let future = Version { generation: 3, ..own }.to_string();
        for odd in ["0", "-1", "17", "1.5", "NaN", &"9".repeat(40), &"9".repeat(60), &future] {
            assert_eq!(Version::given(odd, 2), None, "{odd}");
        }
        assert!(Version::given(&Version::scanned(2).to_string(), 2).is_some());
        assert!(Version::is_foreign(Some("0")) && !Version::is_foreign(None));
    }
}
