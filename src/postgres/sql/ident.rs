//! The one place that turns names and column types into SQL.

use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{ColumnType, TableName};

/// The longest name that Postgres does not cut off (NAMEDATALEN - 1), in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// A name as SQL: always in double quotes, so that it is taken literally.
///
/// # Errors
/// `Config` for a name that Postgres does not allow: empty, over 63 bytes, or with U+0000.
pub fn quoted(name: &str) -> Result<String> {
    let wrong = |why: &str| {
        Err(Error::new(ErrorKind::Config, format!("the name {name:?} {why}"))
            .with_hint("choose another name for the table or column in the mapping"))
    };
    if name.is_empty() {
        return wrong("is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return wrong("is longer than the 63 bytes that postgres keeps");
    }
    if name.contains('\0') {
        return wrong("holds U+0000");
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// The schema of tables without one. The search path is not used: with it a role named `dynaurora` would find
/// its tables in the ledger's schema.
pub const DEFAULT_SCHEMA: &str = "public";

/// A table's name as SQL, with its schema.
///
/// # Errors
/// As for [`quoted`].
pub fn quoted_table(table: &TableName) -> Result<String> {
    let schema = table.schema.as_deref().unwrap_or(DEFAULT_SCHEMA);
    Ok(format!("{}.{}", quoted(schema)?, quoted(&table.name)?))
}

/// A user's own type as SQL; one without a schema is found through the search path.
fn quoted_type(name: &TableName) -> Result<String> {
    match &name.schema {
        Some(schema) => Ok(format!("{}.{}", quoted(schema)?, quoted(&name.name)?)),
        None => quoted(&name.name),
    }
}

/// A column's type as `create table` spells it.
///
/// # Errors
/// As for [`quoted`].
pub fn declared_type(column_type: &ColumnType) -> Result<String> {
    match column_type {
        ColumnType::Varchar(length) => Ok(format!("varchar({length})")),
        ColumnType::Numeric(Some((precision, scale))) => {
            Ok(format!("numeric({precision},{scale})"))
        }
        ColumnType::Array(element) => Ok(format!("{}[]", declared_type(element)?)),
        _ => cast_type(column_type),
    }
}

/// A column's type for a cast: without length or precision, because a cast to `varchar(3)` silently cuts text
/// that an assignment refuses.
///
/// # Errors
/// As for [`quoted`].
pub fn cast_type(column_type: &ColumnType) -> Result<String> {
    let name = match column_type {
        ColumnType::Text => "text",
        ColumnType::Varchar(_) => "varchar",
        ColumnType::SmallInt => "smallint",
        ColumnType::Integer => "integer",
        ColumnType::BigInt => "bigint",
        ColumnType::Numeric(_) => "numeric",
        ColumnType::Real => "real",
        ColumnType::Double => "double precision",
        ColumnType::Boolean => "boolean",
        ColumnType::Date => "date",
        ColumnType::Time => "time",
        ColumnType::Timestamptz => "timestamptz",
        ColumnType::Uuid => "uuid",
        ColumnType::Bytea => "bytea",
        ColumnType::Jsonb => "jsonb",
        ColumnType::Inet => "inet",
        ColumnType::Array(element) => return Ok(format!("{}[]", cast_type(element)?)),
        ColumnType::Named(name) => return quoted_type(name),
    };
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_themselves() {
        assert_eq!(quoted("child").unwrap(), "\"child\"");
        assert_eq!(quoted("x\"; drop table t; --").unwrap(), "\"x\"\"; drop table t; --\"");
        let longest = "é".repeat(31) + "x";
        assert_eq!(quoted(&longest).unwrap().len(), 65);
        for name in ["", "a\0b", &"x".repeat(64), &"é".repeat(32)] {
            assert_eq!(quoted(name).unwrap_err().kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn a_cast_never_cuts_off() {
        let short = ColumnType::Array(Box::new(ColumnType::Varchar(3)));
        assert_eq!(cast_type(&short).unwrap(), "varchar[]");
        assert_eq!(declared_type(&short).unwrap(), "varchar(3)[]");
        let money = ColumnType::Numeric(Some((10, 2)));
        assert_eq!(cast_type(&money).unwrap(), "numeric");
        assert_eq!(declared_type(&money).unwrap(), "numeric(10,2)");
    }
}
