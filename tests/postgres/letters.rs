//! Letters beside each other: of one item the newest is open, however the transactions meet.

use std::sync::Arc;

use dynaurora::apply::ports::{Batch, DeadLetter, Phase, Sink};
use dynaurora::engine::ports::{Backfills, Lease, LeaseRequest, Ledger, NewBackfill, Settling};
use dynaurora::model::{PartitionId, Position, SequenceNumber, Version, WorkerId};
use dynaurora::postgres::tables::PostgresSink;
use tokio::task::JoinSet;

use super::rig::{LEASE_TTL, Rig, dead_letter, letter, tables};
use crate::rig::{SOURCE, batch, sequence, worker};

const SEGMENT: &str = "scan/000-of-001";
const OPEN: &str = "select partition from dynaurora.dead_letters where state = 'open' order by id";
const WAITING: &str = "select pid::text from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock'";

fn ann() -> WorkerId {
    worker("ann")
}

/// A source with an active load of one segment, and the leases of its shard `a` and of the segment.
async fn loading() -> (Rig, Lease, Lease) {
    let rig = Rig::new().await;
    let backfill = NewBackfill {
        source: SOURCE.into(),
        replaces: 1,
        stream: None,
        partitions: vec![PartitionId::new(SEGMENT)],
        items: None,
        rcu_max: None,
        mapping: None,
        rewind: None,
    };
    assert!(rig.ledger.begin_backfill(&backfill).await.unwrap());
    let ann = ann();
    let wanted = ["a", SEGMENT].map(PartitionId::new);
    let request = LeaseRequest {
        source: SOURCE,
        worker: &ann,
        generation: 2,
        wanted: &wanted,
        lease_ttl: LEASE_TTL,
    };
    let mut leases = rig.ledger.acquire(&request).await.unwrap();
    leases.sort_by(|one, other| one.partition.cmp(&other.partition));
    let [tail, segment] = <[Lease; 2]>::try_from(leases).unwrap();
    (rig, tail, segment)
}

/// A letter of the item, of the scan or of the stream.
fn bad(child: &str, at: Option<u64>) -> DeadLetter {
    let sequence = at.map_or(SequenceNumber::ZERO, sequence);
    let partition = PartitionId::new(if at.is_some() { "a" } else { SEGMENT });
    DeadLetter { partition, version: Version { generation: 2, sequence }, ..dead_letter(child, 0) }
}

fn page(segment: &Lease, rejects: Vec<DeadLetter>) -> Batch {
    let mut page = batch(&ann(), segment, 1, vec![]);
    page.fence.generation = 2;
    page.fence.advances[0].to = Position::Key("{}".into());
    page.fence.advances[0].drained = true;
    page.phase = Phase::OfBackfill;
    page.rows.rejects = rejects;
    page
}

fn beside(tail: &Lease, to: u64) -> Batch {
    let mut beside = batch(&ann(), tail, to, vec![]);
    beside.fence.generation = 2;
    beside.phase = Phase::BesideBackfill;
    beside
}

/// Applies the batches, each once the ones before it wait: the first one for a lock of ours on its position.
async fn in_flight(rig: &Rig, batches: [Batch; 2]) {
    let held = format!(
        "select from dynaurora.partitions where partition = '{}' for update",
        batches[0].fence.advances[0].partition
    );
    let mut stall = rig.pool.begin().await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(held)).execute(&mut *stall).await.unwrap();
    let mut tasks = JoinSet::new();
    for batch in batches {
        let sink = PostgresSink::new(Arc::clone(&rig.pools), &tables()).unwrap();
        tasks.spawn(async move { sink.apply(&batch).await });
        while rig.texts(WAITING).await.len() < tasks.len() {}
    }
    stall.rollback().await.unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
}

#[tokio::test]
async fn of_two_letters_in_flight_the_newer_is_open_whichever_is_first() {
    for page_first in [true, false] {
        let (rig, tail, segment) = loading().await;
        let page = page(&segment, vec![bad("1", None), bad("2", None)]);
        let mut change = beside(&tail, 5);
        change.rows.rejects = vec![bad("1", Some(4)), bad("3", Some(5))];
        in_flight(&rig, if page_first { [page, change] } else { [change, page] }).await;
        let mut open = rig.texts(OPEN).await.into_iter().flatten().collect::<Vec<_>>();
        open.sort();
        assert_eq!(open, ["a", "a", SEGMENT], "of 1 and 3 the stream's, of 2 the page's");
        assert_eq!(rig.count("dynaurora.dead_letters").await, 4, "the older one is kept as well");
    }
}

#[tokio::test]
async fn a_letter_that_is_older_than_a_settled_one_never_opens() {
    let (rig, tail, segment) = loading().await;
    let mut change = beside(&tail, 5);
    change.rows.rejects = vec![bad("1", Some(4))];
    rig.apply(&change).await.unwrap();
    rig.run("update dynaurora.dead_letters set state = 'dropped', settled_at = now()").await;
    rig.apply(&page(&segment, vec![bad("1", None)])).await.unwrap();
    assert!(rig.texts(OPEN).await.is_empty(), "somebody gave a newer one up");
}

