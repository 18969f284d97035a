//! OneTable schemas: each model is an entity, its value templates are the key's.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::declared::{Declared, ModelError, array};
use super::names::{path_name, snake, unique};
use super::proposal::{Columns, Group, InferPlace, InferRequest, head, section, settle};
use super::shape::Shape;
use crate::mapping::spec::ColumnType;
use crate::mapping::template::{CAPTURES_MAX, CaptureNames, Template};

/// The attribute with an item's model, unless the schema names another.
const TYPE_FIELD: &str = "_type";

#[derive(Deserialize)]
struct Schema {
    /// Not part of the schema format, but some files have it.
    name: Option<String>,
    #[serde(default)]
    indexes: BTreeMap<String, Index>,
    models: BTreeMap<String, BTreeMap<String, Value>>,
    #[serde(default)]
    params: Params,
}

#[derive(Deserialize)]
struct Index {
    hash: Option<String>,
    sort: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Params {
    type_field: Option<String>,
    iso_dates: bool,
    /// True, or `create` or `update` for one of the two.
    timestamps: Value,
    created_field: Option<String>,
    updated_field: Option<String>,
}

/// One attribute in a schema; other properties do not affect its column.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Field {
    #[serde(rename = "type")]
    kind: Value,
    /// A template; other values are functions of the program.
    value: Value,
    /// The attribute's name in the table, with dots if it is packed into another one.
    map: Option<String>,
    /// Set if it is part of another attribute, and so not stored.
    encode: Value,
    /// The type of a set's elements.
    items: Option<Box<Self>>,
    iso_dates: Option<bool>,
    ttl: bool,
    crypt: bool,
    required: bool,
    unique: Value,
    #[serde(rename = "enum")]
    one_of: Vec<Value>,
}

/// Proposes a source with an entity for each model.
pub(super) fn propose(value: Value, table: Option<&str>) -> Result<String, ModelError> {
    let schema: Schema = serde_json::from_value(value)?;
    let primary = schema.indexes.get("primary");
    let hash = primary.and_then(|index| index.hash.clone());
    let hash = hash.ok_or_else(|| ModelError::Wrong("the schema has no primary index".into()))?;
    let sort = primary.and_then(|index| index.sort.clone());
    let key_attributes: Vec<String> = std::iter::once(hash).chain(sort).collect();
    let known = table.or(schema.name.as_deref());
    let name = known.unwrap_or("Table");
    let source = unique(&snake(name), &[]);
    let request = InferRequest {
        source: &source,
        table: name,
        key_attributes: &key_attributes,
        place: InferPlace::default(),
    };
    let mut notes = Vec::new();
    if known.is_none() {
        notes.push("# The schema does not say the table's name: write it here.".to_owned());
    }
    let (mut groups, mut unique_fields) = (Vec::new(), false);
    for (name, fields) in schema.models.iter().filter(|(name, _)| !name.starts_with('_')) {
        let fields = fields_of(name, fields)?;
        unique_fields |= fields.iter().any(|(_, own)| own.unique == Value::Bool(true));
        groups.push(model(&schema, &key_attributes, name, &fields));
    }
    if unique_fields {
        notes.push("# OneTable has its own items, _unique#…, for unique fields.".to_owned());
        notes.push("unmatched = \"count\"".to_owned());
    }
    settle(request, &mut groups, &mut Vec::new());
    let out = head("a OneTable schema");
    Ok(format!("{out}{}", section(request, &notes, &groups)))
}

fn fields_of<'s>(
    model: &str,
    fields: &'s BTreeMap<String, Value>,
) -> Result<Vec<(&'s str, Field)>, ModelError> {
    let read = |(name, value): (&'s String, &Value)| {
        let field = serde_json::from_value(value.clone()).map_err(|_| {
            ModelError::Wrong(format!("the field {name} of the model {model} is invalid"))
        })?;
        Ok((name.as_str(), field))
    };
    fields.iter().map(read).collect()
}

fn model(schema: &Schema, keys: &[String], name: &str, fields: &[(&str, Field)]) -> Group<'static> {
    let type_field = schema.params.type_field.as_deref().unwrap_or(TYPE_FIELD);
    let value = |key: &str| {
        let field = fields.iter().find(|(own, field)| field.map.as_deref().unwrap_or(own) == key);
        field.and_then(|(_, field)| field.value.as_str())
    };
    let (mut templates, mut captures) = (Vec::new(), Vec::new());
    for key in keys {
        let mut own = captures.clone();
        let text = value(key).and_then(|value| {
            template(value, TypeWord { field: type_field, word: name }, &mut own)
        });
        let text = text.unwrap_or_else(|| {
            own.clone_from(&captures);
            let capture = unique(&snake(key), &own);
            own.push(capture.clone());
            format!("{{{capture}}}")
        });
        templates.push((key.clone(), text));
        captures = own;
    }
    let columns = columns(schema, keys, &captures, type_field, fields);
    Group {
        name: String::new(),
        shape: Shape::declared(templates, captures),
        note: "a model of the schema".to_owned(),
        kind: Some((type_field.to_owned(), name.to_owned())),
        columns: Columns::Declared(columns),
        filter: None,
        hidden_by: None,
    }
}

