//! Filters in DynamoDB's condition syntax, with inline literals: `attribute_not_exists(draft) OR draft =
//! false`. They mean the same as in DynamoDB: an absent attribute equals nothing and differs from everything,
//! types never convert, numbers compare exactly.

mod parse;

use std::cmp::Ordering;
use std::ops::Range;

use super::convert::number::Decimal;
use super::path::Path;
use crate::model::{AttributeValue, Item};

/// A parsed condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Compare(Operand, Comparator, Operand),
    Between(Operand, Operand, Operand),
    In(Operand, Vec<Operand>),
    Exists(Path),
    NotExists(Path),
    HasType(Path, String),
    BeginsWith(Path, Operand),
    Contains(Path, Operand),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Path(Path),
    Literal(AttributeValue),
    Size(Path),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a condition cannot be parsed, and at which bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConditionError {
    pub(crate) message: String,
    pub(crate) range: Range<usize>,
}

/// The value of an operand for one item.
#[derive(Debug, Clone, Copy)]
enum Operated<'a> {
    Attribute(&'a AttributeValue),
    Size(usize),
}

impl Condition {
    /// Parses a condition.
    pub(crate) fn parse(text: &str) -> Result<Self, ConditionError> {
        parse::condition(text)
    }

    /// Whether the item passes.
    pub(crate) fn holds(&self, item: &Item) -> bool {
        match self {
            Self::Or(any) => any.iter().any(|condition| condition.holds(item)),
            Self::And(all) => all.iter().all(|condition| condition.holds(item)),
            Self::Not(condition) => !condition.holds(item),
            Self::Compare(left, comparator, right) => {
                compare(left.of(item), *comparator, right.of(item))
            }
            Self::Between(value, low, high) => {
                compare(value.of(item), Comparator::GreaterOrEqual, low.of(item))
                    && compare(value.of(item), Comparator::LessOrEqual, high.of(item))
            }
            Self::In(value, any) => {
                any.iter().any(|other| compare(value.of(item), Comparator::Equal, other.of(item)))
            }
            Self::Exists(path) => path.find(item).is_some(),
            Self::NotExists(path) => path.find(item).is_none(),
            Self::HasType(path, name) => {
                path.find(item).is_some_and(|value| short_type(value) == name)
            }
            Self::BeginsWith(path, prefix) => match (path.find(item), prefix.of(item)) {
                (
                    Some(AttributeValue::S(text)),
                    Some(Operated::Attribute(AttributeValue::S(prefix))),
                ) => text.starts_with(prefix.as_str()),
                (
                    Some(AttributeValue::B(bytes)),
                    Some(Operated::Attribute(AttributeValue::B(prefix))),
                ) => bytes.starts_with(prefix),
                _ => false,
            },
            Self::Contains(path, member) => match (path.find(item), member.of(item)) {
                (Some(whole), Some(Operated::Attribute(member))) => contains(whole, member),
                _ => false,
            },
        }
    }
}

impl Operand {
    fn of<'a>(&'a self, item: &'a Item) -> Option<Operated<'a>> {
        match self {
            Self::Path(path) => path.find(item).map(Operated::Attribute),
            Self::Literal(value) => Some(Operated::Attribute(value)),
            Self::Size(path) => size(path.find(item)?).map(Operated::Size),
        }
    }
}

fn size(value: &AttributeValue) -> Option<usize> {
    Some(match value {
        AttributeValue::S(text) => text.chars().count(),
        AttributeValue::B(bytes) => bytes.len(),
        AttributeValue::L(list) => list.len(),
        AttributeValue::M(map) => map.len(),
        AttributeValue::Ss(set) | AttributeValue::Ns(set) => set.len(),
        AttributeValue::Bs(set) => set.len(),
        AttributeValue::N(_) | AttributeValue::Bool(_) | AttributeValue::Null(_) => return None,
    })
}

