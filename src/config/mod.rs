//! The config: one TOML file, checked as a whole before anything starts.
//!
//! `file.rs` and `source.rs` read the file's shape key by key, every mistake with its place; what
//! comes out is the checked value below, which the wiring turns into options. Overrides are small
//! TOML texts of their own, merged into the tree before it is read, so that a mistake in one is
//! shown like any other.

mod diagnostics;
mod effective;
mod file;
mod reader;
mod secret;
mod sharing;
mod source;
mod target;
mod tree;
mod trial;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use diagnostics::Diagnostics;
pub use reader::meant;
pub use secret::{Secret, SecretRef};

use crate::mapping::definition::{Problem, SourceDefinition, Span};
use crate::mapping::trial::Trial;
use crate::mapping::{Known, Mapper};

/// The prefix of the environment variables that override the config.
pub const ENV_PREFIX: &str = "DYNAURORA__";

/// A checked config.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub target: TargetConfig,
    /// The DynamoDB tables in the order of the file; at least one.
    pub sources: Vec<SourceConfig>,
    /// What all sources share of AWS.
    pub aws: AwsConfig,
    /// How the daemon works.
    pub worker: WorkerConfig,
    /// What it tells.
    pub telemetry: TelemetryConfig,
    /// The mapping's tests.
    pub trials: Vec<Trial>,
    /// The texts that the config was read from, for what is found out later.
    texts: Diagnostics,
}

/// The database that holds the target tables and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConfig {
    /// The connection URL, without a password.
    pub url: String,
    /// Whether the URL leads to this machine: a loopback address or a Unix socket.
    pub local: bool,
    /// How the daemon proves who it is.
    pub auth: Auth,
    /// How the connection is protected.
    pub tls: Tls,
    /// A file of CA certificates in place of those that are built in.
    pub ca_file: Option<PathBuf>,
    /// How many connections apply batches; the ledger has its own.
    pub pool: u32,
    /// Whether the daemon brings the ledger's schema up to date when it starts.
    pub migrate: bool,
    /// Whether statements stay prepared on their connection: not behind a pooler that hands each transaction
    /// to another one.
    pub prepared_statements: bool,
}

/// How the daemon proves to the database who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// No password: the server trusts the connection, or a password file is used.
    Trust,
    /// A password.
    Password(SecretRef),
    /// A token of AWS IAM, made anew for each connection.
    Iam,
}

/// How the connection to the database is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Encrypted; certificate and host name are checked.
    #[default]
    VerifyFull,
    /// Encrypted; the certificate is checked.
    VerifyCa,
    /// Encrypted, to whoever answers.
    Require,
    /// Not encrypted: only within one machine.
    Disable,
}

/// One DynamoDB table and its mapping.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The source's name.
    pub name: Arc<str>,
    /// The DynamoDB table.
    pub table: String,
    /// The region, where it is not that of `[aws]`.
    pub region: Option<String>,
    /// The endpoint, where it is not that of `[aws]`.
    pub endpoint: Option<String>,
    /// What follows when changes were lost.
    pub on_gap: OnGap,
    /// The mapping as it was written.
    pub definition: SourceDefinition,
    /// The mapping, compiled.
    pub mapper: Arc<Mapper>,
}

/// What follows when changes were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGap {
    /// The source halts until an operator acts.
    #[default]
    Halt,
    /// The table is read again.
    Resync,
}

/// What all sources share of AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsConfig {
    /// The region; otherwise the SDK's own chain decides.
    pub region: Option<String>,
    /// The profile of the shared AWS files.
    pub profile: Option<String>,
    /// The endpoint of DynamoDB and its streams.
    pub endpoint: Option<String>,
}

/// How the daemon works.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerConfig {
    /// How long a lease lasts without renewal.
    pub lease_ttl_secs: u64,
    /// The least time between two reads of one shard.
    pub poll_min_ms: u64,
    /// The longest time between two reads of an idle shard.
    pub poll_idle_max_ms: u64,
    /// The time between two full listings of the shards.
    pub discovery_interval_secs: u64,
    /// The most rows in one transaction.
    pub batch_rows_max: usize,
    /// The most bytes in one transaction.
    pub batch_bytes_max: usize,
    /// The most partitions that one process reads at a time.
    pub partitions_max: usize,
    /// How long the daemon may take to stop.
    pub grace_secs: u64,
    /// Above this share of rejects the source halts: the mapping is wrong, not the data.
    pub reject_share_max: f64,
    /// Above this share of a table's rows the sweep of a load waits for an operator.
    pub sweep_share_max: f64,
}

