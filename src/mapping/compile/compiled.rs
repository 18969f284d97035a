//! What a mapping is compiled to: entities, their rows and those of their children.

use std::sync::Arc;

use crate::mapping::condition::Condition;
use crate::mapping::convert::Conversion;
use crate::mapping::definition::{OnDelete, OnError, Span, Spanned};
use crate::mapping::path::Path;
use crate::mapping::rest::Mapped;
use crate::mapping::spec::{ColumnType, TableSpec};
use crate::mapping::template::Template;
use crate::model::TableIndex;

/// An entity, ready to run.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) name: Arc<str>,
    /// The key attributes and their templates.
    pub(crate) keys: Vec<(String, Template)>,
    /// The filter that an item must pass.
    pub(crate) filter: Option<Condition>,
    pub(crate) on_delete: OnDelete,
    pub(crate) on_ttl: OnDelete,
    pub(crate) table: TableIndex,
    /// Whether the row's last cell is the soft-delete column.
    pub(crate) soft: bool,
    /// The table that keeps the row's versions.
    pub(crate) history: Option<TableIndex>,
    pub(crate) rows: Rows,
    pub(crate) children: Vec<Child>,
    /// The first primary-key column that the source's key alone cannot fill.
    pub(crate) needs_image_for: Option<Arc<str>>,
}

/// The sources of one table's cells.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The columns in the order of the cells, the primary key first.
    pub(crate) columns: Vec<Column>,
    /// How many of them are the primary key.
    pub(crate) key_columns: usize,
    /// The attributes mapped elsewhere, for the `rest` column, which is then the last.
    pub(crate) rest: Option<(Arc<str>, Mapped)>,
}

/// A table of child rows, ready to run.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) table: TableIndex,
    /// Where the list, set or map is; `None` for the parent's element itself.
    pub(crate) from: Option<Path>,
    pub(crate) place: Arc<str>,
    pub(crate) limit: usize,
    /// How many cells of the parent's key come first; a grandchild has the whole key of its child row.
    pub(crate) parent_keys: usize,
    /// The child's own columns, its part of the primary key first.
    pub(crate) rows: Rows,
    /// Whether two elements can have the same key.
    pub(crate) may_repeat: bool,
    /// The tables of its elements' children.
    pub(crate) children: Vec<Self>,
}

/// The source of one cell.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) place: Arc<str>,
    pub(crate) source: Source,
    pub(crate) conversion: Conversion,
    /// What replaces an absent value.
    pub(crate) absent: Absent,
    pub(crate) on_error: OnError,
}

/// Where a cell's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// The capture in this slot.
    Capture(usize),
    /// A path of the item or of the child's element.
    Path(Path),
    /// The child row's position.
    Index,
    /// The name of the map's entry.
    Key,
    /// The element itself.
    Value,
    /// A constant: every row has this cell.
    Constant(String),
}

/// What replaces an absent value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Absent {
    /// NULL.
    Null,
    /// This cell.
    Default(String),
    /// Nothing: the record is rejected.
    Reject,
}

/// Looks up the type of an existing table's column, by the table's name in the mapping and column.
pub(crate) type ExistingTypes<'a> = &'a dyn Fn(&str, &str) -> Option<ColumnType>;

/// The result of compiling.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) tables: Vec<TableSpec>,
    pub(crate) entities: Vec<Entity>,
}

impl Entity {
    /// Whether some key matches both entities.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.keys.iter().all(|(attribute, template)| {
            let theirs = other.keys.iter().find(|(name, _)| name == attribute);
            theirs.is_none_or(|(_, theirs)| template.overlaps(theirs))
        })
    }
}

/// The place of some bytes within a text; the whole text if escapes hide their place.
pub(super) fn within(text: &Spanned<String>, range: &std::ops::Range<usize>) -> Span {
    let Span { source, start, end } = text.span;
    let plain = usize::try_from(end.saturating_sub(start)) == Ok(text.value.len() + 2);
    let offset = |at: usize| u32::try_from(at).ok().map(|at| start + 1 + at);
    match (plain, offset(range.start), offset(range.end)) {
        (true, Some(start), Some(end)) => Span { source, start, end },
        _ => text.span,
    }
}
