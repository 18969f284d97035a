//! Reads `[source.NAME]` into definitions.

use std::sync::Arc;

use super::reader::{Fields, text};
use super::tree::{Entry, Kind, Node};
use super::{OnGap, SourceConfig, target, trial};
use crate::mapping::definition::{
    ChildDefinition, ColumnDefinition, EntityDefinition, EpochUnit, KeyDefinition, NulPolicy,
    OnDelete, OnError, Problem, RowsDefinition, SourceDefinition, Span, Spanned,
};
use crate::mapping::{Mapper, Unmatched};

/// Reads one source and compiles its mapping.
pub(super) fn read(entry: &Entry, problems: &mut Vec<Problem>) -> Option<SourceConfig> {
    let before = problems.len();
    let name = entry.key.clone();
    check_name(&name, problems);
    let title = format!("[source.{}]", name.value);
    let mut fields = Fields::open(title, name.span, &entry.value, problems)?;
    let table = fields.required("table", "\"TABLE\"", problems);
    let region = fields.string("region", problems).map(|text| text.value);
    let endpoint = target::endpoint(&mut fields, problems);
    let words = [("halt", OnGap::Halt), ("resync", OnGap::Resync)];
    let on_gap = fields.choice("on_gap", &words, problems).map_or(OnGap::Halt, |gap| gap.value);
    let words = [
        ("ignore", Unmatched::Ignore),
        ("count", Unmatched::Count),
        ("dead_letter", Unmatched::DeadLetter),
        ("halt", Unmatched::Halt),
    ];
    let unmatched = fields.choice("unmatched", &words, problems);
    let unmatched = unmatched.map_or(Unmatched::default(), |unmatched| unmatched.value);
    let has = |key: &str| fields.entries().iter().any(|entry| entry.key.value == key);
    let plain = has("columns") || has("key") || !has("entity");
    let mut entities = Vec::new();
    for entry in fields.named("entity", problems) {
        if plain {
            let message = "a source has entities, or columns of its own, not both";
            problems.push(Problem::at(entry.key.span, message));
        }
        let title = format!("entity `{}`", entry.key.value);
        let opened = Fields::open(title, entry.key.span, &entry.value, problems);
        entities.extend(opened.and_then(|mut fields| {
            let table = fields.required("table", "\"TABLE\"", problems)?;
            let entity = entity(&mut fields, entry.key.clone(), table, problems);
            fields.finish(problems);
            entity
        }));
    }
    if plain {
        let into = fields.string("into", problems).unwrap_or_else(|| name.clone());
        entities.extend(entity(&mut fields, name.clone(), into, problems));
    }
    fields.finish(problems);
    if entities.is_empty() && problems.len() > before {
        return None;
    }
    let definition = SourceDefinition { name: name.clone(), unmatched, entities };
    let mapper = Mapper::compile(&definition).map_err(|found| problems.extend(found)).ok()?;
    Some(SourceConfig {
        name: Arc::from(name.as_str()),
        table: table?.value,
        region,
        endpoint,
        on_gap,
        definition,
        mapper: Arc::new(mapper),
    })
}

/// A source's name is a metric label, part of ledger keys and a command-line argument.
fn check_name(name: &Spanned<String>, problems: &mut Vec<Problem>) {
    let valid = (1..=40).contains(&name.value.len())
        && name.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !valid {
        let message = "a source's name has 1 to 40 letters, digits, underscores and hyphens";
        problems.push(Problem::at(name.span, message));
    }
}

fn entity(
    fields: &mut Fields<'_>,
    name: Spanned<String>,
    table: Spanned<String>,
    problems: &mut Vec<Problem>,
) -> Option<EntityDefinition> {
    let key = key(fields, problems);
    let filter = fields.string("where", problems);
    let on_delete = policy(fields, "on_delete", problems).unwrap_or_default();
    let on_ttl = policy(fields, "on_ttl", problems);
    let deleted_at = fields.string("deleted_at", problems);
    let history = fields.string("history", problems);
    let rows = rows(fields, table, problems);
    let children = children(fields, problems);
    Some(EntityDefinition {
        name,
        key,
        filter,
        on_delete,
        on_ttl,
        deleted_at,
        history,
        rows: rows?,
        children,
    })
}

