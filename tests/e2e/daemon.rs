//! The binary as a process: spawned, asked over HTTP, signalled, killed, and its log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::stage::{SOON_SECS, within};

/// How much of a log a failing test shows.
const LOG_LINES_SHOWN: usize = 60;

/// A command line of the binary, free of this process's environment.
pub(super) fn command(word: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynaurora"));
    command.arg(word).env_clear().env("AWS_EC2_METADATA_DISABLED", "true");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(super) struct Ended {
    /// The exit code; none after a signal.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    /// What was printed, as JSON.
    pub(super) fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }
}

/// Runs a command that ends by itself.
pub(super) async fn run_to_end(mut command: Command) -> Ended {
    let bound = Duration::from_secs(SOON_SECS);
    let output = tokio::time::timeout(bound, command.output()).await.unwrap().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A running daemon. Dropped, it is killed; its log is shown when the test is failing.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.log();
            let lines: Vec<_> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- {} (the last lines)\n{}", self.log.display(), shown.join("\n"));
        }
    }
}

impl Daemon {
    pub(super) fn spawn(mut command: Command, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let pid = child.id().unwrap();
        Self { child, pid, log }
    }

    /// All that it logged so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The events of its log that carry this message.
    pub(super) fn logged(&self, message: &str) -> Vec<Value> {
        let text = self.log();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["message"] == message).collect()
    }

    /// Waits until it has logged this message.
    pub(super) async fn says(&mut self, message: &str) -> Value {
        within(SOON_SECS, &format!("the log says {message}"), async || {
            let event = self.logged(message).pop();
            if event.is_none() {
                self.still_runs();
            }
            event
        })
        .await
    }

    /// Whether a lease's owner is this process.
    pub(super) fn owns(&self, owner: Option<&str>) -> bool {
        owner.is_some_and(|owner| owner.contains(&format!("-{}-", self.pid)))
    }

    pub(super) fn still_runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the daemon has ended: {ended:?}");
    }

    /// Whether it has ended by itself, and with which exit code.
    pub(super) fn has_ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().unwrap().map(|status| status.code())
    }

    /// Where it listens.
    pub(super) async fn address(&mut self) -> SocketAddr {
        let event = self.says("listening").await;
        event["address"].as_str().unwrap().parse().unwrap()
    }

    /// What it answers; nothing when it does not.
    pub(super) async fn get(&mut self, path: &str) -> Option<(u16, String)> {
        let address = self.address().await;
        let answer = tokio::time::timeout(Duration::from_secs(5), exchange(address, path)).await;
        let text = answer.ok()?.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Waits until `/readyz` has this code.
    pub(super) async fn readyz(&mut self, code: u16) {
        within(SOON_SECS, &format!("/readyz answers {code}"), async || {
            self.still_runs();
            self.get("/readyz").await.filter(|answer| answer.0 == code)
        })
        .await;
    }

    /// Its metrics as they stand.
    pub(super) async fn metrics(&mut self) -> String {
        let (code, body) = self.get("/metrics").await.unwrap();
        assert_eq!(code, 200);
        body
    }

    /// The sum over all series of a metric.
    pub(super) async fn metric(&mut self, name: &str) -> f64 {
        let text = self.metrics().await;
        let named = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let values: Vec<f64> = text
            .lines()
            .filter(named)
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert!(!values.is_empty(), "no metric {name} in {text}");
        values.iter().sum()
    }

    /// Sends it a signal.
    pub(super) async fn signal(&self, name: &str) {
        let words = ["-c", "kill -s \"$0\" \"$1\"", name, &self.pid.to_string()];
        assert!(Command::new("sh").args(words).status().await.unwrap().success());
    }

    /// Waits until it has ended, and answers its exit code.
    pub(super) async fn ended(&mut self, secs: u64) -> Option<i32> {
        let bound = Duration::from_secs(secs);
        let status = tokio::time::timeout(bound, self.child.wait()).await;
        status.unwrap_or_else(|_| panic!("the daemon did not end within {secs} s")).unwrap().code()
    }

    /// Asks it to stop, as a service manager does.
    pub(super) async fn stop(mut self) {
        self.signal("TERM").await;
        assert_eq!(self.ended(SOON_SECS).await, Some(0));
    }

    /// SIGKILL, and it is gone.
    pub(super) async fn kill(self) {
        self.kill_while(false).await;
    }

    /// The same; one that was asked to stop may have ended by itself a moment ago.
    pub(super) async fn kill_while(mut self, leaving: bool) {
        self.child.start_kill().unwrap();
        let code = self.ended(SOON_SECS).await;
        assert!(code.is_none() || leaving && code == Some(0), "{code:?}");
    }
}

async fn exchange(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
