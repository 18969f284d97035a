//! What a scenario plays on: a database of its own, a DynamoDB, a config file, and the binary.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use dynaurora::config::{Config, SourceConfig};
use dynaurora::demo::compare::{Comparison, full_comparison};
use dynaurora::demo::dynamodb::LocalDynamo;
use dynaurora::demo::postgres::LocalPostgres;
use dynaurora::demo::santa::{create_reindeer, create_table};
use dynaurora::engine::ports::Clock;
use dynaurora::model::Position;
use dynaurora::ops::wire;
use dynaurora::runtime::SystemClock;
use dynaurora::source::{ConnectOptions, DynamoSource, connect};
use serde_json::Value;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;
use tokio::process::Command;

use super::daemon::{Daemon, Ended, command, run_to_end};
use crate::postgres::cluster::cluster;

/// The mapping of every scenario.
const SANTA: &str = include_str!("../../config/santa.toml");
/// How long anything may take that should be a matter of seconds: the machine may be busy.
pub(super) const SOON_SECS: u64 = 60;
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks until there is something to see, for so many seconds at most.
pub(super) async fn within<T>(
    secs: u64,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = SystemClock.now() + Duration::from_secs(secs);
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(SystemClock.now() < deadline, "not within {secs} s: {what}");
        pause(LOOK_EVERY).await;
    }
}

/// Lets time pass: between two looks, or until a moment that chance chose.
pub(super) async fn pause(time: Duration) {
    SystemClock.sleep_until(SystemClock.now() + time).await;
}

/// How a stage differs from the ordinary one.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// `worker.lease_ttl_secs`.
    pub(super) lease_ttl_secs: u64,
    /// More of the config, behind the rest of it.
    pub(super) more: &'static str,
    /// Where DynamoDB is; an emulator of the stage's own where it is not said.
    pub(super) endpoint: Option<String>,
    /// Whether `dynaurora apply` is run.
    pub(super) applied: bool,
    /// Whether the reindeer are there too; their shard would count among the letters'.
    pub(super) reindeer: bool,
    /// The host and port at which the daemons find Postgres, where that is not the server's own.
    pub(super) postgres: Option<SocketAddr>,
    /// The server, where it is not the one that the tests share.
    pub(super) server: Option<Arc<LocalPostgres>>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            lease_ttl_secs: 3,
            more: "",
            endpoint: None,
            applied: true,
            reindeer: false,
            postgres: None,
            server: None,
        }
    }
}

/// A stage; everything on it is gone when it is dropped.
pub(super) struct Stage {
    /// The target as the test sees it.
    pub(super) pool: PgPool,
    /// The source as the test writes to it.
    pub(super) client: Client,
    /// The config as the daemons read it.
    pub(super) config: Config,
    /// The name of the database.
    pub(super) database: String,
    /// The target's url as the config has it, without a password.
    pub(super) url: String,
    password_file: PathBuf,
    folder: TempDir,
    spawned: AtomicU32,
    _dynamo: Option<LocalDynamo>,
    _server: Option<Arc<LocalPostgres>>,
}

/// A row of `dynaurora.partitions`.
#[derive(Debug, Clone)]
pub(super) struct Partition {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) position: Position,
    pub(super) epoch: i64,
    pub(super) owner: Option<String>,
}

impl Stage {
    /// The ordinary stage: an emulator with the table, and the target tables in place.
    pub(super) async fn start() -> Self {
        Self::with(Setting::default()).await
    }

    pub(super) async fn with(setting: Setting) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cluster = match &setting.server {
            Some(server) => server,
            None => cluster().await,
        };
        let database = format!("e2e_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        cluster.create_database(&database).await.unwrap();
        let dynamo = setting.endpoint.is_none().then(|| LocalDynamo::start().unwrap());
        let own = dynamo.as_ref().map(|dynamo| dynamo.endpoint().to_owned());
        let endpoint = setting.endpoint.clone().or(own).unwrap();

        let mut url = cluster.url_without_password(&database);
        if let Some(address) = setting.postgres {
            url = url.replace(&format!(":{}/", cluster.port()), &format!(":{}/", address.port()));
        }
        let target = format!(
            "url = {url:?}\npassword = {{ file = {:?} }}",
            cluster.password_file().display().to_string()
        );
        let (before, reindeer) = SANTA.split_once("[source.reindeer]").unwrap();
        let tests = reindeer.find("[[test]]").unwrap();
        let less = format!("{before}{}", &reindeer[tests..]);
        let sample = if setting.reindeer { SANTA } else { &less };
        let text = sample.replace("url = \"postgres://dynaurora@localhost:5432/reads\"", &target);
        assert_ne!(text, sample, "the sample config has the url that is replaced here");
        let text = format!(
            "{text}\n[aws]\nendpoint = {endpoint:?}\nregion = \"eu-north-1\"\n\
             [worker]\nlease_ttl_secs = {}\npoll_min_ms = 20\npoll_idle_max_ms = 100\n\
             discovery_interval_secs = 5\n\
             [telemetry]\nlisten = \"127.0.0.1:0\"\nlog_format = \"json\"\n{}",
            setting.lease_ttl_secs, setting.more
        );
        let config = Config::parse(&text, "e2e", &[], std::iter::empty())
            .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dynaurora.toml"), text).unwrap();

        let aws = ConnectOptions { endpoint: Some(endpoint), ..ConnectOptions::default() };
        let client = Client::new(&connect(&aws).await.unwrap());
        if dynamo.is_some() {
            create_table(&client).await.unwrap();
            if setting.reindeer {
                create_reindeer(&client).await.unwrap();
            }
        }
        let pool = PgPoolOptions::new().max_connections(4);
        let pool = pool.connect(&cluster.url(&database)).await.unwrap();
        let (spawned, _server) = (AtomicU32::new(0), setting.server.clone());
        let password_file = cluster.password_file().to_owned();
        let stage = Self {
            pool,
            client,
            config,
            database,
            url,
            password_file,
            folder,
            spawned,
            _dynamo: dynamo,
            _server,
        };
        if setting.applied {
            let ended = stage.command(&["apply"]).await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        }
        stage
    }

