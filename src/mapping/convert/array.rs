//! Converts lists and sets to Postgres array literals.

use super::json::{sorted, sorted_numbers};
use super::loss::Loss;
use super::text::hex;
use super::{Conversion, from_text, scalar};
use crate::mapping::spec::ColumnType;
use crate::model::AttributeValue;

/// Appends `{…}`: a list in its own order, a set sorted, so that a replay is byte-identical.
pub(super) fn write(
    element: &ColumnType,
    value: &AttributeValue,
    how: &Conversion,
    out: &mut String,
) -> Result<(), Loss> {
    out.push('{');
    match value {
        AttributeValue::L(items) => {
            for (index, item) in items.iter().enumerate() {
                separate(index, out);
                if matches!(item, AttributeValue::Null(_)) && *element != ColumnType::Jsonb {
                    out.push_str("NULL");
                } else {
                    quoted(out, |out| scalar(element, item, how, out))?;
                }
            }
        }
        AttributeValue::Ss(set) => {
            for (index, text) in sorted(set).into_iter().enumerate() {
                separate(index, out);
                quoted(out, |out| from_text(element, text, how, out))?;
            }
        }
        AttributeValue::Ns(set) => {
            for (index, number) in sorted_numbers(set)?.into_iter().enumerate() {
                separate(index, out);
                let mut text = String::new();
                number.write(&mut text);
                quoted(out, |out| scalar(element, &AttributeValue::N(text), how, out))?;
            }
        }
        AttributeValue::Bs(set) if *element == ColumnType::Bytea => {
            for (index, bytes) in sorted(set).into_iter().enumerate() {
                separate(index, out);
                quoted(out, |out| {
                    hex(bytes, out);
                    Ok(())
                })?;
            }
        }
        other => return Err(Loss::mismatch(other, &format!("{element}[]"))),
    }
    out.push('}');
    Ok(())
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}

/// Writes an element in quotes, which are always valid and keep `NULL` and the empty text as texts.
fn quoted(
    out: &mut String,
    write: impl FnOnce(&mut String) -> Result<(), Loss>,
) -> Result<(), Loss> {
    out.push('"');
    let start = out.len();
    write(out)?;
    if out.as_bytes().iter().skip(start).any(|byte| matches!(byte, b'"' | b'\\')) {
        let element = out.split_off(start);
        for char in element.chars() {
            if matches!(char, '"' | '\\') {
                out.push('\\');
            }
            out.push(char);
        }
    }
    out.push('"');
    Ok(())
}
