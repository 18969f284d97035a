//! What every sink must do.

use dynaurora::apply::ports::{Applied, Batch, DeadLetter, Phase, Sink, TableApplied, Unit};
use dynaurora::engine::ports::{Lease, PartitionState};
use dynaurora::error::ErrorKind;
use dynaurora::model::{
    EpochMillis, Position, Reject, RejectReason, RowAction, SequenceNumber, Version,
};

use crate::rig::beside;

use super::{
    LETTERS, LONG, Rig, SEATS, SHORT, STREAM, StoredRow, TOYS, acquire, advance, batch, burnt,
    enrolled, leased, left, letter, moved, partition, row, seat, sequence, shard, taken, version,
    view, wishing, within_bound, worker,
};

/// Every sentence of the sink's docs, each over fresh tables.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { sink [
            rows_and_positions_move_together
            a_replay_is_fenced
            stale_owners_epochs_and_generations_are_fenced
            one_lost_lease_fences_the_whole_batch
            the_guard_keeps_newer_rows
            a_delete_is_guarded_too
            values_stay_exact_and_null_stays_null
            children_are_replaced_with_their_parent
            dead_letters_are_kept_and_superseded
            the_last_page_drains_and_discovers
            refused_data_leaves_no_trace
            a_probe_writes_nothing
            claims_keep_a_scan_from_raising_the_dead
            a_large_batch_is_one_transaction
            a_change_counts_for_its_own_item
            what_another_items_row_hid_shows_again
            a_tombstone_keeps_only_its_own_items_row_away
        ] $($how)* }
    };
}
pub(crate) use cases;

fn ann() -> dynaurora::model::WorkerId {
    worker("ann")
}

/// A shard `a` leased by ann from its beginning.
async fn ready(rig: &impl Rig) -> Lease {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    leased(rig, &ann(), "a").await
}

