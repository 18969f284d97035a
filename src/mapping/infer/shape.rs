//! The shape of a key: which parts are words that name a kind of item, and which identify it.

use std::collections::{HashMap, HashSet};

use super::names::{snake, unique};
use crate::mapping::template::{CaptureNames, Captures, Template};
use crate::model::{AttributeValue, Item};

/// The characters that usually join the parts of a key, most common first.
const SEPARATORS: [char; 4] = ['#', '|', ':', '/'];

/// A part of a key has few words that name kinds; more values than this are identities.
const WORDS_MAX: usize = 16;

/// The types that a capture may get, narrowest first.
const CAPTURE_TYPES: [&str; 4] = ["uuid", "ulid", "date", "int"];

/// The facts learnt from all items' keys.
pub(super) struct Shapes<'k> {
    attributes: &'k [String],
    items: &'k [Item],
    separator: Option<char>,
    /// The words seen at each place: key attribute, part.
    words: HashMap<(usize, usize), HashSet<String>>,
}

/// The key of one group.
#[derive(Debug)]
pub(super) struct Shape {
    /// The key attributes and their templates.
    pub(super) templates: Vec<(String, String)>,
    literals: Vec<String>,
    captures: Vec<String>,
}

impl<'k> Shapes<'k> {
    pub(super) fn learn(attributes: &'k [String], items: &'k [Item]) -> Self {
        let texts = || {
            items.iter().flat_map(|item| {
                attributes.iter().enumerate().filter_map(|(at, name)| match item.attribute(name) {
                    Some(AttributeValue::S(text)) => Some((at, text.as_str())),
                    _ => None,
                })
            })
        };
        let count = |separator: char| texts().filter(|(_, text)| text.contains(separator)).count();
        let separator = SEPARATORS
            .into_iter()
            .map(|separator| (count(separator), separator))
            .filter(|(count, _)| *count > 0)
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, separator)| separator);
        let mut words: HashMap<_, HashSet<String>> = HashMap::new();
        for (at, text) in texts() {
            for (part, word) in split(text, separator).enumerate() {
                if is_word(word) {
                    words.entry((at, part)).or_default().insert(word.to_owned());
                }
            }
        }
        Self { attributes, items, separator, words }
    }

    /// The common label of a group's items: words as they are, a star for anything else.
    pub(super) fn label(&self, item: &Item) -> Vec<String> {
        let label = |(at, name): (usize, &String)| match item.attribute(name) {
            Some(AttributeValue::S(text)) => {
                let separator = self.separator.map(String::from).unwrap_or_default();
                let parts: Vec<_> = split(text, self.separator)
                    .enumerate()
                    .map(|(part, word)| if self.literal(at, part, word) { word } else { "*" })
                    .collect();
                parts.join(&separator)
            }
            _ => "*".to_owned(),
        };
        self.attributes.iter().enumerate().map(label).collect()
    }

    /// The templates of a group; `None` if an item has no key.
    pub(super) fn shape(&self, items: &[&Item]) -> Option<Shape> {
        let first = *items.first()?;
        let mut shape = Shape { templates: Vec::new(), literals: Vec::new(), captures: Vec::new() };
        for (at, attribute) in self.attributes.iter().enumerate() {
            let template = match first.attribute(attribute)? {
                AttributeValue::S(text) => {
                    let mut parts: Vec<String> = Vec::new();
                    for (part, word) in split(text, self.separator).enumerate() {
                        parts.push(if self.literal(at, part, word) {
                            shape.literals.push(word.to_owned());
                            word.replace('{', "{{").replace('}', "}}")
                        } else {
                            let before = parts.last().filter(|text| !text.contains('{'));
                            let name = before.map_or_else(
                                || snake(attribute),
                                |word| format!("{}_id", snake(word)),
                            );
                            let name = unique(&name, &shape.captures);
                            let kind = self.capture_type(at, part, first);
                            shape.captures.push(name.clone());
                            format!("{{{name}{kind}}}")
                        });
                    }
                    parts.join(&self.separator.map(String::from).unwrap_or_default())
                }
                _ => {
                    let name = unique(&snake(attribute), &shape.captures);
                    shape.captures.push(name.clone());
                    format!("{{{name}}}")
                }
            };
            shape.templates.push((attribute.clone(), template));
        }
        Some(shape)
    }

    fn literal(&self, at: usize, part: usize, word: &str) -> bool {
        let few = self.words.get(&(at, part)).is_some_and(|words| words.len() <= WORDS_MAX);
        let shouted = word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        few && is_word(word) && (shouted || self.separator.is_some() && part == 0)
    }

    /// The narrowest type that fits this part of every key with the same word before it, in all groups: a
    /// `{child_id}` should have one type everywhere. As `:uuid`; empty for text.
    fn capture_type(&self, at: usize, part: usize, like: &Item) -> String {
        let Some(attribute) = self.attributes.get(at) else { return String::new() };
        let parts = |item: &'k Item| match item.attribute(attribute) {
            Some(AttributeValue::S(text)) => Some(split(text, self.separator)),
            _ => None,
        };
        let before = part.checked_sub(1);
        let word = match (like.attribute(attribute), before) {
            (Some(AttributeValue::S(text)), Some(before)) => {
                split(text, self.separator).nth(before).filter(|w| self.literal(at, before, w))
            }
            _ => None,
        };
        let words = || {
            self.items.iter().filter_map(parts).filter_map(|mut parts| {
                let own = before.and_then(|before| parts.nth(before));
                if word.is_none() || own == word { parts.next() } else { None }
            })
        };
        let kind = CAPTURE_TYPES.into_iter().find(|kind| {
            let template = Template::parse(&format!("{{x:{kind}}}"), &mut CaptureNames::default());
            template.is_ok_and(|template| {
                words().all(|word| {
                    let value = AttributeValue::S(word.to_owned());
                    template.capture(&value, &mut Captures::default())
                })
            })
        });
        kind.map(|kind| format!(":{kind}")).unwrap_or_default()
    }
}

impl Shape {
    /// A key with a design's templates and their captures' names.
    pub(super) fn declared(templates: Vec<(String, String)>, captures: Vec<String>) -> Self {
        Self { templates, literals: Vec::new(), captures }
    }

    /// The word that most likely names the kind of item: the last one.
    pub(super) fn name(&self) -> Option<String> {
        let generic = |word: &&String| {
            !matches!(word.to_ascii_uppercase().as_str(), "PROFILE" | "METADATA" | "META" | "INFO")
        };
        self.literals.iter().rev().find(generic).or(self.literals.last()).cloned()
    }

    /// The columns of the captures.
    pub(super) fn columns(&self) -> Vec<String> {
        self.captures.clone()
    }
}

fn split(text: &str, separator: Option<char>) -> impl Iterator<Item = &str> {
    let parts = if separator.is_some() { usize::MAX } else { 1 };
    text.splitn(parts, separator.unwrap_or_default())
}

fn is_word(text: &str) -> bool {
    (2..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-'))
        && text.starts_with(|char: char| char.is_ascii_alphabetic())
}
