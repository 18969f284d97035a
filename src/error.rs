//! One error type for everything that can go wrong outside the data itself.
//!
//! An [`Error`] has the action that failed, its [`ErrorKind`], a hint for the operator, and the cause. It
//! never decides retries: `engine/retry.rs` does, by the kind alone. Bad data is not an error but a
//! [`crate::model::Reject`].

use std::fmt;

/// The result of anything that can fail, apart from bad data.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a failure is, as far as anyone must tell failures apart.
///
/// The kinds are the union of what the source, the sink and the start-up can meet; each adapter translates
/// its own codes into them at its rim (`source/mod.rs` for AWS, `postgres/sqlstate.rs` for Postgres).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The command line or the request is malformed.
    Usage,
    /// The configuration is wrong.
    Config,
    /// No answer: refused, reset, timed out, name not found, TLS failed.
    Unreachable,
    /// The service asked for fewer calls.
    Throttled,
    /// The service answered that it cannot serve now (5xx, starting up, shutting down).
    Unavailable,
    /// Credentials are missing, wrong or not sufficient.
    Denied,
    /// A shard iterator is older than its 15 minutes; a new one is derived from the position.
    Expired,
    /// The stream no longer holds the position: changes were lost.
    Trimmed,
    /// The shard, stream or table no longer exists.
    Gone,
    /// The lease, the generation or the position is no longer ours: nothing was written.
    Fenced,
    /// The ledger does not know the source: it was begun anew, or the database lost the enrolment.
    NotEnrolled,
    /// A transaction lost against another one and may succeed when retried.
    Conflict,
    /// The database is out of connections, memory or disk.
    Capacity,
    /// The server is a reader now: a failover moved the writer.
    ReadOnly,
    /// The database refuses the data of a row; bisection finds which.
    Data,
    /// A table, column or type is not what the mapping expects.
    Schema,
    /// An unexpected failure.
    Unknown,
}

impl ErrorKind {
    /// The label in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Trimmed => "trimmed",
            Self::Gone => "gone",
            Self::Fenced => "fenced",
            Self::NotEnrolled => "not_enrolled",
            Self::Conflict => "conflict",
            Self::Capacity => "capacity",
            Self::ReadOnly => "read_only",
            Self::Data => "data",
            Self::Schema => "schema",
            Self::Unknown => "unknown",
        }
    }
}

/// A failure: kind, failed action, hint, and cause.
///
/// `Display` prints only `what`; the cause is reached through `source()`, never formatted into the text.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    code: Option<String>,
    hint: Option<String>,
    source: Option<Cause>,
}

impl Error {
    /// An error of `kind`; `what` is the failed action or the problem, lowercase, no full stop.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), code: None, hint: None, source: None }
    }

    /// Adds the service's own code (an AWS error code or a SQLSTATE).
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Adds what the operator can do, if possible a command.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Cause>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind, which alone decides retries and exit codes.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The service's own code, if any.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// All causes in one line, for logs and terminals: `what: cause: cause`.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let line = cause.to_string();
            if !text.ends_with(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_what_and_chain_adds_the_causes() {
        let io = std::io::Error::other("connection refused");
        let error = Error::new(ErrorKind::Unreachable, "connect to postgres").with_source(io);
        assert_eq!(error.to_string(), "connect to postgres");
        assert_eq!(error.chain(), "connect to postgres: connection refused");
    }
}
