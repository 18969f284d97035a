//! The file's shape: its tables, their keys, and overrides.

use super::reader::Fields;
use super::tree::{self, Kind, Node};
use super::{
    AwsConfig, Config, Diagnostics, ENV_PREFIX, LogFormat, TelemetryConfig, WorkerConfig, sharing,
    source, target, trial,
};
use crate::mapping::definition::{Problem, Span, Spanned};
use crate::mapping::toml_text;

/// A lease survives two missed renewals and still moves within seconds: renewals come every third of it.
const LEASE_TTL_SECS: u64 = 10;
/// DynamoDB allows five reads per second per shard; four leave room for a second worker during a hand-over.
const POLL_MIN_MS: u64 = 250;
/// An idle shard costs half a read per second; more would not be noticed.
const POLL_IDLE_MAX_MS: u64 = 2_000;
/// Shards split at most every few hours, and an ended shard's children are looked up at once anyway.
const DISCOVERY_INTERVAL_SECS: u64 = 60;
/// A page of a stream holds at most 1000 records.
const BATCH_ROWS_MAX: u64 = 1_000;
/// Four pages of 1 MB, so that small pages of many shards share a commit.
const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Each partition holds up to two pages of about 1 MB, so this limits memory to a few hundred MB.
const PARTITIONS_MAX: u64 = 128;
/// Below the 30 s that ECS and Kubernetes allow before they kill.
const GRACE_SECS: u64 = 20;
/// If half of the records are rejected, the mapping is wrong.
const REJECT_SHARE_MAX: f64 = 0.5;
/// A day's deletes are rarely a tenth of a table; a wrong table or mapping gives more.
const SWEEP_SHARE_MAX: f64 = 0.1;
/// Loopback, on the port after those that Prometheus lists for database exporters.
const LISTEN: &str = "127.0.0.1:9187";
/// Shows changes of state, but not the work itself.
const LOG_LEVEL: &str = "info";

/// Reads the whole tree.
pub(super) fn read(root: &Node, problems: &mut Vec<Problem>) -> Option<Config> {
    let mut fields = Fields::open("the config", Span::default(), root, problems)?;
    match fields.entry("version").map(|entry| &entry.value) {
        Some(Node { kind: Kind::Integer(version), .. }) if version == "1" => {}
        Some(node) => {
            let message = "this version of dynaurora reads version = 1";
            problems.push(Problem::at(node.span, message));
        }
        None => problems.push(
            Problem::at(Span::default(), "the config has no `version`")
                .with_hint("add version = 1 as the first line"),
        ),
    }
    let target = match fields.entry("target") {
        Some(entry) => Fields::open("[target]", entry.key.span, &entry.value, problems)
            .and_then(|fields| target::read(fields, problems)),
        None => {
            let problem = Problem::at(Span::default(), "the config has no [target]");
            let hint = "add [target] with url = \"postgres://user@host/database\"";
            problems.push(problem.with_hint(hint));
            None
        }
    };
    let entries = fields.named("source", problems);
    if entries.is_empty() {
        let problem = Problem::at(Span::default(), "the config has no source");
        problems.push(problem.with_hint("add [source.NAME] with table = \"TABLE\""));
    }
    let sources: Vec<_> =
        entries.iter().filter_map(|entry| source::read(entry, problems)).collect();
    sharing::check(&sources, problems);
    let aws = section(&mut fields, "aws", problems);
    let aws = aws.map_or_else(AwsConfig::default, |fields| target::read_aws(fields, problems));
    let worker = section(&mut fields, "worker", problems);
    let worker = worker_options(worker.unwrap_or_else(|| empty("[worker]")), problems);
    let telemetry = section(&mut fields, "telemetry", problems);
    let telemetry = telemetry_options(telemetry.unwrap_or_else(|| empty("[telemetry]")), problems);
    let trials = trial::read(&mut fields, &sources, problems);
    fields.finish(problems);
    let texts = Diagnostics::default();
    Some(Config { target: target?, sources, aws, worker, telemetry, trials, texts })
}

/// Reads only the listen address.
pub(super) fn listen(root: &Node, problems: &mut Vec<Problem>) -> Option<std::net::SocketAddr> {
    let mut fields = Fields::open("the config", Span::default(), root, problems)?;
    let telemetry = section(&mut fields, "telemetry", problems);
    let telemetry = telemetry.unwrap_or_else(|| empty("[telemetry]"));
    Some(telemetry_options(telemetry, problems).listen)
}

/// An empty table: an omitted section gets its defaults.
const EMPTY: &Node =
    &Node { span: Span { source: 0, start: 0, end: 0 }, kind: Kind::Table(Vec::new()) };

fn empty(name: &str) -> Fields<'static> {
    Fields::open(name, Span::default(), EMPTY, &mut Vec::new()).expect("an empty table is a table")
}

fn section<'n>(
    fields: &mut Fields<'n>,
    name: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Fields<'n>> {
    let entry = fields.entry(name)?;
    Fields::open(format!("[{name}]"), entry.key.span, &entry.value, problems)
}

