//! What a mapping says about its target tables: the part that the sink reads.

use std::fmt;
use std::sync::Arc;

use crate::model::TableIndex;

/// The name of the one column that dynaurora adds to every target table: the row's version.
pub const VERSION_COLUMN: &str = "dynaurora_version";

/// A table's name, with its schema where the mapping gives one (otherwise the role's search path decides).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, where the mapping gives one.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl fmt::Display for TableName {
    /// Prints `schema.table` unquoted, for messages and labels only; SQL is quoted by the sink.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A target table: its columns in the order of a row's cells, the primary key first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// The table's name.
    pub name: TableName,
    /// The entity whose rows it holds.
    pub entity: Arc<str>,
    /// The columns, the primary key's first; the version column is not among them.
    pub columns: Vec<ColumnSpec>,
    /// How many of the columns are the primary key.
    pub key_columns: usize,
    /// For a table of child rows: where they hang.
    pub parent: Option<ParentSpec>,
}

/// Where a child table hangs: its first columns are the primary key of the entity's own row, in order.
///
/// Child rows carry no version: they live and die with the row they hang on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentSpec {
    /// The entity's own table.
    pub table: TableIndex,
    /// How many of the child's first columns are the parent's primary key.
    pub key_columns: usize,
}

/// A column of a target table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The column's name, unquoted.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether the mapping never produces NULL for it.
    pub not_null: bool,
}

/// A Postgres type that a column can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// `text`
    Text,
    /// `varchar(n)`, n in characters.
    Varchar(u32),
    /// `smallint`
    SmallInt,
    /// `integer`
    Integer,
    /// `bigint`
    BigInt,
    /// `numeric`, or `numeric(precision, scale)`.
    Numeric(Option<(u16, u16)>),
    /// `real`
    Real,
    /// `double precision`
    Double,
    /// `boolean`
    Boolean,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamptz`
    Timestamptz,
    /// `uuid`
    Uuid,
    /// `bytea`
    Bytea,
    /// `jsonb`
    Jsonb,
    /// `inet`
    Inet,
    /// An array of one of the scalar types.
    Array(Box<Self>),
    /// A type that exists in the database, an enum say; Postgres checks its values.
    Named(TableName),
}
