//! `dynaurora wait`: blocks until the target has every change made up to a time, or says why it has not.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::config_file::load;
use super::{ConfigArgs, Output, print_json};
use crate::engine::ports::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::EpochMillis;
use crate::ops::{named, wire};
use crate::postgres::listings::freshness::{Freshness, look};
use crate::runtime::SystemClock;
use crate::telemetry::status::{duration, timestamp};

/// Between two looks; `dynaurora.wait_for` looks as often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A time may be ahead of this machine's clock by as much as the promise of freshness lets clocks differ.
const CLOCKS_AGREE_WITHIN: Duration = Duration::from_secs(2);

/// Options of `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The source, as the config names it.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// The time after the writes in question, as 2026-12-01T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    after: EpochMillis,
    /// How long to wait, as 500ms, 10s or 2m.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The answer as JSON: it only grows.
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

/// Waits, and says how it ended.
///
/// # Errors
/// `Unavailable` (exit code 75) when it was not fresh in time; `Usage` for a source that the config has not;
/// what the database meets.
pub async fn run(args: &WaitArgs) -> Result<ExitCode> {
    let config = load(&args.config)?;
    named::source(&config, Some(&args.source))?;
    in_the_past(args.after, SystemClock.wall())?;
    let ends_at = SystemClock.now() + args.timeout;
    let pools = wire::target_to_read(&config).await?;
    let seen = loop {
        let seen = look(&pools.pool().await?, &args.source, args.after).await?;
        let now = SystemClock.now();
        if now >= ends_at || seen.as_ref().is_some_and(|seen| seen.fresh) {
            break seen;
        }
        SystemClock.sleep_until(ends_at.min(now + LOOK_EVERY)).await;
    };
    let Some(seen) = seen else {
        let what = format!("the ledger does not know the source {} yet", args.source);
        return Err(
            Error::new(ErrorKind::Unavailable, what).with_hint("start the daemon: dynaurora run")
        );
    };
    let after = timestamp(args.after);
    let synced_up_to = seen.synced_up_to.map(timestamp);
    if args.output == Output::Json {
        print_json(&Printed {
            source: &args.source,
            after: after.clone(),
            fresh: seen.fresh,
            state: &seen.state,
            synced_up_to: synced_up_to.clone(),
            last_event_at: seen.last_event_at.map(timestamp),
            last_poll_at: seen.last_poll_at.map(timestamp),
            lag_secs: seen.lag_secs,
            alive: seen.alive,
        })?;
    }
    let reached = synced_up_to.unwrap_or_else(|| "an unknown time".into());
    if !seen.fresh {
        let Freshness { state, .. } = &seen;
        let what =
            format!("source {} is {state}, synced up to {reached}, not {after}", args.source);
        return Err(Error::new(ErrorKind::Unavailable, what).with_hint(remedy(state)));
    }
    if args.output == Output::Text {
        anstream::println!("{}: synced up to {reached}", args.source);
    }
    Ok(ExitCode::SUCCESS)
}

/// Nobody can have written before a time that has not come yet.
fn in_the_past(after: EpochMillis, now: EpochMillis) -> Result<()> {
    let ahead = Duration::from_millis(u64::try_from(after.0 - now.0).unwrap_or(0));
    if ahead <= CLOCKS_AGREE_WITHIN {
        return Ok(());
    }
    let what =
        format!("--after {} is {} in the future", timestamp(after), duration(ahead.as_secs_f64()));
    Err(Error::new(ErrorKind::Usage, what).with_hint(format!(
        "give a time after the writes that is not after now, {}; clocks may differ by {} s",
        timestamp(now),
        CLOCKS_AGREE_WITHIN.as_secs()
    )))
}

/// What may help.
fn remedy(state: &str) -> &'static str {
    match state {
        "halted" | "gapped" => "dynaurora status says what was lost, and what to do",
        "backfilling" => "the tables are being loaded; dynaurora status shows how far",
        "stuck" => "no worker publishes: is `dynaurora run` running, and can it reach the target?",
        _ => "wait longer, with --timeout 1m; a quiet source is synced up to 3 to 5 s ago",
    }
}

fn parse_time(text: &str) -> std::result::Result<EpochMillis, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "write it as 2026-12-01T08:00:00Z".to_owned())?;
    // A part of a millisecond counts as a whole one: later is stricter.
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
        assert!(parse_time("2026-12-01 08:00").is_err(), "a time without an offset is none");
    }

    #[test]
    fn a_time_that_has_not_come_yet_is_refused_but_for_what_clocks_differ() {
        let now = EpochMillis(1_000_000);
        for after in [0, 1_000_000, 1_002_000] {
            assert!(in_the_past(EpochMillis(after), now).is_ok(), "{after}");
        }
        let error = in_the_past(EpochMillis(1_002_001), now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("2.0 s in the future"), "{error}");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("10").is_err() && parse_duration("-1s").is_err());
    }
}
