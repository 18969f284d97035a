//! dynaurora tails DynamoDB Streams and keeps relational tables in PostgreSQL in step with them.
//!
//! Read in this order: [`model`] and [`error`] are the vocabulary; [`mapping`] turns an item into rows,
//! purely; [`apply`] makes batches of rows; [`engine::ports`] holds the seams; [`engine`] decides what is
//! read and applied when; [`source`] knows the AWS SDK and [`postgres`] knows SQL; [`config`] makes all
//! of it from a file; [`telemetry`] tells what happened; [`ops`] wires it into what an operator asks for,
//! and [`cli`] is how it is asked.

pub mod apply;
pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod engine;
pub mod error;
pub mod mapping;
pub mod model;
pub mod ops;
pub mod postgres;
pub mod runtime;
pub mod source;
pub mod telemetry;
