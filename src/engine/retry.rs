//! The response to a failure: one pure function from stage and kind to a directive.
//!
//! The list of halts is short on purpose; the default is to try again and say why.

use std::time::Duration;

use crate::error::ErrorKind;
use crate::model::{GapReason, Halt, UNREAD_MAX, hours};

/// What was being done at the time of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Describing the table, listing shards.
    Discover,
    /// Reading a partition.
    Read,
    /// Calling the ledger: leases and positions.
    Ledger,
    /// Applying a batch.
    Apply,
    /// Beginning or ending a backfill.
    Backfill,
}

impl Stage {
    /// How many stages there are.
    pub const COUNT: usize = 5;

    /// The label in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Read => "read",
            Self::Ledger => "ledger",
            Self::Apply => "apply",
            Self::Backfill => "load",
        }
    }
}

/// The response to a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Directive {
    /// Retry after a pause.
    Retry,
    /// Read again at once from the position, without the iterator.
    Rederive,
    /// Forget what is buffered and restart from the ledger's positions after a pause: the outcome of the last
    /// transaction may be unknown, and only the ledger knows it.
    Reload,
    /// Enrol the source again after a pause, and go on from what the ledger then says.
    Enrol,
    /// Changes were lost: record it, then follow `on_gap`.
    Gap(GapReason),
    /// Stop this source and say why; the others continue.
    Halt,
}

/// The directive for a failure of this kind at this stage. This is the whole list.
///
/// Retrying loses nothing, since rows and positions move together. So what may pass by itself is
/// retried, for as long as the stream holds the data: networks, credentials, rights, tables that
/// somebody alters, and codes that nobody listed. A halt is for what only a person can decide: a
/// mapping, or a stream, that cannot work. The other two halts are not failures: a gap
/// ([`crate::engine::OnGap`]) and too large a share of rejects.
#[must_use]
pub fn directive(stage: Stage, kind: ErrorKind) -> Directive {
    use ErrorKind as Kind;
    match (stage, kind) {
        (Stage::Read, Kind::Expired) => Directive::Rederive,
        (Stage::Read, Kind::Trimmed) => Directive::Gap(GapReason::Trimmed),
        (Stage::Read, Kind::Gone) => Directive::Gap(GapReason::Vanished),
        // The second is a file of an export that is not as its manifest says.
        (_, Kind::Config | Kind::Usage) | (Stage::Read, Kind::Data) => Directive::Halt,
        // The outcome of a transaction may be unknown, and only the ledger knows it.
        (Stage::Apply, _) | (Stage::Ledger, Kind::Fenced) => Directive::Reload,
        (Stage::Ledger | Stage::Discover | Stage::Backfill, Kind::NotEnrolled) => Directive::Enrol,
        (Stage::Read | Stage::Ledger | Stage::Discover | Stage::Backfill, _) => Directive::Retry,
    }
}

/// Whether a failure of this kind is known to pass by itself within moments: what somebody waits
/// for, such as a command, tries those again and no others.
#[must_use]
pub fn is_transient(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unreachable
            | ErrorKind::Unavailable
            | ErrorKind::Throttled
            | ErrorKind::Conflict
            | ErrorKind::Capacity
            | ErrorKind::ReadOnly
    )
}

/// Whether a start waits when it meets a failure of this kind: a database that is down, credentials
/// that are not there yet. A wrong config, or a target that needs `apply`, is for a person.
#[must_use]
pub fn is_waited_out(kind: ErrorKind) -> bool {
    is_transient(kind) || matches!(kind, ErrorKind::Denied | ErrorKind::Unknown)
}

/// What an operator can do about a failure of this kind.
#[must_use]
pub fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Denied => "grant the missing right; `dynaurora check` names it",
        ErrorKind::Schema => "run `dynaurora plan` to see how the tables differ",
        ErrorKind::Gone => "check the table's name and Region",
        ErrorKind::Config => "correct the configuration, then restart",
        _ => "fix the cause above",
    }
}

/// What a halt for a gap means and what an operator can do. Other halts speak for themselves.
#[must_use]
pub fn explained(halt: &Halt) -> String {
    let reason = match halt {
        Halt::Gap(reason) => *reason,
        Halt::Other(text) => return text.clone(),
    };
    let lost = match reason {
        GapReason::Trimmed => "the stream dropped changes before they were read".to_owned(),
        GapReason::Vanished => "a shard vanished before it was read to its end".to_owned(),
        GapReason::StreamChanged => "the stream was disabled and enabled again".to_owned(),
        GapReason::Unpolled => format!(
            "nobody listed the shards, or read one of them, for {} hours",
            hours(UNREAD_MAX)
        ),
        GapReason::TableChanged => {
            return "the table was deleted and created again; to confirm this, `dynaurora gaps \
                    accept`, then `dynaurora backfill`"
                .to_owned();
        }
    };
    let reason = reason.label();
    format!(
        "{reason}: {lost}; `dynaurora backfill` reads the table again and repairs it, \
         `dynaurora gaps accept` ignores it"
    )
}

