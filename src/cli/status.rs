//! `dynaurora status`: shows the running daemon's status.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::paste;
use crate::engine::ports::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::daemon;
use crate::telemetry::status::{SourceStatus, Status, duration, timestamp};

/// How often `--watch` asks: the daemon refreshes its status about once a second.
const WATCH: Duration = Duration::from_secs(1);

/// What `status` shows, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The daemon's address.
    pub listen: SocketAddr,
    /// Whether to repeat until the process is interrupted.
    pub watch: bool,
    /// Whether to print the daemon's JSON, one object per line.
    pub json: bool,
    /// Whether to clear the screen between answers: only on a terminal.
    pub redraw: bool,
}

/// Prints the daemon's status.
///
/// # Errors
/// `Unreachable` when no daemon answers, also while watching.
pub async fn run(options: &Options, clock: impl Clock, out: &mut impl Write) -> Result<()> {
    loop {
        let answer = daemon::ask(options.listen, "/status").await?;
        let status: Status = serde_json::from_str(&answer.body).map_err(|error| {
            Error::new(ErrorKind::Unreachable, "read the daemon's status").with_source(error)
        })?;
        let text = match options.json {
            true => answer.body + "\n",
            false => paste::pasteable(&render(&status)).into_owned(),
        };
        let clear = if options.redraw && options.watch { "\x1b[H\x1b[2J" } else { "" };
        write!(out, "{clear}{text}").and_then(|()| out.flush()).map_err(|error| {
            Error::new(ErrorKind::Unknown, "print the status").with_source(error)
        })?;
        if !options.watch {
            return Ok(());
        }
        clock.sleep_until(clock.now() + WATCH).await;
    }
}

/// The status for people: one line per source, then the undrained shards.
fn render(status: &Status) -> String {
    let mut text = format!(
        "dynaurora {}: {}\n",
        status.version,
        if status.ready { "ready" } else { "not ready" }
    );
    for reason in &status.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    text.push('\n');
    let head =
        ["SOURCE", "TABLE", "STATE", "SYNCED UP TO", "LAG", "HEADROOM", "DEAD LETTERS", "GAPS"];
    let rows = status.sources.iter().map(source_row).collect();
    text.push_str(&table(&head, rows));
    for source in &status.sources {
        text.push_str(&partitions(source));
    }
    text
}

fn source_row(source: &SourceStatus) -> Vec<String> {
    let span = |secs: Option<f64>| secs.map_or_else(|| "-".into(), duration);
    let state = match source.backfill_progress_ratio {
        Some(ratio) => format!("{} {:.0} %", source.state, ratio * 100.0),
        None => source.state.clone(),
    };
    vec![
        source.source.clone(),
        source.table.clone(),
        state,
        source.synced_up_to.map_or_else(|| "-".into(), timestamp),
        span(source.lag_secs),
        span(source.retention_headroom_secs),
        source.dead_letters.to_string(),
        source.gaps.to_string(),
    ]
}

fn partitions(source: &SourceStatus) -> String {
    let count = &source.partitions;
    let mut text = format!(
        "\n{}: generation {}, partitions: {} owned, {} open, {} waiting, {} drained, {} lost\n",
        source.source,
        source.generation,
        count.owned,
        count.open,
        count.waiting,
        count.drained,
        count.lost
    );
    if let Some(reason) = &source.halted {
        text.push_str(&format!("halted: {reason}\n"));
    }
    for warning in &source.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let rows: Vec<Vec<String>> = source
        .shards
        .iter()
        .filter(|shard| shard.state != "drained")
        .map(|shard| {
            let owner = shard.owner.clone().unwrap_or_else(|| "-".into());
            vec![shard.id.clone(), shard.state.clone(), owner, shard.position.clone()]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str(&table(&["PARTITION", "STATE", "OWNER", "POSITION"], rows));
    }
    text
}

/// Columns as wide as their widest cell, two spaces apart, none after the last.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::daemon::tests::with_answer;
    use crate::runtime::SystemClock;
    use crate::telemetry::status::tests::sample;

    #[test]
    fn the_table_lines_up_and_shows_what_matters() {
        let mut status = sample();
        status.sources[0].halted = Some("the table was recreated".into());
        status.sources[0].warnings.push("one worker differs".into());
        let text = render(&status);
        let expected = "\
dynaurora 0.1.0: ready

SOURCE  TABLE      STATE  SYNCED UP TO          LAG    HEADROOM     DEAD LETTERS  GAPS
santa   NorthPole  live   2025-12-01T08:00:00Z  1.5 s  23 h 59 min  0             0

santa: generation 1, partitions: 1 owned, 0 open, 0 waiting, 1 drained, 0 lost
halted: the table was recreated
warning: one worker differs
PARTITION  STATE  OWNER     POSITION
shardId-2  owned  <pole>-7  after:100000000003498069978
";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn json_is_passed_on_as_the_daemon_wrote_it() {
        let body = serde_json::to_string(&sample()).unwrap();
        let answer = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
        let mut out = Vec::new();
        with_answer(answer, async |listen| {
            let options = Options { listen, watch: false, json: true, redraw: false };
            run(&options, SystemClock, &mut out).await
        })
        .await
        .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), body + "\n");
    }
}
