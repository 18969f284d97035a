//! Reads a table key by key: remaining keys are unknown, and refused with a suggestion.

use std::ops::RangeInclusive;

use super::tree::{Entry, Kind, Node};
use crate::mapping::definition::{Problem, Span, Spanned};

/// How alike two names must be to be offered as a suggestion (Jaro-Winkler; found by trying typos).
const LIKENESS_MIN: f64 = 0.75;

/// A table being read.
pub(super) struct Fields<'n> {
    /// The table's name in messages.
    pub(super) name: String,
    /// Where it was opened.
    pub(super) span: Span,
    entries: &'n [Entry],
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// Opens the table of an entry; anything else is a problem.
    pub(super) fn open(
        name: impl Into<String>,
        key: Span,
        node: &'n Node,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let name = name.into();
        match &node.kind {
            Kind::Table(entries) => Some(Self { name, span: key, entries, known: Vec::new() }),
            other => {
                let message = format!("{name} is a table, not {}", other.name());
                problems.push(Problem::at(node.span, message));
                None
            }
        }
    }

    /// The entry with this key.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key.value == key)
    }

    /// All entries, for tables whose keys are names.
    pub(super) fn entries(&self) -> &'n [Entry] {
        self.entries
    }

    /// A string.
    pub(super) fn string(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Spanned<String>> {
        let entry = self.entry(key)?;
        text(&entry.value, key, problems)
    }

    /// A mandatory string.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        example: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<Spanned<String>> {
        if self.entries.iter().any(|entry| entry.key.value == key) {
            return self.string(key, problems);
        }
        self.known.push(key);
        let message = format!("{} has no `{key}`", self.name);
        problems.push(Problem::at(self.span, message).with_hint(format!("add {key} = {example}")));
        None
    }

    /// A boolean.
    pub(super) fn boolean(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<bool> {
        match &self.entry(key)?.value {
            Node { kind: Kind::Boolean(value), .. } => Some(*value),
            other => {
                let message = format!("`{key}` is true or false, not {}", other.kind.name());
                problems.push(Problem::at(other.span, message));
                None
            }
        }
    }

    /// An integer within a range.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        problems: &mut Vec<Problem>,
    ) -> Option<u64> {
        let node = &self.entry(key)?.value;
        let (low, high) = (range.start(), range.end());
        match &node.kind {
            Kind::Integer(text) => match text.parse() {
                Ok(value) if range.contains(&value) => return Some(value),
                _ => {
                    let message = format!("`{key}` is between {low} and {high}");
                    problems.push(Problem::at(node.span, message));
                }
            },
            other => {
                let message =
                    format!("`{key}` is an integer between {low} and {high}, not {}", other.name());
                problems.push(Problem::at(node.span, message));
            }
        }
        None
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        problems: &mut Vec<Problem>,
    ) -> Option<Spanned<T>> {
        let written = self.string(key, problems)?;
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        match words.iter().find(|(word, _)| *word == written.value) {
            Some((_, value)) => Some(Spanned::new(*value, written.span)),
            None => {
                let message = format!("`{key}` is one of {}", names.join(", "));
                let problem = Problem::at(written.span, message);
                problems.push(suggest(problem, &written.value, &names));
                None
            }
        }
    }

    /// The tables below a key whose own keys are names: `[source.NAME]`.
    pub(super) fn named(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> &'n [Entry] {
        let Some(entry) = self.entry(key) else { return &[] };
        match &entry.value.kind {
            Kind::Table(entries) => entries,
            other => {
                let message = format!("`{key}` holds tables by name, not {}", other.name());
                problems.push(Problem::at(entry.value.span, message));
                &[]
            }
        }
    }

    /// A list of strings.
    pub(super) fn strings(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<Spanned<String>>> {
        let node = &self.entry(key)?.value;
        match &node.kind {
            Kind::Array(items) => {
                Some(items.iter().filter_map(|item| text(item, key, problems)).collect())
            }
            other => {
                let message = format!("`{key}` is a list of strings, not {}", other.name());
                problems.push(Problem::at(node.span, message));
                None
            }
        }
    }

    /// Refuses every unknown key.
    pub(super) fn finish(self, problems: &mut Vec<Problem>) {
        for entry in self.entries {
            let key = entry.key.value.as_str();
            if !self.known.contains(&key) {
                let message = format!("{} has no key `{key}`", self.name);
                problems.push(suggest(Problem::at(entry.key.span, message), key, &self.known));
            }
        }
    }
}

/// A string, or a problem.
pub(super) fn text(
    node: &Node,
    what: &str,
    problems: &mut Vec<Problem>,
) -> Option<Spanned<String>> {
    match &node.kind {
        Kind::String(text) => Some(Spanned::new(text.clone(), node.span)),
        other => {
            let message = format!("`{what}` is a string, not {}", other.name());
            problems.push(Problem::at(node.span, message));
            None
        }
    }
}

/// The name that was probably meant.
#[must_use]
pub fn meant<'n>(written: &str, known: &[&'n str]) -> Option<&'n str> {
    let like = |name: &&str| {
        let (written, name) = (written.to_ascii_lowercase(), name.to_ascii_lowercase());
        strsim::jaro_winkler(&written, &name)
    };
    let closest = known.iter().copied().max_by(|a, b| like(a).total_cmp(&like(b)));
    closest.filter(|name| like(name) >= LIKENESS_MIN)
}

/// Adds the name that was probably meant, or all names if they are few.
pub(super) fn suggest(problem: Problem, written: &str, known: &[&str]) -> Problem {
    match meant(written, known) {
        Some(name) => problem.with_hint(format!("did you mean `{name}`?")),
        _ if !known.is_empty() && problem.hint.is_none() && !problem.message.contains("one of") => {
            let mut names: Vec<_> = known.to_vec();
            names.sort_unstable();
            names.dedup();
            problem.with_hint(format!("there are: {}", names.join(", ")))
        }
        _ => problem,
    }
}
