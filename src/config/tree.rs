//! TOML as a tree with the place of each key and value, and overrides merged in.

use toml::Spanned as TomlSpanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::mapping::definition::{Problem, Span, Spanned};

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    String(String),
    /// A decimal integer as text, so that none is too long.
    Integer(String),
    /// A decimal number as text: it never becomes a float.
    Float(String),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    /// The entries in the order of the text.
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Spanned<String>,
    pub(super) value: Node,
}

impl Kind {
    /// Its name in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a datetime",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses a whole text; `source` is its number among the texts.
pub(super) fn parse(text: &str, source: u16) -> (Node, Vec<Problem>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let problems = errors
        .iter()
        .map(|error| {
            let range = error.span().unwrap_or(0..0);
            Problem::at(span(&range, source), format!("not TOML: {}", error.message()))
        })
        .collect();
    let range = table.span();
    (
        Node { span: span(&range, source), kind: Kind::Table(entries(table.get_ref(), source)) },
        problems,
    )
}

/// An override of this table replaces it, because only one of its keys may be set.
const PASSWORD: &str = "password";

/// Merges the entries of `over` into those of `node`, which they replace.
pub(super) fn merge(node: &mut Node, over: Node) {
    match (&mut node.kind, over.kind) {
        (Kind::Table(own), Kind::Table(entries)) => {
            for entry in entries {
                match own.iter_mut().find(|known| known.key.value == entry.key.value) {
                    Some(known) if known.key.value == PASSWORD => *known = entry,
                    Some(known) => merge(&mut known.value, entry.value),
                    None => own.push(entry),
                }
            }
        }
        (_, kind) => *node = Node { span: over.span, kind },
    }
}

fn entries(table: &DeTable<'_>, source: u16) -> Vec<Entry> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(name, value)| Entry { key: key(name, source), value: node(value, source) })
        .collect();
    entries.sort_by_key(|entry| entry.key.span);
    entries
}

fn key(name: &TomlSpanned<DeString<'_>>, source: u16) -> Spanned<String> {
    Spanned::new(name.get_ref().clone().into_owned(), span(&name.span(), source))
}

fn node(value: &TomlSpanned<DeValue<'_>>, source: u16) -> Node {
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::String(text.clone().into_owned()),
        DeValue::Integer(integer) => {
            let text = integer.as_str();
            Kind::Integer(match i128::from_str_radix(text, integer.radix()) {
                Ok(value) => value.to_string(),
                Err(_) => text.to_owned(),
            })
        }
        DeValue::Float(float) => Kind::Float(float.as_str().to_owned()),
        DeValue::Boolean(value) => Kind::Boolean(*value),
        DeValue::Datetime(value) => Kind::Datetime(value.to_string()),
        DeValue::Array(array) => {
            Kind::Array(array.iter().map(|value| node(value, source)).collect())
        }
        DeValue::Table(table) => Kind::Table(entries(table, source)),
    };
    Node { span: span(&value.span(), source), kind }
}

fn span(range: &std::ops::Range<usize>, source: u16) -> Span {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { source, start: offset(range.start), end: offset(range.end) }
}
