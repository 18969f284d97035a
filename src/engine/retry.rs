//! What follows from a failure: one pure function from stage and kind to a directive.
//!
//! The list of what is retried is narrow on purpose; the default is to halt and say why.

use std::time::Duration;

use super::ports::GapReason;
use crate::error::ErrorKind;

/// What was being done when a failure happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Describing the table, listing shards.
    Discover,
    /// Reading a partition.
    Read,
    /// Talking to the ledger: leases and positions.
    Ledger,
    /// Applying a batch.
    Apply,
    /// Beginning or ending a load.
    Load,
}

impl Stage {
    /// How many stages there are.
    pub const COUNT: usize = 5;

    /// The label that logs and metrics carry.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Read => "read",
            Self::Ledger => "ledger",
            Self::Apply => "apply",
            Self::Load => "load",
        }
    }
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Directive {
    /// Try the same again after a pause.
    Retry,
    /// Read again at once from the position, without the iterator.
    Rederive,
    /// Forget what is buffered and start over from the ledger's positions, after a pause: the outcome of the
    /// last transaction may be unknown, and the ledger alone knows it.
    Reload,
    /// Find the rows that the database refuses.
    Bisect,
    /// Changes were lost: record it, then do what `on_gap` says.
    Gap(GapReason),
    /// Stop this source and say why; the others go on.
    Halt,
}

/// The directive for a failure of this kind at this stage.
#[must_use]
pub fn directive(stage: Stage, kind: ErrorKind) -> Directive {
    use ErrorKind as Kind;
    match (stage, kind) {
        (Stage::Read, Kind::Expired) => Directive::Rederive,
        (Stage::Read, Kind::Trimmed) => Directive::Gap(GapReason::Trimmed),
        (Stage::Read, Kind::Gone) => Directive::Gap(GapReason::Vanished),
        (Stage::Apply, Kind::Data) => Directive::Bisect,
        (Stage::Apply | Stage::Ledger, Kind::Fenced) => Directive::Reload,
        (
            Stage::Apply,
            Kind::Unreachable
            | Kind::Unavailable
            | Kind::ReadOnly
            | Kind::Conflict
            | Kind::Capacity,
        ) => Directive::Reload,
        (
            Stage::Ledger,
            Kind::Unreachable
            | Kind::Unavailable
            | Kind::ReadOnly
            | Kind::Conflict
            | Kind::Capacity,
        )
        | (
            // Both talk to the source and to the ledger.
            Stage::Discover | Stage::Load,
            Kind::Unreachable
            | Kind::Unavailable
            | Kind::Throttled
            | Kind::ReadOnly
            | Kind::Conflict
            | Kind::Capacity,
        )
        | (Stage::Read, Kind::Unreachable | Kind::Unavailable | Kind::Throttled) => {
            Directive::Retry
        }
        _ => Directive::Halt,
    }
}

/// What an operator can do about a halt of this kind, in one sentence.
#[must_use]
pub fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Denied => "grant what is missing (`dynaurora check` names it), then restart",
        ErrorKind::Schema => "run `dynaurora plan` to see how the tables differ, then restart",
        ErrorKind::Gone => "check the table's name and Region, then restart",
        ErrorKind::Config => "correct the configuration, then restart",
        _ => "see the cause above; restart once it is mended",
    }
}

/// What a halt for a gap means and what an operator can do; `reason` is what the ledger says. Other halts
/// speak for themselves.
#[must_use]
pub fn explained(reason: &str) -> String {
    let lost = match reason {
        "trimmed" => "the stream dropped changes before they were read",
        "vanished" => "a shard was gone before it was read to its end",
        "stream_changed" => "the stream was disabled and enabled again",
        "unpolled" => "nobody listed the shards, or read one of them, for 23 hours",
        "table_changed" => {
            return "the table was deleted and created again: if that is meant, `dynaurora gaps \
                    accept`, then `dynaurora backfill`"
                .to_owned();
        }
        other => return other.to_owned(),
    };
    format!(
        "{reason}: {lost}; `dynaurora backfill` loads the table again and repairs it, \
         `dynaurora gaps accept` lives with it"
    )
}

/// The first pause after a failure. A quarter of a second is the pace of a poll: one is as good as lost.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause: long enough not to press a sick service, short enough to notice within half a minute
/// that it is well again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The pause before the next attempt, once `failures` in a row have failed: a random share of a limit that
/// doubles with each ("full jitter"), so that many workers do not come back at the same moment.
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
        let stages = [Stage::Discover, Stage::Read, Stage::Ledger, Stage::Apply, Stage::Load];
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
    fn only_the_named_kinds_are_retried() {
        let unknown = [Stage::Discover, Stage::Read, Stage::Ledger, Stage::Apply]
            .map(|stage| directive(stage, ErrorKind::Unknown));
        assert_eq!(unknown, [Directive::Halt; 4]);
        assert_eq!(directive(Stage::Apply, ErrorKind::Schema), Directive::Halt);
        assert_eq!(directive(Stage::Read, ErrorKind::Denied), Directive::Halt);
        assert_eq!(directive(Stage::Apply, ErrorKind::Throttled), Directive::Halt);
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
            for stage in [Stage::Ledger, Stage::Discover, Stage::Load] {
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
    fn pauses_grow_and_stay_bounded() {
        let mut random = fastrand::Rng::with_seed(7);
        for failures in 1..100 {
            let pause = pause(failures, &mut random);
            assert!(pause >= PAUSE_FIRST / 10 && pause <= PAUSE_MAX, "{failures}: {pause:?}");
        }
    }
}