async fn apply(rig: &impl Rig, batch: &Batch) -> Applied {
    rig.sink().apply(batch).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

async fn kind_of(rig: &impl Rig, batch: &Batch) -> ErrorKind {
    match rig.sink().apply(batch).await {
        Ok(applied) => panic!("this batch must not be applied, yet got {applied:?}"),
        Err(error) => error.kind(),
    }
}

async fn letters(rig: &impl Rig) -> Vec<StoredRow> {
    rig.rows(LETTERS).await
}

/// The letters' bodies with their sequence numbers.
async fn bodies(rig: &impl Rig) -> Vec<(Option<String>, Version)> {
    let rows = letters(rig).await;
    let body = |row: &StoredRow| row.cells.cell(2).map(str::to_owned);
    rows.iter().map(|row| (body(row), row.version.unwrap())).collect()
}

fn stored(unit: &Unit) -> StoredRow {
    StoredRow { cells: unit.op.cells.clone(), version: Some(unit.version) }
}

fn counts(upserted: u64, deleted: u64, superseded: u64) -> TableApplied {
    TableApplied { upserted, deleted, superseded }
}

pub async fn rows_and_positions_move_together(rig: &impl Rig) {
    let lease = ready(rig).await;
    let units = vec![
        letter("42", 1, Some("a train"), version(5)),
        letter("42", 2, Some("a kite"), version(6)),
        burnt("43", 1, version(7)),
    ];
    let mut first = batch(&ann(), &lease, 7, units.clone());
    first.fence.advances[0].last_event_at = Some(EpochMillis(1_796_083_200_000));
    let applied = apply(rig, &first).await;
    assert_eq!(applied.tables.len(), 3, "one entry per table of the mapping");
    assert_eq!(applied.tables[0], counts(2, 0, 1), "there was nothing to delete");
    assert_eq!(applied.dead_letters_superseded, 0);
    assert_eq!(letters(rig).await, [stored(&units[0]), stored(&units[1])]);
    let found = row(rig, "a").await;
    assert_eq!(found.position, Position::After(sequence(7)));
    assert_eq!(found.state, PartitionState::Open);
    assert_eq!(found.last_event_at, Some(EpochMillis(1_796_083_200_000)));
    let quiet = batch(&ann(), &moved(&lease, 7), 8, vec![]);
    apply(rig, &quiet).await;
    assert_eq!(row(rig, "a").await.position, Position::After(sequence(8)));
}

pub async fn a_replay_is_fenced(rig: &impl Rig) {
    let lease = ready(rig).await;
    let first = batch(&ann(), &lease, 5, vec![letter("42", 1, Some("a train"), version(5))]);
    apply(rig, &first).await;
    assert_eq!(kind_of(rig, &first).await, ErrorKind::Fenced, "it was applied already");
    let ahead = batch(&ann(), &moved(&lease, 6), 9, vec![burnt("42", 1, version(9))]);
    assert_eq!(kind_of(rig, &ahead).await, ErrorKind::Fenced, "records are missing before it");
    assert_eq!(letters(rig).await.len(), 1);
    assert_eq!(row(rig, "a").await.position, Position::After(sequence(5)));
}

pub async fn stale_owners_epochs_and_generations_are_fenced(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let bob = worker("bob");
    let [old] = acquire(rig, &ann(), &["a"], SHORT).await.try_into().unwrap();
    let new = within_bound(rig, "the lease expires", async || {
        acquire(rig, &bob, &["a"], LONG).await.pop()
    })
    .await;
    let unit = || vec![letter("42", 1, Some("a train"), version(5))];
    let zombie = batch(&ann(), &old, 5, unit());
    assert_eq!(kind_of(rig, &zombie).await, ErrorKind::Fenced, "the lease was stolen");
    let thief = batch(&ann(), &new, 5, unit());
    assert_eq!(kind_of(rig, &thief).await, ErrorKind::Fenced, "the lease is another's");
    let stale = Lease { epoch: old.epoch, ..new.clone() };
    let stale = batch(&bob, &stale, 5, unit());
    assert_eq!(kind_of(rig, &stale).await, ErrorKind::Fenced, "the epoch is another");
    let mut other = batch(&bob, &new, 5, unit());
    other.fence.generation = 2;
    assert_eq!(kind_of(rig, &other).await, ErrorKind::Fenced, "the generation is another");
    assert_eq!(letters(rig).await, []);
    apply(rig, &batch(&bob, &new, 5, unit())).await;
    assert_eq!(letters(rig).await.len(), 1);
}

pub async fn one_lost_lease_fences_the_whole_batch(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1)), shard("b", None, Some(1))]).await;
    let held = leased(rig, &ann(), "a").await;
    let lost = leased(rig, &worker("bob"), "b").await;
    let mut both = batch(&ann(), &held, 5, vec![letter("42", 1, None, version(5))]);
    both.rows.rejects.push(dead_letter("43", 4));
    both.fence.advances.push(advance(&lost, 4));
    both.lineage.shards.push(shard("c", Some("a"), None));
    assert_eq!(kind_of(rig, &both).await, ErrorKind::Fenced);
    assert_eq!(letters(rig).await, [], "no row");
    let after = view(rig).await;
    assert_eq!((after.dead_letters, after.partitions.len()), (0, 2), "no reject, no shard");
    assert_eq!(row(rig, "a").await.position, held.position, "no position");
    assert_eq!(row(rig, "b").await.position, lost.position);

    let second = shard("d", None, Some(1));
    enrolled(rig, &[second]).await;
    let mine = leased(rig, &ann(), "d").await;
    let mut both = batch(&ann(), &held, 5, vec![letter("42", 1, None, version(5))]);
    both.fence.advances.push(advance(&mine, 9));
    apply(rig, &both).await;
    assert_eq!(row(rig, "a").await.position, Position::After(sequence(5)), "many shards move");
    assert_eq!(row(rig, "d").await.position, Position::After(sequence(9)), "in one commit");
}

pub async fn the_guard_keeps_newer_rows(rig: &impl Rig) {
    let lease = ready(rig).await;
    let newer = letter("42", 1, Some("newer"), version(50));
    apply(rig, &batch(&ann(), &lease, 50, vec![newer.clone()])).await;
    for (to, version) in [(51, version(49)), (52, version(50))] {
        let late = letter("42", 1, Some("late"), version);
        let applied = apply(rig, &batch(&ann(), &moved(&lease, to - 1), to, vec![late])).await;
        assert_eq!(applied.tables[0], counts(0, 0, 1), "only a lower version gives way");
        assert_eq!(letters(rig).await, [stored(&newer)]);
    }
    // As text 9 would beat 10, and widths differ: versions are numbers.
    let wide = Version { generation: 1, sequence: SequenceNumber::parse(&"7".repeat(40)).unwrap() };
    let last = letter("42", 1, None, wide);
    let applied = apply(rig, &batch(&ann(), &moved(&lease, 52), 53, vec![last.clone()])).await;
    assert_eq!(applied.tables[0], counts(1, 0, 0));
    assert_eq!(letters(rig).await, [stored(&last)]);
}

