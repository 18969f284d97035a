//! One integration binary: linking happens once, and the tests share one Postgres cluster.
//!
//! It needs the feature `demo`, which brings the local servers.
#![cfg(feature = "demo")]

mod postgres;
