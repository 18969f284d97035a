//! Where a worker is in its life, and which stream it reads. Each transition is asserted.

use std::mem::replace;
use std::sync::Arc;

use crate::model::Generation;

/// A stream under a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) arn: Arc<str>,
    pub(super) generation: Generation,
}

/// A worker's phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// The stream is not known yet.
    Starting,
    /// It reads and applies.
    Running(Stream),
    /// The ledger says that the source is halted: nothing is read, and nothing is in hand.
    Halted(Stream),
    /// It was asked to stop: what is in hand is applied, and nothing is read.
    Draining {
        /// The stream, where it was known by then.
        stream: Option<Stream>,
        /// Whether the ledger says that the source is halted.
        halted: bool,
    },
}

impl Phase {
    /// The stream, once it is known.
    pub(super) fn stream(&self) -> Option<&Stream> {
        match self {
            Self::Starting => None,
            Self::Running(stream) | Self::Halted(stream) => Some(stream),
            Self::Draining { stream, .. } => stream.as_ref(),
        }
    }

    /// The generation; 0 while the stream is not known.
    pub(super) fn generation(&self) -> Generation {
        self.stream().map_or(0, |stream| stream.generation)
    }

    /// Whether it is asked to stop.
    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// Whether partitions are taken up and read, and backfills begun and ended.
    pub(super) fn reads(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// Whether what is in hand is applied and given back.
    pub(super) fn applies(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Draining { stream: Some(_), halted: false })
    }

    /// The stream is known: from now on it is read.
    pub(super) fn begin(&mut self, stream: Stream) {
        debug_assert_eq!(*self, Self::Starting, "a stream is found once");
        *self = Self::Running(stream);
    }

    /// The ledger knows nothing of the source any more: its stream is not known either.
    pub(super) fn restart(&mut self) {
        match self {
            Self::Starting | Self::Running(_) | Self::Halted(_) => *self = Self::Starting,
            Self::Draining { stream, .. } => *stream = None,
        }
    }

    /// The ledger names another stream or generation; the phase stays as it is.
    pub(super) fn follow(&mut self, newer: Stream) {
        debug_assert!(self.stream().is_some(), "nobody follows before a first stream is found");
        debug_assert!(self.stream() != Some(&newer), "what is followed is another one");
        match self {
            Self::Starting => {}
            Self::Running(stream) | Self::Halted(stream) => *stream = newer,
            Self::Draining { stream, .. } => *stream = Some(newer),
        }
    }

    /// The ledger says that the source is halted. Whether that is news.
    pub(super) fn halt(&mut self) -> bool {
        debug_assert!(self.stream().is_some(), "only the ledger's view halts, and it has a stream");
        match self {
            Self::Starting | Self::Halted(_) => false,
            Self::Draining { halted, .. } => !replace(halted, true),
            Self::Running(stream) => {
                *self = Self::Halted(stream.clone());
                true
            }
        }
    }

    /// The ledger says that the source is not halted, or not any more.
    pub(super) fn resume(&mut self) {
        debug_assert!(
            self.stream().is_some(),
            "only the ledger's view resumes, and it has a stream"
        );
        match self {
            Self::Starting | Self::Running(_) => {}
            Self::Draining { halted, .. } => *halted = false,
            Self::Halted(stream) => *self = Self::Running(stream.clone()),
        }
    }

    /// It is asked to stop, which happens once.
    pub(super) fn drain(&mut self) {
        debug_assert!(!self.is_draining(), "a worker is asked to stop once");
        *self = match replace(self, Self::Starting) {
            Self::Starting => Self::Draining { stream: None, halted: false },
            Self::Running(stream) => Self::Draining { stream: Some(stream), halted: false },
            Self::Halted(stream) => Self::Draining { stream: Some(stream), halted: true },
            draining @ Self::Draining { .. } => draining,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(generation: Generation) -> Stream {
        Stream { arn: "arn".into(), generation }
    }

    #[test]
    fn a_halt_is_told_once_and_ends_when_the_ledger_says_so() {
        let mut phase = Phase::Starting;
        phase.begin(stream(1));
        assert!(phase.reads() && phase.applies());
        assert!(phase.halt() && !phase.halt());
        assert!(!phase.reads() && !phase.applies());
        phase.follow(stream(2));
        assert_eq!(phase, Phase::Halted(stream(2)));
        phase.resume();
        assert_eq!(phase, Phase::Running(stream(2)));
    }

    #[test]
    fn who_is_forgotten_begins_again_unless_it_leaves() {
        let mut phase = Phase::Running(stream(3));
        phase.restart();
        phase.begin(stream(1));
        phase.drain();
        phase.restart();
        assert!(phase.is_draining() && phase.stream().is_none() && !phase.applies());
    }

    #[test]
    fn a_drain_applies_what_is_in_hand_unless_the_source_is_halted() {
        let mut phase = Phase::Running(stream(1));
        phase.drain();
        assert!(!phase.reads() && phase.applies() && phase.is_draining());
        assert!(phase.halt() && !phase.halt() && !phase.applies());
        phase.resume();
        assert!(phase.applies() && phase.halt(), "a second halt is news again");
        let mut halted = Phase::Halted(stream(1));
        halted.drain();
        assert!(!halted.halt(), "what was told before the stop is not told again");
    }

    #[test]
    fn the_generation_is_zero_until_a_stream_is_known() {
        let mut phase = Phase::Starting;
        assert_eq!((phase.generation(), phase.stream()), (0, None));
        phase.drain();
        assert_eq!((phase.generation(), phase.applies()), (0, false));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "asked to stop once")]
    fn a_second_drain_is_a_mistake() {
        let mut phase = Phase::Starting;
        phase.drain();
        phase.drain();
    }
}
