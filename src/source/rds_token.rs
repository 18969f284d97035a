//! AWS IAM tokens, used instead of a database password.
//!
//! A token is the query of a presigned request to the action `connect` of `rds-db`, without its scheme. It
//! opens connections for 15 minutes, and nothing else. Signing needs no call. The SDK's RDS client does the
//! same, but is a large crate.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use tokio::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::model::EpochMillis;

/// How long a token opens connections (the service's limit).
const TOKEN_TTL: Duration = Duration::from_secs(900);

/// The database and user of a token.
#[derive(Debug, Clone)]
pub struct RdsUser {
    /// The cluster's host name, exactly as the connection uses it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database user.
    pub user: String,
}

/// How long a token is used. It may end early with the credentials that signed it, and costs no call.
const TOKEN_KEPT: Duration = Duration::from_secs(60);

/// The tokens of one user, each used for a minute.
pub struct RdsTokens {
    config: SdkConfig,
    to: RdsUser,
    held: Mutex<Option<(EpochMillis, String)>>,
}

impl RdsTokens {
    /// No token yet; nothing is called.
    #[must_use]
    pub fn new(config: SdkConfig, to: RdsUser) -> Self {
        Self { config, to, held: Mutex::new(None) }
    }

    /// A token that still opens connections; `now` must be the time of day within some minutes.
    ///
    /// # Errors
    /// `Denied` without credentials, `Config` without a Region.
    pub async fn token(&self, now: EpochMillis) -> Result<String> {
        let mut held = self.held.lock().await;
        if let Some((made, token)) = &*held
            && u128::from(now.0.abs_diff(made.0)) < TOKEN_KEPT.as_millis()
        {
            return Ok(token.clone());
        }
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0.unsigned_abs());
        let token = rds_token(&self.config, &self.to, at).await?;
        *held = Some((now, token.clone()));
        Ok(token)
    }
}

async fn rds_token(config: &SdkConfig, to: &RdsUser, now: SystemTime) -> Result<String> {
    const WHAT: &str = "make an IAM token for the database";
    let region = config.region().ok_or_else(|| {
        Error::new(ErrorKind::Config, "an IAM token needs a region")
            .with_hint("set aws.region in the config, or AWS_REGION")
    })?;
    let provider = config.credentials_provider().ok_or_else(|| {
        Error::new(ErrorKind::Denied, WHAT).with_hint("give the process AWS credentials")
    })?;
    let credentials = provider.provide_credentials().await.map_err(|error| {
        Error::new(ErrorKind::Denied, WHAT)
            .with_hint("aws sts get-caller-identity")
            .with_source(error)
    })?;
    let unsigned = |error| Error::new(ErrorKind::Unknown, WHAT).with_source(error);
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(TOKEN_TTL);
    settings.signature_location = SignatureLocation::QueryParams;
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region.as_ref())
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| Error::new(ErrorKind::Unknown, WHAT).with_source(error))?;
    let RdsUser { host, port, user } = to;
    let url = format!("https://{host}:{port}/?Action=connect&DBUser={}", encoded(user));
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(unsigned)?;
    let (instructions, _) = sign(request, &parameters.into()).map_err(unsigned)?.into_parts();
    let mut token = url.trim_start_matches("https://").to_owned();
    for (name, value) in instructions.params() {
        token.push('&');
        token.push_str(name);
        token.push('=');
        token.push_str(&encoded(value));
    }
    Ok(token)
}

/// Percent-encodes all but the unreserved characters, as the signature requires.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;

    use super::*;

    fn config(token: Option<&str>) -> SdkConfig {
        let credentials =
            Credentials::new("AKIDEXAMPLE", "secret", token.map(str::to_owned), None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build()
    }

    fn to() -> RdsUser {
        let host = "aurora.cluster-x.rds.amazonaws.com".to_owned();
        RdsUser { host, port: 5432, user: "dyn@aurora".to_owned() }
    }

    #[tokio::test]
    async fn a_token_names_user_region_and_lifetime_and_is_signed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let token = rds_token(&config(None), &to(), now).await.unwrap();
        let start = "aurora.cluster-x.rds.amazonaws.com:5432/?Action=connect&DBUser=dyn%40aurora&";
        assert!(token.starts_with(start), "{token}");
        for part in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=AKIDEXAMPLE%2F20231114%2Feu-west-1%2Frds-db%2Faws4_request",
            "X-Amz-Expires=900",
            "X-Amz-SignedHeaders=host",
            "X-Amz-Signature=",
        ] {
            assert!(token.contains(part), "{part} in {token}");
        }
        assert_eq!(token, rds_token(&config(None), &to(), now).await.unwrap());
    }

    #[tokio::test]
    async fn a_role_s_session_goes_with_the_token() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let token = rds_token(&config(Some("se/ss")), &to(), now).await.unwrap();
        assert!(token.contains("X-Amz-Security-Token=se%2Fss"), "{token}");
    }

    #[tokio::test]
    async fn a_token_is_used_for_a_minute() {
        let tokens = RdsTokens::new(config(None), to());
        let made = EpochMillis(1_700_000_000_000);
        let first = tokens.token(made).await.unwrap();
        assert_eq!(tokens.token(EpochMillis(made.0 + 59_999)).await.unwrap(), first);
        let second = tokens.token(EpochMillis(made.0 + 60_000)).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(tokens.token(made).await.unwrap(), first, "a clock set back makes a new one");
    }
}
