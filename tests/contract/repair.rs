//! What every target must do for a verification and its repairs.

use dynaurora::apply::ports::{DeadLetter, Sink, Unit};
use dynaurora::engine::ports::{Backfills, Lease, NewBackfill};
use dynaurora::error::ErrorKind;
use dynaurora::model::{Cells, Reject, RejectReason, RowOp, Segment, Version};
use dynaurora::ops::ports::{
    Comparison, Difference, Fate, Fault, Guard, Letters, Progress, Repairs, RowRepair, Rows, Truth,
    Verification, Verifications,
};

use super::{
    LETTERS, Rig, SEATS, SHORT, SOURCE, StoredRow, TOYS, batch, burnt, enrolled, leased, left,
    letter, moved, partition, shard, taken, version, wishing, worker,
};

/// A rig whose target can be verified and repaired.
pub trait RepairRig: Rig {
    /// The target of [`SOURCE`].
    type Target: Rows + Repairs + Letters + Verifications;

    /// The target.
    fn target(&self) -> &Self::Target;
}

/// The cases of repairs.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { repair [
            rows_are_compared_with_their_children
            pages_go_through_a_table_by_its_key
            a_repair_keeps_versions_and_takes_a_scans_where_no_row_is
            what_a_guard_keeps_off_stays
            writers_wait_until_the_truth_is_written
            a_refused_row_leaves_all_as_they_are
            while_a_load_is_active_nothing_is_repaired
            open_dead_letters_are_found_kept_and_resolved
            the_ledger_tells_the_time_and_keeps_what_was_found
            a_repair_names_the_item_and_ends_no_row_of_another
        ] $($how)* }
    };
}
pub(crate) use cases;

/// A shard `a`, leased and applied up to 5 with these rows.
async fn applied(rig: &impl RepairRig, units: Vec<Unit>) -> Lease {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let lease = leased(rig, &worker("ann"), "a").await;
    apply(rig, &lease, 5, units).await;
    moved(&lease, 5)
}

async fn apply(rig: &impl RepairRig, lease: &Lease, to: u64, units: Vec<Unit>) {
    let batch = batch(&worker("ann"), lease, to, units);
    rig.sink().apply(&batch).await.unwrap_or_else(|error| panic!("{}", error.chain()));
}

fn at(child: &str, body: &str, number: u64) -> Unit {
    letter(child, 1, Some(body), version(number))
}

fn key(child: &str) -> Cells {
    [Some(child), Some("1")].into_iter().collect()
}

fn repair(child: &str, guard: Guard) -> RowRepair {
    RowRepair { key: key(child), guard, recorded: None }
}

fn same(number: u64) -> Guard {
    Guard::Same(Some(version(number).to_string()))
}

fn known(units: &[Unit]) -> Truth {
    Ok(units.iter().map(|unit| Some(unit.op.clone())).collect())
}

/// The letters' children, bodies and versions.
async fn letters(rig: &impl RepairRig) -> Vec<(String, String, Version)> {
    let text = |row: &StoredRow, at: usize| row.cells.cell(at).unwrap_or_default().to_owned();
    let rows = rig.rows(LETTERS).await;
    rows.iter().map(|row| (text(row, 0), text(row, 2), row.version.unwrap())).collect()
}

fn row(child: &str, body: &str, version: Version) -> (String, String, Version) {
    (child.to_owned(), body.to_owned(), version)
}

pub async fn rows_are_compared_with_their_children(rig: &impl RepairRig) {
    let ada = wishing(at("ada", "kite", 5), &["kite", "drum"]);
    applied(rig, vec![ada.clone(), at("bo", "ball", 5)]).await;
    let other = wishing(at("ada", "train", 5), &["kite", "doll", "bell"]);
    let right = rig.target().compare(LETTERS, &[ada.op]).await.unwrap();
    assert_eq!(right[0].version, Some(version(5).to_string()));
    assert_eq!((right[0].key.join(" "), right[0].differences.len()), ("ada 1".to_owned(), 0));
    let asked = [other, burnt("bo", 1, version(5)), at("cy", "dog", 5), burnt("di", 1, version(5))];
    let asked: Vec<RowOp> = asked.into_iter().map(|unit| unit.op).collect();
    let told = rig.target().compare(LETTERS, &asked).await.unwrap();
    let [differs, unexpected, missing, gone] = told.as_slice() else { panic!("{told:?}") };
    let faults = |told: &Comparison| {
        let mut faults: Vec<_> = told.differences.iter().map(short).collect();
        faults.sort();
        faults
    };
    let drum = "toys ada 1 1 differs 3";
    assert_eq!(faults(differs), ["letters ada 1 differs 2", drum, "toys ada 1 2 missing"]);
    assert_eq!(faults(unexpected), ["letters bo 1 unexpected"]);
    assert_eq!(
        (faults(missing), &missing.version),
        (vec!["letters cy 1 missing".to_owned()], &None)
    );
    assert_eq!((faults(gone), &gone.version), (Vec::new(), &None));
}