/// The field that says what kind of item one is, and what it says of this model.
#[derive(Clone, Copy)]
struct TypeWord<'a> {
    field: &'a str,
    word: &'a str,
}

/// `account#${id}` -> `account#{id}`; `None` if it cannot be our template, for example if two variables are
/// adjacent.
fn template(value: &str, kind: TypeWord<'_>, captures: &mut Vec<String>) -> Option<String> {
    let escaped = |text: &str| text.replace('{', "{{").replace('}', "}}");
    let (mut out, mut rest) = (String::new(), value);
    while let Some((literal, after)) = rest.split_once("${") {
        let (variable, after) = after.split_once('}')?;
        out.push_str(&escaped(literal));
        // A width and a padding may follow the name.
        let variable = variable.split(':').next().unwrap_or_default();
        if variable == kind.field {
            out.push_str(&escaped(kind.word));
        } else {
            let name = snake(variable);
            let named = name.starts_with(|char: char| char.is_ascii_lowercase());
            let name = if named { name } else { unique("part", captures) };
            if !captures.contains(&name) {
                captures.push(name.clone());
            }
            out.push_str(&format!("{{{name}}}"));
        }
        rest = after;
    }
    out.push_str(&escaped(rest));
    let parsed = Template::parse(&out, &mut CaptureNames::default());
    (parsed.is_ok() && captures.len() <= CAPTURES_MAX).then_some(out)
}

fn columns(
    schema: &Schema,
    keys: &[String],
    captures: &[String],
    type_field: &str,
    fields: &[(&str, Field)],
) -> Vec<Declared> {
    let of_index = |name: &str| {
        let mut indexes = schema.indexes.values();
        indexes.any(|own| [&own.hash, &own.sort].into_iter().flatten().any(|key| key == name))
    };
    let params = &schema.params;
    let mut columns: Vec<Declared> = fields
        .iter()
        .filter(|(name, field)| {
            let attribute = field.map.as_deref().unwrap_or(name);
            let in_index = of_index(attribute) && field.value.is_string();
            let in_key = keys.iter().any(|key| key == attribute) || in_index;
            let captured = captures.contains(&snake(name));
            field.encode.is_null() && !in_key && !captured && *name != type_field
        })
        .map(|(name, field)| column(params, name, field))
        .collect();
    let both = params.timestamps == Value::Bool(true);
    let stamps = [
        ("create", params.created_field.as_deref().unwrap_or("created")),
        ("update", params.updated_field.as_deref().unwrap_or("updated")),
    ];
    for (word, name) in stamps {
        let wanted = both || params.timestamps.as_str() == Some(word);
        if wanted && !fields.iter().any(|(own, _)| *own == name) {
            let field = Field { kind: "date".into(), ..Field::default() };
            columns.push(column(params, name, &field));
        }
    }
    columns
}

fn column(params: &Params, name: &str, field: &Field) -> Declared {
    let kind = kind(field);
    let iso = field.iso_dates.unwrap_or(params.iso_dates);
    let number = ColumnType::Numeric(None);
    let (column_type, epoch) = match kind.as_str() {
        _ if field.crypt => (ColumnType::Text, None),
        "string" => (ColumnType::Text, None),
        "number" => (number, None),
        "boolean" => (ColumnType::Boolean, None),
        "date" if field.ttl => (ColumnType::Timestamptz, Some("s")),
        "date" if iso => (ColumnType::Timestamptz, None),
        "date" => (ColumnType::Timestamptz, Some("ms")),
        "set" => match field.items.as_deref().map(self::kind).as_deref() {
            Some("string") => (array(ColumnType::Text), None),
            Some("number") => (array(number), None),
            _ => (ColumnType::Jsonb, None),
        },
        _ => (ColumnType::Jsonb, None),
    };
    let mut notes = Vec::new();
    if field.required {
        notes.push("required".to_owned());
    }
    if !field.one_of.is_empty() {
        let words: Vec<_> = field.one_of.iter().map(ToString::to_string).collect();
        notes.push(format!("one of {}", words.join(", ")));
    }
    if field.crypt {
        notes.push("encrypted".to_owned());
    }
    let attribute = field.map.as_deref().unwrap_or(name);
    let from: Vec<_> = attribute.split('.').map(path_name).collect();
    Declared {
        column: snake(name),
        from: from.join("."),
        column_type,
        epoch,
        note: notes.join("; "),
    }
}

/// The type's name in lower case; a field without one is a string.
fn kind(field: &Field) -> String {
    field.kind.as_str().map_or_else(|| "string".to_owned(), str::to_lowercase)
}
