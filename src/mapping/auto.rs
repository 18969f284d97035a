//! `columns = "auto"`: the target's own columns define the mapping, and the rest column takes all other
//! attributes.
//!
//! So an unexpected attribute is never lost: it stays in the rest column until `apply` adds a column for it.
//! Columns are never removed. A value that does not fit its column also goes to the rest column, so a wrong
//! guess about a type does no harm.

use std::collections::{BTreeMap, HashMap};

use super::Mapper;
use super::compile::{Entity, Source};
use super::definition::{
    ColumnDefinition, EntityDefinition, OnError, SourceDefinition, Span, Spanned,
};
use super::infer::names::{path_name, snake, unique};
use super::spec::{AutoColumn, ColumnType};
use super::template::{CaptureNames, Captures, Template};
use crate::model::{AttributeValue, Item, TableIndex};

/// The column for attributes without their own, unless `rest` names it.
const REST: &str = "extra";
/// Postgres keeps this many bytes of a name; an attribute that needs a longer column name stays in the rest.
const NAME_BYTES_MAX: usize = 63;
/// Postgres allows 1600 columns, but a row wider than this is a document: further attributes stay in the
/// rest.
const COLUMNS_MAX: usize = 200;

/// Facts about both ends of a mapping that the file leaves out.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The DynamoDB table's key attributes, partition key first; only if the file names no key.
    pub keys: Vec<(String, ColumnType)>,
    /// The types of existing tables' columns, by the table's name in the mapping and column.
    pub types: HashMap<(String, String), ColumnType>,
    /// The columns that `columns = "auto"` made, by table.
    pub auto: HashMap<String, Vec<AutoColumn>>,
}

impl Known {
    /// The type of an existing column.
    pub(crate) fn column_type(&self, table: &str, column: &str) -> Option<ColumnType> {
        self.types.get(&(table.to_owned(), column.to_owned())).cloned()
    }
}

impl SourceDefinition {
    /// Whether some entity has `columns = "auto"`.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.entities.iter().any(|entity| entity.rows.auto.is_some())
    }

    /// Whether the key attributes must come from DynamoDB.
    #[must_use]
    pub fn needs_keys(&self) -> bool {
        self.entities.iter().any(EntityDefinition::needs_keys)
    }

    /// The definition with the known columns in place of `auto`.
    pub(crate) fn resolved(&self, known: &Known) -> Self {
        let mut definition = self.clone();
        for entity in &mut definition.entities {
            if let Some(span) = entity.rows.auto {
                resolve(entity, span, known);
            }
        }
        definition
    }
}

fn resolve(entity: &mut EntityDefinition, span: Span, known: &Known) {
    let said = |text: &str| Spanned::new(text.to_owned(), span);
    let table = entity.rows.table.value.clone();
    let rest = entity.rows.rest.get_or_insert_with(|| said(REST)).value.clone();
    let mut columns = Vec::new();
    let mut captures = CaptureNames::default();
    for key in &entity.key {
        // The compiler reports a wrong template.
        drop(Template::parse(&key.template.value, &mut captures));
    }
    for (name, _) in &captures.0 {
        columns.push(ColumnDefinition::plain(said(name), said(&format!("{{{name}}}"))));
    }
    let attributes: Vec<(String, String)> = match &entity.rows.primary_key {
        Some(named) => named.iter().map(|name| (name.value.clone(), name.value.clone())).collect(),
        None if entity.key.is_empty() => {
            let mut taken = vec![rest.clone()];
            let named = |(key, _): &(String, _)| (column_name(key, &mut taken), key.clone());
            known.keys.iter().map(named).collect()
        }
        None => Vec::new(),
    };
    for (name, attribute) in &attributes {
        if columns.iter().any(|own: &ColumnDefinition| own.name.value == *name) {
            continue;
        }
        let key_type = known.keys.iter().find(|(key, _)| key == attribute).map(|(_, own)| own);
        let existing = known.column_type(&table, name);
        let mut column = ColumnDefinition::plain(said(name), said(&path_name(attribute)));
        column.column_type = existing.as_ref().or(key_type).map(|own| said(&own.to_string()));
        columns.push(column);
    }
    if entity.rows.primary_key.is_none() && !attributes.is_empty() {
        entity.rows.primary_key = Some(attributes.iter().map(|(name, _)| said(name)).collect());
    }
    for auto in known.auto.get(&table).into_iter().flatten() {
        if auto.name == rest || columns.iter().any(|own| own.name.value == auto.name) {
            continue;
        }
        let mut column =
            ColumnDefinition::plain(said(&auto.name), said(&path_name(&auto.attribute)));
        column.column_type = Some(said(&auto.column_type.to_string()));
        column.on_error = Spanned::new(OnError::Rest, span);
        column.auto = Some(auto.attribute.clone());
        columns.push(column);
    }
    entity.rows.columns = columns;
}

