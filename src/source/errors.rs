//! Translates the SDK's errors into ours: by the service's code, otherwise by where the call failed.

use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Error, ErrorKind};

/// What every error names: the table, and where its services are.
#[derive(Debug, Clone)]
pub(super) struct Rim {
    table: Arc<str>,
    region: Option<Arc<str>>,
    endpoint: Option<Arc<str>>,
}

impl Rim {
    pub(super) fn new(table: Arc<str>, region: Option<&str>, endpoint: Option<&str>) -> Self {
        Self { table, region: region.map(Arc::from), endpoint: endpoint.map(Arc::from) }
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Translates the failure of one operation. If the service answered, only its code decides; the message
    /// text may change.
    pub(super) fn error<E>(&self, operation: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let code = error.code().map(str::to_owned);
        let status = error.raw_response().map(|response| response.status().as_u16());
        let kind = match &error {
            SdkError::ServiceError(_) => answered(code.as_deref(), status),
            SdkError::TimeoutError(_) => ErrorKind::Unreachable,
            // The connection broke during an answer. A complete answer that cannot be parsed is a service
            // error with an unknown code.
            SdkError::ResponseError(_) => ErrorKind::Unreachable,
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => unsent(&error),
            _ => ErrorKind::Unknown,
        };
        let what = format!("{operation} of table {}", self.table);
        // The SDK's outermost error only says "service error"; its cause says more.
        let cause = error.into_source().unwrap_or_else(Box::from);
        let mut ours = Error::new(kind, what).with_source(cause);
        if let Some(code) = code {
            ours = ours.with_code(code);
        }
        match self.hint(kind, operation) {
            Some(hint) => ours.with_hint(hint),
            None => ours,
        }
    }

    /// An answer whose body did not arrive completely.
    pub(super) fn broken(
        &self,
        operation: &str,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        let kind = ErrorKind::Unreachable;
        let what = format!("the answer to {operation} of table {} is incomplete", self.table);
        let error = Error::new(kind, what).with_source(cause);
        match self.hint(kind, operation) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    fn hint(&self, kind: ErrorKind, operation: &str) -> Option<String> {
        match kind {
            ErrorKind::Unreachable => Some(format!(
                "no answer from {0}; try `curl -sS {0}` from this machine",
                self.place(operation)
            )),
            ErrorKind::Denied => Some(format!(
                "check with `aws sts get-caller-identity` who calls, and that they may call \
                 dynamodb:{operation} on table {} (deploy/iam/policy.json is the policy)",
                self.table
            )),
            ErrorKind::Gone if is_about_tables(operation) => Some(format!(
                "is the name right? aws dynamodb list-tables --region {}{}",
                self.region.as_deref().unwrap_or("REGION"),
                self.endpoint
                    .as_deref()
                    .map_or_else(String::new, |url| { format!(" --endpoint-url {url}") })
            )),
            ErrorKind::Throttled if matches!(operation, "GetRecords" | "GetShardIterator") => Some(
                "if it continues, the shard has more than its two readers; a Lambda trigger is one"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The URL of the operation.
    fn place(&self, operation: &str) -> String {
        if let Some(endpoint) = &self.endpoint {
            return endpoint.to_string();
        }
        let service = if is_about_tables(operation) { "dynamodb" } else { "streams.dynamodb" };
        format!("https://{service}.{}.amazonaws.com", self.region.as_deref().unwrap_or("REGION"))
    }
}

/// Whether the operation belongs to DynamoDB rather than to its streams.
fn is_about_tables(operation: &str) -> bool {
    matches!(operation, "DescribeTable" | "Scan" | "GetItem")
}

/// The kind of a failure reported by the service.
fn answered(code: Option<&str>, status: Option<u16>) -> ErrorKind {
    match code.unwrap_or_default() {
        "ExpiredIteratorException" => ErrorKind::Expired,
        "TrimmedDataAccessException" => ErrorKind::Trimmed,
        "ResourceNotFoundException" | "TableNotFoundException" => ErrorKind::Gone,
        "LimitExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => ErrorKind::Throttled,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "NotAuthorized"
        | "OptInRequired" => ErrorKind::Denied,
        "InternalServerError" | "InternalFailure" | "ServiceUnavailable" => ErrorKind::Unavailable,
        _ => match status {
            Some(500..) => ErrorKind::Unavailable,
            Some(429) => ErrorKind::Throttled,
            Some(401 | 403) => ErrorKind::Denied,
            _ => ErrorKind::Unknown,
        },
    }
}

/// The kind of a failure before anything was sent. The SDK reports missing credentials as dispatch failures,
/// like a refused connection.
fn unsent<E>(error: &SdkError<E, HttpResponse>) -> ErrorKind
where
    E: std::error::Error + 'static,
{
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        match cause.downcast_ref::<CredentialsError>() {
            // The credentials provider was slow, which says nothing about the credentials.
            Some(CredentialsError::ProviderTimedOut(_)) => return ErrorKind::Unreachable,
            Some(_) => return ErrorKind::Denied,
            None => next = cause.source(),
        }
    }
    match error {
        SdkError::DispatchFailure(_) => ErrorKind::Unreachable,
        _ => ErrorKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_and_the_status_where_it_is_new() {
        assert_eq!(answered(Some("TrimmedDataAccessException"), Some(400)), ErrorKind::Trimmed);
        assert_eq!(answered(Some("ResourceNotFoundException"), Some(400)), ErrorKind::Gone);
        assert_eq!(answered(Some("LimitExceededException"), Some(400)), ErrorKind::Throttled);
        assert_eq!(answered(Some("BrandNewError"), Some(503)), ErrorKind::Unavailable);
        assert_eq!(answered(Some("ValidationException"), Some(400)), ErrorKind::Unknown);
        assert_eq!(answered(None, Some(403)), ErrorKind::Denied);
        assert_eq!(answered(None, None), ErrorKind::Unknown);
    }

    #[test]
    fn a_throttled_shard_names_who_else_may_read_it() {
        let rim = Rim::new("letters".into(), None, None);
        for operation in ["GetRecords", "GetShardIterator"] {
            let hint = rim.hint(ErrorKind::Throttled, operation).unwrap();
            assert!(hint.contains("a Lambda trigger is one"), "{hint}");
        }
        assert_eq!(rim.hint(ErrorKind::Throttled, "Scan"), None, "a scan has no other readers");
    }

    #[test]
    fn an_unreachable_endpoint_is_named_with_the_command_to_try() {
        let rim = Rim::new("letters".into(), Some("eu-central-1"), None);
        let hint = rim.hint(ErrorKind::Unreachable, "GetRecords").unwrap();
        assert!(hint.contains("curl -sS https://streams.dynamodb.eu-central-1.amazonaws.com"));
        let local = Rim::new("letters".into(), Some("x"), Some("http://127.0.0.1:8000"));
        let hint = local.hint(ErrorKind::Unreachable, "Scan").unwrap();
        assert!(hint.contains("curl -sS http://127.0.0.1:8000"));
    }
}
