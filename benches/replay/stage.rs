//! What a run needs around it: a Postgres cluster, an empty database, and the server of pages.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use dynaurora::config::Config;
use dynaurora::demo::postgres::{LocalPostgres, Options};
use dynaurora::ops::wire;
use dynaurora::postgres::migrations;
use dynaurora::postgres::tables::ddl;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::world::replay::{ReplayServer, Table};
use crate::{Outcome, usage};

/// The mapping, with the defaults of everything that it leaves out.
pub(crate) const CONFIG_FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/replay/letters.toml");

/// A Postgres cluster of our own, durable.
pub(crate) struct Stage {
    postgres: LocalPostgres,
    postmaster: u32,
    made: u32,
}

/// An empty database with the ledger and the target table.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) connection: PgConnection,
}

impl Stage {
    pub(crate) async fn start() -> Outcome<Self> {
        // Neither a checkpoint nor a vacuum should fall into one run and not into the other.
        let settings = [("max_wal_size", "8GB"), ("autovacuum", "off")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let options = Options { durable: true, settings: settings.into(), ..Options::default() };
        let postgres = LocalPostgres::start(options).await?;
        let mut connection = PgConnection::connect(&postgres.url("postgres")).await?;
        let folder: String =
            sqlx::query_scalar("show data_directory").fetch_one(&mut connection).await?;
        let lines = std::fs::read_to_string(format!("{folder}/postmaster.pid"))?;
        let postmaster = lines.lines().next().ok_or("postmaster.pid is empty")?.parse()?;
        Ok(Self { postgres, postmaster, made: 0 })
    }

    /// The CPU that Postgres has used so far.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        usage::cpu_of_family(self.postmaster)
    }

    /// An empty database, everything before it written out.
    pub(crate) async fn database(&mut self, replay: &Replay) -> Outcome<Database> {
        self.made += 1;
        let name = format!("replay_{}", self.made);
        self.postgres.create_database(&name).await?;
        let config = config(&self.sets(&name, &replay.endpoint))?;
        let pools = wire::target(&config).await?;
        let pool = pools.pool().await?;
        migrations::migrate(&pool).await?;
        ddl::apply(&pool, &ddl::plan(&pool, &wire::tables(&config)).await?).await?;
        pool.close().await;
        let mut connection = PgConnection::connect(&self.postgres.url(&name)).await?;
        sqlx::query("checkpoint").execute(&mut connection).await?;
        Ok(Database { name, connection })
    }

    /// What the config of a run needs beside its file: each `--set`.
    pub(crate) fn sets(&self, database: &str, endpoint: &str) -> Vec<String> {
        vec![
            format!("target.url={}", self.postgres.url_without_password(database)),
            format!("target.password.file={}", self.postgres.password_file().display()),
            format!("aws.endpoint={endpoint}"),
            "aws.region=us-east-1".to_owned(),
            "telemetry.listen=127.0.0.1:0".to_owned(),
            "telemetry.log_level=warn".to_owned(),
        ]
    }

    /// The URL for a client that knows no config.
    pub(crate) fn url(&self, database: &str) -> String {
        self.postgres.url(database)
    }
}

impl Database {
    /// How many rows the table has, in how many transactions they were written, and a sum over all that
    /// is in them.
    pub(crate) async fn contents(&mut self) -> Outcome<(i64, i64, String)> {
        let sql = "select count(*), count(distinct xmin::text), \
                   coalesce(sum(hashtextextended(l::text, 0)), 0)::text from letters l \
                   where child_id < '9'";
        Ok(sqlx::query_as(sql).fetch_one(&mut self.connection).await?)
    }

    pub(crate) async fn drop(self, stage: &Stage) -> Outcome<()> {
        self.connection.close().await?;
        let mut connection = PgConnection::connect(&stage.url("postgres")).await?;
        let sql = format!("drop database {} with (force)", self.name);
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

/// The config as the daemon reads it.
pub(crate) fn config(sets: &[String]) -> Outcome<Config> {
    let text = std::fs::read_to_string(CONFIG_FILE)?;
    let parsed = Config::parse(&text, CONFIG_FILE, sets, std::iter::empty());
    parsed.map_err(|diagnostics| diagnostics.render(false).into())
}

/// A process of this program in another role. It ends when its input does.
pub(crate) struct Helper {
    pub(crate) process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    pub(crate) fn spawn(arguments: &[String]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("a helper without output")?);
        Ok(Self { process, input, output })
    }

    /// Waits for the helper's next line.
    pub(crate) fn hear(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a helper ended too early".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Lets the helper go on.
    pub(crate) fn nod(&mut self) -> Outcome<()> {
        let input = self.input.as_mut().ok_or("a helper without input")?;
        input.write_all(b"\n")?;
        Ok(input.flush()?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.process.wait());
    }
}

/// The server of pages, in a process of its own.
pub(crate) struct Replay {
    pub(crate) endpoint: String,
    pub(crate) backfill: Load,
    helper: Helper,
}

/// What is replayed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) shards: usize,
    pub(crate) pages_per_shard: usize,
    pub(crate) records_per_page: usize,
    /// Pages of items that a scan finds.
    pub(crate) table_pages: usize,
    /// Writes a second while that goes on.
    pub(crate) trickle_per_sec: usize,
}

impl Load {
    pub(crate) fn records(self) -> usize {
        (self.shards * self.pages_per_shard + self.table_pages) * self.records_per_page
    }
}

impl Replay {
    pub(crate) fn spawn(backfill: Load) -> Outcome<Self> {
        let Load { shards, pages_per_shard, records_per_page, table_pages, trickle_per_sec } =
            backfill;
        let numbers = [shards, pages_per_shard, records_per_page, table_pages, trickle_per_sec];
        let numbers = numbers.map(|number| number.to_string());
        let mut helper = Helper::spawn(&[&["serve".to_owned()], &numbers[..]].concat())?;
        Ok(Self { endpoint: helper.hear()?, backfill, helper })
    }

    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        usage::cpu(self.helper.process.id())
    }
}

/// The server's process: tells its address and serves until its input ends.
pub(crate) fn serve(backfill: Load) -> Outcome<()> {
    let trickle_per_sec = u64::try_from(backfill.trickle_per_sec)?;
    let table = Table { pages: backfill.table_pages, trickle_per_sec };
    let Load { shards, pages_per_shard, records_per_page, .. } = backfill;
    let server = ReplayServer::with(shards, pages_per_shard, records_per_page, table);
    println!("{}", server.endpoint);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
