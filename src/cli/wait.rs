//! `dynaurora wait`: blocks until the target has every change up to a time, or says why not.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::{Output, print_json};
use crate::error::Result;
use crate::model::EpochMillis;
use crate::ops::wait::{Wait, wait};
use crate::runtime::SystemClock;
use crate::telemetry::status::timestamp;

/// Options of `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The source's name in the config.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// A time after the writes, as 2026-12-01T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    after: EpochMillis,
    /// How long to wait, as 500ms, 10s or 2m.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The answer as JSON, which only gains fields.
#[derive(Debug, serde::Serialize)]
struct Printed<'a> {
    source: &'a str,
    after: String,
    fresh: bool,
    state: &'a str,
    synced_up_to: Option<String>,
    last_event_at: Option<String>,
    last_poll_at: Option<String>,
    lag_secs: Option<f64>,
    alive: bool,
}

/// Waits and returns the result.
///
/// # Errors
/// `Unavailable` (exit code 75) when it was not fresh in time; `Usage` for an unknown source; errors of the
/// database.
pub async fn run(args: &WaitArgs) -> Result<ExitCode> {
    let config = read(&args.config)?;
    let asked = Wait { source: &args.source, after: args.after, timeout: args.timeout };
    let seen = wait(&config, asked, &SystemClock).await?;
    let synced_up_to = seen.synced_up_to.map(timestamp);
    if args.output == Output::Json {
        print_json(&Printed {
            source: &args.source,
            after: timestamp(args.after),
            fresh: seen.fresh,
            state: &seen.state,
            synced_up_to: synced_up_to.clone(),
            last_event_at: seen.last_event_at.map(timestamp),
            last_poll_at: seen.last_poll_at.map(timestamp),
            lag_secs: seen.lag_secs,
            alive: seen.alive,
        })?;
    }
    if !seen.fresh {
        return Err(asked.in_vain(&seen));
    }
    if args.output == Output::Text {
        let reached = synced_up_to.unwrap_or_else(|| "an unknown time".into());
        anstream::println!("{}: synced up to {reached}", args.source);
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_time(text: &str) -> std::result::Result<EpochMillis, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "write it as 2026-12-01T08:00:00Z".to_owned())?;
    // Part of a millisecond counts as a whole one: later is stricter.
    let whole = time.as_millisecond();
    let exact = jiff::Timestamp::from_millisecond(whole).is_ok_and(|whole| whole >= time);
    Ok(EpochMillis(if exact { whole } else { whole + 1 }))
}

fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let duration: Option<jiff::SignedDuration> = text.parse().ok();
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "write it as 500ms, 10s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_to_milliseconds() {
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(EpochMillis(1000)));
        assert_eq!(parse_time("1970-01-01T01:00:00.0001+01:00"), Ok(EpochMillis(1)));
        assert!(parse_time("now").is_err());
        assert!(parse_time("2026-12-01 08:00").is_err(), "a time needs an offset");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("10").is_err() && parse_duration("-1s").is_err());
    }
}
