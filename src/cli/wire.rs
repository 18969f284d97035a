//! From a checked config to running parts: the only place where the rooms meet.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::postgres::PgConnectOptions;

use super::resolve::resolve;
use super::service::{Service, SourcePlan};
use super::{ConfigArgs, paste};
use crate::apply::batch::Limits;
use crate::config::{self, Auth, AwsConfig, Config, SourceConfig, TargetConfig};
use crate::engine::backfill::Backfill;
use crate::engine::ports::{Clock, Source, StreamInfo};
use crate::engine::readers::Pace;
use crate::engine::{OnGap, Options, Ports, usable};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::TableSpec;
use crate::model::EpochMillis;
use crate::postgres::ledger::PostgresLedger;
use crate::postgres::migrations;
use crate::postgres::session::{Password, Pools, Settings, Tls};
use crate::postgres::tables::{PostgresSink, ddl};
use crate::runtime::SystemClock;
use crate::source::{
    ConnectOptions, DynamoSource, RdsUser, SourceOptions, TOKEN_TTL, connect, rds_token,
};
use crate::telemetry;

/// Polls of empty shards a second in one process, all together. A poll costs some 0.2 ms of CPU, so this
/// keeps an idle daemon near a hundredth of a core however many shards it watches.
const IDLE_POLLS_PER_SEC_MAX: u32 = 50;

/// Reads the config that a command names; what is wrong with it is printed, all of it.
///
/// # Errors
/// `Config` when anything is wrong with it.
pub fn load(args: &ConfigArgs) -> Result<Config> {
    paste::remember(args);
    Config::load(&args.config, &args.set, std::env::vars()).map_err(|diagnostics| {
        anstream::eprintln!("{}\n", diagnostics.render(true));
        let count = diagnostics.problems().len();
        let problems =
            if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
        Error::new(ErrorKind::Config, format!("{problems} in {}", args.config.display()))
    })
}

/// Sets up logs and metrics as the config says.
///
/// # Errors
/// As for [`telemetry::init`].
pub fn telemetry(config: &Config) -> Result<telemetry::Telemetry> {
    telemetry::init(&telemetry::Options {
        log_format: match config.telemetry.log_format {
            config::LogFormat::Text => telemetry::LogFormat::Text,
            config::LogFormat::Json => telemetry::LogFormat::Json,
        },
        level: config.telemetry.log_level.clone(),
        ..telemetry::Options::default()
    })
}

/// Connects to the target.
///
/// # Errors
/// When a secret cannot be had, or the database cannot.
pub async fn target(config: &Config) -> Result<Arc<Pools>> {
    Ok(Arc::new(Pools::connect(settings(config).await?).await?))
}

/// Connects to the target, or to a replica of it, to read.
///
/// # Errors
/// When a secret cannot be had, or the database cannot.
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
            let secret = reference.resolve(|name| std::env::var(name).ok())?;
            let password: Password = Arc::new(move || {
                let text = secret.expose().to_owned();
                Box::pin(async move { Ok(text) })
            });
            Ok(Some(password))
        }
        Auth::Iam => iam_tokens(target, aws).await.map(Some),
    }
}

/// Tokens of AWS IAM, each used until two thirds of its life have passed.
async fn iam_tokens(target: &TargetConfig, aws: &AwsConfig) -> Result<Password> {
    let options: PgConnectOptions = target.url.parse().map_err(|_| {
        Error::new(ErrorKind::Config, "the target's url is not a postgres url")
            .with_hint("write it as postgres://user@host:5432/database")
    })?;
    let sdk = connect(&ConnectOptions {
        region: aws.region.clone(),
        profile: aws.profile.clone(),
        endpoint: None,
    })
    .await?;
    let held = Arc::new(tokio::sync::Mutex::new(None::<(EpochMillis, String)>));
    Ok(Arc::new(move || {
        let (options, sdk, held) = (options.clone(), sdk.clone(), Arc::clone(&held));
        Box::pin(async move {
            let now = SystemClock.wall();
            let mut held = held.lock().await;
            if let Some((made, token)) = &*held
                && u128::from(now.0.abs_diff(made.0)) < (TOKEN_TTL * 2 / 3).as_millis()
            {
                return Ok(token.clone());
            }
            let to = RdsUser {
                host: options.get_host(),
                port: options.get_port(),
                user: options.get_username(),
            };
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0.unsigned_abs());
            let token = rds_token(&sdk, to, at).await?;
            *held = Some((now, token.clone()));
            Ok(token)
        })
    }))
}

/// The DynamoDB table of a source; nothing is called yet.
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