fn short(difference: &Difference) -> String {
    let table = if difference.table == TOYS { "toys" } else { "letters" };
    let fault = match &difference.fault {
        Fault::Missing => "missing".to_owned(),
        Fault::Unexpected => "unexpected".to_owned(),
        Fault::Differs(cells) => {
            let columns: Vec<_> = cells.iter().map(|cell| cell.column.to_string()).collect();
            format!("differs {}", columns.join(","))
        }
    };
    format!("{table} {} {fault}", difference.key.join(" "))
}

pub async fn pages_go_through_a_table_by_its_key(rig: &impl RepairRig) {
    applied(rig, ["a", "b", "c"].map(|child| at(child, "x", 5)).to_vec()).await;
    let first = rig.target().page(LETTERS, None, 2).await.unwrap();
    let keys: Vec<_> = first.rows.iter().map(|row| row.key[0].as_str()).collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(first.rows[0].version, Some(version(5).to_string()));
    let next = first.next.expect("the page was full");
    let last = rig.target().page(LETTERS, Some(&next), 2).await.unwrap();
    assert_eq!((last.rows.len(), last.next), (1, None));
    let toys = rig.target().page(TOYS, None, 2).await.unwrap();
    assert_eq!((toys.rows.len(), toys.next), (0, None));
}

pub async fn a_repair_keeps_versions_and_takes_a_scans_where_no_row_is(rig: &impl RepairRig) {
    let lease = applied(rig, ["a", "b"].map(|child| at(child, "old", 5)).to_vec()).await;
    let wanted = [repair("a", same(5)), repair("b", same(5)), repair("c", Guard::Same(None))];
    let truth =
        [wishing(at("a", "good", 0), &["kite"]), burnt("b", 1, version(0)), at("c", "good", 0)];
    let fates = rig.target().repair(LETTERS, &wanted, async { known(&truth) }).await.unwrap();
    assert_eq!(fates, [Fate::Written, Fate::Deleted, Fate::Written]);
    let left = [row("a", "good", version(5)), row("c", "good", Version::scanned(1))];
    assert_eq!(letters(rig).await, left);
    assert_eq!(rig.rows(TOYS).await.len(), 1);
    apply(rig, &lease, 6, vec![at("a", "new", 6), at("c", "new", 6)]).await;
    let newer = [row("a", "new", version(6)), row("c", "new", version(6))];
    assert_eq!(letters(rig).await, newer, "a newer change wins over a repair");
}

pub async fn what_a_guard_keeps_off_stays(rig: &impl RepairRig) {
    applied(rig, ["a", "b", "c"].map(|child| at(child, "old", 5)).to_vec()).await;
    let wanted = [
        repair("a", same(4)),
        repair("b", Guard::Below(version(5).to_string())),
        repair("c", Guard::Any),
        repair("d", same(5)),
    ];
    let truth = async {
        let mut truth = known(&["a", "b", "c", "d"].map(|child| at(child, "good", 0)))?;
        truth[2] = None;
        Ok(truth)
    };
    let fates = rig.target().repair(LETTERS, &wanted, truth).await.unwrap();
    assert_eq!(fates, [Fate::Moved, Fate::Moved, Fate::LeftAlone, Fate::Moved]);
    assert_eq!(letters(rig).await, ["a", "b", "c"].map(|child| row(child, "old", version(5))));
}

pub async fn writers_wait_until_the_truth_is_written(rig: &impl RepairRig) {
    let lease = applied(rig, Vec::new()).await;
    let (started, start) = tokio::sync::oneshot::channel();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let wanted = [repair("ada", Guard::Same(None))];
    let truth = async {
        // The item is there when it is read; it is deleted, and the delete applied, a moment later.
        started.send(()).unwrap();
        answered.await.unwrap();
        known(&[at("ada", "kite", 0)])
    };
    let delete = async {
        start.await.unwrap();
        let late = async {
            rig.wait(SHORT).await;
            answer.send(()).unwrap();
        };
        let gone = vec![burnt("ada", 1, version(9))];
        tokio::join!(apply(rig, &lease, 9, gone), late);
    };
    let (fates, ()) = tokio::join!(rig.target().repair(LETTERS, &wanted, truth), delete);
    assert_eq!(fates.unwrap(), [Fate::Written]);
    assert_eq!(letters(rig).await, [], "the delete waited, and found the row");
}

