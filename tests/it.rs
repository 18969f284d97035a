//! The integration tests: one binary, so that dependencies are linked once.
//!
//! `contract` says what every implementation of the engine's seams must do; `sim` runs the engine under
//! simulated time against a world that fails in every way known.

#![allow(unreachable_pub, reason = "every item of a test binary is its own")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod contract;
mod sim;
