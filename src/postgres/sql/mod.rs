//! SQL text and the wire: quoted identifiers, lists of columns, arrays as Postgres takes them.

pub(in crate::postgres) mod columns;
pub(in crate::postgres) mod encode;
pub mod ident;
