//! How far a partition is applied.

use std::fmt;
use std::sync::Arc;

use super::SequenceNumber;

/// How far a partition was applied. The ledger stores its printed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// The oldest record that the shard still holds. A read from it never reports a loss, so it is used only
    /// if the listing gave no starting sequence number.
    Horizon,
    /// The record with this sequence number comes next.
    At(SequenceNumber),
    /// The record with this sequence number is applied.
    After(SequenceNumber),
    /// The beginning of a scan segment or of a file.
    Start,
    /// A scan segment up to and including this key (DynamoDB JSON of the last evaluated key).
    Key(Arc<str>),
    /// A file up to and including this many of its lines.
    Line(u64),
}

impl Position {
    /// What stands before the sequence number in the text of [`Self::After`].
    pub const AFTER: &str = "after:";

    /// Parses the printed text; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "horizon" => Some(Self::Horizon),
            None if text == "start" => Some(Self::Start),
            Some(("at", number)) => SequenceNumber::parse(number).map(Self::At),
            Some(("after", number)) => SequenceNumber::parse(number).map(Self::After),
            Some(("key", key)) => Some(Self::Key(key.into())),
            Some(("line", line)) => line.parse().ok().map(Self::Line),
            _ => None,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Horizon => f.write_str("horizon"),
            Self::Start => f.write_str("start"),
            Self::At(number) => write!(f, "at:{number}"),
            Self::After(number) => write!(f, "{}{number}", Self::AFTER),
            Self::Key(key) => write!(f, "key:{key}"),
            Self::Line(line) => write!(f, "line:{line}"),
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
    fn positions_survive_the_ledger() {
        let positions = [
            Position::Horizon,
            Position::Start,
            Position::At(seq("100000000003498069978")),
            Position::After(seq("000100000000003498069978")),
            Position::Key(r#"{"pk":{"S":"a:b"}}"#.into()),
            Position::Line(12),
        ];
        for position in positions {
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        assert_eq!(Position::parse("after:"), None);
        assert_eq!(Position::parse("latest"), None);
    }
}