#[tokio::test]
async fn the_end_of_a_load_waits_for_what_the_stream_is_applying() {
    let (rig, tail, segment) = loading().await;
    let late = page(&segment, vec![bad("1", None), bad("2", None)]);
    let mut change = beside(&tail, 5);
    // The correction moves no row that the page's image could name.
    change.rows.touched = vec![(bad("1", None).key_hash, bad("1", Some(5)).version)];
    let mut stall = rig.pool.begin().await.unwrap();
    sqlx::query("select from dynaurora.partitions where partition = 'a' for update")
        .execute(&mut *stall)
        .await
        .unwrap();
    let sink = PostgresSink::new(Arc::clone(&rig.pools), &tables()).unwrap();
    let mut tailing = JoinSet::new();
    tailing.spawn(async move { sink.apply(&change).await });
    while rig.texts(WAITING).await.is_empty() {}
    // The correction has looked for letters to supersede. Now the page's letter comes, and it is the last
    // page.
    rig.apply(&late).await.unwrap();
    let ledger = rig.ledger.clone();
    let mut settling = JoinSet::new();
    settling.spawn(async move { ledger.settle_letters(SOURCE, 2).await });
    while rig.texts(WAITING).await.len() < 2 {}
    assert_eq!(rig.texts(OPEN).await.len(), 2);
    stall.rollback().await.unwrap();
    let applied = tailing.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(applied.dead_letters_superseded, 0);
    assert_eq!(settling.join_next().await.unwrap().unwrap().unwrap(), Settling::Done);
    assert_eq!(rig.texts(OPEN).await.len(), 1, "2 was not corrected");
    assert_eq!(rig.count("dynaurora.touched").await, 0, "what was read is gone");
}

#[tokio::test]
async fn keys_are_left_for_a_load_alone_and_read_in_steps() {
    let (rig, mut tail, segment) = loading().await;
    rig.apply(&page(&segment, vec![bad("1", None)])).await.unwrap();
    for at in 1..=60 {
        let mut change = beside(&tail, at);
        change.rows.units = vec![letter("7", "kite", at)];
        change.rows.touched = vec![([9; 32], bad("9", Some(at)).version)];
        rig.apply(&change).await.unwrap();
        tail = Lease { position: Position::After(sequence(at)), ..tail };
    }
    assert_eq!(rig.count("dynaurora.touched").await, 60);
    assert_eq!(rig.ledger.settle_letters(SOURCE, 2).await.unwrap(), Settling::More);
    assert_eq!(rig.ledger.settle_letters(SOURCE, 2).await.unwrap(), Settling::Done);
    assert_eq!(rig.texts(OPEN).await.len(), 1, "other items are no matter");
    assert!(rig.ledger.end_backfill(SOURCE, 2).await.unwrap());
    let mut steady = beside(&tail, 61);
    steady.phase = Phase::Steady;
    steady.rows.touched = vec![(bad("1", None).key_hash, bad("1", Some(61)).version)];
    assert_eq!(rig.apply(&steady).await.unwrap().dead_letters_superseded, 1);
    assert_eq!(rig.count("dynaurora.touched").await, 0, "without a load nothing is left");
    // A batch that was made before the load ended leaves keys all the same; the next listing takes them away.
    let tail = Lease { position: Position::After(sequence(61)), ..tail };
    let mut stale = beside(&tail, 62);
    stale.rows.touched = vec![([9; 32], bad("9", Some(62)).version)];
    rig.apply(&stale).await.unwrap();
    assert_eq!(rig.count("dynaurora.touched").await, 1);
    rig.register(&["a", "b"]).await;
    assert_eq!(rig.count("dynaurora.touched").await, 0);
}

#[tokio::test]
async fn letters_of_one_item_that_were_open_before_are_one_afterwards() {
    let rig = Rig::new().await;
    rig.run(
        "drop table dynaurora.touched; drop index dynaurora.dead_letters_open; \
         drop index dynaurora.dead_letters_of_items; \
         create index dead_letters_open on dynaurora.dead_letters (source, key_hash) \
             where state = 'open'; \
         insert into dynaurora.dead_letters \
             (source, partition, version, key, key_hash, image, reason, detail) \
         select 'santa', name, version, '{}', sha256(key::bytea), '{}', 'nul', '' \
         from (values ('old', 5, 'one'), ('new', 7, 'one'), ('twin', 7, 'one'), \
             ('other', 1, 'two')) own (name, version, key)",
    )
    .await;
    let migration = include_str!("../../migrations/20260101000026_letters_of_items.sql");
    rig.run(migration).await;
    assert_eq!(rig.texts(OPEN).await, ["twin", "other"].map(|name| Some(name.to_owned())));
}
