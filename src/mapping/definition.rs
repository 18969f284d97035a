//! A mapping before it is compiled: words as written, each with its place in the text.

use crate::model::AttributeValue;

/// What happens to an item that matches no entity's key template.
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

/// A range of bytes in one of a mapping's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Which text: the reader numbers them.
    pub source: u16,
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

/// A value with its place.
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

/// What is wrong with a mapping, where, and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, lowercase, no full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Other places involved, each with a label.
    pub related: Vec<(Span, String)>,
    /// A hint.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at one place.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, related: Vec::new(), hint: None }
    }

    /// Adds another place involved.
    #[must_use]
    pub fn with_related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Adds a hint.
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
    /// What happens to items that match no key template.
    pub unmatched: Unmatched,
    /// The entities in the order of the file.
    pub entities: Vec<EntityDefinition>,
}

impl SourceDefinition {
    /// The target tables as written.
    pub fn tables(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.entities.iter().flat_map(|entity| {
            let children = entity.children.iter().flat_map(ChildDefinition::tables);
            std::iter::once(&entity.rows.table).chain(children).chain(&entity.history)
        })
    }
}

/// One entity: which items it takes, and their rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntityDefinition {
    /// The entity's name; for a plain table, the source's.
    pub name: Spanned<String>,
    /// The key attributes and their templates; empty for a plain table with only a `primary_key`.
    pub key: Vec<KeyDefinition>,
    /// The filter in DynamoDB's condition syntax.
    pub filter: Option<Spanned<String>>,
    /// What happens to the row of a removed item.
    pub on_delete: OnDelete,
    /// What happens to the row of an expired item; by default as `on_delete`.
    pub on_ttl: Option<OnDelete>,
    /// The entity's own table.
    pub rows: RowsDefinition,
    /// The name of the soft-delete column, if it is not `deleted_at`.
    pub deleted_at: Option<Spanned<String>>,
    /// The table that keeps every version of the rows.
    pub history: Option<Spanned<String>>,
    /// The tables of child rows.
    pub children: Vec<ChildDefinition>,
}

impl EntityDefinition {
    /// Whether the file leaves out the key, so that only the source's table knows it.
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

/// What happens to the row of a removed item. An item that leaves the filter counts as removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDelete {
    /// The row is deleted too.
    #[default]
    Delete,
    /// The row stays, with the time of the deletion in an extra column.
    Soft,
    /// The row stays unchanged.
    Keep,
}

/// A target table and its columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowsDefinition {
    /// The table, `name` or `schema.name`.
    pub table: Spanned<String>,
    /// The columns in the order of the file.
    pub columns: Vec<ColumnDefinition>,
    /// The primary key's columns, if they are not the captures of the key.
    pub primary_key: Option<Vec<Spanned<String>>>,
    /// The jsonb column for all unmapped attributes.
    pub rest: Option<Spanned<String>>,
    /// The place of `columns = "auto"`: the target defines the columns, not the file.
    pub auto: Option<Span>,
    /// The indexes to create.
    pub indexes: Vec<Vec<Spanned<String>>>,
    /// The table's comment.
    pub comment: Option<String>,
}

/// A table of child rows from a list, set or map.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildDefinition {
    /// The name in the config.
    pub name: Spanned<String>,
    /// The path of the list, set or map; for grandchildren, within the child's element, which is `@value`.
    pub from: Spanned<String>,
    /// The most rows of one item.
    pub limit: Option<u32>,
    /// The table.
    pub rows: RowsDefinition,
    /// The tables of its own child rows.
    pub children: Vec<Self>,
}

impl ChildDefinition {
    /// Its table and those of its children, as written.
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
    /// A path, `{capture}`, `@index`, `@key` or `@value`; empty for a constant.
    pub from: Spanned<String>,
    /// The value in every row.
    pub constant: Option<Spanned<AttributeValue>>,
    /// The Postgres type as written.
    pub column_type: Option<Spanned<String>>,
    /// The unit of numbers, for `timestamptz`.
    pub epoch: Option<Spanned<EpochUnit>>,
    /// What happens to U+0000 in text.
    pub nul: NulPolicy,
    /// Whether an absent attribute rejects the record.
    pub required: bool,
    /// The value for an absent attribute.
    pub default: Option<Spanned<AttributeValue>>,
    /// Source values and their replacements.
    pub value_map: Option<Spanned<Vec<(String, String)>>>,
    /// What happens to a value that does not fit.
    pub on_error: Spanned<OnError>,
    /// The column's comment.
    pub comment: Option<String>,
    /// The attribute, if `columns = "auto"` made the column.
    pub auto: Option<String>,
}

impl ColumnDefinition {
    /// A column with nothing but the source of its value.
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

/// The unit in which a number counts from 1970-01-01 UTC.
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
    /// The power of ten that turns the number into microseconds.
    pub(crate) fn micros_exponent(self) -> i32 {
        match self {
            Self::Seconds => 6,
            Self::Millis => 3,
            Self::Micros => 0,
            Self::Nanos => -3,
        }
    }
}

/// What happens to U+0000 in text, which Postgres cannot store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NulPolicy {
    /// The record is rejected.
    #[default]
    Reject,
    /// Each becomes U+FFFD.
    Replace,
}

/// What happens to a value that does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The record becomes a dead letter.
    #[default]
    DeadLetter,
    /// The column is NULL.
    Null,
    /// The column gets its default.
    Default,
    /// The column is NULL, and the attribute goes to the `rest` column.
    Rest,
}