fn policy(
    fields: &mut Fields<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<OnDelete> {
    let words = [("delete", OnDelete::Delete), ("soft", OnDelete::Soft), ("keep", OnDelete::Keep)];
    fields.choice(key, &words, problems).map(|chosen| chosen.value)
}

fn key(fields: &mut Fields<'_>, problems: &mut Vec<Problem>) -> Vec<KeyDefinition> {
    let Some(entry) = fields.entry("key") else { return Vec::new() };
    let Kind::Table(parts) = &entry.value.kind else {
        let message = "`key` names the key attributes, as { pk = \"CHILD#{child_id}\" }";
        problems.push(Problem::at(entry.value.span, message));
        return Vec::new();
    };
    if parts.is_empty() || parts.len() > 2 {
        let message = "a DynamoDB key has one attribute or two";
        problems.push(Problem::at(entry.value.span, message));
    }
    let template = |part: &Entry, problems: &mut Vec<Problem>| {
        let template = text(&part.value, &part.key.value, problems)?;
        Some(KeyDefinition { attribute: part.key.clone(), template })
    };
    parts.iter().filter_map(|part| template(part, problems)).collect()
}

fn rows(
    fields: &mut Fields<'_>,
    table: Spanned<String>,
    problems: &mut Vec<Problem>,
) -> Option<RowsDefinition> {
    let primary_key = fields.strings("primary_key", problems);
    let rest = fields.string("rest", problems);
    let indexes = indexes(fields, problems);
    let comment = fields.string("comment", problems).map(|comment| comment.value);
    let mut auto = None;
    let columns = match fields.entry("columns") {
        None => {
            let message = format!("{} has no `columns`", fields.name);
            let hint = "add a table of columns: NAME = \"ATTRIBUTE\"; or columns = \"auto\"";
            problems.push(Problem::at(fields.span, message).with_hint(hint));
            return None;
        }
        Some(Entry { value: Node { kind: Kind::Table(columns), .. }, .. }) => {
            columns.iter().filter_map(|entry| column(entry, problems)).collect()
        }
        Some(Entry { value: Node { kind: Kind::String(word), span }, .. }) if word == "auto" => {
            auto = Some(*span);
            Vec::new()
        }
        Some(entry) => {
            let message = "`columns` is a table of columns, NAME = \"ATTRIBUTE\", or \"auto\"";
            problems.push(Problem::at(entry.value.span, message));
            return None;
        }
    };
    Some(RowsDefinition { table, columns, primary_key, rest, auto, indexes, comment })
}

/// `[["city"], ["country", "city"]]`
fn indexes(fields: &mut Fields<'_>, problems: &mut Vec<Problem>) -> Vec<Vec<Spanned<String>>> {
    let Some(entry) = fields.entry("indexes") else { return Vec::new() };
    let wrong = |span| {
        Problem::at(span, "`indexes` is a list of lists of columns")
            .with_hint("write indexes = [[\"city\"], [\"country\", \"city\"]]")
    };
    let Kind::Array(lists) = &entry.value.kind else {
        problems.push(wrong(entry.value.span));
        return Vec::new();
    };
    let mut indexes = Vec::with_capacity(lists.len());
    for list in lists {
        match &list.kind {
            Kind::Array(names) if !names.is_empty() => indexes
                .push(names.iter().filter_map(|name| text(name, "indexes", problems)).collect()),
            _ => problems.push(wrong(list.span)),
        }
    }
    indexes
}

fn children(fields: &mut Fields<'_>, problems: &mut Vec<Problem>) -> Vec<ChildDefinition> {
    let mut children = Vec::new();
    for entry in fields.named("children", problems) {
        let title = format!("child table `{}`", entry.key.value);
        if let Some(fields) = Fields::open(title, entry.key.span, &entry.value, problems) {
            children.extend(child(fields, entry.key.clone(), problems));
        }
    }
    children
}

fn child(
    mut fields: Fields<'_>,
    name: Spanned<String>,
    problems: &mut Vec<Problem>,
) -> Option<ChildDefinition> {
    let from = fields.required("from", "\"ATTRIBUTE\"", problems);
    let table = fields.required("table", "\"TABLE\"", problems);
    // More child rows do not fit into an item of 400 KB.
    let limit = fields.integer("limit", 1..=200_000, problems);
    let limit = limit.and_then(|limit| u32::try_from(limit).ok());
    let placeholder = || Spanned::new(String::new(), name.span);
    let rows = rows(&mut fields, table.clone().unwrap_or_else(placeholder), problems);
    let children = children(&mut fields, problems);
    fields.finish(problems);
    table?;
    let rows = rows?;
    if let Some(span) = rows.auto {
        let message = "columns = \"auto\" is for an item's own table";
        let hint = "name the columns of child rows; `rest` takes what is left of them";
        problems.push(Problem::at(span, message).with_hint(hint));
        return None;
    }
    Some(ChildDefinition { from: from?, name, limit, rows, children })
}

fn column(entry: &Entry, problems: &mut Vec<Problem>) -> Option<ColumnDefinition> {
    let name = entry.key.clone();
    if let Kind::String(from) = &entry.value.kind {
        return Some(ColumnDefinition::plain(name, Spanned::new(from.clone(), entry.value.span)));
    }
    if !matches!(entry.value.kind, Kind::Table(_)) {
        let message = format!(
            "a column is a string or a table, not {}; write {} = \"ATTRIBUTE\"",
            entry.value.kind.name(),
            name.value
        );
        problems.push(Problem::at(entry.value.span, message));
        return None;
    }
    let title = format!("column `{}`", name.value);
    let mut fields = Fields::open(title, name.span, &entry.value, problems)?;
    if let Some(entry) = fields.entry("const") {
        return constant(name, entry, fields, problems);
    }
    let from = fields.required("from", "\"ATTRIBUTE\"", problems);
    let column_type = fields.string("type", problems);
    let units = [
        ("s", EpochUnit::Seconds),
        ("ms", EpochUnit::Millis),
        ("us", EpochUnit::Micros),
        ("ns", EpochUnit::Nanos),
    ];
    let epoch = fields.choice("epoch", &units, problems);
    let policies = [("dead_letter", NulPolicy::Reject), ("replace", NulPolicy::Replace)];
    let nul = fields.choice("nul", &policies, problems).map_or(NulPolicy::Reject, |nul| nul.value);
    let required = fields.boolean("required", problems).unwrap_or(false);
    let default = fields.entry("default").and_then(|entry| {
        trial::attribute(&entry.value, problems).map(|value| Spanned::new(value, entry.value.span))
    });
    let value_map = value_map(&mut fields, problems);
    let words = [
        ("dead_letter", OnError::DeadLetter),
        ("null", OnError::Null),
        ("default", OnError::Default),
        ("rest", OnError::Rest),
    ];
    let on_error = fields.choice("on_error", &words, problems);
    let on_error = on_error.unwrap_or(Spanned::new(OnError::DeadLetter, Span::default()));
    let comment = fields.string("comment", problems).map(|comment| comment.value);
    fields.finish(problems);
    let from = from?;
    Some(ColumnDefinition {
        name,
        from,
        constant: None,
        column_type,
        epoch,
        nul,
        required,
        default,
        value_map,
        on_error,
        comment,
        auto: None,
    })
}

/// `{ const = "eu", type = "text" }` does not use the item, so options for its values make no sense.
fn constant(
    name: Spanned<String>,
    entry: &Entry,
    mut fields: Fields<'_>,
    problems: &mut Vec<Problem>,
) -> Option<ColumnDefinition> {
    let column_type = fields.string("type", problems);
    let comment = fields.string("comment", problems).map(|comment| comment.value);
    for key in ["from", "epoch", "nul", "required", "default", "map", "on_error"] {
        if let Some(other) = fields.entry(key) {
            let message = format!("a column that is a constant has no `{key}`");
            problems.push(
                Problem::at(other.key.span, message)
                    .with_related(entry.key.span, "every row has this value")
                    .with_hint("leave one of the two out"),
            );
        }
    }
    fields.finish(problems);
    let value = trial::attribute(&entry.value, problems)?;
    let from = Spanned::new(String::new(), entry.value.span);
    let mut column = ColumnDefinition::plain(name, from);
    column.constant = Some(Spanned::new(value, entry.value.span));
    column.column_type = column_type;
    column.comment = comment;
    Some(column)
}

fn value_map(
    fields: &mut Fields<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Spanned<Vec<(String, String)>>> {
    let entry = fields.entry("map")?;
    let Kind::Table(pairs) = &entry.value.kind else {
        let message = "`map` names source values and what they become: { D = \"delivered\" }";
        problems.push(Problem::at(entry.value.span, message));
        return None;
    };
    let pair = |pair: &Entry| {
        let to = match &pair.value.kind {
            Kind::String(text) | Kind::Integer(text) | Kind::Float(text) => text.clone(),
            Kind::Boolean(value) => value.to_string(),
            other => {
                let message = format!("a value of a `map` is plain, not {}", other.name());
                problems.push(Problem::at(pair.value.span, message));
                return None;
            }
        };
        Some((pair.key.value.clone(), to))
    };
    Some(Spanned::new(pairs.iter().filter_map(pair).collect(), entry.value.span))
}
