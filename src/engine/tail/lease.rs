//! Which leases a worker should take and give up, purely.
//!
//! Each worker aims at an equal share, rounded up, of the readable partitions, so the shares cover all of
//! them. It takes a few at a time and gives up only what exceeds its share, so that two workers settle
//! instead of passing partitions back and forth.

use super::lineage::{Readiness, readiness};
use crate::engine::ports::LedgerView;
use crate::model::PartitionId;

/// Most leases taken in one round: a joining worker fills up within seconds, and two that join together do
/// not each take everything.
pub const ACQUIRE_MAX: usize = 64;
/// An excess up to this many leases is given up in one round; each costs its shard a pause.
pub const GIVE_UP_AT_ONCE: usize = 8;
/// Of a larger excess, this part goes in one round: the fleet rebalances gently, within a few lease times.
pub const GIVE_UP_PART: usize = 3;

/// The changes to a worker's leases.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Partitions to ask for, in order of preference.
    pub acquire: Vec<PartitionId>,
    /// Partitions to stop reading and release.
    pub give_up: Vec<PartitionId>,
}

/// Plans for a worker that holds `held` and may hold `partitions_max`.
#[must_use]
pub fn plan(view: &LedgerView, held: &[PartitionId], partitions_max: usize) -> Plan {
    let readable: Vec<_> = view
        .partitions
        .iter()
        .zip(readiness(&view.partitions))
        .filter(|(_, readiness)| *readiness == Readiness::Readable)
        .map(|(row, _)| row)
        .collect();
    let share = readable.len().div_ceil(view.workers.max(1)).min(partitions_max);
    if held.len() > share {
        let excess = held.len() - share;
        let going = excess.min(GIVE_UP_AT_ONCE.max(excess / GIVE_UP_PART));
        return Plan { acquire: Vec::new(), give_up: held[held.len() - going..].to_vec() };
    }
    let room = (share - held.len()).min(ACQUIRE_MAX);
    let acquire = readable
        .iter()
        .filter(|row| row.owner.is_none())
        .take(room)
        .map(|row| row.id.clone())
        .collect();
    Plan { acquire, give_up: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ports::{PartitionRow, PartitionState};
    use crate::model::{Position, WorkerId};

    fn view(workers: usize, owners: &[Option<&str>]) -> LedgerView {
        let partitions = owners
            .iter()
            .enumerate()
            .map(|(number, owner)| PartitionRow {
                id: PartitionId::new(format!("p{number}")),
                parent: None,
                state: PartitionState::Open,
                position: Position::Horizon,
                records: 0,
                epoch: 0,
                owner: owner.map(WorkerId::new),
                last_event_at: None,
                overdue: false,
            })
            .collect();
        LedgerView { generation: 1, workers, partitions, ..LedgerView::default() }
    }

    fn ids(numbers: &[usize]) -> Vec<PartitionId> {
        numbers.iter().map(|number| PartitionId::new(format!("p{number}"))).collect()
    }

    #[test]
    fn a_single_worker_takes_all_that_is_free() {
        let plan = plan(&view(1, &[None, Some("other"), None]), &[], 100);
        assert_eq!(plan, Plan { acquire: ids(&[0, 2]), give_up: vec![] });
    }

    #[test]
    fn a_newcomer_gets_its_share_and_the_others_give_up_theirs() {
        let all_mine = view(2, &[Some("me"), Some("me"), Some("me"), Some("me"), Some("me")]);
        let plan_of_owner = plan(&all_mine, &ids(&[0, 1, 2, 3, 4]), 100);
        assert_eq!(plan_of_owner, Plan { acquire: vec![], give_up: ids(&[3, 4]) });
        let plan_of_newcomer = plan(&all_mine, &[], 100);
        assert_eq!(plan_of_newcomer, Plan::default());
    }

    #[test]
    fn settled_shares_are_left_alone() {
        let settled = view(2, &[Some("me"), Some("me"), Some("me"), Some("you"), Some("you")]);
        assert_eq!(plan(&settled, &ids(&[0, 1, 2]), 100), Plan::default());
        assert_eq!(plan(&settled, &ids(&[3, 4]), 100), Plan::default());
    }

    #[test]
    fn few_leases_change_hands_in_one_round() {
        let free = view(1, &vec![None; 3 * ACQUIRE_MAX]);
        assert_eq!(plan(&free, &[], 1_000).acquire.len(), ACQUIRE_MAX);
        for (mine, given_up) in [(20, GIVE_UP_AT_ONCE), (1_000, 500 / GIVE_UP_PART)] {
            let held: Vec<usize> = (0..mine).collect();
            let plan = plan(&view(2, &vec![Some("me"); mine]), &ids(&held), 1_000);
            assert_eq!((plan.acquire.len(), plan.give_up.len()), (0, given_up));
        }
    }

    #[test]
    fn who_has_some_takes_the_rest_of_its_share() {
        let plan = plan(&view(2, &[Some("me"), None, None, None]), &ids(&[0]), 100);
        assert_eq!(plan, Plan { acquire: ids(&[1]), give_up: vec![] });
    }

    #[test]
    fn nobody_holds_more_than_the_limit() {
        let plan = plan(&view(1, &[None, None, None]), &[], 2);
        assert_eq!(plan.acquire, ids(&[0, 1]));
    }
}
