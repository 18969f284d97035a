//! The integration tests: one binary, so that they share one build of the crate.
#![allow(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod contract;
#[allow(dead_code, reason = "each suite uses its own part of the world")]
pub mod world;
