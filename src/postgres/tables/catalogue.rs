//! Existing tables, columns, keys and indexes, read from Postgres' catalogue.

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{ColumnType, TableName};
use crate::postgres::session::Tx;
use crate::postgres::sql::ident::{quoted, quoted_table};

/// An existing table.
#[derive(Debug, Default)]
pub(super) struct ExistingTable {
    pub(super) columns: Vec<ExistingColumn>,
    pub(super) comment: Option<String>,
    indexes: Vec<ExistingIndex>,
}

/// An existing column.
#[derive(Debug)]
pub(super) struct ExistingColumn {
    pub(super) name: String,
    /// The type as `format_type` prints it.
    pub(super) type_text: String,
    /// Whether an insert without it fails.
    pub(super) demanded: bool,
    /// Whether the database computes it, so that it takes no value.
    pub(super) generated: bool,
    /// Whether it treats different texts as equal, for example when it ignores case.
    pub(super) folds: bool,
    pub(super) comment: Option<String>,
    /// Its type in the mapping's terms; `None` if the mapping has no such type.
    pub(super) column_type: Option<ColumnType>,
}

#[derive(Debug)]
struct ExistingIndex {
    unique: bool,
    /// The indexed columns in order; `None` for an expression.
    columns: Vec<Option<String>>,
}

impl ExistingTable {
    pub(super) fn column(&self, name: &str) -> Option<&ExistingColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether `on conflict (columns)` finds a unique index.
    pub(super) fn is_unique(&self, columns: &[&str]) -> bool {
        self.indexes.iter().any(|index| {
            index.unique && index.columns.len() == columns.len() && index.starts_with(columns)
        })
    }

    /// Whether an index begins with these columns in this order.
    pub(super) fn has_index(&self, columns: &[String]) -> bool {
        self.indexes.iter().any(|index| {
            index.columns.get(..columns.len()).is_some_and(|first| {
                first.iter().zip(columns).all(|(own, wanted)| own.as_ref() == Some(wanted))
            })
        })
    }

    /// Whether rows are found by these columns without reading the whole table.
    pub(super) fn is_indexed(&self, columns: &[&str]) -> bool {
        self.indexes.iter().any(|index| index.starts_with(columns))
    }
}

impl ExistingIndex {
    /// Whether the first columns are these, in any order.
    fn starts_with(&self, columns: &[&str]) -> bool {
        self.columns.get(..columns.len()).is_some_and(|first| {
            first.iter().all(|name| name.as_deref().is_some_and(|name| columns.contains(&name)))
                && columns.iter().all(|name| first.iter().any(|own| own.as_deref() == Some(*name)))
        })
    }
}

const COLUMNS: &str = "\
    select attname::text, format_type(atttypid, atttypmod), attgenerated <> '', \
        attnotnull and not atthasdef and attidentity = '', \
        col_description(attrelid, attnum), \
        (select array[n.nspname::text, t.typname::text] from pg_type t \
            join pg_namespace n on n.oid = t.typnamespace \
            where t.oid = atttypid and t.typtype = 'e'), \
        format_type(atttypid, null) ~ '(^|\\.)citext$' \
            or exists (select from pg_collation c \
                where c.oid = attcollation and not c.collisdeterministic) \
    from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped \
    order by attnum";

const KIND: &str = "select relkind::text, obj_description(oid, 'pg_class') \
    from pg_class where oid = to_regclass($1)";

const INDEXES: &str = "\
    select i.indisunique and i.indpred is null and i.indimmediate, \
        (select array_agg(a.attname::text order by k.place) \
            from unnest(i.indkey::smallint[]) with ordinality k (number, place) \
            left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number \
                and k.number > 0 \
            where k.place <= i.indnkeyatts) \
    from pg_index i where i.indrelid = to_regclass($1) and i.indisvalid";

/// The table with this name, if it exists.
pub(super) async fn table(tx: &mut Tx, name: &TableName) -> Result<Option<ExistingTable>> {
    let what = format!("read the columns of {name}");
    let regclass = quoted_table(name)?;
    let kind = tx.query_once(KIND).named(what.clone()).bind(&regclass);
    let kind = kind.optional(|row| Ok((row.try_get::<String, _>(0)?, row.try_get(1)?))).await?;
    let comment = match kind {
        None => return Ok(None),
        Some((kind, comment)) if matches!(kind.as_str(), "r" | "p") => comment,
        Some(_) => {
            return Err(Error::new(ErrorKind::Schema, format!("{name} exists but is not a table"))
                .with_hint("name another table in the mapping"));
        }
    };
    let columns = tx.query_once(COLUMNS).named(what.clone()).bind(&regclass).all(column).await?;
    let indexes = tx.query_once(INDEXES).named(what).bind(&regclass).all(index).await?;
    Ok(Some(ExistingTable { comment, columns, indexes }))
}

/// Whether a schema exists.
pub(super) async fn has_schema(tx: &mut Tx, schema: &str) -> Result<bool> {
    tx.query_once("select to_regnamespace($1) is not null")
        .named("read the schemas of the target")
        .bind(quoted(schema)?)
        .one(|row| row.try_get(0))
        .await
}

