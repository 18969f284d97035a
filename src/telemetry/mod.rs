//! Reports what happened, to people and machines: logs on stderr, metrics, and a small HTTP server.

pub mod events;
pub mod http;
mod listener;
pub mod metrics;
mod page;
pub mod status;

use std::io::IsTerminal;

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tracing_subscriber::EnvFilter;

use self::metrics::Kind;
use crate::error::{Error, ErrorKind, Result};

/// How the process logs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The format of a log line.
    pub log_format: LogFormat,
    /// A level (`info`), or directives in the syntax of `tracing_subscriber::EnvFilter`. A bare level applies
    /// only to dynaurora; its dependencies stay at `warn`, because the AWS SDK logs whole requests with their
    /// items at lower levels.
    pub level: String,
    /// Whether lines have colours; only text lines.
    pub colour: bool,
}

impl Default for Options {
    /// Text at `info`; coloured on a terminal unless `NO_COLOR` is set.
    fn default() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = !plain && std::io::stderr().is_terminal();
        Self { log_format: LogFormat::Text, level: "info".into(), colour }
    }
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The process's metrics, ready to be rendered. Clones share the same metrics.
#[derive(Debug, Clone)]
pub struct Telemetry {
    metrics: PrometheusHandle,
}

impl Telemetry {
    /// Every metric in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.metrics.render()
    }

    /// Folds the samples of histograms into their buckets, so that they do not pile up between scrapes. The
    /// server calls it every few seconds; a process without one must call it itself.
    pub fn run_upkeep(&self) {
        self.metrics.run_upkeep();
    }
}

/// Sets up logs on stderr and the metrics recorder, once per process.
///
/// # Errors
/// `Usage` if the level is invalid; `Unknown` if the process already has a subscriber or recorder.
pub fn init(options: &Options) -> Result<Telemetry> {
    init_logs(options)?;
    let recorder = recorder()?;
    let telemetry = Telemetry { metrics: recorder.handle() };
    ::metrics::set_global_recorder(recorder).map_err(|_| {
        Error::new(ErrorKind::Unknown, "a recorder of metrics is installed already")
    })?;
    metrics::describe();
    Ok(telemetry)
}

fn init_logs(options: &Options) -> Result<()> {
    let filter = filter(&options.level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match options.log_format {
        LogFormat::Text => builder.with_ansi(options.colour).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    done.map_err(|error| {
        Error::new(ErrorKind::Unknown, "set up the logs").with_source(error.to_string())
    })
}

fn filter(level: &str) -> Result<EnvFilter> {
    let directives = match level.parse::<tracing::Level>() {
        Ok(level) => format!("warn,dynaurora={level}"),
        Err(_) => level.to_owned(),
    };
    EnvFilter::try_new(&directives).map_err(|error| {
        Error::new(ErrorKind::Usage, format!("cannot read the log level `{level}`"))
            .with_hint("use error, warn, info, debug, trace, or `warn,dynaurora=debug,sqlx=info`")
            .with_source(error)
    })
}

fn recorder() -> Result<PrometheusRecorder> {
    let refused = |error| Error::new(ErrorKind::Unknown, "set up the metrics").with_source(error);
    let mut builder = PrometheusBuilder::new();
    for row in metrics::TABLE {
        let Kind::Histogram(buckets) = row.kind else { continue };
        let matcher = Matcher::Full(row.name.to_owned());
        builder = builder.set_buckets_for_metric(matcher, buckets).map_err(refused)?;
    }
    Ok(builder.build_recorder())
}

#[cfg(test)]
mod exposition;

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{ChangeOp, EpochMillis, RecordCounts, RecordOutcome};
    use events::{BatchApplied, Freshness};

    /// What the exposition shows after `emit`, without touching the process's own recorder.
    pub(crate) fn recorded(emit: impl FnOnce()) -> Telemetry {
        let recorder = recorder().unwrap();
        let telemetry = Telemetry { metrics: recorder.handle() };
        ::metrics::with_local_recorder(&recorder, || {
            metrics::describe();
            emit();
        });
        telemetry
    }

    /// The metrics that a source has after one batch.
    pub(crate) fn sample() -> Telemetry {
        recorded(|| {
            metrics::start("santa", &["children".into()]);
            let mut records = RecordCounts::default();
            records.count(ChangeOp::Insert, RecordOutcome::Mapped);
            BatchApplied {
                source: "santa",
                records: &records,
                tables: &[("children".into(), 1, 0, 0)],
                partitions: 1,
                took: Duration::from_millis(3),
                last_event_at: Some(EpochMillis(1_700_000_000_000)),
                now: EpochMillis(1_700_000_001_500),
                rejected: &[],
            }
            .emit();
            Freshness {
                source: "santa",
                synced_up_to: Some(EpochMillis(1_700_000_000_000)),
                last_poll_at: None,
                retention_headroom: Duration::from_secs(86_400),
                shards: [("reading", 1), ("free", 1), ("waiting", 0), ("drained", 2)],
                dead_letters: 0,
                gaps: 0,
                verified: None,
                halted: false,
            }
            .emit();
        })
    }

    #[test]
    fn the_exposition_is_well_formed_and_every_family_is_described() {
        let families = exposition::parse(&sample().render()).unwrap();
        assert!(families.len() > 10, "{:?}", families.keys());
        for (name, family) in &families {
            assert!(name.starts_with("dynaurora_"), "{name}");
            assert!(!family.help.is_empty(), "{name} has no HELP");
            assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
            assert_ne!(family.kind, "summary", "{name} has no explicit buckets");
        }
    }

    #[test]
    fn series_start_at_zero_and_histograms_have_their_own_buckets() {
        let families = exposition::parse(&sample().render()).unwrap();
        let records = &families["dynaurora_records_total"];
        assert_eq!(records.samples.len(), 16);
        let sum: f64 = records.samples.iter().map(|sample| sample.value).sum();
        assert!((sum - 1.0).abs() < f64::EPSILON);
        for row in metrics::TABLE {
            let Kind::Histogram(buckets) = row.kind else { continue };
            let bounds = families[row.name].bounds();
            assert_eq!(bounds[..bounds.len() - 1], *buckets, "{}", row.name);
            assert!(bounds[bounds.len() - 1].is_infinite(), "{}", row.name);
        }
    }

    #[test]
    fn a_bare_level_leaves_dependencies_at_warn() {
        assert_eq!(filter("DEBUG").unwrap().to_string(), "dynaurora=debug,warn");
        assert_eq!(filter("warn,sqlx=trace").unwrap().to_string(), "sqlx=trace,warn");
        assert_eq!(filter("dynaurora=loud").unwrap_err().kind(), ErrorKind::Usage);
    }
}
