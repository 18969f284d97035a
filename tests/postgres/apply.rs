//! The apply transaction: everything or nothing, by version, children by difference.

use std::sync::Arc;

use dynaurora::apply::ports::{Phase, Sink, TableApplied};
use dynaurora::engine::ports::{Ledger, PartitionState};
use dynaurora::error::ErrorKind;
use dynaurora::model::{EpochMillis, PartitionId, Position, SequenceNumber, Version};
use dynaurora::postgres::tables::PostgresSink;
use tokio::task::JoinSet;

use super::rig::{Rig, burnt, dead_letter, letter, shard, tables};
use crate::rig::{
    LETTERS, SOURCE, batch, beside, changed, moved, sequence, version, wishing, worker,
};

const ROWS: &str = "select child || '=' || body from letters order by child";
const TOYS: &str = "select child || position || sku from toys order by 1";

fn counts(upserted: u64, deleted: u64, superseded: u64) -> TableApplied {
    TableApplied { upserted, deleted, superseded }
}

async fn texts(rig: &Rig, sql: &str) -> Vec<String> {
    rig.texts(sql).await.into_iter().flatten().collect()
}

#[tokio::test]
async fn rule_9_rows_children_letters_shards_and_the_position_move_in_one_commit() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let first = wishing(letter("1", "a", 5), &[(0, "train"), (1, "kite")]);
    let mut whole = batch(&ann, &lease, 9, vec![first, letter("2", "b", 6), burnt("3", 7)]);
    whole.rows.rejects = vec![dead_letter("4", 8)];
    whole.lineage.shards = vec![shard("c")];
    whole.fence.advances[0].drained = true;
    whole.fence.advances[0].last_event_at = Some(EpochMillis(1_796_083_200_123));
    let applied = rig.apply(&whole).await.unwrap();
    assert_eq!(applied.tables, [counts(2, 0, 1), counts(2, 0, 0)]);
    assert_eq!(texts(&rig, ROWS).await, ["1=a", "2=b"]);
    assert_eq!(texts(&rig, TOYS).await, ["10train", "11kite"]);
    let versions = "select dynaurora_version::text from letters order by child";
    assert_eq!(texts(&rig, versions).await[0], version(5).to_string());
    let view = rig.ledger.view(SOURCE).await.unwrap();
    assert_eq!((view.dead_letters, view.partitions.len()), (1, 3));
    let row = &view.partitions[0];
    assert_eq!(row.state, PartitionState::Drained);
    assert_eq!(row.position, Position::After(sequence(9)));
    assert_eq!(row.last_event_at, Some(EpochMillis(1_796_083_200_123)));
}

#[tokio::test]
async fn a_batch_that_the_fence_refuses_leaves_nothing() {
    let rig = Rig::new().await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let mine = rig.lease(&ann, "a").await;
    let other = rig.lease(&bob, "b").await;
    rig.apply(&batch(&ann, &mine, 5, vec![wishing(letter("1", "a", 5), &[(0, "train")])]))
        .await
        .unwrap();
    let mine = moved(&mine, 5);
    let units = || vec![wishing(letter("0", "x", 9), &[(0, "x")]), burnt("1", 9)];
    let whole = |lease| {
        let mut whole = batch(&ann, lease, 9, units());
        whole.rows.rejects = vec![dead_letter("4", 8)];
        whole.lineage.shards = vec![shard("c")];
        whole.phase = Phase::BesideBackfill;
        whole
    };
    let stale_epoch = dynaurora::engine::ports::Lease { epoch: 7, ..mine.clone() };
    let before = moved(&mine, 4);
    let mut two = whole(&mine);
    two.fence.advances.extend(batch(&ann, &other, 3, vec![]).fence.advances);
    let refused = [
        whole(&before),
        whole(&stale_epoch),
        changed(whole(&mine), |own| own.fence.generation = 2),
        changed(whole(&mine), |own| own.fence.worker = bob.clone()),
        two,
    ];
    for batch in refused {
        assert_eq!(rig.apply(&batch).await.unwrap_err().kind(), ErrorKind::Fenced);
    }
    assert_eq!(texts(&rig, ROWS).await, ["1=a"]);
    assert_eq!(texts(&rig, TOYS).await, ["10train"]);
    for table in ["dynaurora.dead_letters", "dynaurora.claims"] {
        assert_eq!(rig.count(table).await, 0, "{table}");
    }
    assert_eq!(rig.count("dynaurora.partitions").await, 2);
    let fenceless = changed(whole(&mine), |own| own.fence.advances.clear());
    assert_eq!(rig.apply(&fenceless).await.unwrap_err().kind(), ErrorKind::Unknown);
    rig.apply(&whole(&mine)).await.unwrap();
    assert_eq!(texts(&rig, ROWS).await, ["0=x"]);
}

