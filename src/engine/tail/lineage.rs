//! The partition graph, purely: which partitions may be read.
//!
//! A stream's shards form a forest: each has at most one parent, and a parent has one or more children. The
//! changes of one key run along a path, so a child may be read only after its parents are drained (invariant
//! I3). A parent unknown to the ledger was trimmed before we ever saw it, and does not hold its child back.

use std::collections::HashMap;

use crate::engine::ports::{PartitionRow, PartitionState};
use crate::model::PartitionId;

/// Whether a partition can be read, as shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// It can be read.
    Readable,
    /// Its parent is not drained yet.
    Waiting,
    /// Its last page is applied.
    Drained,
    /// It vanished before its end.
    Lost,
}

/// For each partition, in the given order, whether it may be read.
///
/// Children of a lost parent may be read: the loss is recorded as a gap, and if the source must halt for it,
/// it halts as a whole.
#[must_use]
pub fn readiness(partitions: &[PartitionRow]) -> Vec<Readiness> {
    let states: HashMap<&PartitionId, PartitionState> =
        partitions.iter().map(|row| (&row.id, row.state)).collect();
    partitions
        .iter()
        .map(|row| match row.state {
            PartitionState::Drained => Readiness::Drained,
            PartitionState::Lost => Readiness::Lost,
            PartitionState::Open => {
                let parent = row.parent.as_ref().and_then(|parent| states.get(parent));
                if parent == Some(&PartitionState::Open) {
                    Readiness::Waiting
                } else {
                    Readiness::Readable
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Position;

    fn row(id: &str, parent: Option<&str>, state: PartitionState) -> PartitionRow {
        PartitionRow {
            id: PartitionId::new(id),
            parent: parent.map(PartitionId::new),
            state,
            position: Position::Horizon,
            records: 0,
            epoch: 0,
            owner: None,
            last_event_at: None,
            overdue: false,
        }
    }

    #[test]
    fn i3_a_child_waits_for_its_parent_to_be_drained_or_lost() {
        use PartitionState::{Drained, Lost, Open};
        let rows = [
            row("a", None, Open),
            row("a1", Some("a"), Open),
            row("b", None, Drained),
            row("b1", Some("b"), Open),
            row("c", None, Lost),
            row("c1", Some("c"), Open),
            row("d1", Some("never listed"), Open),
        ];
        use Readiness as R;
        assert_eq!(
            readiness(&rows),
            [R::Readable, R::Waiting, R::Drained, R::Readable, R::Lost, R::Readable, R::Readable]
        );
    }

    #[test]
    fn i3_an_open_parent_with_a_drained_grandparent_still_holds_its_children() {
        use PartitionState::{Drained, Open};
        let rows = [row("a", None, Drained), row("b", Some("a"), Open), row("c", Some("b"), Open)];
        assert_eq!(readiness(&rows), [Readiness::Drained, Readiness::Readable, Readiness::Waiting]);
    }
}
