//! Key templates: `LETTER#{year:int}#{letter_id}` both routes an item and extracts parts of its key.
//!
//! A capture ends where the next literal is found first; the last one takes the rest. Captures are never
//! empty. Typed captures take only canonical forms (no leading zeros, lower-case uuids): two different keys
//! must never become one value.

mod overlap;

use std::ops::Range;

use super::convert::number::Decimal;
use super::spec::ColumnType;
use crate::model::AttributeValue;

/// The most captures in one entity's key; two key attributes rarely need four.
pub(crate) const CAPTURES_MAX: usize = 8;

/// The name of captures that are discarded.
const DISCARD: &str = "_";

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Capture { slot: Option<usize>, kind: CaptureKind },
}

/// What a capture accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CaptureKind {
    /// Any text.
    Text,
    /// A 64-bit integer without leading zeros or, with a width, exactly that many digits.
    Int(Option<u8>),
    /// A lower-case uuid with hyphens.
    Uuid,
    /// `YYYY-MM-DD`.
    Date,
    /// 26 characters of Crockford's base 32.
    Ulid,
}

/// The names and kinds of an entity's captures, filled while its templates are parsed.
#[derive(Debug, Clone, Default)]
pub(crate) struct CaptureNames(pub(crate) Vec<(String, CaptureKind)>);

impl CaptureNames {
    /// The slot of the capture with this name.
    pub(crate) fn slot(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(own, _)| own == name)
    }
}

/// The value of one capture.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Captured<'a> {
    /// Nothing yet.
    #[default]
    Nothing,
    /// A part of a text, or all of it.
    Text(&'a str),
    /// A whole key attribute that is not text.
    Whole(&'a AttributeValue),
}

/// The values of one key's captures, by slot.
pub(crate) type Captures<'a> = [Captured<'a>; CAPTURES_MAX];

/// Why a template cannot be parsed, and at which bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    pub(crate) message: String,
    pub(crate) range: Range<usize>,
    /// Another place involved.
    pub(crate) other: Option<Range<usize>>,
}

impl TemplateError {
    fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        Self { message: message.into(), range, other: None }
    }
}

impl CaptureKind {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "text" => Self::Text,
            "int" => Self::Int(None),
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "ulid" => Self::Ulid,
            _ => {
                let width = text.strip_prefix("int(")?.strip_suffix(')')?.parse().ok()?;
                (1..=18).contains(&width).then_some(Self::Int(Some(width)))?
            }
        })
    }

    /// The column type if the file names none.
    pub(crate) fn column_type(self) -> ColumnType {
        match self {
            Self::Text | Self::Ulid => ColumnType::Text,
            Self::Int(_) => ColumnType::BigInt,
            Self::Uuid => ColumnType::Uuid,
            Self::Date => ColumnType::Date,
        }
    }

    /// How many bytes it takes, if that is fixed.
    fn width(self) -> Option<usize> {
        match self {
            Self::Text | Self::Int(None) => None,
            Self::Int(Some(width)) => Some(usize::from(width)),
            Self::Uuid => Some(36),
            Self::Date => Some(10),
            Self::Ulid => Some(26),
        }
    }

    fn accepts(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        match self {
            Self::Text => !bytes.is_empty(),
            Self::Int(None) => {
                let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
                let zero = digits.first() == Some(&b'0');
                digits.iter().all(u8::is_ascii_digit)
                    && (!zero || bytes == b"0")
                    && text.parse::<i64>().is_ok()
            }
            Self::Int(Some(_)) => bytes.iter().all(u8::is_ascii_digit),
            Self::Uuid => bytes.iter().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            }),
            Self::Date => {
                (bytes.get(4), bytes.get(7)) == (Some(&b'-'), Some(&b'-'))
                    && text.parse::<jiff::civil::Date>().is_ok_and(|date| date.year() >= 1)
            }
            Self::Ulid => {
                matches!(bytes.first(), Some(b'0'..=b'7'))
                    && bytes.iter().all(|byte| {
                        byte.is_ascii_alphanumeric()
                            && !matches!(byte.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U')
                    })
            }
        }
    }
}

impl Template {
    /// A template that captures a whole attribute.
    pub(crate) fn whole(slot: Option<usize>) -> Self {
        Self { parts: vec![Part::Capture { slot, kind: CaptureKind::Text }] }
    }