/// What the daemon tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Where metrics, health and the status page are served.
    pub listen: SocketAddr,
    /// The form of the log.
    pub log_format: LogFormat,
    /// The log's level, or a filter as `info,dynaurora=debug`.
    pub log_level: String,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The JSON Schema of the config, for editors that complete and check TOML by one.
pub const SCHEMA: &str = include_str!("schema.json");

impl Config {
    /// Reads and checks a file; `sets` are the `--set` arguments, and of `env` the variables with
    /// [`ENV_PREFIX`] count. A `--set` wins over a variable, and that over the file.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        path: &Path,
        sets: &[String],
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Diagnostics> {
        Self::parse(&read(path)?, &path.display().to_string(), sets, env)
    }

    /// Where the daemon listens by this file, or by the overrides alone; the rest of it may be wrong.
    ///
    /// # Errors
    /// When the file cannot be read, or does not say where.
    pub fn listen(
        path: Option<&Path>,
        sets: &[String],
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<SocketAddr, Diagnostics> {
        let (name, text) = match path {
            Some(path) => (path.display().to_string(), read(path)?),
            None => (String::new(), String::new()),
        };
        let (root, mut diagnostics) = overridden(&text, &name, sets, env)?;
        let mut problems = Vec::new();
        let listen = file::listen(&root, &mut problems);
        diagnostics.extend(problems);
        match listen {
            Some(listen) if diagnostics.is_empty() => Ok(listen),
            _ => Err(diagnostics),
        }
    }

    /// Checks a text; `name` is what messages call it.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(
        text: &str,
        name: &str,
        sets: &[String],
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Diagnostics> {
        let (root, mut diagnostics) = overridden(text, name, sets, env)?;
        let mut problems = Vec::new();
        let config = file::read(&root, &mut problems);
        diagnostics.extend(problems);
        diagnostics.sort();
        match config {
            Some(config) if diagnostics.is_empty() => Ok(Self { texts: diagnostics, ..config }),
            _ => Err(diagnostics),
        }
    }

    /// Compiles the mapping of `sources[at]` onto what is known of its two ends.
    ///
    /// # Errors
    /// What then is wrong with it: the type of an existing column that no key can have, say.
    pub fn resolve(&mut self, at: usize, known: &Known) -> Result<(), Diagnostics> {
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        match Mapper::compile_onto(&source.definition, known) {
            Ok(mapper) => source.mapper = Arc::new(mapper),
            Err(problems) => {
                let mut diagnostics = self.texts.clone();
                diagnostics.extend(problems);
                return Err(diagnostics);
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, Diagnostics> {
    std::fs::read_to_string(path).map_err(|error| {
        let mut diagnostics = Diagnostics::new();
        diagnostics.add_text(path.display().to_string(), "");
        let message = format!("the config cannot be read: {error}");
        let problem = Problem::at(Span::default(), message);
        diagnostics.extend([problem.with_hint("`dynaurora init` writes one to begin with")]);
        diagnostics
    })
}

/// The tree of a text with its overrides, and what is wrong with those.
fn overridden(
    text: &str,
    name: &str,
    sets: &[String],
    env: impl Iterator<Item = (String, String)>,
) -> Result<(tree::Node, Diagnostics), Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let source = diagnostics.add_text(name, text);
    let (mut root, problems) = tree::parse(text, source);
    let broken = !problems.is_empty();
    diagnostics.extend(problems);
    let mut variables: Vec<_> = env.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    variables.sort();
    for (name, value) in variables {
        file::override_from_env(&mut root, &name, &value, &mut diagnostics);
    }
    for set in sets {
        file::override_from_set(&mut root, set, &mut diagnostics);
    }
    file::mask_secrets(&root, &mut diagnostics);
    if broken {
        // What follows a syntax error would be guesses.
        diagnostics.sort();
        return Err(diagnostics);
    }
    Ok((root, diagnostics))
}

#[cfg(test)]
mod inferred;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
