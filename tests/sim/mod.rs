//! The simulator: the real engine, an in-memory ledger and sink with the contract of the real ones, a
//! world that writes and fails, and a checker of the protocol's numbered invariants.

pub mod checker;
pub mod clock;
pub mod store;

mod contract;
