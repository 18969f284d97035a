//! How one connection is made: its address, TLS, and the first one, which tells why there is none.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::{Settings, Tls};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::sqlstate;

/// The roots of AWS's own certificates for databases in all Regions: its published bundle without expired
/// ones. They are not among the public roots.
const RDS_CA_PEM: &[u8] = include_bytes!("../rds-ca.pem");

/// Makes one connection outside the pools, because a pool waits out a refusal and hides its reason.
pub(super) async fn knock(settings: &Settings, options: &PgConnectOptions) -> Result<()> {
    let (host, port) = (options.get_host(), options.get_port());
    let what = format!("connect to the target at {host}:{port}");
    let attempt = Box::pin(once(settings, options, &what));
    let error = match tokio::time::timeout(settings.connect_timeout, attempt).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => Error::new(ErrorKind::Unreachable, format!("{what}: no answer in time")),
    };
    match error.kind() {
        // The server is up and will soon take connections; the pool waits for that.
        ErrorKind::Unavailable | ErrorKind::Capacity => Ok(()),
        ErrorKind::Unreachable if error.hint().is_none() => Err(error.with_hint(format!(
            "`pg_isready -h {host} -p {port}` tells whether it runs and can be reached"
        ))),
        _ => Err(error),
    }
}

/// Connects and leaves again.
pub(super) async fn once(
    settings: &Settings,
    options: &PgConnectOptions,
    what: &str,
) -> Result<()> {
    let options = match &settings.password {
        Some(password) => options.clone().password(&password().await?),
        None => options.clone(),
    };
    let attempt = async { PgConnection::connect_with(&options).await?.close().await };
    attempt.await.map_err(|error| sqlstate::error(what, error))
}

/// Where to connect, and how the connection is secured.
pub(super) fn options(settings: &Settings) -> Result<PgConnectOptions> {
    // The parser accepts any scheme, and its error may quote the URL with a password.
    let ours =
        ["postgres://", "postgresql://"].iter().any(|scheme| settings.url.starts_with(scheme));
    let parsed: Option<PgConnectOptions> = ours.then(|| settings.url.parse().ok()).flatten();
    let options = parsed.ok_or_else(|| {
        Error::new(ErrorKind::Config, "the target's url is not a postgres url")
            .with_hint("write it as postgres://user@host:5432/database")
    })?;
    let mode = match settings.tls {
        Tls::Disable => PgSslMode::Disable,
        Tls::Require => PgSslMode::Require,
        Tls::VerifyCa => PgSslMode::VerifyCa,
        Tls::VerifyFull => PgSslMode::VerifyFull,
    };
    // PgBouncer refuses a connection that asks for extra_float_digits.
    let options = options.ssl_mode(mode).application_name("dynaurora").extra_float_digits(None);
    let pem = settings.ca_pem.clone().unwrap_or_else(|| RDS_CA_PEM.to_vec());
    let options = options.ssl_root_cert_from_pem(pem);
    Ok(options.disable_statement_logging())
}

/// How a transaction begins: its limits come in the same round trip.
pub(super) fn begin(settings: &Settings, statement: Duration, lock: Duration) -> String {
    let millis = |duration: Duration| duration.as_millis().max(1);
    format!(
        "begin isolation level read committed; set local statement_timeout = {}; \
         set local lock_timeout = {}; set local idle_in_transaction_session_timeout = {}",
        millis(statement),
        millis(lock),
        millis(settings.idle_in_transaction_timeout),
    )
}
