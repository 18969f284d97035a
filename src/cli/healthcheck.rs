//! `dynaurora healthcheck`: asks the running daemon for its health, for container platforms.

use std::io::Write;
use std::net::SocketAddr;

use crate::error::{Error, ErrorKind, Result};
use crate::ops::daemon;

/// What to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Probe {
    /// Do the loops run? The default, because platforms restart what fails, and a restart does not help a
    /// source that is halted or behind.
    #[default]
    Live,
    /// Is every source up to date?
    Ready,
}

/// Asks the daemon, prints its answer, and returns yes (exit code 0) or no (1).
///
/// # Errors
/// `Unreachable` (exit code 69) when no daemon answers.
pub async fn run(listen: SocketAddr, probe: Probe, out: &mut impl Write) -> Result<bool> {
    let path = match probe {
        Probe::Live => "/livez",
        Probe::Ready => "/readyz",
    };
    let answer = daemon::ask(listen, path).await?;
    writeln!(out, "{}", answer.body.trim_end())
        .map_err(|error| Error::new(ErrorKind::Unknown, "print the answer").with_source(error))?;
    Ok(answer.code == 200)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::daemon::tests::{nobody, with_answer};

    #[tokio::test]
    async fn yes_no_and_nobody_are_three_answers() {
        for (code, healthy) in [(200, true), (503, false)] {
            let answer = format!("HTTP/1.0 {code} x\r\n\r\n{{\"reasons\":[]}}");
            let mut out = Vec::new();
            let result =
                with_answer(answer, async |address| run(address, Probe::Ready, &mut out).await);
            assert_eq!(result.await.unwrap(), healthy);
            assert_eq!(out, b"{\"reasons\":[]}\n");
        }
        let error = run(nobody(), Probe::Live, &mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
}
