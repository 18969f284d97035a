//! Reads objects of S3 by signed requests.
//!
//! It needs two operations, GetObject and HeadObject. The SDK's own client for S3 would add a sixth to the
//! build; the HTTP client and the signing below are those of the SDK's other clients.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::byte_stream::ByteStream;
use tokio::sync::{Mutex, OnceCell};

use crate::error::{Error, ErrorKind, Result};
use crate::source::rds_token::encoded;

/// A TCP and TLS connection takes well under a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A service that has not begun to answer by then will not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Credentials that expire sooner are renewed, because a request may take some time.
const CREDENTIALS_MARGIN: Duration = Duration::from_secs(300);
/// The service's error messages have some hundred bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// S3 with the SDK's config.
#[derive(Debug)]
pub(super) struct S3 {
    config: SdkConfig,
    endpoint: Option<String>,
    connector: OnceCell<Connector>,
    credentials: Mutex<Option<Credentials>>,
}

/// The result of a request.
#[derive(Debug)]
pub(super) struct Answer {
    /// Without its quotes.
    pub(super) etag: Option<String>,
    pub(super) body: ByteStream,
}

impl S3 {
    /// Makes no calls yet. With an endpoint, the bucket is part of the path.
    pub(super) fn new(config: &SdkConfig, endpoint: Option<String>) -> Self {
        let (config, connector) = (config.clone(), OnceCell::new());
        Self { config, endpoint, connector, credentials: Mutex::new(None) }
    }

    /// The object; `None` if it does not exist.
    ///
    /// # Errors
    /// `Denied`, `Throttled`, `Unavailable`, `Unreachable` as the service answers.
    pub(super) async fn get(&self, bucket: &str, key: &str) -> Result<Option<Answer>> {
        self.call("GET", bucket, key).await
    }

    /// Whether the object exists.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub(super) async fn exists(&self, bucket: &str, key: &str) -> Result<bool> {
        Ok(self.call("HEAD", bucket, key).await?.is_some())
    }

    async fn call(&self, method: &'static str, bucket: &str, key: &str) -> Result<Option<Answer>> {
        let operation = if method == "GET" { "GetObject" } else { "HeadObject" };
        let what = || format!("{operation} of s3://{bucket}/{key}");
        let configured = self.config.region().map(|region| region.as_ref().to_owned());
        let mut region = configured.unwrap_or_else(|| "us-east-1".to_owned());
        let mut moved = false;
        loop {
            let url = self.url(bucket, key, &region);
            let request = self.signed(method, &url, &region).await?;
            let connector = self.connector.get_or_init(async || self.connector()).await;
            let sent = connector.call(request).await;
            let response = sent.map_err(|error| {
                Error::new(ErrorKind::Unreachable, what())
                    .with_hint(format!("no answer from {url}; try `curl -sSI` on it"))
                    .with_source(error)
            })?;
            let status = response.status();
            if status.is_success() {
                let etag = response.headers().get("etag");
                let etag = etag.map(|etag| etag.trim_matches('"').to_owned());
                let body = ByteStream::new(response.into_body());
                return Ok(Some(Answer { etag, body }));
            }
            // The answer names the region of a bucket in another one.
            let home = response.headers().get("x-amz-bucket-region").map(str::to_owned);
            if let Some(home) = home.filter(|home| !moved && *home != region) {
                (region, moved) = (home, true);
                continue;
            }
            if status.as_u16() == 404 {
                return Ok(None);
            }
            return Err(refusal(response, what()).await);
        }
    }

    /// Names with a dot match no certificate, so such buckets go into the path.
    fn url(&self, bucket: &str, key: &str, region: &str) -> String {
        let key: Vec<String> = key.split('/').map(encoded).collect();
        let (bucket, key) = (encoded(bucket), key.join("/"));
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        match &self.endpoint {
            Some(endpoint) => format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/')),
            None if bucket.contains('.') => format!("https://s3.{region}.{suffix}/{bucket}/{key}"),
            None => format!("https://{bucket}.s3.{region}.{suffix}/{key}"),
        }
    }

    fn connector(&self) -> Connector {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build();
        let mut builder = ConnectorBuilder::default().connector_settings(settings);
        builder.set_sleep_impl(self.config.sleep_impl());
        builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build()
    }

    async fn signed(&self, method: &str, url: &str, region: &str) -> Result<HttpRequest> {
        const WHAT: &str = "sign a request to s3";
        let failed = |kind| Error::new(kind, WHAT);
        let unknown = |error| failed(ErrorKind::Unknown).with_source(error);
        let clock = self.config.time_source().ok_or_else(|| failed(ErrorKind::Config))?;
        let now = clock.now();
        let identity = self.credentials(now).await?.into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("s3")
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| failed(ErrorKind::Unknown).with_source(error))?;
        let body = SignableBody::Bytes(&[]);
        let signable =
            SignableRequest::new(method, url, std::iter::empty(), body).map_err(unknown)?;
        let (instructions, _) = sign(signable, &parameters.into()).map_err(unknown)?.into_parts();
        let mut request = HttpRequest::empty();
        let unsound = |error| failed(ErrorKind::Unknown).with_source(error);
        request.set_method(method).map_err(unsound)?;
        request.set_uri(url.to_owned()).map_err(unsound)?;
        for (name, value) in instructions.headers() {
            request.headers_mut().insert(name.to_owned(), value.to_owned());
        }
        Ok(request)
    }

    async fn credentials(&self, now: SystemTime) -> Result<Credentials> {
        let mut held = self.credentials.lock().await;
        let lasts =
            |known: &&Credentials| known.expiry().is_none_or(|end| end > now + CREDENTIALS_MARGIN);
        if let Some(known) = held.as_ref().filter(lasts) {
            return Ok(known.clone());
        }
        let denied = || {
            Error::new(ErrorKind::Denied, "find credentials for s3")
                .with_hint("aws sts get-caller-identity")
        };
        let provider = self.config.credentials_provider().ok_or_else(denied)?;
        let found =
            provider.provide_credentials().await.map_err(|error| denied().with_source(error))?;
        Ok(held.insert(found).clone())
    }
}

