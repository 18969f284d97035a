//! Which rows of a shared table belong to a source: those with its constants in the primary key. Statements
//! with given keys do not need this; statements that search for rows do.

use super::extras::literal;
use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::postgres::sql::ident::{cast_type, quoted};

/// The condition for the source's own rows, after `link`; empty if all rows of the table are its own.
pub(in crate::postgres) fn own_rows(table: &TableSpec, alias: &str, link: &str) -> Result<String> {
    let mut condition = String::new();
    for (number, constant) in table.constants.iter().enumerate() {
        let Some(column) = table.columns.get(constant.column) else { continue };
        let link = if number == 0 { link } else { " and " };
        condition.push_str(&format!(
            "{link}{alias}.{} = {}::{}",
            quoted(&column.name)?,
            literal(&constant.value),
            cast_type(&column.column_type)?,
        ));
    }
    Ok(condition)
}
