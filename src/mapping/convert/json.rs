//! Converts an attribute value to JSON text for `jsonb`: numbers exact, names and sets sorted, binary as
//! base64.

use super::loss::{Loss, decimal, nul_loss};
use super::number::Decimal;
use super::text::{base64, bool_text, hex_byte};
use crate::mapping::definition::NulPolicy;
use crate::model::{AttributeValue, RejectReason};

/// DynamoDB nests at most 32 deep; an item with twice that comes from elsewhere. This protects the stack.
const DEPTH_MAX: usize = 64;

/// Appends the value as JSON. Equal values give equal bytes.
pub(crate) fn write(value: &AttributeValue, nul: NulPolicy, out: &mut String) -> Result<(), Loss> {
    nested(value, nul, 0, out)
}

/// Appends a JSON string.
pub(crate) fn string(text: &str, nul: NulPolicy, out: &mut String) -> Result<(), Loss> {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            0 if nul == NulPolicy::Reject => return Err(nul_loss()),
            0 => "\u{fffd}",
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            1..0x20 => "",
            _ => continue,
        };
        out.push_str(text.get(plain..at).unwrap_or_default());
        plain = at + 1;
        if escape.is_empty() {
            out.push_str("\\u00");
            hex_byte(byte, out);
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
    Ok(())
}

fn nested(
    value: &AttributeValue,
    nul: NulPolicy,
    depth: usize,
    out: &mut String,
) -> Result<(), Loss> {
    if depth > DEPTH_MAX {
        return Err(Loss::new(RejectReason::Limit, "the value is nested too deep"));
    }
    match value {
        AttributeValue::S(text) => string(text, nul, out),
        AttributeValue::N(text) => {
            decimal(text)?.write(out);
            Ok(())
        }
        AttributeValue::Bool(value) => {
            out.push_str(bool_text(*value));
            Ok(())
        }
        AttributeValue::Null(_) => {
            out.push_str("null");
            Ok(())
        }
        AttributeValue::B(bytes) => {
            base64_string(bytes, out);
            Ok(())
        }
        AttributeValue::L(items) => list(items, out, |item, out| nested(item, nul, depth + 1, out)),
        AttributeValue::M(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (index, (name, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                // A replaced name could clash with another one, so a NUL in a name is always a loss.
                string(name, NulPolicy::Reject, out)?;
                out.push(':');
                nested(value, nul, depth + 1, out)?;
            }
            out.push('}');
            Ok(())
        }
        AttributeValue::Ss(set) => list(sorted(set), out, |text, out| string(text, nul, out)),
        AttributeValue::Ns(set) => list(sorted_numbers(set)?, out, |number, out| {
            number.write(out);
            Ok(())
        }),
        AttributeValue::Bs(set) => list(sorted(set), out, |bytes, out| {
            base64_string(bytes, out);
            Ok(())
        }),
    }
}

/// A set's members in byte order.
pub(super) fn sorted<T: Ord>(set: &[T]) -> Vec<&T> {
    let mut members: Vec<_> = set.iter().collect();
    members.sort_unstable();
    members
}

/// A set's numbers in numeric order.
pub(super) fn sorted_numbers(set: &[String]) -> Result<Vec<Decimal<'_>>, Loss> {
    let mut members = set.iter().map(|text| decimal(text)).collect::<Result<Vec<_>, _>>()?;
    members.sort_unstable();
    Ok(members)
}

fn base64_string(bytes: &[u8], out: &mut String) {
    out.push('"');
    base64(bytes, out);
    out.push('"');
}

fn list<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String) -> Result<(), Loss>,
) -> Result<(), Loss> {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out)?;
    }
    out.push(']');
    Ok(())
}
