//! What a mapping says before it is compiled: words as they were written, each with its place in
//! the text.

use crate::model::AttributeValue;

/// What becomes of an item that no entity's key template matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// It is counted.
    Ignore,
    /// It is counted and logged.
    Count,
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
    /// The source halts.
    Halt,
}

/// A stretch of bytes in one of the texts that a mapping was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Which text: the reader of the texts numbers them.
    pub source: u16,
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

/// A value and where it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value written at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl Spanned<String> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

/// What is wrong with a mapping, where, and what may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, lowercase, no full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// The other places that have to do with it, each with a word about its part.
    pub related: Vec<(Span, String)>,
    /// What may help.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at one place.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, related: Vec::new(), hint: None }
    }

    /// Adds another place that has to do with it.
    #[must_use]
    pub fn with_related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Adds what may help.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The mapping of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDefinition {
    /// The source's name in the config.
    pub name: Spanned<String>,
    /// What becomes of items that no key template matches.
    pub unmatched: Unmatched,
    /// The entities in the order of the file.
    pub entities: Vec<EntityDefinition>,
}

impl SourceDefinition {
    /// The target tables as they were written.
    pub fn tables(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.entities.iter().flat_map(|entity| {
            let children = entity.children.iter().flat_map(ChildDefinition::tables);
            std::iter::once(&entity.rows.table).chain(children).chain(&entity.history)
        })
    }
}

/// One entity: which items it takes, and the rows that they become.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntityDefinition {
    /// The entity's name; for a plain table the source's.
    pub name: Spanned<String>,
    /// The key attributes and their templates; empty for a plain table that names its `primary_key`
    /// only.
    pub key: Vec<KeyDefinition>,
    /// The filter in DynamoDB's condition syntax.
    pub filter: Option<Spanned<String>>,
    /// What a removed item does to its row.
    pub on_delete: OnDelete,
    /// What an item that expired does to its row; as `on_delete` where it is not said.
    pub on_ttl: Option<OnDelete>,
    /// The entity's own table.
    pub rows: RowsDefinition,
    /// The name of the column that marks a row as deleted, where it is not `deleted_at`.
    pub deleted_at: Option<Spanned<String>>,
    /// The table that keeps every version of the rows.
    pub history: Option<Spanned<String>>,
    /// The tables of child rows.
    pub children: Vec<ChildDefinition>,
}

impl EntityDefinition {
    /// Whether the file says nothing of the key, so that only the source's table can.
    pub(crate) fn needs_keys(&self) -> bool {
        self.rows.auto.is_some() && self.key.is_empty() && self.rows.primary_key.is_none()
    }
}

/// One key attribute and its template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDefinition {
    /// The attribute's name.
    pub attribute: Spanned<String>,
    /// The template, as `CHILD#{child_id}`.
    pub template: Spanned<String>,
}

/// What a removed item does to its row. An item that leaves the filter is as good as removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDelete {
    /// The row goes too.
    #[default]
    Delete,
    /// The row stays, with the time of the deletion in a column of its own.
    Soft,
    /// The row stays as it was.
    Keep,
}

/// A target table and what fills it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowsDefinition {
    /// The table, `name` or `schema.name`.
    pub table: Spanned<String>,
    /// The columns in the order of the file.
    pub columns: Vec<ColumnDefinition>,
    /// The primary key's columns, where it is not the captures of the key.
    pub primary_key: Option<Vec<Spanned<String>>>,
    /// The jsonb column that takes every attribute not mapped.
    pub rest: Option<Spanned<String>>,
    /// Where `columns = "auto"` stands: the columns are those that the target has, not the file.
    pub auto: Option<Span>,
    /// The indexes to make.
    pub indexes: Vec<Vec<Spanned<String>>>,
    /// The table's comment.
    pub comment: Option<String>,
}

/// A table of child rows out of a list, set or map.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildDefinition {
    /// The name in the config.
    pub name: Spanned<String>,
    /// The path of the list, set or map; of a child's children within its element, which is `@value`.
    pub from: Spanned<String>,
    /// The most rows that one item may have.
    pub limit: Option<u32>,
    /// The table.
    pub rows: RowsDefinition,
    /// The tables of its own child rows.
    pub children: Vec<Self>,
}

impl ChildDefinition {
    /// Its table and those of its children, as they were written.
    fn tables(&self) -> Vec<&Spanned<String>> {
        let mut tables = vec![&self.rows.table];
        tables.extend(self.children.iter().flat_map(Self::tables));
        tables
    }
}

/// A column and where its value comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefinition {
    /// The column's name.
    pub name: Spanned<String>,
    /// A path, `{capture}`, `@index`, `@key` or `@value`; empty where the column is a constant.
    pub from: Spanned<String>,
    /// The value that every row has.
    pub constant: Option<Spanned<AttributeValue>>,
    /// The Postgres type as it was written.
    pub column_type: Option<Spanned<String>>,
    /// What a number counts, for `timestamptz`.
    pub epoch: Option<Spanned<EpochUnit>>,
    /// What becomes of U+0000 in text.
    pub nul: NulPolicy,
    /// Whether an absent attribute rejects the record.
    pub required: bool,
    /// The value where the attribute is absent.
    pub default: Option<Spanned<AttributeValue>>,
    /// Source values and what they become.
    pub value_map: Option<Spanned<Vec<(String, String)>>>,
    /// What becomes of a value that does not fit.
    pub on_error: Spanned<OnError>,
    /// The column's comment.
    pub comment: Option<String>,
    /// The attribute, where `columns = "auto"` made the column.
    pub auto: Option<String>,
}

impl ColumnDefinition {
    /// A column of which nothing is said but where its value comes from.
    #[must_use]
    pub fn plain(name: Spanned<String>, from: Spanned<String>) -> Self {
        Self {
            name,
            from,
            constant: None,
            column_type: None,
            epoch: None,
            nul: NulPolicy::Reject,
            required: false,
            default: None,
            value_map: None,
            on_error: Spanned::new(OnError::DeadLetter, Span::default()),
            comment: None,
            auto: None,
        }
    }
}

/// What a number counts from 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl EpochUnit {
    /// By which power of ten the number must be multiplied to count microseconds.
    pub(crate) fn micros_exponent(self) -> i32 {
        match self {
            Self::Seconds => 6,
            Self::Millis => 3,
            Self::Micros => 0,
            Self::Nanos => -3,
        }
    }
}

/// What becomes of U+0000 in text, which Postgres cannot store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NulPolicy {
    /// The record is rejected.
    #[default]
    Reject,
    /// Each becomes U+FFFD.
    Replace,
}

/// What becomes of a value that does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The record becomes a dead letter.
    #[default]
    DeadLetter,
    /// The column is NULL.
    Null,
    /// The column has its default.
    Default,
    /// The column is NULL, and the attribute goes to the `rest` column.
    Rest,
}
