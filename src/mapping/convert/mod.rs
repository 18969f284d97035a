//! Converts an attribute value to the canonical Postgres text of a column's type. A loss is reported, never
//! accepted.
//!
//! No cast in SQL is used, because casts accept `NaN`, `now` and `infinity`, and their result depends on the
//! time.

mod array;
mod json;
mod loss;
pub(crate) mod number;
mod text;
mod time;

pub(crate) use json::{string as json_string, write as json};
pub(crate) use loss::{Loss, decimal, type_name};

use super::definition::{EpochUnit, NulPolicy};
use super::spec::ColumnType;
use crate::model::{AttributeValue, RejectReason};
use loss::nul_loss;
use number::Decimal;
use text::{bool_text, hex, inet, uuid, uuid_text};

/// How one column converts its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conversion {
    /// The column's type.
    pub(crate) column_type: ColumnType,
    /// The unit of numbers, for `timestamptz`.
    pub(crate) epoch: Option<EpochUnit>,
    /// What happens to U+0000.
    pub(crate) nul: NulPolicy,
    /// Source texts and their canonical replacements.
    pub(crate) value_map: Option<Vec<(String, String)>>,
    /// Whether a text must be canonical already: in a primary key two texts must never become one value.
    pub(crate) exact: bool,
}

impl Conversion {
    /// A plain conversion to a type.
    pub(crate) fn to(column_type: ColumnType) -> Self {
        Self { column_type, epoch: None, nul: NulPolicy::Reject, value_map: None, exact: false }
    }

    /// Whether the attribute counts as absent: NULL does, unless the type can hold it.
    pub(crate) fn is_null(&self, value: &AttributeValue) -> bool {
        matches!(value, AttributeValue::Null(_)) && self.column_type != ColumnType::Jsonb
    }

    /// Appends the cell of a non-null attribute. On a loss `out` may hold a part of it.
    pub(crate) fn attribute(&self, value: &AttributeValue, out: &mut String) -> Result<(), Loss> {
        if let Some(map) = &self.value_map {
            return mapped(map, value, out);
        }
        let start = out.len();
        scalar(&self.column_type, value, self, out)?;
        match value {
            AttributeValue::S(text) if self.exact => self.check_exact(text, out, start),
            _ => Ok(()),
        }
    }

    /// Appends the cell of a text, such as a capture.
    pub(crate) fn text(&self, text: &str, out: &mut String) -> Result<(), Loss> {
        if let Some(map) = &self.value_map {
            return mapped_text(map, text, out);
        }
        let start = out.len();
        from_text(&self.column_type, text, self, out)?;
        if self.exact { self.check_exact(text, out, start) } else { Ok(()) }
    }

    fn check_exact(&self, text: &str, out: &str, start: usize) -> Result<(), Loss> {
        if out.get(start..) == Some(text) {
            return Ok(());
        }
        Err(Loss::format("the key is not in its canonical form, so two items could hit one row"))
    }
}

fn mapped(map: &[(String, String)], value: &AttributeValue, out: &mut String) -> Result<(), Loss> {
    match value {
        AttributeValue::S(text) => mapped_text(map, text, out),
        AttributeValue::Bool(value) => mapped_text(map, bool_text(*value), out),
        AttributeValue::N(text) => {
            let mut canonical = String::new();
            decimal(text)?.write(&mut canonical);
            mapped_text(map, &canonical, out)
        }
        other => Err(Loss::mismatch(other, "a key of the column's map")),
    }
}

fn mapped_text(map: &[(String, String)], text: &str, out: &mut String) -> Result<(), Loss> {
    let found = map.iter().find(|(from, _)| from == text);
    let (_, to) = found.ok_or_else(|| Loss::format("the value is not in the column's map"))?;
    out.push_str(to);
    Ok(())
}

fn scalar(
    to: &ColumnType,
    value: &AttributeValue,
    how: &Conversion,
    out: &mut String,
) -> Result<(), Loss> {
    use AttributeValue as V;
    match (to, value) {
        (ColumnType::Jsonb, value) => json::write(value, how.nul, out),
        (ColumnType::Array(element), value) => array::write(element, value, how, out),
        (ColumnType::Bytea, V::B(bytes)) => {
            hex(bytes, out);
            Ok(())
        }
        (ColumnType::Uuid, V::B(bytes)) => match <[u8; 16]>::try_from(bytes.as_slice()) {
            Ok(bytes) => {
                uuid_text(bytes, out);
                Ok(())
            }
            Err(_) => Err(Loss::format("a uuid has 16 bytes")),
        },
        (ColumnType::Timestamptz, V::N(text)) => match how.epoch {
            Some(unit) => time::epoch(decimal(text)?, unit, out),
            None => Err(Loss::new(RejectReason::Type, "a number needs `epoch` to become a time")),
        },
        (to, V::N(text)) => from_number(to, value, decimal(text)?, out),
        (to, V::S(text)) => from_text(to, text, how, out),
        (ColumnType::Boolean | ColumnType::Text | ColumnType::Named(_), V::Bool(value)) => {
            out.push_str(bool_text(*value));
            Ok(())
        }
        (to, value) => Err(Loss::mismatch(value, &to.to_string())),
    }
}

