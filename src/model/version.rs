//! The version of a row, and the two numbers that fence what is stale.

use std::fmt;

use super::SequenceNumber;

/// The number that changes whenever continuity with the stream was lost and the table is read again.
/// The first generation of a source is 1.
pub type Generation = u32;

/// The number that changes at each change of a lease's owner.
pub type Epoch = i64;

/// The version of a row: generation first, then sequence number; a scan's row has the sequence number zero.
///
/// In the target it is one `numeric`: generation x 10^40 + sequence number, which is what `Display` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The generation in which the row was read.
    pub generation: Generation,
    /// The record's sequence number, or zero for a scan.
    pub sequence: SequenceNumber,
}

impl Version {
    /// Reads what `Display` printed: the generation, from 1, before the last forty digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let split = text.len().checked_sub(SequenceNumber::DIGITS_MAX)?;
        let (generation, sequence) = text.split_at_checked(split)?;
        let generation = generation.parse().ok().filter(|generation| *generation >= 1)?;
        Some(Self { generation, sequence: SequenceNumber::parse(sequence)? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, sequence } = self;
        write!(f, "{generation}{:021}{:019}", sequence.high, sequence.low)
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
}
