//! Sources of column values: document paths in DynamoDB's syntax, captures and `@` words.

use std::collections::HashMap;

use crate::model::{AttributeValue, Item};

/// A parsed `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `{capture}`
    Capture(String),
    /// `address.city`
    Path(Path),
    /// `@index`: the position of a child row, from 0.
    Index,
    /// `@key`: the name of a map's entry.
    Key,
    /// `@value`: the element itself.
    Value,
}

/// A document path: `items[0].sku`; names with dots or brackets are in double quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// The attribute's name.
    pub(crate) root: String,
    /// The steps down from there.
    pub(crate) steps: Vec<Step>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a map.
    Name(String),
    /// Into a list.
    Index(usize),
}

impl Origin {
    /// Parses a `from`; the error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('{') {
            let name = inner.strip_suffix('}').ok_or("a capture is written as {name}")?;
            let name = name.split_once(':').map_or(name, |(name, _)| name);
            return Ok(Self::Capture(name.trim().to_owned()));
        }
        match text {
            "@index" => Ok(Self::Index),
            "@key" => Ok(Self::Key),
            "@value" => Ok(Self::Value),
            _ if text.starts_with('@') => {
                Err("there are only @index, @key and @value; quote a name that begins with @"
                    .into())
            }
            _ => Path::parse(text).map(Self::Path),
        }
    }
}

impl Path {
    /// Parses a path; the error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (path, rest) = Self::parse_prefix(text)?;
        match rest.chars().next() {
            None => Ok(path),
            Some(char) => Err(format!("`{char}` does not belong in a path; quote the name")),
        }
    }

    /// Parses the path at the start of a text, and returns the remaining text.
    pub(crate) fn parse_prefix(text: &str) -> Result<(Self, &str), String> {
        let (root, mut rest) = segment(text)?;
        let mut steps = Vec::new();
        loop {
            if let Some(after) = rest.strip_prefix('.') {
                let (name, after) = segment(after)?;
                steps.push(Step::Name(name));
                rest = after;
            } else if let Some(after) = rest.strip_prefix('[') {
                let wrong = "a list's element is written as items[0]";
                let (index, after) = after.split_once(']').ok_or(wrong)?;
                let digits = index.bytes().all(|byte| byte.is_ascii_digit());
                steps.push(Step::Index(index.parse().ok().filter(|_| digits).ok_or(wrong)?));
                rest = after;
            } else {
                return Ok((Self { root, steps }, rest));
            }
        }
    }

    /// The value at this path of an item.
    pub(crate) fn find<'a>(&self, item: &'a Item) -> Option<&'a AttributeValue> {
        self.descend(item.attribute(&self.root)?)
    }

    /// The value at this path of a map.
    pub(crate) fn find_in<'a>(
        &self,
        map: &'a HashMap<String, AttributeValue>,
    ) -> Option<&'a AttributeValue> {
        self.descend(map.get(&self.root)?)
    }

    fn descend<'a>(&self, mut value: &'a AttributeValue) -> Option<&'a AttributeValue> {
        for step in &self.steps {
            value = match (step, value) {
                (Step::Name(name), AttributeValue::M(map)) => map.get(name)?,
                (Step::Index(index), AttributeValue::L(list)) => list.get(*index)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

/// Takes one name, bare or quoted, and returns the remaining text.
fn segment(text: &str) -> Result<(String, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' if name.is_empty() => break,
                '"' => return Ok((name, quoted.get(at + 1..).unwrap_or_default())),
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => name.push(escaped),
                    _ => return Err("a quoted name allows only \\\" and \\\\".into()),
                },
                char => name.push(char),
            }
        }
        return Err("a quoted name is empty or never closed".into());
    }
    let ends = |char: char| {
        matches!(char, '.' | '[' | ']' | '"' | '{' | '}' | '(' | ')' | ',' | '=' | '<' | '>')
            || char.is_whitespace()
            || char.is_control()
    };
    let (name, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    if name.is_empty() {
        return Err("a name is missing".into());
    }
    Ok((name.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn item() -> Item {
        serde_json::from_str(
            r#"{"address":{"M":{"city":{"S":"Oulu"},"a.b":{"N":"1"}}},
                "items":{"L":[{"M":{"sku":{"S":"kite"}}}]},"@odd name":{"S":"x"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn paths_lead_into_maps_and_lists() {
        let item = item();
        let text = |at: &str| match path(at).find(&item) {
            Some(AttributeValue::S(text) | AttributeValue::N(text)) => Some(text.clone()),
            _ => None,
        };
        assert_eq!(text("address.city").as_deref(), Some("Oulu"));
        assert_eq!(text(r#"address."a.b""#).as_deref(), Some("1"));
        assert_eq!(text("items[0].sku").as_deref(), Some("kite"));
        assert_eq!(text(r#""@odd name""#).as_deref(), Some("x"));
        for nowhere in ["items[1].sku", "items.sku", "address[0]", "name", "address.city.x"] {
            assert_eq!(text(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn words_and_captures_are_told_from_paths() {
        assert_eq!(Origin::parse("@index"), Ok(Origin::Index));
        assert_eq!(Origin::parse("{year:int}"), Ok(Origin::Capture("year".into())));
        assert_eq!(Origin::parse("snake_case-9"), Ok(Origin::Path(path("snake_case-9"))));
        for wrong in
            ["", "a.", ".a", "a[", "a[x]", "a[+1]", "a b", "@foo", "{x", "\"\"", "\"x", "a]"]
        {
            assert!(Origin::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn long_paths_come_to_an_end() {
        for piece in ["a.", "a[0]", "[", "\"", "\\", "\"a\".", "{"] {
            if let Ok(Origin::Path(path)) = Origin::parse(&format!("{}a", piece.repeat(50_000))) {
                assert!(path.find(&item()).is_none());
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(.{0,20}|[a\".\\[\\]{}@0-9\\\\é ]{0,30})") {
            if let Ok(Origin::Path(path)) = Origin::parse(&text) {
                path.find(&item());
            }
        }

        #[test]
        fn any_name_can_be_quoted(name in ".{1,10}") {
            let quoted = format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(path(&quoted).root, name);
        }
    }
}
