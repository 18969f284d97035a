//! Takes the body of an answer before the SDK reads it.
//!
//! The SDK finds the endpoint, signs, sends, and checks the answer. But it reads a page of records into its
//! own tables of texts, which we would convert again; that was half of the cost of a record. So this module
//! keeps a good answer's body, gives the SDK an empty document instead, and `records.rs` reads the body once.
//! The SDK handles refusals itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodbstreams::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_dynamodbstreams::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodbstreams::error::BoxError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::{AggregatedBytes, ByteStream};

use crate::error::Result;
use crate::source::errors::Rim;

/// A page of at most 1 MB arrives within a second of its first byte; the SDK's own timeouts end with the
/// headers.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of one call's answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer(Arc<Mutex<Option<SdkBody>>>);

impl Answer {
    /// The complete body, after the call has succeeded.
    ///
    /// # Errors
    /// `Unreachable` if the connection breaks or falls silent within the body.
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
