//! The config: one TOML file, checked as a whole before anything starts.
//!
//! `file.rs` and `source.rs` read the file's shape key by key, each mistake with its place. The result is the
//! checked value below, which the wiring turns into options. Overrides are small TOML texts, merged into the
//! tree before it is read, so that a mistake in one is shown like any other.

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
    /// AWS settings for all sources.
    pub aws: AwsConfig,
    /// How the daemon works.
    pub worker: WorkerConfig,
    /// Logs, metrics and the status page.
    pub telemetry: TelemetryConfig,
    /// The mapping's tests.
    pub trials: Vec<Trial>,
    /// The texts of the config, for later problems.
    texts: Diagnostics,
}

/// The database that holds the target tables and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConfig {
    /// The connection URL, without a password.
    pub url: String,
    /// Whether the URL is on this machine: a loopback address or a Unix socket.
    pub local: bool,
    /// How the daemon authenticates.
    pub auth: Auth,
    /// How the connection is protected.
    pub tls: Tls,
    /// A file of CA certificates to use instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// How many connections apply batches; the ledger has its own.
    pub pool: u32,
    /// Whether the daemon brings the ledger's schema up to date when it starts.
    pub migrate: bool,
    /// Whether statements stay prepared on their connection; must be false behind a pooler that gives each
    /// transaction another connection.
    pub prepared_statements: bool,
}

/// How the daemon authenticates to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// No password: the server trusts the connection, or a password file is used.
    Trust,
    /// A password.
    Password(SecretRef),
    /// An AWS IAM token, renewed for each connection.
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
    /// Encrypted, without any check.
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
    /// The region, if it differs from `[aws]`.
    pub region: Option<String>,
    /// The endpoint, if it differs from `[aws]`.
    pub endpoint: Option<String>,
    /// What happens when changes were lost.
    pub on_gap: OnGap,
    /// The mapping as written.
    pub definition: SourceDefinition,
    /// The mapping, compiled.
    pub mapper: Arc<Mapper>,
}

/// What happens when changes were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGap {
    /// The source halts until an operator acts.
    #[default]
    Halt,
    /// The table is read again.
    Resync,
}

/// AWS settings for all sources.
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
    /// The shortest time between two reads of a shard.
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
    /// Above this share of rejects the source halts, because the mapping must be wrong.
    pub reject_share_max: f64,
    /// Above this share of a table's rows the sweep of a backfill waits for an operator.
    pub sweep_share_max: f64,
}

/// Logs, metrics and the status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Where metrics, health and the status page are served.
    pub listen: SocketAddr,
    /// The format of the log.
    pub log_format: LogFormat,
    /// The log's level, or a filter such as `info,dynaurora=debug`.
    pub log_level: String,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The JSON Schema of the config, for editors that complete and check TOML with it.
pub const SCHEMA: &str = include_str!("schema.json");

impl Config {
    /// Reads and checks a file. `sets` are the `--set` arguments; of `env` only variables with [`ENV_PREFIX`]
    /// count. A `--set` wins over a variable, and a variable over the file.
    ///
    /// # Errors All mistakes at once.
    pub fn read(
        path: &Path,
        sets: &[String],
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Diagnostics> {
        Self::parse(&read(path)?, &path.display().to_string(), sets, env)
    }

    /// The daemon's address in this file or its overrides; the rest of the file may be wrong.
    ///
    /// # Errors
    /// If the file cannot be read, or the address is wrong.
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

    /// Checks a text; `name` is its name in messages.
    ///
    /// # Errors
    /// All mistakes at once.
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

    /// Compiles the mapping of `sources[at]` against the known facts about both ends.
    ///
    /// # Errors
    /// New mistakes, for example an existing key column of an unsuitable type.
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
        diagnostics.extend([problem.with_hint("`dynaurora init` writes one to start with")]);
        diagnostics
    })
}

/// The tree of a text with its overrides, and the overrides' mistakes.
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
        // Problems after a syntax error would be guesses.
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
