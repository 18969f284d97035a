//! Everything that knows the AWS SDK: tables, streams and scans behind the engine's `Source`.
//!
//! [`connect()`] makes the SDK's config, [`DynamoSource`] is the port; `streams.rs` reads shards, `scan.rs`
//! reads tables for a backfill, `decode.rs` turns the SDK's records into changes, `errors.rs` its errors
//! into ours. No AWS type leaves this room, except for the config that enters it again.

mod connect;
mod decode;
mod errors;
mod rds_token;
mod scan;
mod streams;

pub use connect::{ConnectOptions, connect};
pub use rds_token::{RdsUser, TOKEN_TTL, rds_token};
pub use streams::{DynamoSource, SourceOptions};
