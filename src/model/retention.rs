//! How long the stream keeps what was not read yet, and what follows for us.

use std::time::Duration;

/// How long a stream keeps its records, and lists a shard that is closed (the service's documentation). What
/// is not read by then is lost without a word.
pub const RETENTION: Duration = Duration::from_secs(24 * HOUR_SECS);

/// How old something may be before what it stands for counts as lost: a shard at its horizon that nobody
/// read, a listing of the shards, an export that the stream is to continue. An hour less than the stream
/// keeps, for clocks that differ and for the reading itself.
pub const UNREAD_MAX: Duration = Duration::from_secs(23 * HOUR_SECS);

/// How long the ledger keeps what was read to its end. Twice what the service keeps: a listing may have the
/// shard for a day, and a child that is read again may wait for it for another.
pub const DRAINED_KEPT: Duration = Duration::from_secs(48 * HOUR_SECS);

const HOUR_SECS: u64 = 3600;

/// A span in whole hours, for people.
#[must_use]
pub fn hours(span: Duration) -> u64 {
    span.as_secs() / HOUR_SECS
}
