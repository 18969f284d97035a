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
    AwsRequest { operation, code: code(&answer) }.emit();
    answer
}

/// `ok`, the service's code, or where it gave none the kind of the failure.
fn code<T>(answer: &Result<T>) -> &str {
    match answer {
        Ok(_) => "ok",
        Err(error) => error.code().unwrap_or(error.kind().label()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn an_answer_is_counted_under_the_code_of_the_service() {
        let error = || Error::new(ErrorKind::Throttled, "read");
        assert_eq!(code(&Ok(())), "ok");
        assert_eq!(code::<()>(&Err(error().with_code("LimitExceeded"))), "LimitExceeded");
        assert_eq!(code::<()>(&Err(error())), "throttled");
    }
}
