//! Reads `[[test]]`: an item as TOML, and its expected rows.

use std::collections::HashMap;

use super::SourceConfig;
use super::reader::{Fields, suggest};
use super::tree::{Entry, Kind, Node};
use crate::mapping::definition::{Problem, Spanned};
use crate::mapping::trial::{ExpectedRow, ExpectedTable, Trial, TrialOp};
use crate::model::{AttributeValue, Item};

/// Reads every `[[test]]`.
pub(super) fn read(
    fields: &mut Fields<'_>,
    sources: &[SourceConfig],
    problems: &mut Vec<Problem>,
) -> Vec<Trial> {
    let Some(entry) = fields.entry("test") else { return Vec::new() };
    let Kind::Array(tests) = &entry.value.kind else {
        let message = "tests are written as [[test]]";
        problems.push(Problem::at(entry.key.span, message));
        return Vec::new();
    };
    tests.iter().filter_map(|test| one(test, sources, problems)).collect()
}

/// A TOML value as DynamoDB would store it: numbers keep their text, arrays are lists, tables are maps.
pub(super) fn attribute(node: &Node, problems: &mut Vec<Problem>) -> Option<AttributeValue> {
    Some(match &node.kind {
        Kind::String(text) | Kind::Datetime(text) => AttributeValue::S(text.clone()),
        Kind::Integer(text) | Kind::Float(text) => {
            if text.contains("nan") || text.contains("inf") {
                problems.push(Problem::at(node.span, "DynamoDB does not have this number"));
                return None;
            }
            AttributeValue::N(text.clone())
        }
        Kind::Boolean(value) => AttributeValue::Bool(*value),
        Kind::Array(items) => AttributeValue::L(
            items.iter().map(|item| attribute(item, problems)).collect::<Option<_>>()?,
        ),
        Kind::Table(entries) => {
            let mut map = HashMap::with_capacity(entries.len());
            for entry in entries {
                map.insert(entry.key.value.clone(), attribute(&entry.value, problems)?);
            }
            AttributeValue::M(map)
        }
    })
}

fn one(node: &Node, sources: &[SourceConfig], problems: &mut Vec<Problem>) -> Option<Trial> {
    let mut fields = Fields::open("[[test]]", node.span, node, problems)?;
    let name = fields.required("name", "\"what it shows\"", problems);
    let source = fields.required("source", "\"NAME\"", problems);
    let words =
        [("insert", TrialOp::Insert), ("modify", TrialOp::Modify), ("remove", TrialOp::Remove)];
    let op = fields.choice("op", &words, problems).map_or(TrialOp::Insert, |op| op.value);
    let item = item(&mut fields, "item", "item_json", problems);
    let old_item = item_if_any(&mut fields, "old_item", "old_item_json", problems);
    if item.is_none() && problems.is_empty() {
        let message = "[[test]] has no `item`";
        let hint = "write item = { pk = \"…\" }, or item_json = '''DynamoDB JSON'''";
        problems.push(Problem::at(node.span, message).with_hint(hint));
    }
    let rejected = fields.string("expect_reject", problems);
    let expect = expected(&mut fields, problems);
    fields.finish(problems);
    let source = source?;
    let Some(config) = sources.iter().find(|config| *config.name == *source.value) else {
        let known: Vec<&str> = sources.iter().map(|config| &*config.name).collect();
        // A wrong source is missing here, but already reported.
        if problems.is_empty() {
            let message = format!("there is no source `{}`", source.value);
            problems.push(suggest(Problem::at(source.span, message), &source.value, &known));
        }
        return None;
    };
    let trial = Trial {
        name: name?.value,
        source: source.value,
        op,
        item: item?,
        old_item,
        expect,
        rejected: rejected.map(|reason| reason.value),
    };
    problems.extend(trial.check(&config.mapper));
    Some(trial)
}

fn item_if_any(
    fields: &mut Fields<'_>,
    plain: &'static str,
    json: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Item> {
    item(fields, plain, json, problems)
}

fn item(
    fields: &mut Fields<'_>,
    plain: &'static str,
    json: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Item> {
    let written = fields.entry(plain);
    if let Some(text) = fields.string(json, problems) {
        return match serde_json::from_str(&text.value) {
            Ok(item) => Some(item),
            Err(error) => {
                let message = format!("not an item in DynamoDB JSON: {error}");
                problems.push(Problem::at(text.span, message));
                None
            }
        };
    }
    let written = written?;
    match attribute(&written.value, problems)? {
        AttributeValue::M(map) => Some(Item::from(map)),
        _ => {
            let message = format!("`{plain}` is a table of attributes");
            problems.push(Problem::at(written.value.span, message));
            None
        }
    }
}

fn expected(fields: &mut Fields<'_>, problems: &mut Vec<Problem>) -> Vec<ExpectedTable> {
    let mut tables = Vec::new();
    for entry in fields.named("expect", problems) {
        let Kind::Array(rows) = &entry.value.kind else {
            let message = format!("`expect.{}` is a list of rows; [] for none", entry.key.value);
            problems.push(Problem::at(entry.value.span, message));
            continue;
        };
        let rows = rows.iter().filter_map(|row| expected_row(row, problems)).collect();
        tables.push(ExpectedTable { table: entry.key.clone(), rows });
    }
    tables
}

fn expected_row(node: &Node, problems: &mut Vec<Problem>) -> Option<ExpectedRow> {
    let Kind::Table(cells) = &node.kind else {
        let message = format!("a row is a table of columns, not {}", node.kind.name());
        problems.push(Problem::at(node.span, message));
        return None;
    };
    let mut cell = |entry: &Entry| {
        let value = attribute(&entry.value, problems)?;
        Some((entry.key.clone(), Spanned::new(value, entry.value.span)))
    };
    Some(ExpectedRow { cells: cells.iter().filter_map(&mut cell).collect() })
}
