//! The condition grammar: NOT binds tighter than AND, AND tighter than OR.

use super::{Comparator, Condition, ConditionError, Operand, TYPES};
use crate::mapping::convert::number::Decimal;
use crate::mapping::path::Path;
use crate::model::AttributeValue;

/// How deep parentheses and NOTs may nest; DynamoDB itself allows 300 operators in an expression.
const DEPTH_MAX: usize = 50;

const FUNCTIONS: [&str; 6] = [
    "attribute_exists",
    "attribute_not_exists",
    "attribute_type",
    "begins_with",
    "contains",
    "size",
];

/// Words that cannot be bare attribute names.
const KEYWORDS: [&str; 8] = ["and", "or", "not", "between", "in", "true", "false", "null"];

pub(super) fn condition(text: &str) -> Result<Condition, ConditionError> {
    let mut parser = Parser { text, rest: text, depth: 0 };
    let condition = parser.or()?;
    parser.skip_blanks();
    if parser.rest.is_empty() {
        return Ok(condition);
    }
    Err(parser.error("expected AND, OR or the end"))
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Condition, ConditionError> {
        let mut any = vec![self.and()?];
        while self.word("or") {
            any.push(self.and()?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Condition::Or(any) })
    }

    fn and(&mut self) -> Result<Condition, ConditionError> {
        let mut all = vec![self.not()?];
        while self.word("and") {
            all.push(self.not()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::And(all) })
    }

    fn not(&mut self) -> Result<Condition, ConditionError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("the condition is nested too deep"));
        }
        let condition = if self.word("not") {
            Condition::Not(Box::new(self.not()?))
        } else if self.symbol("(") {
            let inner = self.or()?;
            self.expect(")")?;
            inner
        } else {
            self.simple()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn simple(&mut self) -> Result<Condition, ConditionError> {
        match self.function() {
            Some("attribute_exists") => self.one_path().map(Condition::Exists),
            Some("attribute_not_exists") => self.one_path().map(Condition::NotExists),
            Some("attribute_type") => {
                let path = self.first_path()?;
                let before = self.rest;
                match self.operand()? {
                    Operand::Literal(AttributeValue::S(name)) if TYPES.contains(&name.as_str()) => {
                        self.expect(")")?;
                        Ok(Condition::HasType(path, name))
                    }
                    _ => {
                        self.rest = before;
                        Err(self.error(
                            "a type is one of 'S', 'N', 'B', 'BOOL', 'NULL', 'M', 'L', \
                                        'SS', 'NS', 'BS'",
                        ))
                    }
                }
            }
            Some("begins_with") => {
                let (path, operand) = (self.first_path()?, self.operand()?);
                self.expect(")")?;
                Ok(Condition::BeginsWith(path, operand))
            }
            Some("contains") => {
                let (path, operand) = (self.first_path()?, self.operand()?);
                self.expect(")")?;
                Ok(Condition::Contains(path, operand))
            }
            Some(_) => {
                let left = Operand::Size(self.one_path()?);
                self.comparison(left)
            }
            None => {
                let left = self.operand()?;
                self.comparison(left)
            }
        }
    }

    fn comparison(&mut self, left: Operand) -> Result<Condition, ConditionError> {
        if self.word("between") {
            let low = self.operand()?;
            if !self.word("and") {
                return Err(self.error("expected AND: a BETWEEN low AND high"));
            }
            return Ok(Condition::Between(left, low, self.operand()?));
        }
        if self.word("in") {
            self.expect("(")?;
            let mut any = vec![self.operand()?];
            while self.symbol(",") {
                any.push(self.operand()?);
            }
            self.expect(")")?;
            return Ok(Condition::In(left, any));
        }
        let comparators = [
            ("<>", Comparator::NotEqual),
            ("<=", Comparator::LessOrEqual),
            (">=", Comparator::GreaterOrEqual),
            ("=", Comparator::Equal),
            ("<", Comparator::Less),
            (">", Comparator::Greater),
        ];
        for (symbol, comparator) in comparators {
            if self.symbol(symbol) {
                return Ok(Condition::Compare(left, comparator, self.operand()?));
            }
        }
        Err(self.error("expected =, <>, <, <=, >, >=, BETWEEN or IN"))
    }

    fn operand(&mut self) -> Result<Operand, ConditionError> {
        self.skip_blanks();
        if self.rest.starts_with('\'') {
            return self.string();
        }
        if let Some(number) = self.number()? {
            return Ok(Operand::Literal(AttributeValue::N(number)));
        }
        for (word, value) in [("true", Some(true)), ("false", Some(false)), ("null", None)] {
            if self.word(word) {
                let literal = value.map_or(AttributeValue::Null(true), AttributeValue::Bool);
                return Ok(Operand::Literal(literal));
            }
        }
        match self.function() {
            Some("size") => self.one_path().map(Operand::Size),
            Some(_) => Err(self.error("only size(…) gives a value; the others are conditions")),
            None => self.path().map(Operand::Path),
        }
    }

    /// `'text'`, in which `''` is one quote.
    fn string(&mut self) -> Result<Operand, ConditionError> {
        let mut text = String::new();
        let mut rest = self.rest.get(1..).unwrap_or_default();
        loop {
            let Some((part, after)) = rest.split_once('\'') else {
                return Err(
                    self.error("this text is never closed; a quote within is written twice")
                );
            };
            text.push_str(part);
            match after.strip_prefix('\'') {
                Some(after) => {
                    text.push('\'');
                    rest = after;
                }
                None => {
                    self.rest = after;
                    return Ok(Operand::Literal(AttributeValue::S(text)));
                }
            }
        }
    }

    fn number(&mut self) -> Result<Option<String>, ConditionError> {
        let begins = |char: char| char.is_ascii_digit() || matches!(char, '-' | '+' | '.');
        if !self.rest.starts_with(begins) {
            return Ok(None);
        }
        let mut last = ' ';
        let end = self.rest.find(|char: char| {
            let signed = matches!(char, '-' | '+') && matches!(last, ' ' | 'e' | 'E');
            last = char;
            !(char.is_ascii_alphanumeric() || char == '.' || signed)
        });
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if Decimal::parse(text).is_none() {
            return Err(self.error("not a number; a name that begins like one is quoted"));
        }
        self.rest = rest;
        Ok(Some(text.to_owned()))
    }

    fn one_path(&mut self) -> Result<Path, ConditionError> {
        let path = self.path()?;
        self.expect(")")?;
        Ok(path)
    }

    fn first_path(&mut self) -> Result<Path, ConditionError> {
        let path = self.path()?;
        self.expect(",")?;
        Ok(path)
    }

    fn path(&mut self) -> Result<Path, ConditionError> {
        self.skip_blanks();
        if self.rest.starts_with([':', '#']) {
            return Err(self.error("there are no placeholders here: write names and values inline"));
        }
        let keyword = KEYWORDS.iter().any(|word| self.at_word(word));
        match Path::parse_prefix(self.rest) {
            Ok((path, rest)) if !keyword => {
                self.rest = rest;
                Ok(path)
            }
            Ok(_) => Err(self.error("expected an attribute; a name that is a keyword is quoted")),
            Err(message) => {
                let message = format!(
                    "expected an attribute, a 'text', a number, true, false or \
                                       null: {message}"
                );
                Err(self.error(message))
            }
        }
    }

    /// Takes `name(` if it is a function.
    fn function(&mut self) -> Option<&'static str> {
        self.skip_blanks();
        let known = FUNCTIONS.into_iter().find(|name| self.at_word(name))?;
        let rest = self.rest.get(known.len()..)?.trim_start();
        self.rest = rest.strip_prefix('(')?;
        Some(known)
    }

    fn at_word(&self, word: &str) -> bool {
        let head = self.rest.get(..word.len());
        let next = self.rest.get(word.len()..).and_then(|rest| rest.chars().next());
        head.is_some_and(|head| head.eq_ignore_ascii_case(word))
            && !next
                .is_some_and(|char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '['))
    }

    fn word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let found = self.at_word(word);
        if found {
            self.rest = self.rest.get(word.len()..).unwrap_or_default();
        }
        found
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ConditionError> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.error(format!("expected `{symbol}`"))) }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// An error at the next word.
    fn error(&self, message: impl Into<String>) -> ConditionError {
        let rest = self.rest.trim_start();
        let start = self.text.len() - rest.len();
        let blank = |char: char| char.is_whitespace() || matches!(char, '(' | ')' | ',');
        let end = rest.char_indices().skip(1).find(|(_, char)| blank(*char));
        let end = start + end.map_or(rest.len(), |(at, _)| at);
        ConditionError { message: message.into(), range: start..end }
    }
}
