//! The use cases: what each command does, over ports, and the only wiring of rooms.
//!
//! Nothing here prints, and nothing knows the command line: what there is to tell is returned.

pub mod backfill;
pub mod check;
pub mod daemon;
pub mod explain;
pub mod gaps;
pub mod iam_policy;
pub mod infer;
pub mod named;
pub mod plan;
pub mod ports;
pub mod resolve;
pub mod retry;
pub mod run;
pub mod sample;
mod secret;
pub mod service;
pub mod shared_tables;
pub mod sources;
pub mod start;
pub mod stream;
pub mod tap;
pub mod trials;
pub mod verify;
pub mod wait;
pub mod wire;
