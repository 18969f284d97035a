//! What every ledger says of how far a source is, and when it must not say more.

use dynaurora::apply::ports::Sink;
use dynaurora::engine::ports::{
    Gap, GapReason, Incarnation, Lease, Ledger, Listing, PartitionState, Publication, Published,
};
use dynaurora::model::{EpochMillis, PartitionId, Position, WorkerId};

use super::{
    LONG, Rig, SHORT, SOURCE, STREAM, acquire, batch, enrolled, identity, leased, listing, moved,
    partition, row, sequence, shard, view, within_bound, worker,
};

/// The fingerprint of everybody's mapping.
const MAPPING: i64 = -7;

/// Each case over a fresh ledger.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { freshness [
            nothing_is_known_before_all_is_listed_and_read
            a_publication_is_taken_from_who_is_known_and_in_order
            a_publication_that_rests_on_another_run_of_the_server_is_refused
            what_a_batch_applies_counts_at_once
            a_hand_over_takes_nothing_back_and_adds_nothing
            a_stolen_lease_is_no_longer_spoken_for
            a_shard_that_is_left_out_holds_the_source_back
            an_end_holds_the_source_back_until_all_that_continues_it_is_known
            children_found_with_the_end_go_on_from_it
            a_lost_shard_holds_the_source_back
        ] $($how)* }
    };
}
pub(crate) use cases;

pub async fn nothing_is_known_before_all_is_listed_and_read(rig: &impl Rig) {
    rig.ledger().enrol(&identity()).await.unwrap();
    assert_eq!(synced(rig).await, None, "without a shard");
    let part = Listing { shards: vec![shard("a", None, Some(1))], complete: false };
    rig.ledger().register(SOURCE, STREAM, &part).await.unwrap();
    let ann = alive(rig, "ann").await;
    let a = leased(rig, &ann, "a").await;
    publish(rig, &ann, 1, 100, Some(&[&a])).await;
    assert_eq!(synced(rig).await, None, "there may be more shards than were listed");
    let whole = listing(&[shard("a", None, Some(1)), shard("b", None, Some(1))]);
    rig.ledger().register(SOURCE, STREAM, &whole).await.unwrap();
    assert_eq!(synced(rig).await, None, "one was never read");
    let b = leased(rig, &ann, "b").await;
    publish(rig, &ann, 2, 100, Some(&[&a])).await;
    assert_eq!(synced(rig).await, None, "a lease alone says nothing");
    publish(rig, &ann, 3, 110, Some(&[&a, &b])).await;
    assert_eq!(synced(rig).await, at(110));
    publish(rig, &ann, 4, 120, None).await;
    assert_eq!(synced(rig).await, at(120), "it speaks for the same shards");
}

pub async fn a_publication_is_taken_from_who_is_known_and_in_order(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let ann = worker("ann");
    let first = publish(rig, &ann, 1, 100, Some(&[])).await;
    assert!(!first.taken, "who never showed itself alive is not known");
    assert_eq!(synced(rig).await, None);
    let a = leased(rig, &ann, "a").await;
    assert!(view(rig).await.mappings.is_empty());
    let second = publish(rig, &ann, 2, 100, Some(&[&a])).await;
    assert_eq!(view(rig).await.mappings, [MAPPING]);
    assert!(second.taken && second.now >= first.now);
    let third = publish(rig, &ann, 3, 150, Some(&[])).await;
    assert!(third.taken);
    let late = publish(rig, &ann, 2, 170, Some(&[&a])).await;
    assert!(!late.taken, "a later one was taken");
    assert_eq!(synced(rig).await, at(100), "it does not speak for the shard any more");
    publish(rig, &ann, 4, 160, Some(&[&a])).await;
    assert_eq!(synced(rig).await, at(160));
    rig.ledger().release(SOURCE, &ann, &[], true).await.unwrap();
    assert!(!publish(rig, &ann, 5, 170, None).await.taken, "who left is not known");
    assert!(view(rig).await.mappings.is_empty(), "its mapping went with it");
}

pub async fn a_publication_that_rests_on_another_run_of_the_server_is_refused(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let ann = alive(rig, "ann").await;
    let a = leased(rig, &ann, "a").await;
    let covers = [(a.partition.clone(), a.epoch)];
    let publication = Publication {
        source: SOURCE,
        worker: &ann,
        number: 1,
        synced_up_to: at(100),
        last_poll_at: at(100),
        covers: Some(&covers),
        mapping: MAPPING,
        incarnation: &Incarnation::new("the one that crashed"),
    };
    assert!(!rig.ledger().publish(&publication).await.unwrap().taken);
    assert_eq!(synced(rig).await, None);
    publish(rig, &ann, 2, 90, None).await;
    assert_eq!(synced(rig).await, None, "nor does it speak for the shard");
    let (one, other) = (view(rig).await.incarnation, view(rig).await.incarnation);
    assert_eq!(one, other, "the server that runs is one");
}