/// A column's type as `format_type` prints it; `None` when it names a type that does not exist.
pub(super) async fn formatted(tx: &mut Tx, column_type: &ColumnType) -> Result<Option<String>> {
    let sql = "select format_type(to_regtype($1), null) where to_regtype($1) is not null";
    match column_type {
        ColumnType::Named(name) => {
            tx.query_once(sql)
                .named("read the types of the target")
                .bind(quoted_table(name)?)
                .optional(|row| row.try_get(0))
                .await
        }
        ColumnType::Array(element) => {
            let element = Box::pin(formatted(tx, element)).await?;
            Ok(element.map(|element| format!("{element}[]")))
        }
        scalar => Ok(Some(scalar_text(scalar))),
    }
}

/// Whether a column whose type prints as `actual` takes every value of `wanted` (which prints as
/// `formatted`) without loss.
pub(super) fn takes(actual: &str, wanted: &ColumnType, formatted: &str) -> bool {
    if actual == formatted {
        return true;
    }
    match wanted {
        ColumnType::Text => actual == "character varying",
        ColumnType::Varchar(length) => {
            matches!(actual, "text" | "character varying")
                || limits(actual, "character varying").is_some_and(|own| own.0 >= *length)
        }
        ColumnType::SmallInt => matches!(actual, "integer" | "bigint" | "numeric"),
        ColumnType::Integer => matches!(actual, "bigint" | "numeric"),
        ColumnType::BigInt => actual == "numeric",
        ColumnType::Real => actual == "double precision",
        ColumnType::Numeric(Some((precision, scale))) => {
            let (precision, scale) = (u32::from(*precision), u32::from(*scale));
            let holds = |own: (u32, u32)| {
                own.1 >= scale && own.0.saturating_sub(own.1) >= precision.saturating_sub(scale)
            };
            actual == "numeric" || limits(actual, "numeric").is_some_and(holds)
        }
        ColumnType::Array(element) => {
            match (actual.strip_suffix("[]"), formatted.strip_suffix("[]")) {
                (Some(actual), Some(formatted)) => takes(actual, element, formatted),
                _ => false,
            }
        }
        _ => false,
    }
}

/// The numbers of `name(n)` or `name(n,m)`.
fn limits(text: &str, name: &str) -> Option<(u32, u32)> {
    let inner = text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
    let (first, second) = inner.split_once(',').unwrap_or((inner, "0"));
    Some((first.parse().ok()?, second.parse().ok()?))
}

fn scalar_text(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Varchar(length) => format!("character varying({length})"),
        ColumnType::Numeric(Some((precision, scale))) => format!("numeric({precision},{scale})"),
        ColumnType::Time => "time without time zone".to_owned(),
        ColumnType::Timestamptz => "timestamp with time zone".to_owned(),
        other => crate::postgres::sql::ident::cast_type(other).unwrap_or_default(),
    }
}

fn column(row: &PgRow) -> sqlx::Result<ExistingColumn> {
    let type_text: String = row.try_get(1)?;
    let enumeration: Option<Vec<String>> = row.try_get(5)?;
    let column_type = match enumeration.as_deref() {
        Some([schema, name]) => {
            Some(ColumnType::Named(TableName { schema: Some(schema.clone()), name: name.clone() }))
        }
        _ => ColumnType::parse(&type_text).ok().filter(|own| !matches!(own, ColumnType::Named(_))),
    };
    Ok(ExistingColumn {
        name: row.try_get(0)?,
        type_text,
        generated: row.try_get(2)?,
        demanded: row.try_get(3)?,
        comment: row.try_get(4)?,
        folds: row.try_get(6)?,
        column_type,
    })
}

fn index(row: &PgRow) -> sqlx::Result<ExistingIndex> {
    Ok(ExistingIndex { unique: row.try_get(0)?, columns: row.try_get(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_column_takes_a_narrower_type_and_never_the_reverse() {
        let cases = [
            ("text", ColumnType::Varchar(3), true),
            ("character varying(2)", ColumnType::Varchar(3), false),
            ("character varying(4)", ColumnType::Varchar(3), true),
            ("character varying(4)", ColumnType::Text, false),
            ("bigint", ColumnType::Integer, true),
            ("integer", ColumnType::BigInt, false),
            ("numeric(12,2)", ColumnType::Numeric(Some((10, 2))), true),
            ("numeric(12,4)", ColumnType::Numeric(Some((10, 2))), true),
            ("numeric(10,4)", ColumnType::Numeric(Some((10, 2))), false),
            ("numeric(10,2)", ColumnType::Numeric(None), false),
            ("bigint[]", ColumnType::Array(Box::new(ColumnType::Integer)), true),
            ("bigint", ColumnType::Array(Box::new(ColumnType::Integer)), false),
            ("json", ColumnType::Jsonb, false),
            ("timestamp without time zone", ColumnType::Timestamptz, false),
        ];
        for (actual, wanted, expected) in cases {
            let formatted = match &wanted {
                ColumnType::Array(element) => format!("{}[]", scalar_text(element)),
                scalar => scalar_text(scalar),
            };
            assert_eq!(takes(actual, &wanted, &formatted), expected, "{actual} for {wanted:?}");
        }
    }
}
