//! SQL text and the wire: quoted identifiers, arrays as Postgres takes them.

pub(in crate::postgres) mod encode;
pub mod ident;
