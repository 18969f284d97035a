//! Everything that knows SQL: the apply transaction, the ledger, repairs, and what people ask for.
//!
//! Read [`tables::PostgresSink`] first: the transaction is written there from top to bottom.

pub mod ledger;
pub mod listings;
pub mod migrations;
pub mod repair;
pub mod session;
pub mod sql;
pub mod sqlstate;
pub mod tables;

pub use ledger::PostgresLedger;
pub use session::{Pools, Settings, Tls};
pub use tables::PostgresSink;