pub async fn what_a_batch_applies_counts_at_once(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let ann = alive(rig, "ann").await;
    let a = leased(rig, &ann, "a").await;
    apply(rig, &ann, &a, 5, Some(200)).await;
    assert_eq!(synced(rig).await, at(200));
    let a = moved(&a, 5);
    apply(rig, &ann, &a, 6, Some(190)).await;
    assert_eq!(synced(rig).await, at(200), "it never falls");
    publish(rig, &ann, 1, 150, Some(&[&a])).await;
    assert_eq!(synced(rig).await, at(200));
    publish(rig, &ann, 2, 250, None).await;
    assert_eq!(synced(rig).await, at(250));
}

pub async fn a_hand_over_takes_nothing_back_and_adds_nothing(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1)), shard("b", None, Some(1))]).await;
    let (ann, bob) = (alive(rig, "ann").await, alive(rig, "bob").await);
    let (a, b) = (leased(rig, &ann, "a").await, leased(rig, &ann, "b").await);
    publish(rig, &ann, 1, 100, Some(&[&a, &b])).await;
    let given = [(a.partition.clone(), a.epoch)];
    rig.ledger().release(SOURCE, &ann, &given, false).await.unwrap();
    assert_eq!(synced(rig).await, at(100));
    publish(rig, &ann, 2, 200, None).await;
    assert_eq!(synced(rig).await, at(100), "nobody speaks for what was given back");
    let new = leased(rig, &bob, "a").await;
    publish(rig, &bob, 1, 300, Some(&[&a])).await;
    assert_eq!(synced(rig).await, at(100), "the old lease is not the new one");
    publish(rig, &bob, 2, 150, Some(&[&new])).await;
    assert_eq!(synced(rig).await, at(150));
    rig.ledger().release(SOURCE, &ann, &[(b.partition.clone(), b.epoch)], true).await.unwrap();
    assert_eq!(synced(rig).await, at(150), "who leaves takes nothing along");
}

pub async fn a_stolen_lease_is_no_longer_spoken_for(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let (ann, bob) = (alive(rig, "ann").await, alive(rig, "bob").await);
    let [a]: [Lease; 1] = acquire(rig, &ann, &["a"], SHORT).await.try_into().unwrap();
    publish(rig, &ann, 1, 100, Some(&[&a])).await;
    let stolen = within_bound(rig, "the lease runs out", async || {
        acquire(rig, &bob, &["a"], LONG).await.pop()
    });
    let stolen = stolen.await;
    assert_eq!(synced(rig).await, at(100), "what was said before stays true");
    publish(rig, &ann, 2, 200, None).await;
    publish(rig, &ann, 3, 200, Some(&[&a])).await;
    assert_eq!(synced(rig).await, at(100));
    publish(rig, &bob, 1, 150, Some(&[&stolen])).await;
    assert_eq!(synced(rig).await, at(150));
}

pub async fn a_shard_that_is_left_out_holds_the_source_back(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1)), shard("b", None, Some(1))]).await;
    let ann = alive(rig, "ann").await;
    let (a, b) = (leased(rig, &ann, "a").await, leased(rig, &ann, "b").await);
    publish(rig, &ann, 1, 100, Some(&[&a, &b])).await;
    publish(rig, &ann, 2, 200, Some(&[&b])).await;
    assert_eq!(synced(rig).await, at(100));
    publish(rig, &ann, 3, 300, None).await;
    assert_eq!(synced(rig).await, at(100));
    apply(rig, &ann, &a, 5, Some(180)).await;
    assert_eq!(synced(rig).await, at(180), "its own changes speak for it");
    publish(rig, &ann, 4, 310, Some(&[&a, &b])).await;
    assert_eq!(synced(rig).await, at(310));
}

