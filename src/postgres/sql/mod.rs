//! SQL text and the wire: quoted identifiers, lists of columns, arrays as Postgres takes them,
//! the model's words.

pub(in crate::postgres) mod columns;
pub(in crate::postgres) mod encode;
pub mod ident;
pub(in crate::postgres) mod words;