#[tokio::test]
async fn a_zombie_neither_blocks_its_successor_nor_commits() {
    let rig = Rig::new().await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let old = rig.lease(&ann, "a").await;
    // The owner stalls in the middle of its batch: it has written one row and waits for another.
    let mut stall = rig.pool.begin().await.unwrap();
    sqlx::query("insert into letters values ('2', 1, 'stall', 0)")
        .execute(&mut *stall)
        .await
        .unwrap();
    let zombie = batch(&ann, &old, 9, vec![letter("1", "zombie", 8), letter("2", "zombie", 9)]);
    let sink = PostgresSink::new(Arc::clone(&rig.pools), &tables()).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { sink.apply(&zombie).await });
    let waiting = "select pid::text from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    while texts(&rig, waiting).await.is_empty() {}
    rig.expire_leases().await;
    let new = rig.lease(&bob, "a").await;
    rig.apply(&batch(&bob, &new, 7, vec![letter("3", "successor", 7)])).await.unwrap();
    stall.rollback().await.unwrap();
    let outcome = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(texts(&rig, ROWS).await, ["3=successor"]);
    let view = rig.ledger.view(SOURCE).await.unwrap();
    assert_eq!(view.partitions[0].position, Position::After(sequence(7)));
}

#[tokio::test]
async fn rule_9_child_rows_change_by_difference() {
    let rig = Rig::new().await;
    // The order of the statements suits a user's own foreign key too.
    rig.run("alter table toys add foreign key (child, number) references letters").await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let rowids = "select child || position || ':' || ctid::text from toys order by 1";
    let first = wishing(letter("1", "a", 5), &[(0, "train"), (1, "kite"), (2, "drum")]);
    let other = wishing(letter("2", "a", 5), &[(0, "doll")]);
    rig.apply(&batch(&ann, &lease, 5, vec![first, other])).await.unwrap();
    let before = texts(&rig, rowids).await;
    let next = wishing(letter("1", "b", 6), &[(0, "train"), (1, "sled"), (3, "ball")]);
    let applied = rig.apply(&batch(&ann, &moved(&lease, 5), 6, vec![next])).await.unwrap();
    assert_eq!(applied.tables, [counts(1, 0, 0), counts(2, 1, 0)], "by difference");
    assert_eq!(texts(&rig, TOYS).await, ["10train", "11sled", "13ball", "20doll"]);
    let after = texts(&rig, rowids).await;
    assert_eq!((&after[0], &after[3]), (&before[0], &before[3]), "the same tuples");

    let late = wishing(letter("1", "late", 4), &[(9, "late")]);
    let lost = rig.apply(&batch(&ann, &moved(&lease, 6), 7, vec![late])).await.unwrap();
    assert_eq!(lost.tables, [counts(0, 0, 1), counts(0, 0, 0)]);
    assert_eq!(texts(&rig, rowids).await, after, "who loses writes no children");
    let gone = batch(&ann, &moved(&lease, 7), 8, vec![burnt("1", 8), burnt("2", 3)]);
    let applied = rig.apply(&gone).await.unwrap();
    assert_eq!(applied.tables, [counts(0, 1, 1), counts(0, 3, 0)]);
    assert_eq!(texts(&rig, TOYS).await, ["20doll"]);
}