pub async fn a_delete_is_guarded_too(rig: &impl Rig) {
    let lease = ready(rig).await;
    let newer = letter("42", 1, Some("newer"), version(50));
    apply(rig, &batch(&ann(), &lease, 50, vec![newer.clone()])).await;
    for (to, version) in [(51, version(49)), (52, version(50))] {
        let late = batch(&ann(), &moved(&lease, to - 1), to, vec![burnt("42", 1, version)]);
        assert_eq!(apply(rig, &late).await.tables[0], counts(0, 0, 1));
        assert_eq!(letters(rig).await, [stored(&newer)]);
    }
    let last = batch(&ann(), &moved(&lease, 52), 53, vec![burnt("42", 1, version(53))]);
    assert_eq!(apply(rig, &last).await.tables[0], counts(0, 1, 0));
    assert_eq!(letters(rig).await, []);
    let again = letter("42", 1, Some("again"), version(54));
    apply(rig, &batch(&ann(), &moved(&lease, 53), 54, vec![again.clone()])).await;
    assert_eq!(letters(rig).await, [stored(&again)], "a deleted key may come back");
}

pub async fn values_stay_exact_and_null_stays_null(rig: &impl Rig) {
    let lease = ready(rig).await;
    let odd = "it's \"odd\" \\ {1,NULL} \u{1f384}\n\ttab";
    let mut units = vec![
        letter("", 1, Some(""), version(5)),
        letter("NULL", 1, None, version(5)),
        letter(odd, 1, Some(odd), version(5)),
    ];
    let digits = "-99999999999999999999999999999999999999.5";
    for unit in &mut units {
        unit.op.cells.truncate(3);
        unit.op.cells.push(digits);
    }
    units.sort_by_key(|unit| unit.op.cells.cell(0).map(str::to_owned));
    apply(rig, &batch(&ann(), &lease, 5, units.clone())).await;
    let mut rows = letters(rig).await;
    rows.sort_by_key(|row| row.cells.cell(0).map(str::to_owned));
    assert_eq!(rows, units.iter().map(stored).collect::<Vec<_>>());
}

pub async fn children_are_replaced_with_their_parent(rig: &impl Rig) {
    let lease = ready(rig).await;
    let toys = async || {
        let rows = rig.rows(TOYS).await;
        let sku = |row: &StoredRow| row.cells.cell(3).unwrap().to_owned();
        rows.iter().map(sku).collect::<Vec<_>>()
    };
    let first = wishing(letter("42", 1, None, version(5)), &["train", "kite", "drum"]);
    let other = wishing(letter("43", 1, None, version(5)), &["doll"]);
    apply(rig, &batch(&ann(), &lease, 5, vec![first, other])).await;
    assert_eq!(toys().await, ["train", "kite", "drum", "doll"]);

    let next = wishing(letter("42", 1, None, version(6)), &["sled"]);
    apply(rig, &batch(&ann(), &moved(&lease, 5), 6, vec![next])).await;
    assert_eq!(toys().await, ["sled", "doll"], "they replace all that were there");

    let late = wishing(letter("42", 1, None, version(4)), &["late", "later"]);
    apply(rig, &batch(&ann(), &moved(&lease, 6), 7, vec![late])).await;
    assert_eq!(toys().await, ["sled", "doll"], "a row that loses leaves the children too");

    let late = batch(&ann(), &moved(&lease, 7), 8, vec![burnt("42", 1, version(3))]);
    apply(rig, &late).await;
    assert_eq!(toys().await, ["sled", "doll"], "and so does a delete that loses");

    let none = wishing(letter("43", 1, None, version(9)), &[]);
    let gone = burnt("42", 1, version(9));
    apply(rig, &batch(&ann(), &moved(&lease, 8), 9, vec![gone, none])).await;
    assert_eq!(toys().await, Vec::<String>::new(), "children go with their row or with its list");
    assert_eq!(letters(rig).await.len(), 1);
}

