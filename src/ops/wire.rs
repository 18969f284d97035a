//! From a checked config to the rooms' options and ports.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use super::secret::RotatingSecret;
use crate::apply::batch::Limits;
use crate::config::{self, Auth, AwsConfig, Config, SourceConfig, TargetConfig};
use crate::engine::backfill::Backfill;
use crate::engine::ports::Clock;
use crate::engine::readers::Pace;
use crate::engine::{OnGap, Options, Ports};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::TableSpec;
use crate::postgres::ledger::PostgresLedger;
use crate::postgres::session::{Password, Pools, Settings, Tls};
use crate::postgres::tables::PostgresSink;
use crate::runtime::SystemClock;
use crate::source::{ConnectOptions, DynamoSource, RdsTokens, RdsUser, SourceOptions, connect};

/// Polls of empty shards a second in one process, all together. A poll costs some 0.2 ms of CPU, so an idle
/// daemon uses about a hundredth of a core, however many shards it watches.
const IDLE_POLLS_PER_SEC_MAX: u32 = 50;

/// Connects to the target.
///
/// # Errors
/// When a secret cannot be read, or the database cannot be reached.
pub async fn target(config: &Config) -> Result<Arc<Pools>> {
    Ok(Arc::new(Pools::connect(settings(config).await?).await?))
}

/// Connects to the target, or to a replica of it, to read.
///
/// # Errors
/// When a secret cannot be read, or the database cannot be reached.
pub async fn target_to_read(config: &Config) -> Result<Pools> {
    Pools::connect_to_read(settings(config).await?).await
}

async fn settings(config: &Config) -> Result<Settings> {
    let Config { target, aws, .. } = config;
    let mut settings = Settings::new(&target.url);
    settings.tls = match target.tls {
        config::Tls::VerifyFull => Tls::VerifyFull,
        config::Tls::VerifyCa => Tls::VerifyCa,
        config::Tls::Require => Tls::Require,
        config::Tls::Disable => Tls::Disable,
    };
    settings.apply_connections = target.pool;
    settings.prepared = target.prepared_statements;
    if let Some(path) = &target.ca_file {
        let pem = std::fs::read(path).map_err(|error| {
            Error::new(ErrorKind::Config, format!("read the certificates in {}", path.display()))
                .with_source(error)
        })?;
        settings.ca_pem = Some(pem);
    }
    settings.password = password(target, aws).await?;
    Ok(settings)
}

async fn password(target: &TargetConfig, aws: &AwsConfig) -> Result<Option<Password>> {
    match &target.auth {
        Auth::Trust => Ok(None),
        Auth::Password(reference) => {
            let secret = Arc::new(RotatingSecret::read(reference.clone(), SystemClock)?);
            Ok(Some(Arc::new(move || {
                let text = secret.current();
                Box::pin(async move { Ok(text) })
            })))
        }
        Auth::Iam => iam_tokens(target, aws).await.map(Some),
    }
}

async fn iam_tokens(target: &TargetConfig, aws: &AwsConfig) -> Result<Password> {
    let options = postgres_options(target)?;
    let sdk = connect(&ConnectOptions {
        region: aws.region.clone(),
        profile: aws.profile.clone(),
        endpoint: None,
    })
    .await?;
    let to = RdsUser {
        host: options.get_host().to_owned(),
        port: options.get_port(),
        user: options.get_username().to_owned(),
    };
    let tokens = Arc::new(RdsTokens::new(sdk, to));
    Ok(Arc::new(move || {
        let tokens = Arc::clone(&tokens);
        Box::pin(async move { tokens.token(SystemClock.wall()).await })
    }))
}

/// What the target's URL says.
///
/// # Errors
/// `Config` when it is none of Postgres.
pub(super) fn postgres_options(target: &TargetConfig) -> Result<PgConnectOptions> {
    target.url.parse().map_err(|_| {
        Error::new(ErrorKind::Config, "the target's url is not a postgres url")
            .with_hint("write it as postgres://user@host:5432/database")
    })
}

/// The DynamoDB table of a source; makes no calls yet.
///
/// # Errors
/// `Config` when no Region is known.
pub async fn source(config: &Config, source: &SourceConfig) -> Result<DynamoSource> {
    let aws = &config.aws;
    let options = ConnectOptions {
        region: source.region.clone().or_else(|| aws.region.clone()),
        endpoint: source.endpoint.clone().or_else(|| aws.endpoint.clone()),
        profile: aws.profile.clone(),
    };
    let sdk = connect(&options).await?;
    Ok(DynamoSource::new(source.table.as_str(), &sdk, SourceOptions::default()))
}

/// All target tables of all sources; a shared one appears once.
#[must_use]
pub fn tables(config: &Config) -> Vec<TableSpec> {
    let mut tables: Vec<TableSpec> = Vec::new();
    for table in config.sources.iter().flat_map(|source| source.mapper.tables()) {
        if !tables.iter().any(|own| own.name.is(&table.name)) {
            tables.push(table.clone());
        }
    }
    tables
}

/// The settings for a source's backfills.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackfillWish {
    /// When one begins by itself.
    pub backfill: Backfill,
    /// The number of segments; by default the number of items decides.
    pub segments: Option<u32>,
    /// The limit of read units a second for all workers together; none by default.
    pub rcu_max: Option<f64>,
}

/// How the workers behave.
#[must_use]
pub fn options(config: &Config, source: &SourceConfig, backfill: BackfillWish) -> Options {
    let worker = &config.worker;
    Options {
        lease_ttl: Duration::from_secs(worker.lease_ttl_secs),
        pace: Pace {
            poll_min: Duration::from_millis(worker.poll_min_ms),
            poll_idle_max: Duration::from_millis(worker.poll_idle_max_ms),
            idle_polls_per_sec_max: IDLE_POLLS_PER_SEC_MAX,
        },
        discovery_interval: Duration::from_secs(worker.discovery_interval_secs),
        limits: Limits { rows_max: worker.batch_rows_max, bytes_max: worker.batch_bytes_max },
        partitions_max: worker.partitions_max,
        reject_share_max: worker.reject_share_max,
        on_gap: match source.on_gap {
            config::OnGap::Halt => OnGap::Halt,
            config::OnGap::Resync => OnGap::Resync,
        },
        backfill: backfill.backfill,
        segments: backfill.segments,
        rcu_max: backfill.rcu_max,
        sweep_share_max: worker.sweep_share_max,
    }
}

/// A source's ports over the real servers.
///
/// # Errors
/// As for [`source`].
pub async fn ports(
    config: &Config,
    source: &SourceConfig,
    pools: &Arc<Pools>,
) -> Result<RealPorts> {
    Ok(Ports {
        source: self::source(config, source).await?,
        ledger: PostgresLedger::new(Arc::clone(pools)),
        sink: PostgresSink::new(Arc::clone(pools), source.mapper.tables())?,
        clock: SystemClock,
    })
}

/// The ports of a daemon.
pub type RealPorts = Ports<DynamoSource, PostgresLedger, PostgresSink, SystemClock>;