    /// Parses a template and adds its captures; a known name must hold the same text.
    pub(crate) fn parse(text: &str, names: &mut CaptureNames) -> Result<Self, TemplateError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::new();
        let mut before: Option<Range<usize>> = None;
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            let at = text.len() - rest.len();
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                literal.push(char);
                rest = after;
            } else if char == '}' {
                return Err(TemplateError::new("this brace has no opening brace", at..at + 1));
            } else if char == '{' {
                let end = rest.find('}').ok_or_else(|| {
                    TemplateError::new("this capture is never closed", at..text.len())
                })?;
                let range = at..at + end + 1;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                } else if let Some(before) = before {
                    let message = "two captures side by side: nothing shows where the first ends";
                    let other = Some(before);
                    return Err(TemplateError { message: message.into(), range, other });
                }
                parts.push(capture(rest.get(1..end).unwrap_or_default(), &range, names)?);
                before = Some(range);
                rest = rest.get(end + 1..).unwrap_or_default();
            } else {
                literal.push(char);
                rest = rest.get(char.len_utf8()..).unwrap_or_default();
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if parts.is_empty() {
            return Err(TemplateError::new("an empty template matches nothing", 0..text.len()));
        }
        Ok(Self { parts })
    }

    /// Whether it matches only one text.
    pub(crate) fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Whether it has a discarded capture.
    pub(crate) fn discards(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Capture { slot: None, .. }))
    }

    /// Whether the attribute matches; also fills the captures.
    pub(crate) fn capture<'a>(
        &self,
        value: &'a AttributeValue,
        captures: &mut Captures<'a>,
    ) -> bool {
        match (value, self.parts.as_slice()) {
            (AttributeValue::S(text), _) => self.capture_text(text, captures),
            (AttributeValue::N(number), [Part::Capture { slot, kind }]) => {
                let fits = match kind {
                    CaptureKind::Text => true,
                    CaptureKind::Int(None) => Decimal::parse(number)
                        .and_then(|number| number.integer())
                        .is_some_and(|number| i64::try_from(number).is_ok()),
                    _ => false,
                };
                fits && keep(captures, *slot, Captured::Whole(value))
            }
            (AttributeValue::B(_), [Part::Capture { slot, kind: CaptureKind::Text }]) => {
                keep(captures, *slot, Captured::Whole(value))
            }
            _ => false,
        }
    }

    fn capture_text<'a>(&self, text: &'a str, captures: &mut Captures<'a>) -> bool {
        let mut rest = text;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => match rest.strip_prefix(literal.as_str()) {
                    Some(after) => rest = after,
                    None => return false,
                },
                Part::Capture { slot, kind } => {
                    let next = match self.parts.get(index + 1) {
                        Some(Part::Literal(literal)) => Some(literal.as_str()),
                        _ => None,
                    };
                    let taken =
                        extent(*kind, rest, next).and_then(|end| rest.split_at_checked(end));
                    let Some((taken, after)) = taken else { return false };
                    if taken.is_empty()
                        || !kind.accepts(taken)
                        || !keep(captures, *slot, Captured::Text(taken))
                    {
                        return false;
                    }
                    rest = after;
                }
            }
        }
        rest.is_empty()
    }

    /// Whether it discards nothing and every capture's slot passes the test.
    pub(crate) fn slots_all(&self, known: impl Fn(usize) -> bool) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Literal(_) => true,
            Part::Capture { slot, .. } => slot.is_some_and(&known),
        })
    }

    /// The text from which the template captures these values; `None` if a value is missing.
    pub(crate) fn render<'a>(&self, value: impl Fn(usize) -> Option<&'a str>) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Capture { slot, kind } => {
                    let value = value((*slot)?)?;
                    if let CaptureKind::Int(Some(width)) = kind {
                        let zeros = usize::from(*width).saturating_sub(value.len());
                        text.extend(std::iter::repeat_n('0', zeros));
                    }
                    text.push_str(value);
                }
            }
        }
        Some(text)
    }

    /// Whether some text matches both templates, for realistic texts: a capture is assumed not to contain the
    /// first character of the next literal.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        overlap::overlap(&self.parts, &other.parts)
    }
}

/// How many bytes of the remaining text a capture takes.
fn extent(kind: CaptureKind, rest: &str, next: Option<&str>) -> Option<usize> {
    if let Some(width) = kind.width() {
        return Some(width);
    }
    let Some(next) = next else { return Some(rest.len()) };
    if kind == CaptureKind::Int(None) {
        let sign = usize::from(rest.starts_with('-'));
        return Some(sign + rest.bytes().skip(sign).take_while(u8::is_ascii_digit).count());
    }
    rest.find(next)
}

fn keep<'a>(captures: &mut Captures<'a>, slot: Option<usize>, value: Captured<'a>) -> bool {
    let Some(place) = slot.and_then(|slot| captures.get_mut(slot)) else { return true };
    if *place == Captured::Nothing {
        *place = value;
    }
    *place == value
}

fn capture(
    inner: &str,
    range: &Range<usize>,
    names: &mut CaptureNames,
) -> Result<Part, TemplateError> {
    let (name, kind) = match inner.split_once(':') {
        None => (inner, CaptureKind::Text),
        Some((name, kind)) => {
            let known = CaptureKind::parse(kind.trim()).ok_or_else(|| {
                let message = format!(
                    "there is no capture type `{}`: use int, int(width), uuid, date or ulid",
                    kind.trim()
                );
                TemplateError::new(message, range.clone())
            })?;
            (name.trim(), known)
        }
    };
    if name == DISCARD {
        return Ok(Part::Capture { slot: None, kind });
    }
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.is_empty()
        && !name.starts_with(|char: char| char.is_ascii_digit());
    if !valid {
        let message = "a capture's name has letters, digits and underscores, as {child_id}";
        return Err(TemplateError::new(message, range.clone()));
    }
    if let Some(slot) = names.slot(name) {
        if names.0.get(slot).is_some_and(|(_, known)| *known != kind) {
            let message = format!("the capture `{name}` has another type elsewhere in this key");
            return Err(TemplateError::new(message, range.clone()));
        }
        return Ok(Part::Capture { slot: Some(slot), kind });
    }
    if names.0.len() == CAPTURES_MAX {
        let message = format!("a key has at most {CAPTURES_MAX} captures");
        return Err(TemplateError::new(message, range.clone()));
    }
    names.0.push((name.to_owned(), kind));
    Ok(Part::Capture { slot: Some(names.0.len() - 1), kind })
}

#[cfg(test)]
mod tests;
