//! What a new user does: pastes what was printed, mistypes names, and looks for the daemon.

use std::path::Path;

use super::daemon::{Ended, command, run_to_end};
use super::stage::{SOON_SECS, Setting, Stage, within};
use super::writers::Writers;

/// Runs a line as a shell would that has the binary on its path.
async fn pasted(line: &str) -> Ended {
    let binary = Path::new(env!("CARGO_BIN_EXE_dynaurora"));
    let path = format!("{}:/usr/bin:/bin", binary.parent().unwrap().display());
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", line]).env_clear().env("PATH", path).kill_on_drop(true);
    run_to_end(shell).await
}

/// What follows a mark in what was printed.
fn after<'a>(text: &'a str, mark: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(mark));
    line.unwrap_or_else(|| panic!("no {mark} in {text}"))
}

#[tokio::test]
async fn what_is_printed_can_be_pasted() {
    let stage = Stage::with(Setting { applied: false, ..Setting::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my santa's.toml");
    std::fs::copy(stage.config_file(), &file).unwrap();
    let mut check = command("check");
    check.arg("--config").arg(&file).args(["--set", "worker.batch_rows_max=500"]);
    let ended = run_to_end(check).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let remedy = after(&ended.stdout, "try: ");
    assert!(remedy.ends_with("--set worker.batch_rows_max=500"), "{remedy}");
    let ended = pasted(remedy).await;
    assert_eq!(ended.code, Some(0), "{remedy}: {ended:?}");
    let next = after(&ended.stderr, "next: ").to_owned();
    assert_eq!(next, remedy.replace("apply", "run"));
    let wait = " wait --source santa --after 2026-01-01T00:00:00Z ";
    let ended = pasted(&next.replace(" run ", wait)).await;
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert_eq!(after(&ended.stderr, "try: start the daemon: "), next);
    let ended = pasted(&next.replace(" run ", " check --output json ")).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    // Without a config of another name nothing is added.
    let ended = run_to_end(command("status")).await;
    assert!(ended.stderr.contains("`dynaurora run`"), "{ended:?}");
}

#[tokio::test]
async fn the_daemon_is_found_by_its_config() {
    let stage = Stage::start().await;
    let mut daemon = stage.daemon();
    let address = daemon.address().await;
    for word in ["status", "healthcheck"] {
        let ended = stage.command(&[word]).await;
        assert_eq!(ended.code, Some(78), "the config says port 0: {ended:?}");
        assert!(ended.stderr.contains("--listen"), "{ended:?}");
        let set = format!("telemetry.listen={address}");
        let ended = stage.command(&[word, "--set", &set]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    // Whoever asks how a daemon is does so although its config was broken meanwhile.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.toml");
    let text = format!("[telemetry]\nlisten = \"{address}\"\n[source.santa]\ntabel = \"x\"\n");
    std::fs::write(&file, text).unwrap();
    let mut probe = command("healthcheck");
    probe.arg("--config").arg(&file);
    let ended = run_to_end(probe).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_mistyped_name_is_told_and_what_there_is() {
    let stage = Stage::start().await;
    let item = stage.config_file();
    let item = item.to_str().unwrap();
    for (words, there_is_no) in [
        (&["backfill", "--source", "snata"][..], "source snata"),
        (&["verify", "--source", "snata"], "source snata"),
        (&["verify", "--table", "chidlren"], "target table chidlren"),
        (&["gaps", "list", "--source", "snata"], "source snata"),
        (&["tap", "--source", "snata"], "source snata"),
        (&["explain", "--item", item, "--source", "snata"], "source snata"),
        (&["wait", "--source", "snata", "--after", "2026-01-01T00:00:00Z"], "source snata"),
        (&["plan", "--confirm", "chidlren"], "target table chidlren"),
        (&["apply", "--confirm", "chidlren"], "target table chidlren"),
        (&["dead-letters", "list", "--source", "snata"], "source snata"),
        (&["dead-letters", "list", "--state", "opne"], "state of dead letters opne"),
        (&["dead-letters", "retry", "--all", "--source", "snata"], "source snata"),
        (
            &["dead-letters", "drop", "--all", "--reason", "fromat", "--note", "x"],
            "reason of dead letters fromat",
        ),
    ] {
        let ended = stage.command(words).await;
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        let said = format!("error: there is no {there_is_no}\n  try: did you mean ");
        assert!(ended.stderr.contains(&said), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains("there are: "), "{words:?}: {ended:?}");
    }
    let future = ["wait", "--source", "santa", "--after", "2999-01-01T00:00:00Z"];
    let ended = stage.command(&future).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("in the future"), "{ended:?}");
}

#[tokio::test]
async fn whoever_changes_a_table_is_told_to_restart_the_daemons() {
    const RESTART: &str = "restart the daemons";
    let stage = Stage::with(Setting { applied: false, ..Setting::default() }).await;
    let first = stage.command(&["apply"]).await;
    assert!(!first.stderr.contains(RESTART), "nobody can know the tables yet: {first:?}");
    let more = "source.santa.entity.child.columns.zip=\"address.zip\"";
    let changed = stage.command(&["apply", "--set", more]).await;
    assert_eq!(changed.code, Some(0), "{changed:?}");
    assert!(changed.stderr.contains(RESTART), "{changed:?}");
    let same = stage.command(&["apply", "--set", more]).await;
    assert!(!same.stderr.contains(RESTART), "{same:?}");
}

#[tokio::test]
async fn a_load_that_begins_is_no_reason_to_worry() {
    let stage = Stage::start().await;
    let daemon = stage.ready_daemon().await;
    let writers = Writers::start(&stage, 3, 11, f64::INFINITY);
    for generation in 2..5 {
        let loaded = stage.command(&["backfill", "--source", "santa"]).await;
        assert_eq!(loaded.code, Some(0), "{loaded:?}");
        within(SOON_SECS, "the daemon has seen it", async || {
            let seen = daemon.logged("the backfill is complete");
            (seen.len() + 1 >= generation).then_some(())
        })
        .await;
    }
    writers.stop().await;
    stage.converge().await;
    let log = daemon.log();
    let warned: Vec<_> = log.lines().filter(|line| line.contains("\"level\":\"WARN\"")).collect();
    assert!(warned.is_empty(), "{warned:#?}");
    assert!(log.contains("a new generation"), "the daemon met the change: {log}");
    daemon.stop().await;
}
