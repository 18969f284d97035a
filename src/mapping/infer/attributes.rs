//! The attributes of one group: how many items have each, their types, and the resulting column.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{path_name, snake, unique};
use crate::mapping::convert::{Conversion, type_name};
use crate::mapping::spec::ColumnType;
use crate::mapping::toml_text;
use crate::model::{AttributeValue, Item};

/// More columns than this are a document rather than a row; further ones stay in `extra`.
const COLUMNS_MAX: usize = 60;

/// An attribute stays in `extra` if fewer than one item in this many has it.
const RARE: usize = 100;

/// The types to try for texts, narrowest first.
const TEXT_TYPES: [ColumnType; 3] = [ColumnType::Uuid, ColumnType::Timestamptz, ColumnType::Date];

/// The observations of all non-key attributes.
pub(super) struct Attributes {
    items: usize,
    seen: BTreeMap<String, Seen>,
}

/// The observations of one attribute.
#[derive(Default)]
struct Seen {
    count: usize,
    nulls: usize,
    /// The number of values of each type, with the key of an example.
    types: BTreeMap<&'static str, (usize, String)>,
    /// The column types that fit all values so far.
    fitting: Option<Vec<ColumnType>>,
    /// The digits of the smallest and the largest number: enough to guess what it counts.
    digits: Option<(usize, usize)>,
    /// Whether every value is a list of maps.
    rows: bool,
    /// The attributes of those maps that are lists of maps too.
    inner: BTreeSet<String>,
}

impl Attributes {
    pub(super) fn of(keys: &[String], items: &[&Item]) -> Self {
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        for item in items {
            for (name, value) in item.iter().filter(|(name, _)| !keys.iter().any(|k| k == name)) {
                seen.entry(name.to_owned()).or_default().add(value, || example(keys, item));
            }
        }
        Self { items: items.len(), seen }
    }

    /// Writes a line for each column, most common first.
    pub(super) fn write(&self, taken: &mut Vec<String>, line: &mut dyn FnMut(String)) {
        let mut ordered: Vec<_> = self.seen.iter().collect();
        ordered.sort_by_key(|(name, seen)| (std::cmp::Reverse(seen.count), name.as_str()));
        let (common, rare): (Vec<_>, Vec<_>) =
            ordered.into_iter().enumerate().partition(|(index, (_, seen))| {
                *index < COLUMNS_MAX && seen.count * RARE >= self.items
            });
        for (_, (name, seen)) in common {
            let column = unique(&snake(name), taken);
            taken.push(column.clone());
            line(self.column(&column, name, seen));
        }
        if !rare.is_empty() {
            let names: Vec<_> = rare.iter().map(|(_, (name, _))| toml_text::string(name)).collect();
            line(format!("# Rare, so kept in the rest: {}", names.join(", ")));
        }
    }

    fn column(&self, column: &str, name: &str, seen: &Seen) -> String {
        let from = toml_text::string(&path_name(name));
        let column_type = seen.column_type();
        let written = if column_type == ColumnType::Text {
            format!("{column} = {from}")
        } else {
            format!("{column} = {{ from = {from}, type = \"{column_type}\" }}")
        };
        let mut notes = vec![format!("{} % of items", seen.count * 100 / self.items.max(1))];
        if seen.nulls > 0 {
            notes.push(format!("{} are null", seen.nulls));
        }
        if seen.types.len() > 1 {
            let types: Vec<_> = seen
                .types
                .iter()
                .map(|(name, (count, key))| format!("{count} {name}, as in {key}"))
                .collect();
            notes.push(format!("several types: {}", types.join("; ")));
        }
        if let (ColumnType::BigInt, Some(unit)) = (&column_type, seen.epoch(name)) {
            notes.push(format!("a time? type = \"timestamptz\", epoch = \"{unit}\""));
        }
        if seen.rows {
            notes.push("a list of maps: rows of its own? see children".to_owned());
            if !seen.inner.is_empty() {
                let names: Vec<_> = seen.inner.iter().map(String::as_str).collect();
                notes.push(format!("and children of those for {}", names.join(", ")));
            }
        }
        format!("{written}   # {}", notes.join("; "))
    }
}