fn from_number(
    to: &ColumnType,
    value: &AttributeValue,
    number: Decimal<'_>,
    out: &mut String,
) -> Result<(), Loss> {
    let integer = |low: i64, high: i64| match number.integer() {
        Some(value) if (i128::from(low)..=i128::from(high)).contains(&value) => Ok(()),
        Some(_) => Err(Loss::range("the number is beyond the column's range")),
        None if number.scale() > 0 => Err(Loss::range("the number is not whole")),
        None => Err(Loss::range("the number is beyond the column's range")),
    };
    let start = out.len();
    number.write(out);
    match to {
        ColumnType::SmallInt => integer(i16::MIN.into(), i16::MAX.into()),
        ColumnType::Integer => integer(i32::MIN.into(), i32::MAX.into()),
        ColumnType::BigInt => integer(i64::MIN, i64::MAX),
        ColumnType::Numeric(None) | ColumnType::Text | ColumnType::Named(_) => Ok(()),
        ColumnType::Numeric(Some((precision, scale))) => {
            let whole = usize::from(precision.saturating_sub(*scale));
            if number.scale() <= usize::from(*scale) && number.whole_digits() <= whole {
                return Ok(());
            }
            Err(Loss::range("the number has more digits than the column"))
        }
        ColumnType::Real => {
            let nearest = out.get(start..).and_then(|text| text.parse::<f32>().ok());
            in_float_range(nearest.map(f64::from), number)
        }
        ColumnType::Double => {
            let nearest = out.get(start..).and_then(|text| text.parse::<f64>().ok());
            in_float_range(nearest, number)
        }
        ColumnType::Varchar(length) => check_length(out.get(start..).unwrap_or_default(), *length),
        other => Err(Loss::mismatch(value, &other.to_string())),
    }
}

/// A float column may round, but must not turn a number into infinity or zero.
fn in_float_range(nearest: Option<f64>, number: Decimal<'_>) -> Result<(), Loss> {
    match nearest {
        Some(value) if value.is_finite() && (value != 0.0 || number.is_zero()) => Ok(()),
        _ => Err(Loss::range("the number is beyond the column's range")),
    }
}

fn from_text(to: &ColumnType, text: &str, how: &Conversion, out: &mut String) -> Result<(), Loss> {
    match to {
        ColumnType::Text | ColumnType::Named(_) => plain(text, how.nul, out),
        ColumnType::Varchar(length) => {
            check_length(text, *length)?;
            plain(text, how.nul, out)
        }
        ColumnType::SmallInt
        | ColumnType::Integer
        | ColumnType::BigInt
        | ColumnType::Numeric(_)
        | ColumnType::Real
        | ColumnType::Double => from_number(to, &AttributeValue::Null(true), decimal(text)?, out),
        ColumnType::Boolean if matches!(text, "true" | "false") => {
            out.push_str(text);
            Ok(())
        }
        ColumnType::Boolean => Err(Loss::format("neither true nor false")),
        ColumnType::Date => time::date(text, out),
        ColumnType::Time => time::time(text, out),
        ColumnType::Timestamptz => time::timestamp(text, out),
        ColumnType::Uuid => uuid(text, out),
        ColumnType::Inet => inet(text, out),
        ColumnType::Jsonb => json::string(text, how.nul, out),
        ColumnType::Bytea | ColumnType::Array(_) => {
            Err(Loss::new(RejectReason::Type, format!("a string (S) cannot become {to}")))
        }
    }
}

fn check_length(text: &str, length: u32) -> Result<(), Loss> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if text.len() > length && text.chars().count() > length {
        return Err(Loss::range("the text is longer than the column"));
    }
    Ok(())
}

fn plain(text: &str, nul: NulPolicy, out: &mut String) -> Result<(), Loss> {
    if !text.contains('\0') {
        out.push_str(text);
        return Ok(());
    }
    match nul {
        NulPolicy::Reject => Err(nul_loss()),
        NulPolicy::Replace => {
            out.extend(text.chars().map(|char| if char == '\0' { '\u{fffd}' } else { char }));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
