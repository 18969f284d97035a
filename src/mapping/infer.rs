//! Proposes a mapping from sampled items, with its reasons as comments; it parses unchanged.
//!
//! Items are grouped by the shape of their key (`CHILD#…` apart from `LETTER#…#…`). Within a group each
//! attribute becomes a column of the narrowest type that fits all of its values. A proposal rather keeps too
//! much: attributes without a column go to `extra`, those with several types to jsonb. Designs of NoSQL
//! Workbench or OneTable become groups of the same kind.

mod attributes;
mod declared;
pub(super) mod names;
mod onetable;
mod proposal;
mod shape;
mod workbench;

use serde_json::Value;

use crate::model::Item;
pub use declared::ModelError;
pub use proposal::{InferPlace, InferRequest};
use proposal::{groups, head, section};

/// Proposes a config for these items.
#[must_use]
pub fn infer_items(request: InferRequest<'_>, items: &[Item]) -> String {
    let groups = groups(request, items, &mut Vec::new());
    let origin = format!("{} items of {}", items.len(), request.table);
    format!("{}{}{}", head(&origin), request.place.section(), section(request, &[], &groups))
}

/// Proposes a config for a design: a data model of NoSQL Workbench, or a OneTable schema as JSON.
///
/// `table` chooses one of a model's tables. A schema does not name its table, so `table` does.
///
/// # Errors
/// When the text is not a design, or has no such table.
pub fn infer_model(text: &str, table: Option<&str>) -> Result<String, ModelError> {
    let value: Value = serde_json::from_str(text)?;
    if value.get("DataModel").is_some() {
        return workbench::propose(value, table);
    }
    if value.get("models").is_some() {
        return onetable::propose(value, table);
    }
    Err(ModelError::Unknown)
}
