//! The integration tests: one binary, so that they share one build of the crate.

#[allow(dead_code, reason = "each suite uses its own part of the world")]
pub mod world;
