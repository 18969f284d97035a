//! The SDK's config: region, credentials, calls with timeouts and without retries.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

use crate::error::{Error, ErrorKind, Result};

/// A TCP and TLS connection within a region takes well under a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A service that has not begun to answer by then will not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit for a whole call with its answer of at most 1 MB; then the engine decides again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where AWS is and who calls; omitted settings come from the usual environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The region, for example `eu-central-1`.
    pub region: Option<String>,
    /// The URL of a local DynamoDB for both services.
    pub endpoint: Option<String>,
    /// The profile of the shared config and credentials files.
    pub profile: Option<String>,
}

/// Makes the config for all clients: each call is one attempt with a timeout. It reads files and environment
/// variables; credentials are looked up at the first call.
///
/// A local endpoint needs no region and no credentials; placeholders are tried last.
///
/// # Errors
/// `Config` when no region is given or found.
pub async fn connect(options: &ConnectOptions) -> Result<SdkConfig> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(ATTEMPT_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        // The attempt's timeout covers the answer's body too, so this protection is not needed.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Ok(name) = AppName::new("dynaurora") {
        loader = loader.app_name(name);
    }
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
        if is_loopback(endpoint) {
            loader = loader.credentials_provider(local_credentials(options.profile.as_deref()));
        }
    }
    let config = loader.load().await;
    if config.region().is_some() {
        return Ok(config);
    }
    if options.endpoint.as_deref().is_some_and(is_loopback) {
        return Ok(config.into_builder().region(Region::from_static("us-east-1")).build());
    }
    Err(Error::new(ErrorKind::Config, "no aws region is set")
        .with_hint("set `region` in the source's section of the config, or AWS_REGION"))
}

/// Real credentials first, because a local DynamoDB may keep separate data for each access key. The
/// instance's own are skipped, because a machine without any would wait for them.
fn local_credentials(profile: Option<&str>) -> CredentialsProviderChain {
    let mut file = ProfileFileCredentialsProvider::builder();
    if let Some(profile) = profile {
        file = file.profile_name(profile);
    }
    CredentialsProviderChain::first_try(
        "environment",
        EnvironmentVariableCredentialsProvider::new(),
    )
    .or_else("profile", file.build())
    .or_else("local", Credentials::new("local", "local", None, None, "local"))
}

/// Whether the URL's host is this machine.
fn is_loopback(endpoint: &str) -> bool {
    let Some((_, rest)) = endpoint.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_by_the_host_alone() {
        for local in
            ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:1/", "http://127.9.9.9"]
        {
            assert!(is_loopback(local), "{local}");
        }
        for far in ["https://127.0.0.1.example.com", "http://example.com/localhost", "localhost"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[tokio::test]
    async fn calls_are_bounded_and_never_repeated_by_the_sdk() {
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        let config =
            connect(&ConnectOptions { endpoint, ..ConnectOptions::default() }).await.unwrap();
        assert_eq!(config.retry_config().unwrap().max_attempts(), 1);
        assert!(config.timeout_config().unwrap().operation_attempt_timeout().is_some());
        assert!(config.region().is_some());
    }
}