pub async fn a_refused_row_leaves_all_as_they_are(rig: &impl RepairRig) {
    applied(rig, vec![at("a", "old", 5)]).await;
    let mut heavy = at("b", "good", 0);
    heavy.op.cells.truncate(3);
    heavy.op.cells.push("heavy");
    let wanted = [repair("a", Guard::Any), repair("b", Guard::Any)];
    let truth = async { known(&[at("a", "good", 0), heavy]) };
    let refused = rig.target().repair(LETTERS, &wanted, truth).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Data);
    assert_eq!(letters(rig).await, [row("a", "old", version(5))]);
}

pub async fn while_a_load_is_active_nothing_is_repaired(rig: &impl RepairRig) {
    applied(rig, vec![at("a", "old", 5)]).await;
    let backfill = NewBackfill {
        source: SOURCE.into(),
        replaces: 1,
        stream: None,
        partitions: vec![Segment { index: 0, total: 1 }.partition()],
        items: None,
        rcu_max: None,
        mapping: None,
        rewind: None,
    };
    assert!(rig.ledger().begin_backfill(&backfill).await.unwrap());
    let truth = async { known(&[at("a", "good", 0)]) };
    let busy = rig.target().repair(LETTERS, &[repair("a", same(5))], truth).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    assert_eq!(letters(rig).await, [row("a", "old", version(5))]);
}

pub async fn open_dead_letters_are_found_kept_and_resolved(rig: &impl RepairRig) {
    let lease = applied(rig, Vec::new()).await;
    let reject =
        Reject { reason: RejectReason::Type, entity: None, place: None, detail: "no".to_owned() };
    let image = r#"{"op":"insert","keys":{"pk":{"S":"ada"}}}"#.to_owned();
    let dead = DeadLetter {
        partition: partition("a"),
        version: version(6),
        key: r#"{"pk":{"S":"ada"}}"#.to_owned(),
        key_hash: [7; 32],
        image: image.clone(),
        reject: reject.clone(),
    };
    let mut batch = batch(&worker("ann"), &lease, 6, Vec::new());
    batch.rows.rejects.push(dead);
    rig.sink().apply(&batch).await.unwrap();
    let target = rig.target();
    let open = || async { target.open_among(SOURCE, &[[7; 32], [8; 32]]).await.unwrap() };
    assert_eq!(open().await.into_iter().collect::<Vec<_>>(), [([7; 32], version(6))]);
    let id = rig.ledger().open_letters(SOURCE, 10).await.unwrap()[0].id;
    let letter = target.open_letter(id).await.unwrap().expect("it is open");
    assert_eq!((letter.id, letter.version, letter.record), (id, version(6).to_string(), image));
    let why = Reject { reason: RejectReason::Refused, ..reject };
    target.keep_open(id, &why).await.unwrap();
    assert!(target.open_letter(id).await.unwrap().is_some());
    assert!(target.resolve(id).await.unwrap());
    assert!(!target.resolve(id).await.unwrap(), "once only");
    assert_eq!(target.open_letter(id).await.unwrap(), None);
    assert!(open().await.is_empty());
}

pub async fn the_ledger_tells_the_time_and_keeps_what_was_found(rig: &impl RepairRig) {
    applied(rig, Vec::new()).await;
    let target = rig.target();
    let Progress { now_ms, synced_ms } = target.progress(SOURCE).await.unwrap();
    assert_eq!(synced_ms, None, "nobody has published");
    rig.wait(SHORT).await;
    assert!(target.progress(SOURCE).await.unwrap().now_ms > now_ms);
    let found = |items| Verification { took: SHORT, share: 1.0, items, mismatched: 0, repaired: 0 };
    target.record(SOURCE, found(1)).await.unwrap();
    target.record(SOURCE, found(2)).await.unwrap();
}

pub async fn a_repair_names_the_item_and_ends_no_row_of_another(rig: &impl RepairRig) {
    let lease = applied(rig, vec![taken("a", 1, 5), taken("b", 2, 5)]).await;
    let seat = |seat: &str| [Some(seat)].into_iter().collect();
    let wanted =
        ["a", "b"].map(|name| RowRepair { key: seat(name), guard: Guard::Any, recorded: None });
    let truth = async { known(&[left("a", 2, 0), taken("b", 3, 0)]) };
    let fates = rig.target().repair(SEATS, &wanted, truth).await.unwrap();
    assert_eq!(fates, [Fate::LeftAlone, Fate::Written]);
    // The stream's end of the item that had the row is too late for it.
    apply(rig, &lease, 6, vec![left("b", 2, 6)]).await;
    assert_eq!(rig.rows(SEATS).await.len(), 2);
    apply(rig, &moved(&lease, 6), 7, vec![left("a", 1, 7), left("b", 3, 7)]).await;
    assert_eq!(rig.rows(SEATS).await, []);
}
