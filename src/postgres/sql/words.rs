//! The words of the model as SQL: what the ledger and the tables hold as text or as a number, read by
//! statements in the same way as by the program.

use std::fmt::Display;
use std::time::Duration;

use crate::model::{PartitionKind, Position, SequenceNumber};

/// What stands in `replays_to` where a shard was at its end when a load rewound it; else it is the position
/// at which it was.
pub(in crate::postgres) const REPLAYS_TO_END: &str = "end";

/// Which run of the server answers: when it was started, and when its counters were begun anew, which a
/// recovery after a crash does and a clean restart does not.
pub(in crate::postgres) const INCARNATION: &str = "\
    format('%s/%s', extract(epoch from pg_postmaster_start_time()), \
        extract(epoch from pg_stat_get_bgwriter_stat_reset_time()))";

/// Whether a worker's last sign of life still counts. One from a time that is yet to come was given by a
/// server whose clock was ahead of this one's: it counts for no longer than a lease.
pub(in crate::postgres) fn lives(worker: &str) -> String {
    format!(
        "{worker}.alive_until > now() \
         and {worker}.seen_at < now() + ({worker}.alive_until - {worker}.seen_at)"
    )
}

/// Whether all that the active backfill of a source has to read is applied, and its shards are back where
/// they were.
pub(in crate::postgres) fn all_is_read(source: &str) -> String {
    format!(
        "not exists (select from dynaurora.partitions p where p.source = {source}.source \
         and (not {} and p.generation = {source}.generation and p.state = 'open' \
         or p.stream_arn = {source}.stream_arn and p.replaying))",
        is_shard("p"),
    )
}

/// A word of ours between quotes.
pub(in crate::postgres) fn word(word: impl Display) -> String {
    format!("'{word}'")
}

/// Whether a partition is a shard; else a backfill made it.
pub(in crate::postgres) fn is_shard(alias: &str) -> String {
    format!("{alias}.kind = {}", word(PartitionKind::Shard.label()))
}

/// The sequence number in a position after a record; NULL for any other.
pub(in crate::postgres) fn sequence_after(column: &str) -> String {
    let prefix = Position::AFTER;
    format!("substring({column} from '^{prefix}([0-9]+)$')::numeric")
}

/// The item that a version names, as a number; zero where it names none.
pub(in crate::postgres) fn item_of(version: &str) -> String {
    format!("mod({version}, 1)")
}

/// Whether the rows with these versions may be of one item: the same one, or one of them names none.
pub(in crate::postgres) fn may_be_one_item(one: &str, other: &str) -> String {
    let (one, other) = (item_of(one), item_of(other));
    format!("({one} = 0 or {other} = 0 or {one} = {other})")
}

/// Whether the rows with these versions are known to be of two items.
pub(in crate::postgres) fn are_two_items(one: &str, other: &str) -> String {
    let (one, other) = (item_of(one), item_of(other));
    format!("({one} <> 0 and {other} <> 0 and {one} <> {other})")
}

/// Whether this is the version of a row that a load read: of a scan, or of an export's file.
pub(in crate::postgres) fn is_of_load(version: &str) -> String {
    // The fraction names an item.
    let (digits, next) = (SequenceNumber::DIGITS_MAX, SequenceNumber::OF_LOADS_MAX + 1);
    format!("mod({version}, 1e{digits}) < {next}")
}

/// The generation in a version, as a number.
pub(in crate::postgres) fn generation_of(version: &str) -> String {
    format!("div({version}, 1e{})", SequenceNumber::DIGITS_MAX)
}

/// A span of time.
pub(in crate::postgres) fn interval(span: Duration) -> String {
    format!("interval '{} seconds'", span.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Version;

    #[test]
    fn the_text_of_a_position_is_that_of_the_model() {
        let number = SequenceNumber::parse("42").unwrap();
        assert_eq!(Position::After(number).to_string(), format!("{}42", Position::AFTER));
        assert_eq!(sequence_after("p.at"), "substring(p.at from '^after:([0-9]+)$')::numeric");
    }

    #[test]
    fn the_factor_of_a_generation_is_that_of_the_model() {
        let first = Version { generation: 1, sequence: SequenceNumber::ZERO };
        assert_eq!(first.to_string(), format!("1{}", "0".repeat(40)));
        assert_eq!(is_of_load("v"), "mod(v, 1e40) < 1001");
        assert_eq!(generation_of("v"), "div(v, 1e40)");
    }
}
