//! Which rows of a table are a source's own, where several share it: those with its constants in the primary
//! key. A statement that is given keys needs none of this; one that looks for rows does.

use super::extras::literal;
use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::postgres::sql::ident::{cast_type, quoted};

/// The condition on the rows of the alias, behind `link`; nothing where all rows of the table are its own.
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
