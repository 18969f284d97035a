//! Which faults a call meets, drawn from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use dynaurora::error::ErrorKind;
use dynaurora::model::RowOp;
use tokio::time::Instant;

/// How likely each fault is, from 0 to 1, and how slow answers may be.
#[derive(Debug, Clone, Copy)]
pub struct Knobs {
    /// The connection breaks before the commit.
    pub fails: f64,
    /// The transaction loses against another one.
    pub conflicts: f64,
    /// The role, its password or a table is not as it should be, for a moment.
    pub refused: f64,
    /// It is committed, but the answer is lost.
    pub answer_lost: f64,
    /// A renewal fails, on top of `fails`.
    pub renew_fails: f64,
    /// A caller that dies while its batch is on the way leaves it to the server, which commits it later.
    pub orphan_commits: f64,
    /// The longest time on the way, each way.
    pub slow: Duration,
    /// The whole process stops just before it sends a batch, and wakes when its lease may be another's.
    pub freezes: f64,
    /// The longest time for which it does.
    pub freeze_max: Duration,
    /// A page of a load waits long on its way, while the stream goes on.
    pub page_waits: f64,
    /// Rows that the database refuses for their data.
    pub refuses: fn(&RowOp) -> bool,
    /// How the store breaks its own contract, to see that the checker notices.
    pub sabotage: Option<Sabotage>,
}

/// A broken contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Batches are applied whoever holds the lease and whatever the position is.
    NoFence,
    /// Positions advance without their rows.
    PositionsOnly,
    /// Rows are written whatever version is there.
    NoGuard,
    /// `load` shows every known parent as drained.
    ParentsDrained,
    /// Rejects are forgotten.
    NoDeadLetters,
    /// Gaps are forgotten.
    NoGaps,
    /// A delete leaves no claim, so that a scan page does not meet it.
    NoTombstones,
    /// A sweep spares no key that a dead letter holds.
    SparesNothing,
    /// The end of a load leaves the letters open that changes have overtaken.
    SettlesNothing,
    /// A publication counts for every lease of its worker, whatever it speaks for.
    NoUncover,
    /// A history takes every row of a load, whether the table took it or not.
    KeepsAll,
    /// A history's versions begin when their records say, whatever stands before them.
    TimesAsTold,
    /// The end of an item's row takes whatever item's row is there.
    EndsAnybodys,
    /// What an item's row hides is forgotten.
    HidesNothing,
    /// A rejected record ends no row that its item has left.
    RejectsStay,
    /// A repair gives its rows a higher version than they had.
    RepairsRaise,
    /// A source that the ledger does not know begins with generation 1, whatever rows there are.
    BeginsAtOne,
    /// A load of older items begins with whatever stream is there.
    TakesAnyStream,
    /// A repair keeps no writer off the tables while it asks for the truth.
    RepairsUnlocked,
    /// Who accepts another stream goes on in the generation of the old one.
    AcceptsInPlace,
    /// A server that takes over passes for the one before it.
    NoIncarnation,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            fails: 0.0,
            conflicts: 0.0,
            refused: 0.0,
            answer_lost: 0.0,
            renew_fails: 0.0,
            orphan_commits: 0.0,
            slow: Duration::ZERO,
            freezes: 0.0,
            freeze_max: Duration::ZERO,
            page_waits: 0.0,
            refuses: |_| false,
            sabotage: None,
        }
    }
}

/// The longest time for which a page of a load waits: a tail reads and applies several times meanwhile.
const PAGE_WAIT_MAX: Duration = Duration::from_secs(4);

/// What kind of call meets the faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Any statement on the ledger.
    Ledger,
    /// A renewal.
    Renew,
    /// A batch.
    Apply,
    /// Any statement of an operator's command, which gives up at the first failure.
    Operator,
}

/// How much less often an operator's statements fail: a command of many of them is to come to its end at
/// times.
const OPERATOR_FAILS: f64 = 0.1;

/// What happens to one call.
#[derive(Debug, Default)]
pub struct Fate {
    /// The time on the way to the server.
    pub before: Option<Duration>,
    /// Whether a process that is stopped now has not sent the request yet.
    pub held_back: bool,
    /// For how long the caller's whole process stops before it sends the request.
    pub freeze: Option<Duration>,
    /// The failure before anything happened.
    pub fails: Option<ErrorKind>,
    /// The time on the way back.
    pub after: Option<Duration>,
    /// Whether the answer is lost.
    pub lost: bool,
    /// How long after its caller's death the server still commits the batch.
    pub orphan: Option<Duration>,
}

/// The knobs with their source of chance.
#[derive(Debug)]
pub struct Faults {
    pub knobs: Knobs,
    pub outage_until: Option<Instant>,
    /// How often each thing went wrong.
    pub tally: BTreeMap<&'static str, u64>,
    rng: fastrand::Rng,
}

impl Default for Faults {
    fn default() -> Self {
        Self::new(Knobs::default(), 0)
    }
}

impl Faults {
    pub fn new(knobs: Knobs, seed: u64) -> Self {
        Self {
            knobs,
            outage_until: None,
            tally: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    pub fn draw(&mut self, call: Call) -> Fate {
        let mut knobs = self.knobs;
        if call == Call::Operator {
            let Knobs { fails, conflicts, refused, answer_lost, .. } = &mut knobs;
            for share in [fails, conflicts, refused, answer_lost] {
                *share *= OPERATOR_FAILS;
            }
        }
        let fails = match call {
            Call::Renew if self.strikes("failed renewals", knobs.renew_fails) => {
                Some(ErrorKind::Unavailable)
            }
            _ if self.strikes("lost connections", knobs.fails) => Some(ErrorKind::Unreachable),
            _ if self.strikes("deadlocks and lock timeouts", knobs.conflicts) => {
                Some(ErrorKind::Conflict)
            }
            _ if self.strikes("calls that the database refused", knobs.refused) => {
                let kinds = [ErrorKind::Denied, ErrorKind::Schema, ErrorKind::Unknown];
                self.rng.choice(kinds)
            }
            _ => None,
        };
        let frozen =
            call == Call::Apply && self.strikes("processes frozen amid a batch", knobs.freezes);
        let orphaned = call == Call::Apply && self.chance(knobs.orphan_commits);
        Fate {
            before: self.delay(knobs.slow),
            held_back: self.chance(0.5),
            freeze: frozen.then(|| knobs.freeze_max.mul_f64(self.rng.f64())),
            fails,
            after: self.delay(knobs.slow),
            lost: self.strikes("lost answers", knobs.answer_lost),
            orphan: orphaned.then(|| self.delay(knobs.slow * 8).unwrap_or_default()),
        }
    }

    /// How long a page of a load waits besides.
    pub fn page_wait(&mut self) -> Option<Duration> {
        let waits = self.strikes("pages of loads held up", self.knobs.page_waits);
        waits.then(|| PAGE_WAIT_MAX.mul_f64(self.rng.f64()))
    }

    fn strikes(&mut self, what: &'static str, probability: f64) -> bool {
        let strikes = self.chance(probability);
        if strikes {
            *self.tally.entry(what).or_insert(0) += 1;
        }
        strikes
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.f64() < probability
    }

    /// Mostly quick, seldom slow; never more often than needed a timer.
    fn delay(&mut self, slow: Duration) -> Option<Duration> {
        if slow.is_zero() {
            return None;
        }
        let draw = self.rng.f64();
        Some(slow.mul_f64(draw * draw * draw))
    }
}
