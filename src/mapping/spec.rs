//! The target tables of a mapping: the part that the sink reads.

use std::fmt;
use std::sync::Arc;

use crate::model::TableIndex;

/// The name of the one column that dynaurora adds to every target table: the row's version.
pub const VERSION_COLUMN: &str = "dynaurora_version";

/// The last columns of every history table: what happened, and from when to when the row was current. The
/// last one is NULL while it is.
pub const HISTORY_COLUMNS: [&str; 3] = ["op", "valid_from", "valid_to"];

/// The values of a history's `op` for the end of a row: the item was removed, expired, left the filter, or
/// moved to another key. Such a row only closes the one before it and is valid for no time.
pub const HISTORY_ENDS: [&str; 4] = ["remove", "expire", "filter", "move"];

/// A table's name, with its schema if the mapping gives one (the default is `public`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, if the mapping gives one.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl TableName {
    /// Whether both name the same table; without a schema it is in `public`.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let schema = |name: &Self| name.schema.clone().unwrap_or_else(|| "public".to_owned());
        self.name == other.name && schema(self) == schema(other)
    }
}

impl fmt::Display for TableName {
    /// Prints `schema.table` unquoted, only for messages and labels; the sink quotes names in SQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A target table: its columns in the order of a row's cells, the primary key first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSpec {
    /// The table's name.
    pub name: TableName,
    /// The entity whose rows it holds.
    pub entity: Arc<str>,
    /// The columns, the primary key's first; without the version column.
    pub columns: Vec<ColumnSpec>,
    /// How many of the columns are the primary key.
    pub key_columns: usize,
    /// For a table of child rows: its parent.
    pub parent: Option<ParentSpec>,
    /// For a table whose rows may outlive their items: the column with the time of the item's deletion. It is
    /// NULL while the item exists.
    pub deleted_at: Option<usize>,
    /// For a history: the table whose versions it keeps. Its key is that table's key and [`VERSION_COLUMN`],
    /// its last columns are the [`HISTORY_COLUMNS`].
    pub history_of: Option<TableIndex>,
    /// The primary key's constant columns. Rows with other values there belong to another source or to
    /// somebody else.
    pub constants: Vec<Constant>,
    /// Whether each row names its item, because its key has attributes outside the source's key: a change
    /// can move the row of an item, and another item can have a row of that key next.
    pub names_items: bool,
    /// Other requests of the mapping, which no row needs.
    pub extras: Extras,
}

impl TableSpec {
    /// The entity's own table, of which this one holds the child rows or the history; `None` if it is the
    /// entity's own.
    #[must_use]
    pub fn entity_table(&self) -> Option<TableIndex> {
        self.parent.map(|parent| parent.table).or(self.history_of)
    }
}

/// A column that has one value in every row of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant {
    /// The column's number in its table.
    pub column: usize,
    /// The value as a cell.
    pub value: String,
}

/// A table's extras, for those who query it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// The indexes, each with its columns in order.
    pub indexes: Vec<Vec<String>>,
    /// The table's comment.
    pub comment: Option<String>,
    /// The comments of columns, by name.
    pub column_comments: Vec<(String, String)>,
    /// The columns that `columns = "auto"` made, with their attributes.
    pub auto: Option<AutoSpec>,
}

/// The settings of `columns = "auto"` for a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoSpec {
    /// The columns that it fills, with their attributes.
    pub columns: Vec<AutoColumn>,
    /// The column for all other attributes.
    pub rest: String,
}

/// A column that `columns = "auto"` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoColumn {
    /// The column.
    pub name: String,
    /// Its attribute.
    pub attribute: String,
    /// Its type.
    pub column_type: ColumnType,
}

/// The parent of a child table: the child's first columns are the primary key of the entity's own row, in
/// order.
///
/// Child rows have no version: they are written and deleted with their parent row.
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

/// A column's Postgres type.
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
    /// A type that exists in the database, such as an enum; Postgres checks its values.
    Named(TableName),
}
