//! Sampled items -> a proposed mapping with its reasons as comments, which parses unchanged.
//!
//! Items are grouped by the shape of their key (`CHILD#…` apart from `LETTER#…#…`); within a group
//! each attribute becomes a column of the narrowest type that all of its values have. A proposal
//! errs on the side of keeping: what has no column of its own goes to `extra`, and attributes of
//! several types to jsonb.

mod attributes;
mod shape;

use std::collections::BTreeMap;

use crate::mapping::template::{CaptureNames, Template};
use crate::mapping::toml_text;
use crate::model::{AttributeValue, Item};
use attributes::Attributes;
use shape::{Shape, Shapes};

/// What is known of the table that the items come from.
#[derive(Debug, Clone, Copy)]
pub struct InferRequest<'a> {
    /// The name that the source gets.
    pub source: &'a str,
    /// The DynamoDB table.
    pub table: &'a str,
    /// The table's key attributes, the partition key first.
    pub key_attributes: &'a [String],
}

/// Attributes that single-table designs keep an item's type in.
const TYPE_ATTRIBUTES: [&str; 9] =
    ["type", "Type", "_type", "entityType", "EntityType", "entity", "__typename", "_et", "kind"];

/// A group of items with one shape of key.
struct Group<'i> {
    name: String,
    shape: Shape,
    items: Vec<&'i Item>,
    /// The filter that tells it from a group whose template overlaps.
    filter: Option<String>,
    /// The group that it cannot be told from; it is then proposed as a comment.
    hidden_by: Option<String>,
}

/// Proposes a config for these items.
#[must_use]
pub fn infer_items(request: InferRequest<'_>, items: &[Item]) -> String {
    let groups = groups(request, items);
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("# Proposed by dynaurora from {} items of {}.", items.len(), request.table));
    line("# Everything here is a guess from what was seen: read it before you run it.".into());
    line("version = 1\n".into());
    line("[target]".into());
    line("url = \"postgres://dynaurora@localhost:5432/reads\"".into());
    line("tls = \"disable\"   # only within one machine; leave it out for Aurora\n".into());
    line(format!("[source.{}]", toml_text::key(request.source)));
    line(format!("table = {}", toml_text::string(request.table)));
    if groups.is_empty() {
        line("# No item was seen, so only the key is mapped.".into());
        line(empty_mapping(request));
    }
    for group in &groups {
        let text = entity(request, group, items.len());
        line(match &group.hidden_by {
            None => format!("\n{text}"),
            Some(other) => format!(
                "\n# A key of this group can also be one of `{other}`: give both a `where` \
                 that tells them apart.\n{}",
                commented(&text)
            ),
        });
    }
    out
}

fn groups<'i>(request: InferRequest<'_>, items: &'i [Item]) -> Vec<Group<'i>> {
    let shapes = Shapes::learn(request.key_attributes, items);
    let mut by_shape: BTreeMap<Vec<String>, Vec<&Item>> = BTreeMap::new();
    for item in items {
        by_shape.entry(shapes.label(item)).or_default().push(item);
    }
    let mut groups: Vec<Group<'_>> = by_shape
        .into_values()
        .filter_map(|items| {
            let shape = shapes.shape(&items)?;
            Some(Group { name: String::new(), shape, items, filter: None, hidden_by: None })
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.items.len()));
    name_groups(request, &mut groups);
    tell_apart(&mut groups);
    groups
}

fn name_groups(request: InferRequest<'_>, groups: &mut [Group<'_>]) {
    let mut taken: Vec<String> = Vec::new();
    for group in groups {
        let typed = type_value(&group.items).map(|(_, value)| value);
        let wanted = typed
            .as_deref()
            .map(snake)
            .or_else(|| group.shape.name().map(|name| snake(&name)))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| snake(request.source));
        group.name = unique(&wanted, &taken);
        taken.push(group.name.clone());
    }
}

