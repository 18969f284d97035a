//! Translates failures of Postgres and of its connections into our error kinds.
//!
//! The server's DETAIL and HINT, and any message that may quote a value, stay out of errors: errors are
//! logged, and item data must not be. The codes are those of the appendix "PostgreSQL Error Codes".

use std::fmt;

use sqlx::postgres::PgDatabaseError;

use crate::error::{Error, ErrorKind};

/// The server's function behind PL/pgSQL's RAISE: the trigger's author chose code and message.
const RAISE: &str = "exec_stmt_raise";

/// The error of a statement; `what` is the failed action, in the infinitive.
pub(super) fn error(what: impl Into<String>, error: sqlx::Error) -> Error {
    let server = error.as_database_error().and_then(|database| database.try_downcast_ref());
    let Some(server) = server else {
        let (kind, hint) = (kind_of_failure(&error), hint_of_failure(&error));
        let own = Error::new(kind, what).with_source(error);
        return match hint {
            Some(hint) => own.with_hint(hint),
            None => own,
        };
    };
    let server: &PgDatabaseError = server;
    let kind = match (server.code(), server.schema()) {
        // All references in our schema are to a source.
        ("23503", Some("dynaurora")) => ErrorKind::NotEnrolled,
        (code, _) => kind(code, server.routine()),
    };
    let refusal = Refusal::new(server, kind);
    let error = Error::new(kind, what).with_code(server.code()).with_source(refusal);
    match hint(kind, server.code()) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Our kind for a SQLSTATE. Unlisted codes are `Unknown`.
///
/// `routine` is the server's function that raised it; it tells a stale cached plan, which a retry fixes, from
/// a missing feature.
#[must_use]
pub fn kind(code: &str, routine: Option<&str>) -> ErrorKind {
    let class = code.get(..2).unwrap_or_default();
    match (class, code) {
        (_, "25006") => ErrorKind::ReadOnly,
        // Shut down, crashed, starting, idle session ended.
        (_, "57P01" | "57P02" | "57P03" | "57P05") => ErrorKind::Unavailable,
        // Serialization, deadlock, lock timeout, statement timeout, idle in transaction,
        // transaction timeout, and a prepared statement that a pooler lost.
        (_, "40001" | "40P01" | "55P03" | "57014" | "25P03" | "25P04" | "26000") => {
            ErrorKind::Conflict
        }
        (_, "0A000") if routine == Some("RevalidateCachedQuery") => ErrorKind::Conflict,
        // The commit's outcome is unknown.
        ("08", _) | (_, "40003") => ErrorKind::Unreachable,
        // Too many connections, disk full, out of memory; stack depth; not accepting commands.
        ("53", _) | (_, "54001" | "55000") => ErrorKind::Capacity,
        // Data exceptions, constraints, a row twice in one statement, limits such as a B-tree key's length,
        // an error raised by a trigger, a generated column, a view's check.
        ("22" | "23" | "44", _) | (_, "21000" | "54000" | "P0001" | "428C9") => ErrorKind::Data,
        ("28", _) | (_, "42501") => ErrorKind::Denied,
        (_, "3D000") => ErrorKind::Config,
        ("42", _) | (_, "0A000" | "3F000") => ErrorKind::Schema,
        // A trigger's own code.
        _ if routine == Some(RAISE) => ErrorKind::Data,
        _ => ErrorKind::Unknown,
    }
}

fn kind_of_failure(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Configuration(_) => ErrorKind::Config,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::BeginFailed => ErrorKind::Unreachable,
        _ => ErrorKind::Unknown,
    }
}

/// The hint for a connection that could not be secured. A refused certificate is reported as invalid data.
fn hint_of_failure(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::Tls(cause) if cause.to_string().contains("does not support TLS") => Some(
            "turn TLS on at the server; tls = \"disable\" in [target] is only for this machine",
        ),
        sqlx::Error::Tls(_) => Some("check tls and ca_file in [target]"),
        sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => Some(
            "tls in [target] needs a certificate of a known authority, and verify-full one for \
             this very host name: set ca_file in [target] to the authority's file, and use the \
             certificate's host name in the url",
        ),
        _ => None,
    }
}