fn dead_letter(child: &str, number: u64) -> DeadLetter {
    let detail = "the value is not a number".to_owned();
    let entity = Some("letter".into());
    let place = Some("weight".into());
    let reject = Reject { reason: RejectReason::Type, entity, place, detail };
    DeadLetter {
        partition: partition("a"),
        version: version(number),
        key: format!(r#"{{"pk":{{"S":"{child}"}}}}"#),
        key_hash: key_hash(child),
        image: format!(r#"{{"op":"insert","keys":{{"pk":{{"S":"{child}"}}}}}}"#),
        reject,
    }
}

fn key_hash(child: &str) -> [u8; 32] {
    let mut hash = [7; 32];
    hash.iter_mut().zip(child.bytes()).for_each(|(own, byte)| *own = byte);
    hash
}

pub async fn dead_letters_are_kept_and_superseded(rig: &impl Rig) {
    let lease = ready(rig).await;
    let mut first = batch(&ann(), &lease, 6, vec![letter("44", 1, None, version(4))]);
    first.rows.rejects = vec![dead_letter("42", 5), dead_letter("43", 6)];
    assert_eq!(apply(rig, &first).await.dead_letters_superseded, 0);
    assert_eq!(view(rig).await.dead_letters, 2);
    assert_eq!(letters(rig).await.len(), 1, "the rest of the batch is applied");

    let step = |to: u64, touched: &[(&str, u64)]| {
        let mut step = batch(&ann(), &moved(&lease, to - 1), to, vec![]);
        let touched = touched.iter().map(|(key, at)| (key_hash(key), version(*at)));
        step.rows.touched = touched.collect();
        step
    };
    let older = apply(rig, &step(7, &[("42", 4), ("42x", 9), ("43", 6)])).await;
    assert_eq!(older.dead_letters_superseded, 0, "only a higher version of the same key");
    let newer = apply(rig, &step(8, &[("42", 8)])).await;
    assert_eq!(newer.dead_letters_superseded, 1);
    assert_eq!(view(rig).await.dead_letters, 1);
    let again = apply(rig, &step(9, &[("42", 9)])).await;
    assert_eq!(again.dead_letters_superseded, 0, "what is superseded is not open");

    let mut same = step(10, &[("45", 10)]);
    same.rows.rejects = vec![dead_letter("45", 9), dead_letter("46", 10)];
    apply(rig, &same).await;
    assert_eq!(view(rig).await.dead_letters, 2, "43 and 46: within one batch too the newest wins");
}

pub async fn the_last_page_drains_and_discovers(rig: &impl Rig) {
    let lease = ready(rig).await;
    let mut last = batch(&ann(), &lease, 9, vec![letter("42", 1, None, version(9))]);
    last.fence.advances[0].drained = true;
    last.lineage.shards = vec![shard("b", Some("a"), Some(10)), shard("c", Some("a"), None)];
    apply(rig, &last).await;
    let found = row(rig, "a").await;
    assert_eq!(
        (found.state, found.position),
        (PartitionState::Drained, Position::After(sequence(9)))
    );
    let found = row(rig, "b").await;
    assert_eq!(found.parent, Some(partition("a")));
    assert_eq!((found.state, found.position), (PartitionState::Open, Position::At(sequence(10))));
    assert_eq!(row(rig, "c").await.position, Position::Horizon);
    let mut again = batch(&ann(), &moved(&lease, 9), 9, vec![]);
    again.fence.advances[0].drained = true;
    assert_eq!(kind_of(rig, &again).await, ErrorKind::Fenced, "an end was applied already");

    let child = leased(rig, &ann(), "b").await;
    let mut known = batch(&ann(), &child, 12, vec![]);
    known.lineage.shards = vec![shard("b", Some("a"), Some(10)), shard("c", Some("a"), Some(11))];
    known.lineage.stream_arn = STREAM.into();
    apply(rig, &known).await;
    assert_eq!(row(rig, "b").await.position, Position::After(sequence(12)), "known shards stay");
    assert_eq!(row(rig, "c").await.position, Position::Horizon);
}

/// A row whose number is none: no implementation stores it.
fn refused(at: u64) -> Unit {
    let mut unit = letter("66", 1, None, version(at));
    let cells = [Some("66"), Some("1"), None, Some("heavy")];
    unit.op.cells = cells.into_iter().collect();
    unit
}

pub async fn refused_data_leaves_no_trace(rig: &impl Rig) {
    let lease = ready(rig).await;
    let good = letter("42", 1, None, version(5));
    let mut bad = batch(&ann(), &lease, 6, vec![good.clone(), refused(6)]);
    bad.rows.rejects.push(dead_letter("43", 4));
    assert_eq!(kind_of(rig, &bad).await, ErrorKind::Data);
    assert_eq!(letters(rig).await, []);
    assert_eq!(view(rig).await.dead_letters, 0);
    assert_eq!(row(rig, "a").await.position, lease.position);
    apply(rig, &batch(&ann(), &lease, 6, vec![good])).await;
    assert_eq!(letters(rig).await.len(), 1, "without the refused row it is applied");
}

pub async fn a_probe_writes_nothing(rig: &impl Rig) {
    let lease = ready(rig).await;
    let good = wishing(letter("42", 1, Some("a"), version(5)), &["train"]);
    let whole = batch(&ann(), &lease, 6, vec![good.clone(), refused(6)]);
    rig.sink().probe(&whole, &whole.rows.units[..1]).await.unwrap();
    let error = rig.sink().probe(&whole, &whole.rows.units).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let error = rig.sink().probe(&whole, &whole.rows.units[1..]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!((letters(rig).await, rig.rows(TOYS).await), (vec![], vec![]));
    assert_eq!(row(rig, "a").await.position, lease.position);
    let kept = batch(&ann(), &lease, 6, vec![good]);
    apply(rig, &kept).await;
    rig.sink().probe(&kept, &[burnt("42", 1, version(9))]).await.unwrap();
    assert_eq!(bodies(rig).await, [(Some("a".to_owned()), version(5))], "nor does it delete");
}

pub async fn claims_keep_a_scan_from_raising_the_dead(rig: &impl Rig) {
    let lease = ready(rig).await;
    let scanned = Version { generation: 1, sequence: SequenceNumber::ZERO };
    let step = |to: u64, units: Vec<Unit>| {
        let at = if to == 5 { lease.clone() } else { moved(&lease, to - 1) };
        let mut step = batch(&ann(), &at, to, units);
        step.phase = Phase::BesideBackfill;
        step
    };
    apply(rig, &step(5, vec![burnt("42", 1, version(5)), letter("43", 1, None, version(4))])).await;
    let earlier = Version { generation: 0, ..version(9) };
    let late = vec![burnt("42", 1, earlier), burnt("45", 1, earlier)];
    apply(rig, &step(6, late)).await;
    let page = ["42", "43", "44", "45"].map(|child| letter(child, 1, Some("scanned"), scanned));
    let applied = apply(rig, &step(7, page.into())).await;
    let why = "the dead and the newer lose no ground; what died before the load began may be back";
    assert_eq!(applied.tables[0], counts(2, 0, 2), "{why}");
    let found = (Some("scanned".to_owned()), scanned);
    assert_eq!(bodies(rig).await, [(None, version(4)), found.clone(), found]);
    let back = letter("42", 1, Some("back"), version(7));
    assert_eq!(back.op.action, RowAction::Upsert);
    apply(rig, &step(8, vec![back])).await;
    assert_eq!(letters(rig).await.len(), 4, "a later change brings a key back");
}

pub async fn a_large_batch_is_one_transaction(rig: &impl Rig) {
    let lease = ready(rig).await;
    let units: Vec<Unit> = (0..2_500)
        .map(|number| {
            wishing(letter(&format!("{number:05}"), 1, None, version(5)), &["train", "kite"])
        })
        .collect();
    let applied = apply(rig, &batch(&ann(), &lease, 5, units.clone())).await;
    assert_eq!(applied.tables[0], counts(2_500, 0, 0));
    assert_eq!(letters(rig).await, units.iter().map(stored).collect::<Vec<_>>());
    assert_eq!(rig.rows(TOYS).await.len(), 5_000);
}

/// Which elf has which seat.
async fn seats(rig: &impl Rig) -> Vec<String> {
    let text = |row: &StoredRow, at: usize| row.cells.cell(at).unwrap_or_default().to_owned();
    let rows = rig.rows(SEATS).await;
    rows.iter().map(|row| format!("{} {}", text(row, 0), text(row, 1))).collect()
}

/// Two elves change seats; the numbers of their two shards do not compare.
pub async fn a_change_counts_for_its_own_item(rig: &impl Rig) {
    let lease = ready(rig).await;
    let mut at = lease.clone();
    let mut to = 0;
    let mut all = async |units: Vec<Unit>| {
        to += 1;
        let counted = apply(rig, &batch(&ann(), &at, to, units)).await.tables[2];
        at = moved(&lease, to);
        counted
    };
    all(vec![taken("a", 1, 900), taken("b", 2, 10)]).await;
    // Each in a batch of its own, the one with the low numbers first.
    assert_eq!(all(vec![taken("a", 2, 11), left("b", 2, 11)]).await, counts(1, 1, 0));
    assert_eq!(seats(rig).await, ["a 2"]);
    assert_eq!(all(vec![left("a", 1, 901), taken("b", 1, 901)]).await, counts(1, 0, 1));
    assert_eq!(seats(rig).await, ["a 2", "b 1"]);
    // And back, in one.
    let both = vec![taken("a", 1, 902), left("a", 2, 12), left("b", 1, 902), taken("b", 2, 12)];
    assert_eq!(all(both).await.upserted, 2);
    assert_eq!(seats(rig).await, ["a 1", "b 2"]);
    // Of one item versions decide as ever.
    assert_eq!(all(vec![left("a", 1, 901), taken("b", 2, 11)]).await, counts(0, 0, 2));
    assert_eq!(all(vec![left("a", 1, 903)]).await, counts(0, 1, 0));
    assert_eq!(seats(rig).await, ["b 2"]);
}

pub async fn what_another_items_row_hid_shows_again(rig: &impl Rig) {
    let lease = ready(rig).await;
    let at = |to| moved(&lease, to);
    apply(rig, &batch(&ann(), &lease, 1, vec![taken("a", 1, 900)])).await;
    apply(rig, &batch(&ann(), &at(1), 2, vec![taken("a", 2, 10)])).await;
    assert_eq!(seats(rig).await, ["a 2"], "the one that was applied last");
    apply(rig, &batch(&ann(), &at(2), 3, vec![left("a", 2, 11)])).await;
    assert_eq!(seats(rig).await, ["a 1"]);
    assert_eq!(rig.rows(SEATS).await[0].version, Some(version(900)));
    // Two of one batch; and what is hidden is left.
    apply(rig, &batch(&ann(), &at(3), 4, vec![taken("b", 3, 5), taken("b", 4, 6)])).await;
    apply(rig, &batch(&ann(), &at(4), 5, vec![left("b", 3, 7)])).await;
    assert_eq!(seats(rig).await, ["a 1", "b 4"]);
    apply(rig, &batch(&ann(), &at(5), 6, vec![taken("a", 2, 12)])).await;
    apply(rig, &batch(&ann(), &at(6), 7, vec![left("a", 1, 901), left("b", 4, 8)])).await;
    assert_eq!(seats(rig).await, ["a 2"]);
    apply(rig, &batch(&ann(), &at(7), 8, vec![left("a", 2, 13)])).await;
    assert_eq!(seats(rig).await, [""; 0]);
}

pub async fn a_tombstone_keeps_only_its_own_items_row_away(rig: &impl Rig) {
    let lease = ready(rig).await;
    let first = vec![left("a", 1, 5), left("b", 2, 6)];
    apply(rig, &beside(batch(&ann(), &lease, 7, first))).await;
    let scanned = Version::scanned(1);
    let page = ["a", "b"]
        .into_iter()
        .flat_map(|name| [1, 2].map(|elf| seat(RowAction::Upsert, name, elf, scanned)));
    apply(rig, &beside(batch(&ann(), &moved(&lease, 7), 8, page.collect()))).await;
    assert_eq!(seats(rig).await, ["a 2", "b 1"]);
    // A page that comes late is older than what its item did since.
    let newer = vec![taken("a", 2, 9), taken("a", 3, 9)];
    apply(rig, &beside(batch(&ann(), &moved(&lease, 8), 9, newer))).await;
    let late = vec![seat(RowAction::Upsert, "a", 2, scanned)];
    apply(rig, &beside(batch(&ann(), &moved(&lease, 9), 10, late))).await;
    apply(rig, &beside(batch(&ann(), &moved(&lease, 10), 11, vec![left("a", 3, 12)]))).await;
    assert_eq!(seats(rig).await, ["a 2", "b 1"]);
    assert_eq!(rig.rows(SEATS).await[0].version, Some(version(9)));
}