fn worker_options(mut fields: Fields<'_>, problems: &mut Vec<Problem>) -> WorkerConfig {
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let mut integer = |key, range, default| fields.integer(key, range, problems).unwrap_or(default);
    let lease_ttl_secs = integer("lease_ttl_secs", 3..=300, LEASE_TTL_SECS);
    let poll_min_ms = integer("poll_min_ms", 10..=60_000, POLL_MIN_MS);
    let poll_idle_max_ms = integer("poll_idle_max_ms", 10..=300_000, POLL_IDLE_MAX_MS);
    let discovery_interval_secs =
        integer("discovery_interval_secs", 5..=3_600, DISCOVERY_INTERVAL_SECS);
    let batch_rows_max = size(integer("batch_rows_max", 1..=100_000, BATCH_ROWS_MAX));
    let batch_bytes_max = size(integer("batch_bytes_max", 65_536..=268_435_456, BATCH_BYTES_MAX));
    let partitions_max = size(integer("partitions_max", 1..=10_000, PARTITIONS_MAX));
    let grace_secs = integer("grace_secs", 1..=600, GRACE_SECS);
    let reject_share_max = share(&mut fields, "reject_share_max", REJECT_SHARE_MAX, problems);
    let sweep_share_max = share(&mut fields, "sweep_share_max", SWEEP_SHARE_MAX, problems);
    fields.finish(problems);
    WorkerConfig {
        lease_ttl_secs,
        poll_min_ms,
        poll_idle_max_ms: poll_idle_max_ms.max(poll_min_ms),
        discovery_interval_secs,
        batch_rows_max,
        batch_bytes_max,
        partitions_max,
        grace_secs,
        reject_share_max,
        sweep_share_max,
    }
}

fn share(
    fields: &mut Fields<'_>,
    key: &'static str,
    default: f64,
    problems: &mut Vec<Problem>,
) -> f64 {
    let Some(entry) = fields.entry(key) else { return default };
    let value = match &entry.value.kind {
        Kind::Float(text) | Kind::Integer(text) => text.parse().ok(),
        _ => None,
    };
    match value {
        Some(value) if (0.0..=1.0).contains(&value) => value,
        _ => {
            let message = format!("`{key}` is a number between 0 and 1");
            problems.push(Problem::at(entry.value.span, message));
            default
        }
    }
}

fn telemetry_options(mut fields: Fields<'_>, problems: &mut Vec<Problem>) -> TelemetryConfig {
    let listen = fields.string("listen", problems);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log_format = fields.choice("log_format", &formats, problems);
    let log_level = fields.string("log_level", problems);
    fields.finish(problems);
    let listen = listen.unwrap_or_else(|| Spanned::new(LISTEN.to_owned(), Span::default()));
    let address = listen.value.parse().unwrap_or_else(|_| {
        let message = "`listen` is an address and a port, as 127.0.0.1:9187";
        problems.push(Problem::at(listen.span, message));
        std::net::SocketAddr::from(([127, 0, 0, 1], 0))
    });
    TelemetryConfig {
        listen: address,
        log_format: log_format.map_or(LogFormat::Text, |format| format.value),
        log_level: log_level.map_or_else(|| LOG_LEVEL.to_owned(), |level| level.value),
    }
}

/// Merges `DYNAURORA__TARGET__POOL=8`: two underscores mean a dot, and names become lower case.
pub(super) fn override_from_env(
    root: &mut Node,
    name: &str,
    value: &str,
    diagnostics: &mut Diagnostics,
) {
    let path = name.get(ENV_PREFIX.len()..).unwrap_or_default();
    let path = path.to_ascii_lowercase().replace("__", ".");
    override_with(root, name, &path, value, diagnostics);
}

/// Merges `target.pool=8`.
pub(super) fn override_from_set(root: &mut Node, set: &str, diagnostics: &mut Diagnostics) {
    match set.split_once('=') {
        Some((path, value)) => {
            override_with(root, "--set", path.trim(), value.trim(), diagnostics);
        }
        None => {
            let source = diagnostics.add_text("--set", set);
            let end = u32::try_from(set.len()).unwrap_or(u32::MAX);
            let problem = Problem::at(Span { source, start: 0, end }, "not of the form KEY=VALUE");
            diagnostics.extend([problem.with_hint("write --set target.pool=8")]);
        }
    }
}

/// A value is read as TOML if possible, otherwise as a string.
fn override_with(
    root: &mut Node,
    name: &str,
    path: &str,
    value: &str,
    diagnostics: &mut Diagnostics,
) {
    let next = u16::try_from(diagnostics.texts()).unwrap_or(u16::MAX);
    let as_toml = format!("{path} = {value}");
    let single = !value.contains('\n');
    let (mut node, mut problems) = tree::parse(&as_toml, next);
    let mut text = as_toml;
    if !problems.is_empty() || !single {
        text = format!("{path} = {}", toml_text::string(value));
        (node, problems) = tree::parse(&text, next);
    }
    diagnostics.add_text(name, text);
    if problems.is_empty() {
        tree::merge(root, node);
    } else {
        // The value may be a misplaced secret, so the message does not show it.
        let message = format!("{name}: not the name of a setting");
        diagnostics.extend([Problem::at(Span::default(), message)]);
    }
}

/// Masks possible secrets before any message can show them: a password in plain text, in the URL, or below
/// `[target]` under an unknown name.
pub(super) fn mask_secrets(root: &Node, diagnostics: &mut Diagnostics) {
    let Kind::Table(entries) = &root.kind else { return };
    let target = entries.iter().filter(|entry| entry.key.value == "target");
    for entry in target.flat_map(|entry| match &entry.value.kind {
        Kind::Table(entries) => entries.as_slice(),
        _ => &[],
    }) {
        match (&entry.value.kind, entry.key.value.as_str()) {
            (Kind::String(url), "url") => {
                let url = Spanned::new(url.clone(), entry.value.span);
                if let Some(span) = target::password_in_url(&url) {
                    diagnostics.mask(span);
                } else if url.value.contains("password=") {
                    diagnostics.mask(url.span);
                }
            }
            (Kind::Table(_), _)
            | (_, "tls" | "auth" | "ca_file" | "pool" | "migrate" | "prepared_statements") => {}
            (_, _) => diagnostics.mask(entry.value.span),
        }
    }
}
