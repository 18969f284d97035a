//! What a mapping says about its target tables: the part that the sink reads.

use std::fmt;
use std::sync::Arc;

use crate::model::TableIndex;

/// The name of the one column that dynaurora adds to every target table: the row's version.
pub const VERSION_COLUMN: &str = "dynaurora_version";

/// The columns that end every row of a history table: what happened, and from when to when the row was
/// as it says. The last is NULL while it still is.
pub const HISTORY_COLUMNS: [&str; 3] = ["op", "valid_from", "valid_to"];

/// What a history's `op` says of the end of a row: the item was removed, expired, left the filter, or
/// moved to another key. Such a row only closes the one before it: it is valid for no time at all.
pub const HISTORY_ENDS: [&str; 4] = ["remove", "expire", "filter", "move"];

/// A table's name, with its schema where the mapping gives one (otherwise it is `public`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, where the mapping gives one.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl TableName {
    /// Whether both name one table: without a schema it is in `public`.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let schema = |name: &Self| name.schema.clone().unwrap_or_else(|| "public".to_owned());
        self.name == other.name && schema(self) == schema(other)
    }
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// For a table whose rows may outlive their items: which column holds when the item was deleted. It is
    /// NULL in the row of an item that is there.
    pub deleted_at: Option<usize>,
    /// For a history: the table whose rows' versions it keeps. Its key is that table's and
    /// [`VERSION_COLUMN`], its last columns are the [`HISTORY_COLUMNS`].
    pub history_of: Option<TableIndex>,
    /// The columns of the primary key that are constants. Rows that have other values there are not this
    /// source's: another source, or somebody else, keeps them in the same table.
    pub constants: Vec<Constant>,
    /// What the mapping asks for beside columns; nothing that a row needs.
    pub extras: Extras,
}

/// A column that has one value in every row of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant {
    /// The column's number in its table.
    pub column: usize,
    /// The value as a cell.
    pub value: String,
}

/// What a table has for those who query it.
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

/// What `columns = "auto"` says of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoSpec {
    /// The attribute of each column that it fills.
    pub columns: Vec<AutoColumn>,
    /// The column for all that has none of its own.
    pub rest: String,
}

/// A column that `columns = "auto"` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoColumn {
    /// The column.
    pub name: String,
    /// The attribute that it shows.
    pub attribute: String,
    /// Its type.
    pub column_type: ColumnType,
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
