//! Everything that knows the AWS SDK: tables, streams and scans behind the engine's `Source`.
//!
//! [`connect()`] makes the SDK's config, [`DynamoSource`] is the port; `streams.rs` reads shards, `scan.rs`
//! reads tables for a backfill, `export/` exports of them, `records.rs` turns a page's JSON into changes,
//! past the SDK's own reader (`answer.rs`), `decode.rs` its items into ours, `errors.rs` its errors, and
//! `requests.rs` counts what AWS is asked. No AWS type leaves this room, except for the config that enters it
//! again.

mod connect;
mod decode;
mod errors;
mod export;
mod items;
mod rds_token;
mod requests;
mod scan;
mod streams;

use crate::error::Result;
use crate::model::Change;

pub use connect::{ConnectOptions, connect};
pub use export::Export;
pub use rds_token::{RdsTokens, RdsUser};
pub use streams::{DynamoSource, SourceOptions};

/// The changes in the JSON of a GetRecords answer; measures the cost of reading a page without the network.
///
/// # Errors
/// `Unknown` if it is not such an answer.
pub fn changes(answer: &[u8]) -> Result<Vec<Change>> {
    Ok(streams::records::read(answer)?.changes)
}
