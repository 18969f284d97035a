//! The use cases: what each command does, over ports, and the only wiring of rooms.
//!
//! Nothing here prints, and nothing knows the command line: what there is to tell is returned.

pub mod backfill;
pub mod named;
pub mod ports;
pub mod resolve;
pub mod retry;
pub mod sample;
pub mod service;
pub mod shared_tables;
pub mod start;
pub mod stream;
pub mod verify;
pub mod wire;
