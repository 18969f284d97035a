//! What a worker has told, and has to go on telling: failures that last, workers with another mapping, how
//! many records it has applied.

use super::retry::Stage;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By stage: a current failure that is being retried.
    failing: [Option<String>; Stage::COUNT],
    /// How many living workers have another mapping, as was told last.
    others: usize,
    /// Whether the stream has ended, as was told last.
    ended: bool,
    /// How many records this worker has applied.
    pub(super) records: u64,
}

impl Told {
    /// A stage fails, and is tried again or waits for an operator.
    pub(super) fn fails(&mut self, stage: Stage, why: &str) {
        self.failing[stage as usize] = Some(format!("{}: {why}", stage.label()));
    }

    /// A stage works again.
    pub(super) fn well(&mut self, stage: Stage) {
        self.failing[stage as usize] = None;
    }

    /// What fails just now.
    pub(super) fn failing(&self) -> Option<String> {
        self.failing.iter().flatten().next().cloned()
    }

    /// The stream has ended, or has not. Whether that is news.
    pub(super) fn ends(&mut self, ended: bool) -> bool {
        std::mem::replace(&mut self.ended, ended) != ended
    }

    /// So many workers have another mapping. Whether that is news.
    pub(super) fn differ(&mut self, others: usize) -> bool {
        std::mem::replace(&mut self.others, others) != others
    }
}
