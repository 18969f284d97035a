//! SQL text and the wire: quoted identifiers, arrays as Postgres takes them.

pub(crate) mod encode;
pub mod ident;
