//! What was tried: requests to AWS, and what failed and is tried again.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::telemetry::metrics::{self, CODE, KIND, OPERATION, STAGE, source};

/// A request to AWS ended.
pub struct AwsRequest<'a> {
    /// The API's operation.
    pub operation: &'static str,
    /// `ok`, or the error's code.
    pub code: &'a str,
}

impl AwsRequest<'_> {
    /// Emits the event.
    pub fn emit(&self) {
        metrics::AWS_REQUESTS
            .counter([OPERATION.is(self.operation), CODE.is(self.code.to_owned())])
            .increment(1);
    }
}

/// An attempt failed and will be retried.
pub struct Retry<'a> {
    /// The source.
    pub source: &'a str,
    /// What failed: `discover`, `read`, `ledger`, `apply` or `load`.
    pub stage: &'static str,
    /// The failure.
    pub error: &'a Error,
    /// How many attempts in a row have failed.
    pub failures: u32,
    /// How long until the next one.
    pub delay: Duration,
}

impl Retry<'_> {
    /// Emits the event; logs only the first failure and then each doubling of their number. A fence of one
    /// batch only tells a worker that a backfill began or that it lost a lease, and the next look at the
    /// ledger says which. Only a lost lease, or another fence, is a warning.
    pub fn emit(&self) {
        let kind = self.error.kind().label();
        metrics::RETRIES
            .counter([source(self.source), STAGE.is(self.stage), KIND.is(kind)])
            .increment(1);
        if self.error.kind() == ErrorKind::Fenced && self.failures == 1 {
            let (source, error) = (self.source, self.error.chain());
            tracing::info!(source, stage = self.stage, %error, "batch fenced, reading again");
            return;
        }
        if self.failures.is_power_of_two() {
            tracing::warn!(
                source = self.source,
                stage = self.stage,
                kind,
                code = self.error.code(),
                failures = self.failures,
                retry_in_ms = self.delay.as_millis(),
                error = %self.error.chain(),
                hint = self.error.hint(),
                "attempt failed, retrying"
            );
        }
    }
}
