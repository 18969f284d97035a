//! Columns as binary `text[]` parameters, written straight into the statement's buffer.
//!
//! A batch of rows is sent as one array per column, without a `Vec<String>` in between. All arrays of a
//! statement come from the same list, so their lengths are equal: `unnest` would silently fill a shorter one
//! with NULLs.

use std::fmt::Display;
use std::io::Write;

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo};
use sqlx::{Postgres, Type};

/// The object id of the type `text`, fixed in Postgres' catalogue.
const TEXT_OID: u32 = 25;

/// One column of `items`: a text array with one element per item.
pub(in crate::postgres) struct Column<'a, T, F> {
    items: &'a [T],
    write: F,
}

/// The column of the texts that `text` finds in each item.
pub(in crate::postgres) fn texts<'a, T>(
    items: &'a [T],
    text: impl Fn(&'a T) -> Option<&'a str>,
) -> Column<'a, T, impl Fn(&'a T, &mut Vec<u8>) -> IsNull> {
    let write = move |item, buffer: &mut Vec<u8>| match text(item) {
        Some(text) => {
            buffer.extend_from_slice(text.as_bytes());
            IsNull::No
        }
        None => IsNull::Yes,
    };
    Column { items, write }
}

/// The column of each item's printed value.
pub(in crate::postgres) fn printed<'a, T, D: Display>(
    items: &'a [T],
    value: impl Fn(&'a T) -> D,
) -> Column<'a, T, impl Fn(&'a T, &mut Vec<u8>) -> IsNull> {
    let write = move |item, buffer: &mut Vec<u8>| {
        write!(buffer, "{}", value(item)).expect("writing to a vector cannot fail");
        IsNull::No
    };
    Column { items, write }
}

impl<T, F> Type<Postgres> for Column<'_, T, F> {
    fn type_info() -> PgTypeInfo {
        <&str as PgHasArrayType>::array_type_info()
    }
}

impl<'a, T, F> Encode<'_, Postgres> for Column<'a, T, F>
where
    F: Fn(&'a T, &mut Vec<u8>) -> IsNull,
{
    /// Writes the format of `array_send`: dimensions, a flag for NULLs, the element's type, the length, the
    /// lower bound, then each element after its own length (-1 for NULL).
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let length = i32::try_from(self.items.len())?;
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        buffer.extend_from_slice(&TEXT_OID.to_be_bytes());
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        for item in self.items {
            let start = buffer.len();
            buffer.extend_from_slice(&(-1_i32).to_be_bytes());
            if let IsNull::No = (self.write)(item, buffer) {
                let bytes = i32::try_from(buffer.len() - start - 4)?;
                let place = buffer.get_mut(start..start + 4).ok_or("a column was cut off")?;
                place.copy_from_slice(&bytes.to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }
}