/// A column name for an attribute, as `infer` would write it.
fn column_name(attribute: &str, taken: &mut Vec<String>) -> String {
    let name = unique(&snake(attribute), taken);
    taken.push(name.clone());
    name
}

/// The observations of one attribute without a column.
type Seen = BTreeMap<String, Option<ColumnType>>;

impl Mapper {
    /// The columns that these items need in tables with `columns = "auto"`. `in_rest` has the attributes in
    /// the rest columns, with the types of their values there.
    #[must_use]
    pub fn missing_columns(
        &self,
        items: &[Item],
        in_rest: &HashMap<TableIndex, Vec<AutoColumn>>,
    ) -> HashMap<String, Vec<AutoColumn>> {
        let mut missing = HashMap::new();
        for entity in &self.entities {
            let Some(table) = self.tables.get(usize::from(entity.table.0)) else { continue };
            if table.extras.auto.is_none() {
                continue;
            }
            let mut seen = Seen::new();
            let own = items.iter().filter(|item| entity.shows(item));
            for (name, value) in own.flat_map(Item::iter).filter(|(name, _)| !entity.maps(name)) {
                note(&mut seen, name, type_of(value));
            }
            for found in in_rest.get(&entity.table).into_iter().flatten() {
                // The item's type is more precise than that of its JSON in the rest column.
                if !seen.contains_key(&found.attribute) && !entity.maps(&found.attribute) {
                    note(&mut seen, &found.attribute, Some(found.column_type.clone()));
                }
            }
            let mut taken: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
            let room = COLUMNS_MAX.saturating_sub(taken.len());
            let columns = seen.into_iter().filter_map(|(attribute, column_type)| {
                let column_type = column_type?;
                let name = column_name(&attribute, &mut taken);
                (name.len() <= NAME_BYTES_MAX).then_some(AutoColumn {
                    name,
                    attribute,
                    column_type,
                })
            });
            missing.insert(table.name.to_string(), columns.take(room).collect());
        }
        missing
    }
}

impl Entity {
    /// Whether an item belongs to this entity.
    fn shows(&self, item: &Item) -> bool {
        let mut captures = Captures::default();
        self.takes(item, &mut captures)
            && self.filter.as_ref().is_none_or(|filter| filter.holds(item))
    }

    /// Whether an attribute has a column, or is part of the key.
    fn maps(&self, attribute: &str) -> bool {
        let keyed = self.keys.iter().any(|(key, _)| key == attribute);
        let shown =
            |source: &Source| matches!(source, Source::Path(path) if path.root == attribute);
        keyed
            || self.rows.columns.iter().any(|column| shown(&column.source))
            || self
                .children
                .iter()
                .filter_map(|own| own.from.as_ref())
                .any(|from| from.root == attribute)
    }
}

/// An attribute with two types becomes a document.
fn note(seen: &mut Seen, name: &str, column_type: Option<ColumnType>) {
    match seen.entry(name.to_owned()).or_default() {
        known @ None => *known = column_type,
        Some(known) => {
            if column_type.is_some_and(|column_type| column_type != *known) {
                *known = ColumnType::Jsonb;
            }
        }
    }
}

/// The type that takes every value of an attribute's type; `None` for NULL.
fn type_of(value: &AttributeValue) -> Option<ColumnType> {
    Some(match value {
        AttributeValue::S(_) => ColumnType::Text,
        AttributeValue::N(_) => ColumnType::Numeric(None),
        AttributeValue::Bool(_) => ColumnType::Boolean,
        AttributeValue::B(_) => ColumnType::Bytea,
        AttributeValue::Null(_) => return None,
        AttributeValue::M(_)
        | AttributeValue::L(_)
        | AttributeValue::Ss(_)
        | AttributeValue::Ns(_)
        | AttributeValue::Bs(_) => ColumnType::Jsonb,
    })
}