/// Asks the source's table for its stream, which must be able to feed the mapping.
///
/// # Errors
/// `Denied`, `Unreachable` as the service answers; `Config`, with the command that mends it, when the table
/// or its stream is missing, or the stream is disabled or carries too little.
pub async fn describe(dynamo: &DynamoSource, source: &SourceConfig) -> Result<StreamInfo> {
    let info = dynamo.describe().await.map_err(|error| no_table(source, error))?;
    usable(&info, &source.mapper)?;
    let mut wrong = source.mapper.key_attributes();
    wrong.retain(|name| !info.key_attributes.iter().any(|key| key == name));
    if let Some(name) = wrong.first() {
        let what = format!("{name} is no key attribute of table {}", source.table);
        let hint = format!("its key attributes are {}", info.key_attributes.join(" and "));
        return Err(Error::new(ErrorKind::Config, what).with_hint(hint));
    }
    if !info.enabled {
        let table = &source.table;
        let hint = format!(
            "aws dynamodb update-table --table-name {table} --stream-specification \
             StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
        );
        let what = format!("the stream of table {table} is disabled");
        return Err(Error::new(ErrorKind::Config, what).with_hint(hint));
    }
    Ok(info)
}

/// What a missing table means to the operator; any other failure as it is.
pub(super) fn no_table(source: &SourceConfig, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Gone => {
            let what = format!("there is no table {} in this account and region", source.table);
            Error::new(ErrorKind::Config, what)
                .with_hint(error.hint().unwrap_or("aws dynamodb list-tables").to_owned())
                .with_source(error)
        }
        _ => error,
    }
}

/// All target tables of all sources; one that several share is there once.
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

/// Makes sure that the ledger and the target tables are as this version and this mapping need them; the
/// ledger's migrations are run where the config allows it, and the mapping is compiled onto the tables.
///
/// # Errors
/// `Schema` when the target needs `dynaurora apply` first; `Denied` when the role may not migrate.
pub async fn prepare_target(config: &mut Config, pools: &Pools) -> Result<()> {
    let apply = "dynaurora apply";
    let pool = pools.pool().await?;
    let pending = migrations::pending(&pool).await?;
    if !pending.is_empty() {
        // A migration holds a lock of its session, which a pooler would hand on to somebody else.
        if !config.target.migrate || !config.target.prepared_statements {
            let what = format!("the ledger needs {} migrations", pending.len());
            return Err(Error::new(ErrorKind::Schema, what).with_hint(apply));
        }
        migrations::migrate(&pools.pool().await?).await.map_err(|error| {
            if error.kind() == ErrorKind::Denied { error.with_hint(apply) } else { error }
        })?;
    }
    resolve(config, &pool).await?;
    let mut missing = Vec::new();
    for source in &config.sources {
        missing.extend(ddl::plan(&pool, source.mapper.tables()).await?);
    }
    match missing.first() {
        None => Ok(()),
        Some(first) => {
            let what = format!(
                "the target's tables need {} changes first, such as: {}",
                missing.len(),
                first.what
            );
            Err(Error::new(ErrorKind::Schema, what).with_hint(apply))
        }
    }
}

/// What is wished of a source's loads.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadWish {
    /// When one begins by itself.
    pub backfill: Backfill,
    /// How many segments; by the number of items where nobody says.
    pub segments: Option<u32>,
    /// The read units a second of all workers together; no limit where nobody says.
    pub rcu_max: Option<f64>,
}

/// How the workers behave.
#[must_use]
pub fn options(config: &Config, source: &SourceConfig, load: LoadWish) -> Options {
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
        backfill: load.backfill,
        segments: load.segments,
        rcu_max: load.rcu_max,
        sweep_share_max: worker.sweep_share_max,
    }
}

/// A source's seams over the real servers.
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

/// The seams of a daemon.
pub type RealPorts = Ports<DynamoSource, PostgresLedger, PostgresSink, SystemClock>;

/// Adds the sources of the config to the service, or the one that is named, over the real servers.
///
/// # Errors
/// As for [`describe`].
pub async fn add_sources(
    service: &mut Service,
    (config, only): (&Config, Option<&str>),
    pools: &Arc<Pools>,
    load: LoadWish,
) -> Result<()> {
    let wanted = |source: &&SourceConfig| only.is_none_or(|name| *source.name == *name);
    for source in config.sources.iter().filter(wanted) {
        let ports = ports(config, source, pools).await?;
        describe(&ports.source, source).await?;
        let plan = SourcePlan {
            name: Arc::clone(&source.name),
            table: source.table.clone(),
            mapper: Arc::clone(&source.mapper),
            options: options(config, source, load),
        };
        service.add(plan, ports);
    }
    Ok(())
}