impl Seen {
    fn add(&mut self, value: &AttributeValue, example: impl FnOnce() -> String) {
        self.count += 1;
        if matches!(value, AttributeValue::Null(_)) {
            self.nulls += 1;
            return;
        }
        let first = self.types.is_empty();
        let entry = self.types.entry(type_name(value)).or_insert_with(|| (0, example()));
        entry.0 += 1;
        let candidates = self.fitting.take().unwrap_or_else(|| candidates(value));
        let fits = |to: &ColumnType| {
            Conversion::to(to.clone()).attribute(value, &mut String::new()).is_ok()
        };
        self.fitting = Some(candidates.into_iter().filter(fits).collect());
        self.rows = is_rows(value) && (first || self.rows);
        if let (true, AttributeValue::L(list)) = (self.rows, value) {
            let maps = list.iter().filter_map(|element| match element {
                AttributeValue::M(map) => Some(map),
                _ => None,
            });
            let inner = maps.flatten().filter(|(name, value)| is_rows(value) && is_plain(name));
            self.inner.extend(inner.map(|(name, _)| name.clone()));
        }
        if let AttributeValue::N(number) = value {
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            let (low, high) = self.digits.unwrap_or((digits, digits));
            self.digits = Some((low.min(digits), high.max(digits)));
        }
    }

    fn column_type(&self) -> ColumnType {
        let one_type = self.types.len() == 1;
        let fitting = self.fitting.as_ref().filter(|_| one_type).and_then(|types| types.first());
        match (self.types.len(), fitting) {
            (0, _) => ColumnType::Text,
            (1, Some(fitting)) => fitting.clone(),
            _ => ColumnType::Jsonb,
        }
    }

    /// The unit in which a number with this name and size counts time, if it does.
    fn epoch(&self, name: &str) -> Option<&'static str> {
        let name = snake(name);
        let words = ["_at", "time", "date", "ts", "updated", "created", "upd", "ttl", "expires"];
        if !words.iter().any(|word| name.ends_with(word)) {
            return None;
        }
        match self.digits? {
            (10, 10) => Some("s"),
            (13, 13) => Some("ms"),
            (16, 16) => Some("us"),
            (19, 19) => Some("ns"),
            _ => None,
        }
    }
}

/// Whether a value is a list of maps.
fn is_rows(value: &AttributeValue) -> bool {
    let map = |value: &AttributeValue| matches!(value, AttributeValue::M(_));
    matches!(value, AttributeValue::L(list) if !list.is_empty() && list.iter().all(map))
}

/// Whether a name can be written in a comment unchanged.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// The possible column types of a value, narrowest first.
fn candidates(value: &AttributeValue) -> Vec<ColumnType> {
    let array = |element| ColumnType::Array(Box::new(element));
    match value {
        AttributeValue::S(_) => {
            TEXT_TYPES.into_iter().chain([ColumnType::Text, ColumnType::Jsonb]).collect()
        }
        AttributeValue::N(_) => {
            vec![ColumnType::BigInt, ColumnType::Numeric(None)]
        }
        AttributeValue::Bool(_) => vec![ColumnType::Boolean],
        AttributeValue::B(_) => vec![ColumnType::Bytea],
        AttributeValue::Ss(_) => vec![array(ColumnType::Text)],
        AttributeValue::Ns(_) => vec![array(ColumnType::Numeric(None))],
        AttributeValue::Bs(_) => vec![array(ColumnType::Bytea)],
        AttributeValue::L(_) | AttributeValue::M(_) | AttributeValue::Null(_) => {
            vec![ColumnType::Jsonb]
        }
    }
}

/// An item's key, for people to look it up.
fn example(keys: &[String], item: &Item) -> String {
    let text = |value: &AttributeValue| match value {
        AttributeValue::S(text) | AttributeValue::N(text) => {
            text.chars().filter(|char| !char.is_control()).take(60).collect()
        }
        _ => "(binary)".to_owned(),
    };
    let parts: Vec<_> = keys.iter().filter_map(|key| item.attribute(key)).map(text).collect();
    parts.join(" / ")
}
