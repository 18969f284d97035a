//! Groups of items with their columns, and the text that proposes them.

use std::collections::BTreeMap;

use super::attributes::Attributes;
use super::declared::{self, Declared};
use super::names::{path_name, snake, unique};
use super::shape::{Shape, Shapes};
use crate::mapping::template::{CaptureNames, Template};
use crate::mapping::toml_text;
use crate::model::{AttributeValue, Item};

/// Where AWS is, as far as given.
#[derive(Debug, Clone, Copy, Default)]
pub struct InferPlace<'a> {
    /// The Region.
    pub region: Option<&'a str>,
    /// The profile of the shared AWS files.
    pub profile: Option<&'a str>,
    /// The endpoint of a local DynamoDB.
    pub endpoint: Option<&'a str>,
}

impl InferPlace<'_> {
    /// The section of the config; empty without settings.
    pub(super) fn section(&self) -> String {
        let said =
            [("region", self.region), ("profile", self.profile), ("endpoint", self.endpoint)];
        let lines = said
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} = {}\n", toml_text::string(value?))));
        let lines: String = lines.collect();
        if lines.is_empty() { lines } else { format!("[aws]\n{lines}\n") }
    }
}

/// The table that the items come from.
#[derive(Debug, Clone, Copy)]
pub struct InferRequest<'a> {
    /// The name for the source.
    pub source: &'a str,
    /// The DynamoDB table.
    pub table: &'a str,
    /// The table's key attributes, the partition key first.
    pub key_attributes: &'a [String],
    /// Where it is.
    pub place: InferPlace<'a>,
}

/// Attributes that usually hold an item's type in single-table designs.
const TYPE_ATTRIBUTES: [&str; 9] =
    ["type", "Type", "_type", "entityType", "EntityType", "entity", "__typename", "_et", "kind"];

/// One proposed entity: the items with one shape of key, or a part of a design.
pub(super) struct Group<'i> {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// Its origin, for people.
    pub(super) note: String,
    /// The type attribute and its value.
    pub(super) kind: Option<(String, String)>,
    pub(super) columns: Columns<'i>,
    /// The filter against a group with an overlapping template.
    pub(super) filter: Option<String>,
    /// The group that it cannot be told from; it is then proposed as a comment.
    pub(super) hidden_by: Option<String>,
}

/// The source of a group's columns.
pub(super) enum Columns<'i> {
    /// Its items.
    Seen(Vec<&'i Item>),
    /// A design.
    Declared(Vec<Declared>),
}

/// The lines before all sources.
pub(super) fn head(origin: &str) -> String {
    let origin: String = origin.chars().filter(|char| !char.is_control()).collect();
    format!(
        "# Proposed by dynaurora from {origin}.\n\
         # Everything here is a guess from the sample: read it before you run it.\n\
         version = 1\n\n\
         [target]\n\
         url = \"postgres://dynaurora@localhost:5432/reads\"\n\
         tls = \"disable\"   # only within one machine; leave it out for Aurora\n\n"
    )
}

/// One source; `notes` are lines of TOML below its table's name.
pub(super) fn section(request: InferRequest<'_>, notes: &[String], groups: &[Group<'_>]) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("[source.{}]", toml_text::key(request.source)));
    line(format!("table = {}", toml_text::string(request.table)));
    for note in notes {
        line(note.clone());
    }
    if groups.is_empty() {
        line("# The sample has no items, so only the key is mapped.".into());
        line(empty_mapping(request));
    }
    for group in groups {
        let text = entity(request, group);
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

/// The groups of a table's items, with names that are not in `taken`.
pub(super) fn groups<'i>(
    request: InferRequest<'_>,
    items: &'i [Item],
    taken: &mut Vec<String>,
) -> Vec<Group<'i>> {
    let shapes = Shapes::learn(request.key_attributes, items);
    let mut by_shape: BTreeMap<Vec<String>, Vec<&Item>> = BTreeMap::new();
    for item in items {
        by_shape.entry(shapes.label(item)).or_default().push(item);
    }
    let mut by_shape: Vec<_> = by_shape.into_values().collect();
    by_shape.sort_by_key(|items| std::cmp::Reverse(items.len()));
    let group = |own: Vec<&'i Item>| {
        Some(Group {
            name: String::new(),
            shape: shapes.shape(&own)?,
            note: format!("{} of {} items", own.len(), items.len()),
            kind: type_value(&own),
            columns: Columns::Seen(own),
            filter: None,
            hidden_by: None,
        })
    };
    let mut groups: Vec<_> = by_shape.into_iter().filter_map(group).collect();
    settle(request, &mut groups, taken);
    groups
}

/// Names the groups, and adds filters to those with overlapping templates.
pub(super) fn settle(request: InferRequest<'_>, groups: &mut [Group<'_>], taken: &mut Vec<String>) {
    for group in &mut *groups {
        let wanted = group
            .kind
            .as_ref()
            .map(|(_, value)| snake(value))
            .filter(|name| !name.is_empty())
            .or_else(|| group.shape.name().map(|name| snake(&name)))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| snake(request.source));
        group.name = unique(&wanted, taken);
        taken.push(group.name.clone());
    }
    tell_apart(groups);
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
            match (&other.kind, &group.kind) {
                (Some((name, one)), Some((same, two))) if name == same && one != two => {
                    other.filter = Some(type_filter(name, one));
                    group.filter = Some(type_filter(name, two));
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

/// The type attribute and its value, if all items of a group agree.
fn type_value(items: &[&Item]) -> Option<(String, String)> {
    TYPE_ATTRIBUTES.into_iter().find_map(|name| {
        let value = |item: &&Item| match item.attribute(name) {
            Some(AttributeValue::S(text)) => Some(text.clone()),
            _ => None,
        };
        let first = items.first().and_then(value)?;
        let same = items.iter().all(|item| value(item).as_ref() == Some(&first));
        (same && !first.is_empty() && first.len() <= 40).then(|| (name.to_owned(), first))
    })
}

fn type_filter(name: &str, value: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{name}\" = '{}'", value.replace('\'', "''"))
}

fn entity(request: InferRequest<'_>, group: &Group<'_>) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let place = format!("source.{}.entity.{}", toml_text::key(request.source), group.name);
    line(format!("[{place}]   # {}", group.note));
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
    match &group.columns {
        Columns::Seen(items) => {
            Attributes::of(request.key_attributes, items).write(&mut taken, &mut line);
        }
        Columns::Declared(columns) => declared::write(columns, &mut taken, &mut line),
    }
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
