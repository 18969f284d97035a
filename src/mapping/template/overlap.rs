//! Whether two templates can match the same text. Both are simple automata; their product must not reach its
//! end.

use super::{CaptureKind, Part};

/// Characters that represent all those not in a literal.
const REPRESENTATIVES: [char; 6] = ['0', 'a', 'f', 'z', 'Z', '~'];

/// A set of characters, taken once or any number of times.
#[derive(Debug, Clone, Copy)]
struct Token {
    class: Class,
    repeats: bool,
}

#[derive(Debug, Clone, Copy)]
enum Class {
    One(char),
    /// Any character except the first one of the literal after the capture.
    AnyBut(Option<char>),
    Digit,
    Integer,
    Hex,
    Alphanumeric,
}

impl Class {
    fn holds(self, char: char) -> bool {
        match self {
            Self::One(own) => own == char,
            Self::AnyBut(end) => end != Some(char),
            Self::Digit => char.is_ascii_digit(),
            Self::Integer => char.is_ascii_digit() || char == '-',
            Self::Hex => matches!(char, '0'..='9' | 'a'..='f'),
            Self::Alphanumeric => char.is_ascii_alphanumeric(),
        }
    }
}

pub(super) fn overlap(left: &[Part], right: &[Part]) -> bool {
    let (left, right) = (tokens(left), tokens(right));
    let chars: Vec<char> = left
        .iter()
        .chain(&right)
        .filter_map(|token| if let Class::One(char) = token.class { Some(char) } else { None })
        .chain(REPRESENTATIVES)
        .collect();
    let meets = |left: Class, right: Class| {
        chars.iter().any(|char| left.holds(*char) && right.holds(*char))
    };
    let mut seen = vec![false; (left.len() + 1) * (right.len() + 1)];
    let mut open = vec![(0, 0)];
    while let Some((i, j)) = open.pop() {
        let Some(known) = seen.get_mut(i * (right.len() + 1) + j) else { continue };
        if std::mem::replace(known, true) {
            continue;
        }
        let (a, b) = (left.get(i), right.get(j));
        if a.is_none() && b.is_none() {
            return true;
        }
        if a.is_some_and(|token| token.repeats) {
            open.push((i + 1, j));
        }
        if b.is_some_and(|token| token.repeats) {
            open.push((i, j + 1));
        }
        if let (Some(a), Some(b)) = (a, b)
            && meets(a.class, b.class)
        {
            open.push((i + usize::from(!a.repeats), j + usize::from(!b.repeats)));
        }
    }
    false
}

fn tokens(parts: &[Part]) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut once = |class| tokens.push(Token { class, repeats: false });
        match part {
            Part::Literal(text) => text.chars().for_each(|char| once(Class::One(char))),
            Part::Capture { kind: CaptureKind::Uuid, .. } => {
                (0..36).for_each(|at| match at {
                    8 | 13 | 18 | 23 => once(Class::One('-')),
                    _ => once(Class::Hex),
                });
            }
            Part::Capture { kind: CaptureKind::Ulid, .. } => {
                (0..26).for_each(|_| once(Class::Alphanumeric));
            }
            Part::Capture { kind: CaptureKind::Date, .. } => {
                (0..10).for_each(|at| match at {
                    4 | 7 => once(Class::One('-')),
                    _ => once(Class::Digit),
                });
            }
            Part::Capture { kind: CaptureKind::Int(Some(width)), .. } => {
                (0..*width).for_each(|_| once(Class::Digit));
            }
            Part::Capture { kind: CaptureKind::Int(None), .. } => {
                once(Class::Integer);
                tokens.push(Token { class: Class::Digit, repeats: true });
            }
            Part::Capture { kind: CaptureKind::Text, .. } => {
                let end = match parts.get(index + 1) {
                    Some(Part::Literal(text)) => text.chars().next(),
                    _ => None,
                };
                once(Class::AnyBut(end));
                tokens.push(Token { class: Class::AnyBut(end), repeats: true });
            }
        }
    }
    tokens
}
