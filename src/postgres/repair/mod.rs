//! Verification and repair: rows compared with what they should be, and made so.

pub mod compare;
pub mod ports;
pub mod repairer;
pub mod verifications;
pub mod verify;
mod verify_sql;
