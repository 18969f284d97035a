//! Sampled items -> a proposed mapping with its reasons as comments, which parses unchanged.
//!
//! Items are grouped by the shape of their key (`CHILD#…` apart from `LETTER#…#…`); within a group
//! each attribute becomes a column of the narrowest type that all of its values have. A proposal
//! errs on the side of keeping: what has no column of its own goes to `extra`, and attributes of
//! several types to jsonb. A design, of NoSQL Workbench or OneTable, becomes groups of the same kind.

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
/// Of a model's tables, `table` chooses one. A schema does not name its table: there `table` does.
///
/// # Errors
/// When the text is no design, or has no such table.
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
