//! The commands beside a running daemon, and what it tells of itself.

use clap::CommandFactory;
use dynaurora::cli::Cli;
use dynaurora::model::RETENTION;

use super::daemon::{command, run_to_end};
use super::stage::{SOON_SECS, Stage, within};
use super::writers::Writers;

/// The strict reader of the metrics' format that the library's own tests use.
#[allow(dead_code, reason = "the library's own tests look at more of it")]
#[path = "../../src/telemetry/exposition.rs"]
mod exposition;

/// A source that keeps up is behind by a poll and the margin of whole-second times.
const LAG_SECS_MAX: f64 = 10.0;

#[tokio::test]
async fn a_burst_is_caught_up_with_and_everybody_says_so() {
    let stage = Stage::start().await;
    let mut daemon = stage.daemon();
    let address = daemon.address().await.to_string();
    let writers = Writers::start(&stage, 3, 4, f64::INFINITY);
    within(SOON_SECS, "some hundred rows are there", async || {
        daemon.still_runs();
        (stage.number("select count(*) from letters").await > 200).then_some(())
    })
    .await;
    let writes = writers.stop().await;
    stage.converge().await;
    daemon.readyz(200).await;

    let status = within(SOON_SECS, "the lag falls", async || {
        let ended = asked(&["status", "--output", "json", "--listen", &address]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let status = ended.json();
        let lag = status["sources"][0]["lag_secs"].as_f64()?;
        (lag < LAG_SECS_MAX).then_some(status)
    })
    .await;
    assert_eq!(status["ready"], true);
    let source = &status["sources"][0];
    assert_eq!(source["state"], "live");
    assert_eq!(source["dead_letters"], 0);
    let headroom = source["retention_headroom_secs"].as_f64().unwrap();
    assert!(headroom > RETENTION.as_secs_f64() - LAG_SECS_MAX, "{headroom}");

    let metrics = exposition::parse(&daemon.metrics().await).unwrap();
    let headroom = &metrics["dynaurora_retention_headroom_seconds"].samples[0];
    assert!(headroom.value > RETENTION.as_secs_f64() - LAG_SECS_MAX, "{headroom:?}");
    let records: f64 =
        metrics["dynaurora_records_total"].samples.iter().map(|sample| sample.value).sum();
    #[expect(clippy::cast_precision_loss, reason = "a count of a test")]
    let writes = writes as f64;
    assert!(records <= writes, "{records} records of {writes} writes");

    for ready in [
        &["healthcheck", "--listen", &address][..],
        &["healthcheck", "--ready", "--listen", &address],
    ] {
        let ended = asked(ready).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let text = asked(&["status", "--listen", &address]).await;
    assert!(text.stdout.contains("santa"), "{text:?}");
    for words in [&["check"][..], &["plan", "--exit-code"], &["dead-letters", "list"]] {
        let ended = stage.command(words).await;
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
    }
    daemon.stop().await;
    let ended = asked(&["healthcheck", "--listen", &address]).await;
    assert_eq!(ended.code, Some(69), "nobody is there any more: {ended:?}");
}

#[tokio::test]
async fn every_command_explains_itself() {
    let cli = Cli::command();
    for own in cli.get_subcommands() {
        let ended = asked(&[own.get_name(), "--help"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("Usage: dynaurora"), "{ended:?}");
    }
    let script = asked(&["completions", "bash"]).await;
    assert_eq!(script.code, Some(0), "{}", script.stderr);
    assert!(script.stdout.contains("complete -F _dynaurora"), "{}", script.stdout);
    for own in cli.get_subcommands() {
        assert!(script.stdout.contains(own.get_name()), "{} is not completed", own.get_name());
    }
}

async fn asked(words: &[&str]) -> super::daemon::Ended {
    let mut command = command(words[0]);
    command.args(&words[1..]);
    run_to_end(command).await
}
