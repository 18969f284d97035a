//! Why a value cannot become a cell without loss.

use std::borrow::Cow;

use super::number::Decimal;
use crate::model::{AttributeValue, RejectReason};

/// Why a value cannot become a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The bounded reason.
    pub(crate) reason: RejectReason,
    /// The explanation for people, without the value.
    pub(crate) detail: Cow<'static, str>,
}

impl Loss {
    pub(crate) fn new(reason: RejectReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn format(detail: &'static str) -> Self {
        Self::new(RejectReason::Format, detail)
    }

    pub(super) fn range(detail: &'static str) -> Self {
        Self::new(RejectReason::Range, detail)
    }

    pub(super) fn mismatch(value: &AttributeValue, wanted: &str) -> Self {
        Self::new(RejectReason::Type, format!("a {} cannot become {wanted}", type_name(value)))
    }
}

/// An attribute type's name for people.
pub(crate) fn type_name(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(_) => "string (S)",
        AttributeValue::N(_) => "number (N)",
        AttributeValue::B(_) => "binary (B)",
        AttributeValue::Bool(_) => "boolean (BOOL)",
        AttributeValue::Null(_) => "null (NULL)",
        AttributeValue::M(_) => "map (M)",
        AttributeValue::L(_) => "list (L)",
        AttributeValue::Ss(_) => "string set (SS)",
        AttributeValue::Ns(_) => "number set (NS)",
        AttributeValue::Bs(_) => "binary set (BS)",
    }
}

/// Parses an attribute's number.
pub(crate) fn decimal(text: &str) -> Result<Decimal<'_>, Loss> {
    Decimal::parse(text).ok_or_else(|| Loss::format("not a decimal number"))
}

pub(super) fn nul_loss() -> Loss {
    Loss::new(RejectReason::Nul, "the text holds U+0000, which Postgres cannot store")
}
