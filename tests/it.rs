//! The integration tests: one binary, so that linking happens once and the tests share their fixtures.
//!
//! `world` is a simulated DynamoDB; `rig` is what the suites over ledger and sink share; `contract` says
//! what every implementation of the engine's seams must do; `sim` runs the engine under simulated time
//! against a world that fails in every way known; `postgres` runs over a real database, which the feature
//! `demo` brings; `e2e` runs the real binary over real servers.

#![allow(unreachable_pub, reason = "every item of a test binary is its own")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod contract;
#[cfg(feature = "demo")]
mod e2e;
#[cfg(feature = "demo")]
mod postgres;
#[allow(dead_code, reason = "each suite uses its own part of the rig")]
pub mod rig;
mod sim;
#[allow(dead_code, reason = "each suite uses its own part of the world")]
pub mod world;
