//! Why a record could not be mapped or stored.

use std::sync::Arc;

/// Why a record was rejected: the label of metrics and the dead letters' `reason`, from a fixed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// No entity's key template matches, and the source says `unmatched = "dead_letter"`.
    Unmatched,
    /// A required attribute, or one of the target's primary key, is absent or NULL.
    Missing,
    /// The attribute's type cannot become the column's type.
    Type,
    /// The value has the right type but an invalid form, such as a wrong date.
    Format,
    /// The value does not fit the column's range, precision or length.
    Range,
    /// The text holds U+0000, which Postgres cannot store.
    Nul,
    /// More child rows than the mapping's limit, or nesting too deep.
    Limit,
    /// Postgres refused the row.
    Refused,
}

impl RejectReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unmatched,
        Self::Missing,
        Self::Type,
        Self::Format,
        Self::Range,
        Self::Nul,
        Self::Limit,
        Self::Refused,
    ];

    /// The label in metrics and the `dead_letters` table.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unmatched => "unmatched",
            Self::Missing => "missing",
            Self::Type => "type",
            Self::Format => "format",
            Self::Range => "range",
            Self::Nul => "nul",
            Self::Limit => "limit",
            Self::Refused => "refused",
        }
    }
}

/// Why a record could not be mapped or stored. It becomes a dead letter with the record's whole image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The reason.
    pub reason: RejectReason,
    /// The entity of the record, if known.
    pub entity: Option<Arc<str>>,
    /// The column or path at fault, if there is one.
    pub place: Option<Arc<str>>,
    /// The explanation for people, without the value itself.
    pub detail: String,
}

impl Reject {
    /// The reject of an item that no entity takes, in a source that wants to know.
    #[must_use]
    pub fn unmatched() -> Self {
        Self {
            reason: RejectReason::Unmatched,
            entity: None,
            place: None,
            detail: "no entity's key template matches this key".to_owned(),
        }
    }
}
