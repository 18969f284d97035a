//! Takes the body of an answer past the SDK's own reader.
//!
//! The SDK finds the endpoint, signs, sends, and judges what comes back; but it reads a page of records
//! into tables of texts from which ours would be made a second time. That was half of what a record cost.
//! So a good answer's body is kept here, the SDK is shown an empty document in its place, and `records.rs`
//! reads the body once. A refusal is left to the SDK.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodbstreams::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_dynamodbstreams::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodbstreams::error::BoxError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::{AggregatedBytes, ByteStream};

use crate::error::Result;
use crate::source::errors::Rim;

/// A page of at most 1 MB is there within a second of its first byte; the SDK's own timeouts end with its
/// headers.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of one call's answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer(Arc<Mutex<Option<SdkBody>>>);

impl Answer {
    /// The body, all of it, once the call has succeeded.
    ///
    /// # Errors
    /// `Unreachable` when the connection breaks or falls silent in the middle of it.
    pub(crate) async fn bytes(&self, rim: &Rim, operation: &str) -> Result<AggregatedBytes> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let body = ByteStream::new(body.unwrap_or_else(SdkBody::empty));
        match tokio::time::timeout(BODY_TIMEOUT, body.collect()).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(rim.broken(operation, error)),
            Err(elapsed) => Err(rim.broken(operation, elapsed)),
        }
    }
}

impl Intercept for Answer {
    fn name(&self) -> &'static str {
        "TakeAnswer"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let body = std::mem::replace(response.body_mut(), SdkBody::from("{}"));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
        Ok(())
    }
}