fn hint(kind: ErrorKind, code: &str) -> Option<&'static str> {
    match (kind, code) {
        (_, "26000" | "42P05") => {
            Some("behind a pooler, set prepared_statements = false in [target]")
        }
        (ErrorKind::Denied, "42501") => Some("run `dynaurora grants` and apply what it prints"),
        (ErrorKind::Denied, _) => Some("check the user and the password of the target"),
        (ErrorKind::Config, "3D000") => Some("create the database, or correct the target's url"),
        (ErrorKind::Schema, _) => Some("run `dynaurora plan` to see what differs"),
        (ErrorKind::ReadOnly, _) => Some("use the writer's endpoint of the cluster"),
        _ => None,
    }
}

/// The server's message, as far as it cannot contain data.
#[derive(Debug)]
struct Refusal {
    text: String,
    table: Option<String>,
    column: Option<String>,
    constraint: Option<String>,
}

impl Refusal {
    fn new(server: &PgDatabaseError, kind: ErrorKind) -> Self {
        // Messages about constraints name the constraint; those of data exceptions and triggers may quote the
        // value.
        let raised = server.routine() == Some(RAISE);
        let quotes = kind == ErrorKind::Data && !server.code().starts_with("23");
        let text = match (raised, quotes) {
            (true, _) => "a trigger refused the row",
            (false, true) => condition(server.code()),
            (false, false) => server.message(),
        };
        Self {
            text: text.to_owned(),
            table: server.table().map(str::to_owned),
            column: server.column().map(str::to_owned),
            constraint: server.constraint().map(str::to_owned),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        let places =
            [("table", &self.table), ("column", &self.column), ("constraint", &self.constraint)];
        for (what, name) in places {
            match name {
                Some(name) if !self.text.contains(name.as_str()) => write!(f, ", {what} {name}")?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

fn condition(code: &str) -> &'static str {
    match code {
        "21000" => "a row occurs twice in one statement",
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of its column's range",
        "22007" | "22008" => "a date or time is not valid",
        "22021" | "22P05" => "a text holds a character that postgres cannot store",
        "22P02" | "22P03" => "a value is not in the form of its column's type",
        "428C9" => "a column is generated by the database and takes no value",
        "54000" => "a value exceeds a limit of postgres, such as the size of an index entry",
        _ => "the data is not valid for its column",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_kinds_and_unlisted_ones_are_unknown() {
        use ErrorKind as Kind;
        let expected: [(Kind, &[&str]); 11] = [
            (Kind::ReadOnly, &["25006"]),
            (Kind::Unavailable, &["57P01", "57P02", "57P03", "57P05"]),
            (Kind::Unreachable, &["08000", "08003", "08006", "08007", "40003"]),
            (Kind::Conflict, &["40001", "40P01", "55P03", "57014", "25P03", "25P04", "26000"]),
            (Kind::Capacity, &["53100", "53200", "53300", "53400", "54001", "55000"]),
            (Kind::Data, &["22003", "22008", "22021", "22P02", "22P05", "21000", "54000"]),
            (Kind::Data, &["23502", "23503", "23505", "23514", "44000", "P0001", "428C9"]),
            (Kind::Denied, &["28000", "28P01", "42501"]),
            (Kind::Config, &["3D000"]),
            (Kind::Schema, &["42703", "42P01", "42804", "0A000", "3F000"]),
            (Kind::Unknown, &["XX000", "58030", "ZZ123", ""]),
        ];
        for (expected, codes) in expected {
            for code in codes {
                assert_eq!(kind(code, None), expected, "{code}");
            }
        }
        assert_eq!(kind("0A000", Some("RevalidateCachedQuery")), ErrorKind::Conflict);
        assert_eq!(kind("ZZ123", Some(RAISE)), ErrorKind::Data);
    }
}
