//! How commands report and end.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::error::{Error, ErrorKind, Result};

/// The output format of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// The exit code for a kind of failure, with the numbers of sysexits.h.
#[must_use]
pub fn exit_code(kind: ErrorKind) -> ExitCode {
    ExitCode::from(match kind {
        ErrorKind::Usage => 2,
        ErrorKind::Unreachable => 69,
        ErrorKind::Throttled
        | ErrorKind::Unavailable
        | ErrorKind::Conflict
        | ErrorKind::Capacity
        | ErrorKind::ReadOnly => 75,
        ErrorKind::Denied => 77,
        ErrorKind::Config | ErrorKind::Schema => 78,
        ErrorKind::Expired
        | ErrorKind::Trimmed
        | ErrorKind::Gone
        | ErrorKind::Fenced
        | ErrorKind::NotEnrolled
        | ErrorKind::Data
        | ErrorKind::Unknown => 1,
    })
}

/// Prints a document of `--output json`.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::new(ErrorKind::Unknown, "write the answer as JSON").with_source(error)
    })?;
    anstream::println!("{text}");
    Ok(())
}