/// The first pause after a failure: a quarter of a second, the pace of polls.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause: long enough to spare a sick service, short enough to notice its recovery within half a
/// minute.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The pause after `failures` in a row: a random share of a limit that doubles each time ("full jitter"), so
/// that many workers do not return at the same moment.
pub fn pause(failures: u32, random: &mut fastrand::Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    let limit = (PAUSE_FIRST * 2_u32.pow(doublings)).min(PAUSE_MAX);
    limit.mul_f64(0.1 + 0.9 * random.f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::TABLE;

    #[test]
    fn metrics_know_every_stage_and_every_reason_of_a_gap() {
        let values = |metric: &str, label: &str| {
            let row = TABLE.iter().find(|row| row.name == metric).unwrap();
            row.labels.iter().find(|own| own.name == label).unwrap().values
        };
        let stages = [Stage::Discover, Stage::Read, Stage::Ledger, Stage::Apply, Stage::Backfill];
        let labels: [_; Stage::COUNT] = stages.map(Stage::label);
        assert_eq!(values("dynaurora_retries_total", "stage"), labels);
        let reasons = [
            GapReason::Trimmed,
            GapReason::Vanished,
            GapReason::StreamChanged,
            GapReason::TableChanged,
            GapReason::Unpolled,
        ];
        assert_eq!(values("dynaurora_gaps_total", "reason"), reasons.map(GapReason::label));
    }

    #[test]
    fn only_what_a_person_must_decide_halts() {
        use ErrorKind as Kind;
        let stages = [Stage::Discover, Stage::Read, Stage::Ledger, Stage::Apply, Stage::Backfill];
        for stage in stages {
            assert_eq!(directive(stage, Kind::Config), Directive::Halt, "{stage:?}");
            for kind in [Kind::Denied, Kind::Unknown, Kind::Schema, Kind::Throttled] {
                let waits = [Directive::Retry, Directive::Reload].contains(&directive(stage, kind));
                assert!(waits, "{stage:?} {kind:?}");
            }
        }
        assert_eq!(directive(Stage::Discover, Kind::Gone), Directive::Retry, "it may come back");
        assert_eq!(directive(Stage::Read, Kind::Data), Directive::Halt, "a damaged file");
    }

    #[test]
    fn an_unknown_outcome_is_settled_by_the_ledger() {
        for kind in [ErrorKind::Unreachable, ErrorKind::ReadOnly, ErrorKind::Fenced] {
            assert_eq!(directive(Stage::Apply, kind), Directive::Reload);
        }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        use ErrorKind as Kind;
        for kind in
            [Kind::Unreachable, Kind::Unavailable, Kind::ReadOnly, Kind::Conflict, Kind::Capacity]
        {
            assert_eq!(directive(Stage::Apply, kind), Directive::Reload, "{kind:?}");
            for stage in [Stage::Ledger, Stage::Discover, Stage::Backfill] {
                assert_eq!(directive(stage, kind), Directive::Retry, "{stage:?} {kind:?}");
            }
        }
        for kind in [Kind::Unreachable, Kind::Unavailable, Kind::Throttled] {
            assert_eq!(directive(Stage::Read, kind), Directive::Retry, "{kind:?}");
        }
        assert_eq!(directive(Stage::Read, Kind::Expired), Directive::Rederive);
    }

    #[test]
    fn loss_is_never_an_end_and_never_retried() {
        let trimmed = directive(Stage::Read, ErrorKind::Trimmed);
        assert_eq!(trimmed, Directive::Gap(GapReason::Trimmed));
        let gone = directive(Stage::Read, ErrorKind::Gone);
        assert_eq!(gone, Directive::Gap(GapReason::Vanished));
    }

    #[test]
    fn a_source_that_the_ledger_forgot_is_enrolled_again() {
        for stage in [Stage::Ledger, Stage::Discover, Stage::Backfill] {
            assert_eq!(directive(stage, ErrorKind::NotEnrolled), Directive::Enrol);
        }
        assert_eq!(directive(Stage::Apply, ErrorKind::NotEnrolled), Directive::Reload);
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut random = fastrand::Rng::with_seed(7);
        for failures in 1..100 {
            let pause = pause(failures, &mut random);
            assert!(pause >= PAUSE_FIRST / 10 && pause <= PAUSE_MAX, "{failures}: {pause:?}");
        }
    }
}