    /// Starts a daemon that only tails the stream; it may not be ready yet.
    pub(super) fn daemon(&self) -> Daemon {
        self.daemon_with(&["--backfill", "never"])
    }

    /// Starts a daemon, and waits until it is ready.
    pub(super) async fn ready_daemon(&self) -> Daemon {
        let mut daemon = self.daemon();
        daemon.readyz(200).await;
        daemon
    }

    /// Starts a daemon with more arguments.
    pub(super) fn daemon_with(&self, more: &[&str]) -> Daemon {
        self.daemon_from(command("run"), more)
    }

    /// Starts a daemon by a command line that ends in `run`.
    pub(super) fn daemon_from(&self, mut command: Command, more: &[&str]) -> Daemon {
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        let log = self.log(number);
        command.arg("--config").arg(self.config_file()).args(more);
        Daemon::spawn(command, log)
    }

    /// Runs a command that reads the config, to its end.
    pub(super) async fn command(&self, words: &[&str]) -> Ended {
        let mut command = command(words[0]);
        command.args(&words[1..]).env("DYNAURORA_CONFIG", self.config_file());
        run_to_end(command).await
    }

    /// The events in the logs of all daemons that ever ran here.
    pub(super) fn events(&self) -> Vec<Value> {
        let logs = (0..self.spawned.load(Ordering::Relaxed)).map(|number| self.log(number));
        let text: String = logs.filter_map(|log| std::fs::read_to_string(log).ok()).collect();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn log(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("daemon-{number}.log"))
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.path().join("dynaurora.toml")
    }

    /// Makes a role that has what `dynaurora grants` prints; answers its name and the `--set` that makes a
    /// daemon connect as it. It has everybody's password.
    pub(super) async fn role(&self) -> (String, String) {
        let name = format!("{}_daemon", self.database);
        let grants = self.command(&["grants", "--role", &name]).await;
        assert_eq!(grants.code, Some(0), "{}", grants.stderr);
        let sql = format!(
            "do $$ begin execute format('create role {name} login password %L', '{}'); end $$; {}",
            std::fs::read_to_string(&self.password_file).unwrap(),
            grants.stdout
        );
        self.run(&sql).await;
        (
            name.clone(),
            format!("target.url={}", self.url.replace("//postgres@", &format!("//{name}@"))),
        )
    }

    /// Runs statements in the target.
    pub(super) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// The one source of the config.
    pub(super) fn plan(&self) -> &SourceConfig {
        &self.config.sources[0]
    }

    /// That source as the daemon reads it.
    pub(super) async fn source(&self) -> DynamoSource {
        wire::source(&self.config, self.plan()).await.unwrap()
    }

    /// All partitions in the ledger.
    pub(super) async fn ledger(&self) -> Vec<Partition> {
        let sql = "select partition, state, position, epoch, owner from dynaurora.partitions \
                   where kind = 'shard'";
        let there = sqlx::query_scalar("select to_regclass('dynaurora.partitions') is not null");
        if !there.fetch_one(&self.pool).await.unwrap_or(false) {
            return Vec::new();
        }
        let rows = sqlx::query(sql).fetch_all(&self.pool).await.unwrap();
        let partition = |row: &sqlx::postgres::PgRow| Partition {
            name: row.get(0),
            state: row.get(1),
            position: Position::parse(row.get(2)).unwrap(),
            epoch: row.get(3),
            owner: row.get(4),
        };
        rows.iter().map(partition).collect()
    }

    /// Where the shards' positions stand, as one text.
    pub(super) async fn head(&self) -> String {
        let sql = "select string_agg(partition || ' ' || position, ', ' order by partition) \
                   from dynaurora.partitions where kind = 'shard'";
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// A number from the target.
    pub(super) async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until the target is the mapped source (I7); nothing may be written meanwhile.
    pub(super) async fn converge(&self) -> Comparison {
        let (source, mapper) = (self.source().await, &self.plan().mapper);
        let deadline = SystemClock.now() + Duration::from_secs(SOON_SECS);
        loop {
            let found = full_comparison(&source, mapper, &self.pool).await.unwrap();
            if found.mismatches == 0 {
                return found;
            }
            let late = SystemClock.now() >= deadline;
            assert!(!late, "{} mismatches: {:#?}", found.mismatches, found.examples);
            pause(LOOK_EVERY * 8).await;
        }
    }
}