#[tokio::test]
async fn a_scan_page_cannot_raise_what_a_delete_in_flight_removes() {
    let rig = Rig::new().await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let (tail, scan) = (rig.lease(&ann, "a").await, rig.lease(&bob, "b").await);
    let page = |to: u64| {
        let mut page = batch(&bob, &scan, to, vec![letter("1", "scanned", 0)]);
        page.rows.units[0].version = Version { generation: 1, sequence: SequenceNumber::ZERO };
        page.phase = Phase::OfBackfill;
        page
    };
    // The delete stands in its transaction, claim taken, its fence waiting for a lock of ours.
    let mut stall = rig.pool.begin().await.unwrap();
    sqlx::query("select from dynaurora.partitions where partition = 'a' for update")
        .execute(&mut *stall)
        .await
        .unwrap();
    let delete = beside(batch(&ann, &tail, 5, vec![burnt("1", 5)]));
    let mut tasks = JoinSet::new();
    for batch in [delete, page(1)] {
        let sink = PostgresSink::new(Arc::clone(&rig.pools), &tables()).unwrap();
        tasks.spawn(async move { sink.apply(&batch).await });
        let waiting = "select pid::text from pg_stat_activity \
            where datname = current_database() and wait_event_type = 'Lock'";
        while texts(&rig, waiting).await.len() < tasks.len() {}
    }
    stall.rollback().await.unwrap();
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap().unwrap().tables[usize::from(LETTERS.0)], counts(0, 0, 1));
    }
    assert_eq!(texts(&rig, ROWS).await, Vec::<String>::new());
    let wrote = batch(&ann, &moved(&tail, 5), 6, vec![letter("2", "a kite", 6)]);
    rig.apply(&beside(wrote)).await.unwrap();
    assert_eq!(rig.count("dynaurora.claims").await, 1, "only a delete leaves one");
    let target = texts(&rig, "select target from dynaurora.claims").await;
    assert_eq!(target, ["letters"]);
}

#[tokio::test]
async fn a_delete_waits_for_the_scan_page_that_holds_its_row() {
    let rig = Rig::new().await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let tail = rig.lease(&ann, "a").await;
    let scan = rig.lease(&bob, "b").await;
    let mut page = batch(&bob, &scan, 1, vec![letter("1", "scanned", 0)]);
    page.rows.units[0].version = Version { generation: 1, sequence: SequenceNumber::ZERO };
    page.phase = Phase::OfBackfill;
    let delete = beside(batch(&ann, &tail, 5, vec![burnt("1", 5)]));
    // The page has written its row, which nobody sees yet, and its fence waits for a lock of ours.
    let mut stall = rig.pool.begin().await.unwrap();
    sqlx::query("select from dynaurora.partitions where partition = 'b' for update")
        .execute(&mut *stall)
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    for (at, batch) in [page, delete].into_iter().enumerate() {
        let sink = PostgresSink::new(Arc::clone(&rig.pools), &tables()).unwrap();
        tasks.spawn(async move { (at, sink.apply(&batch).await) });
        let waiting = "select pid::text from pg_stat_activity \
            where datname = current_database() and wait_event_type = 'Lock'";
        while texts(&rig, waiting).await.len() < tasks.len() {}
    }
    stall.rollback().await.unwrap();
    while let Some(done) = tasks.join_next().await {
        let (at, applied) = done.unwrap();
        let expected = [counts(1, 0, 0), counts(0, 1, 0)][at];
        assert_eq!(applied.unwrap().tables[usize::from(LETTERS.0)], expected);
    }
    assert_eq!(texts(&rig, ROWS).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_mapping_whose_rows_do_not_fit_is_never_written() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let mut short = letter("1", "a", 5);
    short.op.cells.truncate(2);
    let mut stray = letter("1", "a", 5);
    stray.op.table = dynaurora::model::TableIndex(7);
    for unit in [short, stray] {
        let error = rig.apply(&batch(&ann, &lease, 5, vec![unit])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown);
    }
    assert_eq!(rig.count("letters").await, 0);
    let view = rig.ledger.view(SOURCE).await.unwrap();
    assert_eq!(view.partitions[0].id, PartitionId::new("a"));
    assert_eq!(view.partitions[0].position, lease.position);
}
