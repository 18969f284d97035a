//! Designs as files: which tool wrote one, and columns with declared types.

use super::names::{path_name, snake, unique};
use crate::mapping::spec::ColumnType;
use crate::mapping::toml_text;

/// Why a file cannot be read as a design.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// It is not JSON.
    #[error("the file is not JSON")]
    Json(#[from] serde_json::Error),
    /// It is other JSON.
    #[error("the file is neither a data model of NoSQL Workbench nor a OneTable schema")]
    Unknown,
    /// Part of it is invalid; the text says where and why.
    #[error("{0}")]
    Wrong(String),
}

/// A column declared by a design.
pub(super) struct Declared {
    /// The column's name, before it is made unique.
    pub(super) column: String,
    /// The path of its value.
    pub(super) from: String,
    /// Its type.
    pub(super) column_type: ColumnType,
    /// The unit in which a number counts time.
    pub(super) epoch: Option<&'static str>,
    /// Other facts from the design, for people.
    pub(super) note: String,
}

/// Writes a line for each column.
pub(super) fn write(columns: &[Declared], taken: &mut Vec<String>, line: &mut dyn FnMut(String)) {
    for declared in columns {
        let column = unique(&declared.column, taken);
        taken.push(column.clone());
        let from = toml_text::string(&declared.from);
        let kind = &declared.column_type;
        let mut text = match (kind, declared.epoch) {
            (ColumnType::Text, _) => format!("{column} = {from}"),
            (kind, None) => format!("{column} = {{ from = {from}, type = \"{kind}\" }}"),
            (kind, Some(unit)) => {
                format!("{column} = {{ from = {from}, type = \"{kind}\", epoch = \"{unit}\" }}")
            }
        };
        let note: String = declared.note.chars().filter(|char| !char.is_control()).collect();
        if !note.is_empty() {
            text.push_str("   # ");
            text.push_str(&note);
        }
        line(text);
    }
}

impl Declared {
    /// A column for an attribute of this name.
    pub(super) fn attribute(name: &str, column_type: ColumnType) -> Self {
        Self {
            column: snake(name),
            from: path_name(name),
            column_type,
            epoch: None,
            note: String::new(),
        }
    }
}

/// An array of a scalar type.
pub(super) fn array(element: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(element))
}