async fn refusal(response: HttpResponse, what: String) -> Error {
    let status = response.status().as_u16();
    let body = ByteStream::new(response.into_body());
    let code = match tokio::time::timeout(READ_TIMEOUT, first_of(body)).await {
        Ok(text) => code(&text),
        Err(_) => None,
    };
    let kind = match (code.as_deref(), status) {
        (Some("SlowDown"), _) | (_, 429) => ErrorKind::Throttled,
        (_, 500..) => ErrorKind::Unavailable,
        (_, 401 | 403) | (Some("ExpiredToken" | "InvalidToken"), _) => ErrorKind::Denied,
        (Some("RequestTimeout"), _) => ErrorKind::Unreachable,
        _ => ErrorKind::Unknown,
    };
    let cause = std::io::Error::other(format!("the service answered with status {status}"));
    let mut error = Error::new(kind, what).with_source(cause);
    if let Some(code) = code {
        error = error.with_code(code);
    }
    match kind {
        ErrorKind::Denied => error.with_hint(
            "check with `aws sts get-caller-identity` who calls, and that they may call \
             s3:GetObject on it (and kms:Decrypt if a KMS key encrypts it); without s3:ListBucket \
             a missing file is denied too",
        ),
        _ => error,
    }
}

async fn first_of(mut body: ByteStream) -> String {
    let mut text = Vec::new();
    while let Some(Ok(bytes)) = body.next().await {
        text.extend_from_slice(&bytes);
        if text.len() > REFUSAL_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// `<Error><Code>NoSuchKey</Code>…`
fn code(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code.to_owned())
}

#[cfg(test)]
mod tests {
    use aws_config::BehaviorVersion;

    use super::*;

    #[test]
    fn buckets_stand_in_the_host_where_they_can() {
        let config = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
        let url = |endpoint: Option<&str>, bucket, region| {
            S3::new(&config, endpoint.map(str::to_owned)).url(bucket, "a b/c+d.gz", region)
        };
        let path = "a%20b/c%2Bd.gz";
        assert_eq!(url(None, "b", "eu-x-1"), format!("https://b.s3.eu-x-1.amazonaws.com/{path}"));
        assert_eq!(url(None, "b.c", "eu-x"), format!("https://s3.eu-x.amazonaws.com/b.c/{path}"));
        assert_eq!(
            url(None, "b", "cn-north-1"),
            format!("https://b.s3.cn-north-1.amazonaws.com.cn/{path}")
        );
        assert_eq!(url(Some("http://h:1/"), "b", "x"), format!("http://h:1/b/{path}"));
    }

    #[test]
    fn the_service_s_code_is_found() {
        let text = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Key>k</Key></Error>";
        assert_eq!(code(text).as_deref(), Some("NoSuchKey"));
        assert_eq!(code("<html>"), None);
    }
}