pub async fn an_end_holds_the_source_back_until_all_that_continues_it_is_known(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1)), shard("b", None, Some(1))]).await;
    let ann = alive(rig, "ann").await;
    let (a, b) = (leased(rig, &ann, "a").await, leased(rig, &ann, "b").await);
    publish(rig, &ann, 1, 100, Some(&[&a, &b])).await;
    drain(rig, &ann, &a, &[]).await;
    let ended = row(rig, "a").await;
    assert_eq!((ended.state, ended.owner), (PartitionState::Drained, None), "its lease ends too");
    publish(rig, &ann, 2, 200, Some(&[&b])).await;
    assert_eq!(synced(rig).await, at(100));
    let shards = [shard("a", None, Some(1)), shard("a1", Some("a"), Some(20))];
    let part = Listing { shards: shards.to_vec(), complete: false };
    rig.ledger().register(SOURCE, STREAM, &part).await.unwrap();
    let a1 = leased(rig, &ann, "a1").await;
    publish(rig, &ann, 3, 210, Some(&[&a1, &b])).await;
    assert_eq!(synced(rig).await, at(100), "another child may have been left out");
    let [a, a1_listed] = shards;
    let whole = [a, a1_listed, shard("a2", Some("a"), Some(20)), shard("b", None, Some(1))];
    rig.ledger().register(SOURCE, STREAM, &listing(&whole)).await.unwrap();
    assert_eq!(synced(rig).await, at(100), "a child begins where its parent ended");
    let a2 = leased(rig, &ann, "a2").await;
    publish(rig, &ann, 4, 220, Some(&[&a1, &a2, &b])).await;
    assert_eq!(synced(rig).await, at(220));
}

pub async fn children_found_with_the_end_go_on_from_it(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1)), shard("a1", Some("a"), Some(20))]).await;
    let ann = alive(rig, "ann").await;
    let a = leased(rig, &ann, "a").await;
    publish(rig, &ann, 1, 100, Some(&[&a])).await;
    assert_eq!(synced(rig).await, at(100), "who waits for a parent is behind it");
    drain(rig, &ann, &a, &["a1", "a2"]).await;
    assert_eq!(synced(rig).await, at(100));
    let (a1, a2) = (leased(rig, &ann, "a1").await, leased(rig, &ann, "a2").await);
    drain(rig, &ann, &a1, &["a3"]).await;
    assert_eq!(synced(rig).await, at(100), "a child that ends unread passes it on");
    let a3 = leased(rig, &ann, "a3").await;
    publish(rig, &ann, 2, 300, Some(&[&a2, &a3])).await;
    assert_eq!(synced(rig).await, at(300));
}

pub async fn a_lost_shard_holds_the_source_back(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1)), shard("b", None, Some(1))]).await;
    let ann = alive(rig, "ann").await;
    let (a, b) = (leased(rig, &ann, "a").await, leased(rig, &ann, "b").await);
    publish(rig, &ann, 1, 100, Some(&[&a, &b])).await;
    let gap = Gap {
        reason: GapReason::Vanished,
        stream_arn: STREAM.to_owned(),
        partition: Some(partition("a")),
        after: Some(Position::At(sequence(1))),
        since: None,
    };
    rig.ledger().record_gap(SOURCE, 1, &gap, true).await.unwrap();
    publish(rig, &ann, 2, 200, Some(&[&b])).await;
    assert_eq!(synced(rig).await, at(100));
}

async fn synced(rig: &impl Rig) -> Option<EpochMillis> {
    view(rig).await.synced_up_to
}

fn at(millis: i64) -> Option<EpochMillis> {
    Some(EpochMillis(millis))
}

/// A worker that has shown itself.
async fn alive(rig: &impl Rig, name: &str) -> WorkerId {
    let who = worker(name);
    rig.ledger().renew(SOURCE, &who, LONG).await.unwrap();
    who
}

async fn publish(
    rig: &impl Rig,
    who: &WorkerId,
    number: u64,
    synced_up_to: i64,
    covers: Option<&[&Lease]>,
) -> Published {
    let incarnation = view(rig).await.incarnation;
    let covers: Option<Vec<(PartitionId, i64)>> = covers
        .map(|leases| leases.iter().map(|lease| (lease.partition.clone(), lease.epoch)).collect());
    let publication = Publication {
        source: SOURCE,
        worker: who,
        number,
        synced_up_to: at(synced_up_to),
        last_poll_at: at(synced_up_to),
        covers: covers.as_deref(),
        mapping: MAPPING,
        incarnation: &incarnation,
    };
    rig.ledger().publish(&publication).await.unwrap()
}

async fn apply(rig: &impl Rig, who: &WorkerId, lease: &Lease, to: u64, event: Option<i64>) {
    let mut step = batch(who, lease, to, vec![]);
    step.fence.advances[0].last_event_at = event.map(EpochMillis);
    rig.sink().apply(&step).await.unwrap();
}

/// Ends a shard, with the children that were found.
async fn drain(rig: &impl Rig, who: &WorkerId, lease: &Lease, children: &[&str]) {
    let mut last = batch(who, lease, 9, vec![]);
    last.fence.advances[0].drained = true;
    let parent = Some(lease.partition.as_str());
    last.lineage.shards = children.iter().map(|name| shard(name, parent, Some(20))).collect();
    rig.sink().apply(&last).await.unwrap();
}
