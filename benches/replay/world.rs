//! The server of cheap pages that the tests have.
#![allow(unreachable_pub, reason = "for the tests these are modules of a crate of their own")]

#[path = "../../tests/world/replay.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
pub(crate) mod replay;
#[path = "../../tests/world/server.rs"]
pub(crate) mod server;
#[path = "../../tests/world/values.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
pub(crate) mod values;