/// Gives groups with overlapping templates filters on their type attribute, or hides the rarer one.
fn tell_apart(groups: &mut [Group<'_>]) {
    for later in 1..groups.len() {
        let (before, rest) = groups.split_at_mut(later);
        let Some(group) = rest.first_mut() else { continue };
        for other in before.iter_mut().filter(|other| other.hidden_by.is_none()) {
            if !overlaps(&other.shape, &group.shape) {
                continue;
            }
            match (type_value(&other.items), type_value(&group.items)) {
                (Some((name, one)), Some((same, two))) if name == same && one != two => {
                    other.filter = Some(type_filter(name, &one));
                    group.filter = Some(type_filter(name, &two));
                }
                _ => {
                    group.hidden_by = Some(other.name.clone());
                    group.filter = None;
                    break;
                }
            }
        }
    }
}

fn overlaps(left: &Shape, right: &Shape) -> bool {
    let parsed = |template: &str| Template::parse(template, &mut CaptureNames::default()).ok();
    left.templates.iter().all(|(attribute, template)| {
        let theirs = right.templates.iter().find(|(name, _)| name == attribute);
        match (parsed(template), theirs.and_then(|(_, theirs)| parsed(theirs))) {
            (Some(own), Some(theirs)) => own.overlaps(&theirs),
            _ => true,
        }
    })
}

/// The type attribute and its value, where all items of a group have the same.
fn type_value(items: &[&Item]) -> Option<(&'static str, String)> {
    TYPE_ATTRIBUTES.into_iter().find_map(|name| {
        let value = |item: &&Item| match item.attribute(name) {
            Some(AttributeValue::S(text)) => Some(text.clone()),
            _ => None,
        };
        let first = items.first().and_then(value)?;
        let same = items.iter().all(|item| value(item).as_ref() == Some(&first));
        (same && !first.is_empty() && first.len() <= 40).then_some((name, first))
    })
}

fn type_filter(name: &str, value: &str) -> String {
    format!("\"{name}\" = '{}'", value.replace('\'', "''"))
}

fn entity(request: InferRequest<'_>, group: &Group<'_>, seen: usize) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let place = format!("source.{}.entity.{}", toml_text::key(request.source), group.name);
    line(format!("[{place}]   # {} of {seen} items", group.items.len()));
    let key: Vec<_> = group
        .shape
        .templates
        .iter()
        .map(|(attribute, template)| {
            format!("{} = {}", toml_text::key(attribute), toml_text::string(template))
        })
        .collect();
    line(format!("key   = {{ {} }}", key.join(", ")));
    if let Some(filter) = &group.filter {
        line(format!("where = {}", toml_text::string(filter)));
    }
    line(format!("table = {}", toml_text::string(&group.name)));
    let captures = group.shape.columns();
    if captures.is_empty() {
        line("# The key is the same for all: name the column that tells the rows apart.".into());
    }
    let attributes = Attributes::of(request.key_attributes, &group.items);
    let mut taken: Vec<String> = captures.clone();
    let rest = unique("extra", &taken);
    taken.push(rest.clone());
    line(format!("rest  = \"{rest}\"   # every attribute not mapped -> one jsonb column"));
    if captures.is_empty() {
        line("primary_key = [\"pk\"]".into());
    }
    line(format!("[{place}.columns]"));
    for capture in &captures {
        line(format!("{capture} = \"{{{capture}}}\""));
    }
    if captures.is_empty()
        && let Some((attribute, _)) = group.shape.templates.first()
    {
        taken.push("pk".into());
        line(format!("pk = {}", toml_text::string(&path_name(attribute))));
    }
    attributes.write(&mut taken, &mut line);
    out.truncate(out.trim_end().len());
    out
}

fn empty_mapping(request: InferRequest<'_>) -> String {
    let names: Vec<_> = request.key_attributes.iter().map(|name| (name, snake(name))).collect();
    let mut taken: Vec<String> = Vec::new();
    let mut key = Vec::new();
    let mut columns = Vec::new();
    for (attribute, name) in names {
        let name = unique(&name, &taken);
        key.push(format!("{} = \"{{{name}}}\"", toml_text::key(attribute)));
        columns.push(format!("{name} = \"{{{name}}}\""));
        taken.push(name);
    }
    format!(
        "key = {{ {} }}\nrest = \"extra\"\ncolumns = {{ {} }}",
        key.join(", "),
        columns.join(", ")
    )
}

fn commented(text: &str) -> String {
    text.lines().map(|line| format!("# {line}")).collect::<Vec<_>>().join("\n")
}

/// `sentAt` -> `sent_at`; empty when nothing of it can be an identifier.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut before = '_';
    for char in name.chars() {
        if char.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            out.push('_');
        }
        if char.is_ascii_alphanumeric() {
            out.push(char.to_ascii_lowercase());
        } else if before != '_' && !out.ends_with('_') {
            out.push('_');
        }
        before = char;
    }
    let out = out.trim_matches('_');
    let out = if out.starts_with(|char: char| char.is_ascii_digit()) {
        format!("n{out}")
    } else {
        out.to_owned()
    };
    out.get(..40).map_or(out.clone(), str::to_owned)
}

/// The name, with a number where it is taken or reserved already.
pub(super) fn unique(name: &str, taken: &[String]) -> String {
    let name = if name.is_empty() { "attribute" } else { name };
    let reserved = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "dynaurora_version"];
    let free = |name: &str| !taken.iter().any(|own| own == name) && !reserved.contains(&name);
    if free(name) {
        return name.to_owned();
    }
    (2..).map(|number| format!("{name}_{number}")).find(|name| free(name)).unwrap_or_default()
}

/// An attribute's name as a path of the mapping language.
pub(super) fn path_name(name: &str) -> String {
    let plain = !name.is_empty()
        && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'));
    if plain {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
