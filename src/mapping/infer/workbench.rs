//! Data models of NoSQL Workbench: their sample items are grouped like any others; a table without samples
//! gets its declared columns.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use super::declared::{Declared, ModelError, array};
use super::names::{snake, unique};
use super::proposal::{Columns, Group, InferPlace, InferRequest, groups, head, section, settle};
use super::shape::Shape;
use crate::mapping::spec::ColumnType;
use crate::model::Item;

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "DataModel")]
    tables: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Table {
    table_name: String,
    key_attributes: Keys,
    #[serde(default)]
    non_key_attributes: Vec<Attribute>,
    #[serde(default)]
    table_facets: Vec<Facet>,
    #[serde(default)]
    table_data: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    partition_key: Attribute,
    sort_key: Option<Attribute>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    attribute_name: String,
    #[serde(default)]
    attribute_type: String,
}

/// A view of a table; facets hold the sample items, if any.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Facet {
    #[serde(default)]
    table_data: Vec<Value>,
}

/// Proposes a source for each table, or for the named one.
pub(super) fn propose(value: Value, only: Option<&str>) -> Result<String, ModelError> {
    let Model { mut tables } = serde_json::from_value(value)?;
    if let Some(only) = only {
        tables.retain(|table| table.table_name == only);
    }
    if tables.is_empty() {
        let which = only.map_or("has no table".to_owned(), |name| format!("has no table {name}"));
        return Err(ModelError::Wrong(format!("the data model {which}")));
    }
    let mut out = head("a data model of NoSQL Workbench");
    let (mut sources, mut names) = (Vec::new(), Vec::new());
    for (number, table) in tables.iter().enumerate() {
        let source = unique(&snake(&table.table_name), &sources);
        sources.push(source.clone());
        if number > 0 {
            out.push('\n');
        }
        out.push_str(&proposed(table, &source, &mut names)?);
    }
    Ok(out)
}

fn proposed(table: &Table, source: &str, taken: &mut Vec<String>) -> Result<String, ModelError> {
    let keys = &table.key_attributes;
    let keys: Vec<&Attribute> =
        [Some(&keys.partition_key), keys.sort_key.as_ref()].into_iter().flatten().collect();
    let key_attributes: Vec<String> = keys.iter().map(|key| key.attribute_name.clone()).collect();
    let request = InferRequest {
        source,
        table: &table.table_name,
        key_attributes: &key_attributes,
        place: InferPlace::default(),
    };
    let items = items(table, &key_attributes)?;
    if items.is_empty() {
        let mut groups = [declared(table, &key_attributes)];
        settle(request, &mut groups, taken);
        return Ok(section(request, &[], &groups));
    }
    let unseen: Vec<String> = table
        .non_key_attributes
        .iter()
        .map(|own| own.attribute_name.as_str())
        .filter(|name| !items.iter().any(|item| item.attribute(name).is_some()))
        .map(|name| name.chars().filter(|char| !char.is_control()).collect())
        .collect();
    let note = (!unseen.is_empty()).then(|| {
        format!("# Declared, but in no sample item, so kept in the rest: {}", unseen.join(", "))
    });
    let groups = groups(request, &items, taken);
    Ok(section(request, note.as_slice(), &groups))
}

/// The table's sample items, each once, because facets repeat them.
fn items(table: &Table, keys: &[String]) -> Result<Vec<Item>, ModelError> {
    let facets = table.table_facets.iter().flat_map(|facet| &facet.table_data);
    let mut known = HashSet::new();
    let mut items = Vec::new();
    for (number, value) in (1..).zip(table.table_data.iter().chain(facets)) {
        let wrong = || {
            let table = &table.table_name;
            ModelError::Wrong(format!("sample item {number} of table {table} is not DynamoDB JSON"))
        };
        let item: Item = serde_json::from_value(value.clone()).map_err(|_| wrong())?;
        let whole = keys.iter().all(|key| item.attribute(key).is_some());
        if whole && known.insert(serde_json::to_string(&item)?) {
            items.push(item);
        }
    }
    Ok(items)
}

/// A table without samples: its whole key, and every declared attribute.
fn declared(table: &Table, keys: &[String]) -> Group<'static> {
    let mut captures: Vec<String> = Vec::new();
    let template = |key: &String| {
        let name = unique(&snake(key), &captures);
        captures.push(name.clone());
        (key.clone(), format!("{{{name}}}"))
    };
    let templates = keys.iter().map(template).collect();
    let others = table.non_key_attributes.iter();
    let others = others.filter(|own| !keys.contains(&own.attribute_name));
    let columns = others.map(|own| Declared::attribute(&own.attribute_name, column_type(own)));
    Group {
        name: String::new(),
        shape: Shape::declared(templates, captures),
        note: "as declared; the model has no sample items".to_owned(),
        kind: None,
        columns: Columns::Declared(columns.collect()),
        filter: None,
        hidden_by: None,
    }
}

/// The type that takes every value of an attribute's type.
fn column_type(attribute: &Attribute) -> ColumnType {
    match attribute.attribute_type.as_str() {
        "S" => ColumnType::Text,
        "N" => ColumnType::Numeric(None),
        "B" => ColumnType::Bytea,
        "BOOL" => ColumnType::Boolean,
        "SS" => array(ColumnType::Text),
        "NS" => array(ColumnType::Numeric(None)),
        "BS" => array(ColumnType::Bytea),
        _ => ColumnType::Jsonb,
    }
}
