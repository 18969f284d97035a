//! Sequence numbers of stream records.

use std::cmp::Ordering;
use std::fmt;

/// A stream record's sequence number: 1 to 40 decimal digits (the service's model says 21 to 40). It is
/// compared as a number, but printed with its original width, because the API needs its own text back.
#[derive(Debug, Clone, Copy)]
pub struct SequenceNumber {
    pub(super) high: u128,
    pub(super) low: u64,
    width: u8,
}

impl SequenceNumber {
    /// The longest sequence number that the service's model allows, in digits.
    pub const DIGITS_MAX: usize = 40;
    /// The highest number that a row of a load has: an export's place in its chain. The stream's own numbers
    /// have at least 21 digits.
    pub const OF_LOADS_MAX: u16 = 1_000;
    const LOW_DIGITS: usize = 19;

    /// Below every sequence number: the sequence part of a scanned row's version.
    pub const ZERO: Self = Self { high: 0, low: 0, width: 1 };

    /// Whether no record of a stream, but a load has given it: a scan, or an export.
    #[must_use]
    pub fn is_of_load(self) -> bool {
        self.high == 0 && self.low <= u64::from(Self::OF_LOADS_MAX)
    }

    /// Parses decimal digits; `None` if the text is empty, too long or has anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.is_empty()
            || digits.len() > Self::DIGITS_MAX
            || !digits.iter().all(u8::is_ascii_digit)
        {
            return None;
        }
        let split = digits.len().saturating_sub(Self::LOW_DIGITS);
        let (high, low) = text.split_at(split);
        let high = if high.is_empty() { 0 } else { high.parse().ok()? };
        let width = u8::try_from(digits.len()).ok()?;
        Some(Self { high, low: low.parse().ok()?, width })
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SequenceNumber {}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.high, self.low).cmp(&(other.high, other.low))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = usize::from(self.width);
        if width > Self::LOW_DIGITS {
            write!(f, "{:0w$}{:019}", self.high, self.low, w = width - Self::LOW_DIGITS)
        } else {
            write!(f, "{:0width$}", self.low)
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
    fn sequence_numbers_compare_as_numbers_whatever_their_width() {
        assert!(seq("9900000000002513012315") < seq("10000000000002513012315"));
        assert!(seq("9".repeat(40).as_str()) > seq("9".repeat(39).as_str()));
        assert_eq!(seq("000000000000000000000000000042"), seq("42"));
        assert!(SequenceNumber::ZERO < seq("000000000000000000001"));
        assert!(SequenceNumber::ZERO.is_of_load() && seq("1000").is_of_load());
        assert!(!seq("1001").is_of_load() && !seq("100000000000000000000").is_of_load());
    }

    #[test]
    fn sequence_numbers_keep_their_text() {
        for text in ["7", "0042", "100000000003498069978", &"8".repeat(40), &"0".repeat(30)] {
            assert_eq!(seq(text).to_string(), text);
        }
        for text in ["", "12a", "-1", &"1".repeat(41)] {
            assert!(SequenceNumber::parse(text).is_none(), "{text}");
        }
    }
}
