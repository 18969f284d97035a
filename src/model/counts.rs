//! What became of records, counted.

use super::ChangeOp;

/// The outcome for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOutcome {
    /// Its rows were applied, or superseded by a newer change of the same key.
    Mapped,
    /// It did not pass its entity's filter.
    Filtered,
    /// No entity matched.
    Unmatched,
    /// It became a dead letter.
    Rejected,
}

impl RecordOutcome {
    const ALL: [Self; 4] = [Self::Mapped, Self::Filtered, Self::Unmatched, Self::Rejected];

    /// The label that metrics carry.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Filtered => "filtered",
            Self::Unmatched => "unmatched",
            Self::Rejected => "rejected",
        }
    }
}

/// Records by operation and outcome: plain numbers, so that counting costs nothing per record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordCounts([[u64; 4]; 4]);

impl RecordCounts {
    const OPS: [ChangeOp; 4] =
        [ChangeOp::Insert, ChangeOp::Modify, ChangeOp::Remove, ChangeOp::Scan];

    /// Counts one record.
    pub fn count(&mut self, op: ChangeOp, outcome: RecordOutcome) {
        self.0[op as usize][outcome as usize] += 1;
    }

    /// Moves one record to another outcome, for example a mapped record that Postgres refused.
    pub fn reclassify(&mut self, op: ChangeOp, from: RecordOutcome, to: RecordOutcome) {
        let row = &mut self.0[op as usize];
        row[from as usize] = row[from as usize].saturating_sub(1);
        row[to as usize] += 1;
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        let own = self.0.iter_mut().flatten();
        own.zip(other.0.iter().flatten()).for_each(|(own, other)| *own += other);
    }

    /// All records.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }

    /// The records with one outcome.
    #[must_use]
    pub fn of(&self, outcome: RecordOutcome) -> u64 {
        self.0.iter().map(|row| row[outcome as usize]).sum()
    }

    /// The records of each kind and fate, those included of which there are none.
    pub fn each(&self) -> impl Iterator<Item = (ChangeOp, RecordOutcome, u64)> + '_ {
        Self::OPS.into_iter().flat_map(move |op| {
            RecordOutcome::ALL
                .into_iter()
                .map(move |outcome| (op, outcome, self.0[op as usize][outcome as usize]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_counts_balance() {
        let mut counts = RecordCounts::default();
        counts.count(ChangeOp::Insert, RecordOutcome::Mapped);
        counts.count(ChangeOp::Remove, RecordOutcome::Mapped);
        counts.count(ChangeOp::Modify, RecordOutcome::Filtered);
        counts.reclassify(ChangeOp::Insert, RecordOutcome::Mapped, RecordOutcome::Rejected);
        assert_eq!(counts.total(), 3);
        assert_eq!(counts.of(RecordOutcome::Mapped), 1);
        assert_eq!(counts.of(RecordOutcome::Rejected), 1);
        assert_eq!(counts.each().filter(|(_, _, count)| *count > 0).count(), 3);
    }
}
