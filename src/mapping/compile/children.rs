//! Tables of child rows, and of their children in turn.
//!
//! However deep a list lies, its rows belong to the entity's own row: the sink knows one level of children,
//! whose rows it writes by difference along with that row.

use std::sync::Arc;

use super::columns::{self, Drafted, Scope};
use super::compiled::{Child, Source};
use super::rows::{rows, with_rest};
use super::{extras, names};
use crate::mapping::definition::{ChildDefinition, Problem};
use crate::mapping::path::{Origin, Path};
use crate::mapping::spec::{ColumnSpec, Constant, ParentSpec, TableName, TableSpec};
use crate::model::TableIndex;

/// The most child rows of one item without a `limit` in the mapping: an item of 400 KB can hold a hundred
/// thousand elements, and all of them change in one transaction.
const CHILD_ROWS_MAX_DEFAULT: u32 = 10_000;

/// The parent of a child table.
pub(super) struct Parent<'a> {
    pub(super) entity: Arc<str>,
    /// The entity's own table.
    pub(super) table: TableIndex,
    /// How many columns the entity's own key has.
    pub(super) entity_keys: usize,
    /// Where the parent's rows come from, if it is a child itself.
    pub(super) place: Option<Arc<str>>,
    /// The key of the parent's rows, and what fills it.
    pub(super) keys: Vec<ColumnSpec>,
    pub(super) sources: Vec<Source>,
    pub(super) constants: Vec<Constant>,
    pub(super) scope: Scope<'a>,
}

/// Compiles the children of one parent and adds their tables, each before those of its own children.
pub(super) fn compile(
    definitions: &[ChildDefinition],
    parent: &Parent<'_>,
    tables: &mut Vec<TableSpec>,
    problems: &mut Vec<Problem>,
) -> Vec<Child> {
    definitions.iter().filter_map(|child| one(child, parent, tables, problems)).collect()
}

fn one(
    definition: &ChildDefinition,
    parent: &Parent<'_>,
    tables: &mut Vec<TableSpec>,
    problems: &mut Vec<Problem>,
) -> Option<Child> {
    let from = match from(definition, parent) {
        Ok(from) => from,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let scope = Scope { child: true, ..parent.scope };
    let mut drafted = columns::draft(&definition.rows, scope, problems);
    drafted.retain(|own| !repeats_parent(own, parent, problems));
    let rest = definition.rows.rest.as_ref();
    if let Some(rest) = rest.filter(|rest| parent.keys.iter().any(|key| key.name == rest.value)) {
        let message = format!("the child rows have their parent's column `{}`", rest.value);
        problems.push(Problem::at(rest.span, message).with_hint("give `rest` another name"));
    }
    let words = [Source::Key, Source::Index, Source::Value];
    let word = words.iter().find_map(|word| drafted.iter().find(|own| own.column.source == *word));
    let word = word.map(|own| own.name.clone());
    let key_names: Vec<_> = match (&definition.rows.primary_key, &word) {
        (Some(named), _) => named.iter().collect(),
        (None, Some(word)) => vec![word],
        (None, None) => {
            let message = format!("the child table `{}` has no key", definition.rows.table.value);
            let hint = "add a column from @index, @key or @value, or set primary_key = [\"…\"]";
            problems.push(Problem::at(definition.name.span, message).with_hint(hint));
            Vec::new()
        }
    };
    let own_keys = key_names.len();
    let drafted = columns::keys_first(drafted, &key_names, problems);
    let sources = || drafted.iter().take(own_keys).map(|own| &own.column.source);
    let may_repeat = !sources().any(|source| matches!(source, Source::Index | Source::Key));
    let own_sources: Vec<Source> = sources().cloned().collect();
    let (rows, specs) = rows(&definition.rows, drafted, own_keys, problems);
    let name: TableName = names::table_name(&definition.rows.table, problems)?;
    let table = TableIndex(u16::try_from(tables.len()).unwrap_or(u16::MAX));
    let parent_keys = parent.keys.len();
    let mut own = TableSpec {
        name,
        entity: Arc::clone(&parent.entity),
        columns: parent.keys.iter().cloned().chain(specs).collect(),
        key_columns: parent_keys + own_keys,
        parent: Some(ParentSpec { table: parent.table, key_columns: parent.entity_keys }),
        constants: parent.constants.clone(),
        ..TableSpec::default()
    };
    own.extras = extras::extras(&definition.rows, &own, problems);
    let place: Arc<str> = match &parent.place {
        Some(outer) => Arc::from(format!("{outer}[].{}", definition.from.value)),
        None => Arc::from(definition.from.as_str()),
    };
    let inner = Parent {
        entity: Arc::clone(&parent.entity),
        place: Some(Arc::clone(&place)),
        keys: own.columns.iter().take(own.key_columns).cloned().collect(),
        sources: parent.sources.iter().cloned().chain(own_sources).collect(),
        constants: parent.constants.clone(),
        ..*parent
    };
    tables.push(own);
    let children = compile(&definition.children, &inner, tables, problems);
    let limit = definition.limit.unwrap_or(CHILD_ROWS_MAX_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let rows = with_rest(rows, &definition.rows, &[], &children);
    Some(Child { table, from, place, limit, parent_keys, rows, may_repeat, children })
}

/// The path of the list, set or map. An element that is a list itself has no name: `@value`.
fn from(definition: &ChildDefinition, parent: &Parent<'_>) -> Result<Option<Path>, Problem> {
    let written = &definition.from;
    let wrong = |message: String| Problem::at(written.span, message);
    match Origin::parse(&written.value).map_err(wrong)? {
        Origin::Path(path) => Ok(Some(path)),
        Origin::Value if parent.place.is_some() => Ok(None),
        Origin::Value => Err(Problem::at(written.span, "@value is for the children of child rows")
            .with_hint("name the attribute that holds the list, set or map")),
        Origin::Capture(_) | Origin::Index | Origin::Key => {
            let message = format!("`{}` is not a source of child rows", written.value);
            let hint = "name the attribute that holds the list, set or map";
            Err(Problem::at(written.span, message).with_hint(hint))
        }
    }
}

/// A child always has its parent's key columns; naming one again with the same source changes nothing.
fn repeats_parent(own: &Drafted, parent: &Parent<'_>, problems: &mut Vec<Problem>) -> bool {
    let same = parent.keys.iter().position(|key| key.name == own.name.value);
    let Some(at) = same else { return false };
    let captured = matches!(own.column.source, Source::Capture(_));
    if !captured || parent.sources.get(at) != Some(&own.column.source) {
        let message = format!("the child rows have their parent's column `{}`", own.name.value);
        let hint = "they inherit it; give this column another name";
        problems.push(Problem::at(own.from, message).with_hint(hint));
    }
    true
}
