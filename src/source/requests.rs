//! Counts the requests to AWS, by operation and answer.

use std::future::Future;

use crate::error::Result;
use crate::telemetry::events::AwsRequest;

/// Waits for the answer and counts it under the operation's name.
pub(super) async fn counted<T>(
    operation: &'static str,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    let answer = answer.await;
    let code = match &answer {
        Ok(_) => "ok",
        Err(error) => error.code().unwrap_or(error.kind().label()),
    };
    AwsRequest { operation, code }.emit();
    answer
}
