//! Why changes were lost, and why a source is halted.

use std::fmt;

/// Why changes were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The stream no longer holds the position.
    Trimmed,
    /// The shard vanished before it was drained.
    Vanished,
    /// The stream was disabled and enabled again.
    StreamChanged,
    /// The table was deleted and created again.
    TableChanged,
    /// Nobody read the shard for so long that records may have been trimmed unnoticed.
    Unpolled,
}

impl GapReason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Trimmed, Self::Vanished, Self::StreamChanged, Self::TableChanged, Self::Unpolled];

    /// The label that logs, metrics and the ledger carry.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Vanished => "vanished",
            Self::StreamChanged => "stream_changed",
            Self::TableChanged => "table_changed",
            Self::Unpolled => "unpolled",
        }
    }

    /// Parses a label.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.label() == label)
    }
}

/// Why nothing of a source is read until somebody acts. Stored in the ledger as the text that `Display`
/// prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// Changes were lost. A backfill repairs it, or an operator accepts it.
    Gap(GapReason),
    /// Something else, in words.
    Other(String),
}

impl Halt {
    /// Reads what `Display` printed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        GapReason::parse(text).map_or_else(|| Self::Other(text.to_owned()), Self::Gap)
    }
}

impl From<GapReason> for Halt {
    fn from(reason: GapReason) -> Self {
        Self::Gap(reason)
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(reason) => f.write_str(reason.label()),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halts_survive_the_ledger() {
        let other = Halt::Other("too many dead letters".to_owned());
        for halt in GapReason::ALL.map(Halt::Gap).into_iter().chain([other]) {
            assert_eq!(Halt::parse(&halt.to_string()), halt);
        }
    }
}
