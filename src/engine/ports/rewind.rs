//! Which shards must be read again for a backfill of older items, purely.
//!
//! An export shows the table at some past time T. Rows of older generations lose to its items, so every
//! change after T must be applied in the backfill's generation, and a shard whose position is past T is read
//! again. That alone is not enough: a repeated record has a version of the new generation, and beats the row
//! that a later record of the same key left in the old one. So everything after it must be read again too:
//! the rest of the shard and all its descendants.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::entries::{PartitionRow, PartitionState};
use crate::model::{EpochMillis, PartitionId, Position};

/// What to read again, and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewind {
    /// The stream that holds the moment, and began before it; no other one may be read after the items.
    pub stream_arn: Arc<str>,
    /// Changes after this moment must be applied in the backfill's generation.
    pub as_of: EpochMillis,
    /// Where the stream now holds the first record of each shard that may be rewound.
    pub starts: HashMap<PartitionId, Position>,
}

impl Rewind {
    /// The shards to rewind, each with its new position; `None` if a start is not known.
    ///
    /// A shard whose newest applied record is not past the moment stays, drained or not. So does one without
    /// applied records, unless an ancestor is rewound. A vanished shard cannot be read again: `None` if it
    /// would have to be.
    #[must_use]
    pub fn shards(&self, rows: &[PartitionRow]) -> Option<Vec<(PartitionId, Position)>> {
        let rewound = past(rows, self.as_of).into_iter();
        rewound
            .map(|row| match row.state {
                PartitionState::Lost => None,
                _ => Some((row.id.clone(), self.starts.get(&row.id)?.clone())),
            })
            .collect()
    }
}

/// The shards that were applied past the moment, and their descendants, except those that are at their
/// start anyway.
#[must_use]
pub(crate) fn past(rows: &[PartitionRow], as_of: EpochMillis) -> Vec<&PartitionRow> {
    let shards = || rows.iter().filter(|row| row.id.is_shard());
    let mut found: HashSet<&PartitionId> =
        shards().filter(|row| is_past(row, as_of)).map(|row| &row.id).collect();
    loop {
        let children = shards().filter(|row| {
            !found.contains(&row.id) && row.parent.as_ref().is_some_and(|id| found.contains(id))
        });
        let children: Vec<_> = children.map(|row| &row.id).collect();
        if children.is_empty() {
            break;
        }
        found.extend(children);
    }
    let fresh = |row: &&PartitionRow| row.state == PartitionState::Open && !is_moved(row);
    shards().filter(|row| found.contains(&row.id) && !fresh(row)).collect()
}

/// Whether a record after the moment may have been applied. Records without a time may be after it.
fn is_past(row: &PartitionRow, as_of: EpochMillis) -> bool {
    is_moved(row) && row.last_event_at.is_none_or(|last| last > as_of)
}

fn is_moved(row: &PartitionRow) -> bool {
    matches!(row.position, Position::After(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SequenceNumber;

    const AS_OF: EpochMillis = EpochMillis(1000);

    /// A shard `id<parent`, applied up to a record of this time, or not at all.
    fn row(name: &str, state: PartitionState, last: Option<i64>) -> PartitionRow {
        let (id, parent) = name.split_once('<').unwrap_or((name, ""));
        let number = SequenceNumber::parse("7").unwrap();
        PartitionRow {
            id: PartitionId::new(id),
            parent: (!parent.is_empty()).then(|| PartitionId::new(parent)),
            state,
            position: last.map_or(Position::At(number), |_| Position::After(number)),
            records: 0,
            epoch: 1,
            owner: None,
            last_event_at: last.map(EpochMillis),
            overdue: false,
        }
    }

    fn rewound(rows: &[PartitionRow]) -> Option<Vec<String>> {
        let starts = rows.iter().map(|row| (row.id.clone(), Position::Horizon));
        let rewind = Rewind { stream_arn: "arn".into(), as_of: AS_OF, starts: starts.collect() };
        let shards = rewind.shards(rows)?;
        Some(shards.into_iter().map(|(id, _)| id.as_str().to_owned()).collect())
    }

    use PartitionState::{Drained, Lost, Open};

    #[test]
    fn only_what_was_applied_past_the_moment_is_read_again() {
        let rows = [
            row("before", Open, Some(1000)),
            row("after", Open, Some(1001)),
            row("drained before", Drained, Some(3)),
            row("drained after", Drained, Some(2000)),
            row("unread", Open, None),
            row("scan/000-of-001", Open, Some(2000)),
        ];
        assert_eq!(rewound(&rows).unwrap(), ["after", "drained after"]);
    }

    #[test]
    fn i3_descendants_are_read_again_whatever_their_times_say() {
        let rows = [
            row("c<b", Open, Some(1)),
            row("b<a", Drained, None),
            row("a", Drained, Some(2000)),
            row("d<c", Open, None),
            row("x", Drained, Some(1)),
            row("y<x", Open, Some(999)),
        ];
        assert_eq!(rewound(&rows).unwrap(), ["c", "b", "a"]);
    }

    #[test]
    fn a_record_without_a_time_could_be_of_any() {
        let timeless = PartitionRow { last_event_at: None, ..row("a", Open, Some(1)) };
        assert_eq!(rewound(&[timeless]).unwrap(), ["a"]);
    }

    #[test]
    fn what_cannot_be_read_again_is_told() {
        assert_eq!(rewound(&[row("a", Lost, Some(2000))]), None);
        assert_eq!(rewound(&[row("a", Lost, Some(1))]).unwrap().len(), 0);
        let rewind = Rewind { stream_arn: "arn".into(), as_of: AS_OF, starts: HashMap::new() };
        assert_eq!(rewind.shards(&[row("a", Open, Some(2000))]), None);
        assert_eq!(rewind.shards(&[row("a", Open, Some(1))]), Some(Vec::new()));
    }
}
