//! Verification and repair: rows compared with what they should be, and made so.

mod asked;
pub mod compare;
mod histories;
pub mod ports;
pub mod repairer;
pub mod verifications;
pub mod verify;
mod verify_sql;