fn compare(
    left: Option<Operated<'_>>,
    comparator: Comparator,
    right: Option<Operated<'_>>,
) -> bool {
    let (Some(left), Some(right)) = (left, right) else {
        return comparator == Comparator::NotEqual;
    };
    match comparator {
        Comparator::Equal => equal(left, right),
        Comparator::NotEqual => !equal(left, right),
        Comparator::Less => order(left, right).is_some_and(Ordering::is_lt),
        Comparator::LessOrEqual => order(left, right).is_some_and(Ordering::is_le),
        Comparator::Greater => order(left, right).is_some_and(Ordering::is_gt),
        Comparator::GreaterOrEqual => order(left, right).is_some_and(Ordering::is_ge),
    }
}

fn equal(left: Operated<'_>, right: Operated<'_>) -> bool {
    match (left, right) {
        (Operated::Attribute(left), Operated::Attribute(right)) => same(left, right),
        _ => order(left, right) == Some(Ordering::Equal),
    }
}

/// The order of two strings, numbers or binaries; `None` for anything else.
fn order(left: Operated<'_>, right: Operated<'_>) -> Option<Ordering> {
    use AttributeValue as V;
    match (left, right) {
        (Operated::Size(left), Operated::Size(right)) => Some(left.cmp(&right)),
        (Operated::Size(size), Operated::Attribute(V::N(number))) => {
            Some(Decimal::parse(&size.to_string())?.cmp(&Decimal::parse(number)?))
        }
        (Operated::Attribute(V::N(_)), Operated::Size(_)) => {
            order(right, left).map(Ordering::reverse)
        }
        (Operated::Attribute(left), Operated::Attribute(right)) => match (left, right) {
            (V::S(left), V::S(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
            (V::N(left), V::N(right)) => Some(Decimal::parse(left)?.cmp(&Decimal::parse(right)?)),
            (V::B(left), V::B(right)) => Some(left.cmp(right)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether DynamoDB treats two values as equal: numbers by value, sets in any order.
fn same(left: &AttributeValue, right: &AttributeValue) -> bool {
    use AttributeValue as V;
    match (left, right) {
        (V::N(left), V::N(right)) => same_number(left, right),
        (V::L(left), V::L(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| same(a, b))
        }
        (V::M(left), V::M(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, value)| right.get(name).is_some_and(|other| same(value, other)))
        }
        (V::Ss(left), V::Ss(right)) => same_set(left, right, |a, b| a == b),
        (V::Ns(left), V::Ns(right)) => same_set(left, right, |a, b| same_number(a, b)),
        (V::Bs(left), V::Bs(right)) => same_set(left, right, |a, b| a == b),
        (left, right) => left == right,
    }
}

fn same_number(left: &str, right: &str) -> bool {
    match (Decimal::parse(left), Decimal::parse(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn same_set<T>(left: &[T], right: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    left.len() == right.len() && left.iter().all(|a| right.iter().any(|b| same(a, b)))
}

fn contains(whole: &AttributeValue, member: &AttributeValue) -> bool {
    use AttributeValue as V;
    match (whole, member) {
        (V::S(text), V::S(part)) => text.contains(part.as_str()),
        (V::B(bytes), V::B(part)) => {
            part.is_empty() || bytes.windows(part.len()).any(|window| window == part.as_slice())
        }
        (V::L(list), member) => list.iter().any(|own| same(own, member)),
        (V::Ss(set), V::S(text)) => set.contains(text),
        (V::Ns(set), V::N(number)) => set.iter().any(|own| same_number(own, number)),
        (V::Bs(set), V::B(bytes)) => set.contains(bytes),
        _ => false,
    }
}

/// The type names for `attribute_type`.
const TYPES: [&str; 10] = ["S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"];

fn short_type(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(_) => "S",
        AttributeValue::N(_) => "N",
        AttributeValue::B(_) => "B",
        AttributeValue::Bool(_) => "BOOL",
        AttributeValue::Null(_) => "NULL",
        AttributeValue::M(_) => "M",
        AttributeValue::L(_) => "L",
        AttributeValue::Ss(_) => "SS",
        AttributeValue::Ns(_) => "NS",
        AttributeValue::Bs(_) => "BS",
    }
}

#[cfg(test)]
mod tests;
