//! What every ledger must do.

use std::collections::BTreeSet;
use std::time::Duration;

use dynaurora::apply::ports::Sink;
use dynaurora::engine::ports::{
    Continuity, Gap, GapReason, Lease, LeaseRequest, Ledger, Listing, PartitionState,
    SourceIdentity,
};
use dynaurora::error::ErrorKind;
use dynaurora::model::{Epoch, PartitionId, Position, WorkerId};

use super::{
    LONG, Rig, SHORT, SOURCE, STREAM, acquire, batch, enrolled, identity, leased, letter, listing,
    moved, partition, row, sequence, shard, version, view, within_bound, worker,
};

/// Every sentence of the ledger's docs, each over a fresh ledger.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { ledger [
            enrolment_tells_what_changed
            registering_only_adds
            a_shard_of_an_older_stream_starts_afresh
            one_worker_leads_discovery_and_only_when_due
            a_leader_of_discovery_that_dies_or_dawdles_is_followed
            a_lease_is_for_one_worker_and_one_generation
            leases_raced_for_are_given_once
            an_expired_lease_goes_to_another_with_a_new_epoch
            a_lease_lasts_as_long_as_its_owner_lives
            a_renewal_is_a_sign_of_life
            a_released_lease_is_free_at_once
            a_drained_partition_is_not_leased
            a_gap_is_recorded_once_and_may_halt
            a_lost_shard_takes_no_late_batch
        ] $($how)* }
    };
}
pub(crate) use cases;

pub async fn enrolment_tells_what_changed(rig: &impl Rig) {
    let ledger = rig.ledger();
    let first = ledger.enrol(&identity()).await.unwrap();
    assert_eq!((first.generation, &first.continuity), (1, &Continuity::Same));
    assert_eq!(ledger.enrol(&identity()).await.unwrap(), first, "enrolling again changes nothing");

    let stream_arn = format!("{STREAM}2");
    let other_stream = SourceIdentity { stream_arn, ..identity() };
    let changed = ledger.enrol(&other_stream).await.unwrap();
    assert_eq!(changed.continuity, Continuity::StreamChanged { was: STREAM.to_owned() });
    let again = ledger.enrol(&other_stream).await.unwrap();
    assert_eq!(again, changed, "what is known about an old stream stays");

    let table_id = "99999999-2222-3333-4444-555555555555".to_owned();
    let other_table = SourceIdentity { table_id, ..other_stream };
    let changed = ledger.enrol(&other_table).await.unwrap();
    assert_eq!(changed.continuity, Continuity::TableChanged { was: identity().table_id });
    assert_eq!(ledger.enrol(&identity()).await.unwrap(), first, "what was known stays known");
    let view = view(rig).await;
    assert_eq!((view.generation, view.halted, view.gaps), (1, None, 0));
    assert!(view.partitions.is_empty() && view.workers == 0 && view.dead_letters == 0);
}

pub async fn registering_only_adds(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(100)), shard("b", Some("a"), None)]).await;
    let found = row(rig, "a").await;
    assert_eq!(found.parent, None);
    assert_eq!(found.state, PartitionState::Open);
    assert_eq!(found.position, Position::At(sequence(100)), "it starts where the listing says");
    assert_eq!((found.epoch, found.owner), (0, None));
    let found = row(rig, "b").await;
    assert_eq!(found.parent, Some(partition("a")));
    assert_eq!(found.position, Position::Horizon, "without a start only the horizon is left");

    let ann = worker("ann");
    let lease = leased(rig, &ann, "a").await;
    let step = batch(&ann, &lease, 120, vec![]);
    rig.sink().apply(&step).await.unwrap();
    let before = row(rig, "a").await;
    let grown = listing(&[shard("a", Some("z"), Some(110)), shard("c", Some("b"), Some(300))]);
    rig.ledger().register(SOURCE, STREAM, &grown).await.unwrap();
    assert_eq!(row(rig, "a").await, before, "a known shard stays as it is");
    let ids: BTreeSet<String> =
        view(rig).await.partitions.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), ["a", "b", "c"], "an omitted shard stays");
    let empty = Listing { shards: vec![], complete: false };
    rig.ledger().register(SOURCE, STREAM, &empty).await.unwrap();
    assert_eq!(view(rig).await.partitions.len(), 3);
}

pub async fn a_shard_of_an_older_stream_starts_afresh(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(100)), shard("b", None, None)]).await;
    let ann = worker("ann");
    let lease = leased(rig, &ann, "a").await;
    rig.sink().apply(&batch(&ann, &lease, 120, vec![])).await.unwrap();
    let stream = format!("{STREAM}2");
    let relisted = listing(&[shard("a", None, Some(7))]);
    rig.ledger().register(SOURCE, &stream, &relisted).await.unwrap();
    let found = row(rig, "a").await;
    assert_eq!(found.position, Position::At(sequence(7)));
    assert_eq!(found.state, PartitionState::Open);
    assert_eq!(found.owner, None, "the lease was on the older stream's shard");
    assert_eq!(acquire(rig, &ann, &["b"], LONG).await, [], "what only that one had is not read");
    let late = batch(&ann, &moved(&lease, 120), 130, vec![]);
    let error = rig.sink().apply(&late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
}

const EVERY: Duration = SHORT;

pub async fn one_worker_leads_discovery_and_only_when_due(rig: &impl Rig) {
    rig.ledger().enrol(&identity()).await.unwrap();
    let (ann, bob) = (worker("ann"), worker("bob"));
    renew(rig, &ann, LONG).await;
    renew(rig, &bob, LONG).await;
    let lead = async |who: &WorkerId| lead(rig, who, EVERY, LONG).await;
    let (first, second) = futures_util::join!(lead(&ann), lead(&bob));
    assert!(first ^ second, "one leads, and the first listing is due at once");
    let (leader, other) = if first { (&ann, &bob) } else { (&bob, &ann) };
    assert!(!lead(other).await, "the leader is at it");
    let partial = Listing { shards: vec![shard("a", None, None)], complete: false };
    rig.ledger().register(SOURCE, STREAM, &partial).await.unwrap();
    assert!(lead(leader).await, "an incomplete listing leaves it due, for the leader too");
    rig.ledger().register(SOURCE, STREAM, &listing(&[shard("a", None, None)])).await.unwrap();
    for who in [leader, other] {
        let again = self::lead(rig, who, LONG, LONG).await;
        assert!(!again, "a complete listing is young");
    }
    within_bound(rig, "a listing becomes due again", async || lead(leader).await.then_some(()))
        .await;
}

pub async fn a_leader_of_discovery_that_dies_or_dawdles_is_followed(rig: &impl Rig) {
    rig.ledger().enrol(&identity()).await.unwrap();
    let (ann, bob) = (worker("ann"), worker("bob"));
    renew(rig, &ann, SHORT).await;
    renew(rig, &bob, LONG).await;
    assert!(lead(rig, &ann, EVERY, LONG).await);
    within_bound(rig, "another worker leads", async || {
        lead(rig, &bob, EVERY, LONG).await.then_some(())
    })
    .await;
    renew(rig, &ann, LONG).await;
    assert!(!lead(rig, &ann, EVERY, LONG).await, "now the other one is at it");
    within_bound(rig, "who lives and lists nothing loses its turn", async || {
        assert!(lead(rig, &bob, EVERY, LONG).await, "asking again prolongs no turn");
        lead(rig, &ann, EVERY, SHORT).await.then_some(())
    })
    .await;
}

async fn lead(rig: &impl Rig, who: &WorkerId, every: Duration, within: Duration) -> bool {
    rig.ledger().lead_discovery(SOURCE, who, every, within).await.unwrap()
}

pub async fn a_lease_is_for_one_worker_and_one_generation(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(100)), shard("b", None, None)]).await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let wanted = [partition("a"), partition("b"), partition("unknown")];
    let other = LeaseRequest {
        source: SOURCE,
        worker: &ann,
        generation: 2,
        wanted: &wanted,
        lease_ttl: LONG,
    };
    assert_eq!(rig.ledger().acquire(&other).await.unwrap(), [], "another generation gets nothing");
    let lease = leased(rig, &ann, "a").await;
    assert_eq!(lease.epoch, 1, "the first lease has the first epoch");
    assert_eq!(lease.position, Position::At(sequence(100)));
    let found = row(rig, "a").await;
    assert_eq!((found.epoch, found.owner), (1, Some(ann.clone())));
    let rest = acquire(rig, &bob, &["a", "b", "unknown"], LONG).await;
    assert_eq!(rest.len(), 1, "what is held or unknown is left out");
    assert_eq!(rest[0].partition, partition("b"));
    assert_eq!(acquire(rig, &bob, &[], LONG).await, []);
    assert_eq!(row(rig, "a").await.owner, Some(ann));
}

pub async fn leases_raced_for_are_given_once(rig: &impl Rig) {
    let names: Vec<String> = (0..40).map(|number| format!("s{number:02}")).collect();
    let shards: Vec<_> = names.iter().map(|name| shard(name, None, None)).collect();
    enrolled(rig, &shards).await;
    let forward: Vec<&str> = names.iter().map(String::as_str).collect();
    let backward: Vec<&str> = forward.iter().rev().copied().collect();
    let (ann, bob) = (worker("ann"), worker("bob"));
    let (first, second) = futures_util::join!(
        acquire(rig, &ann, &forward, LONG),
        acquire(rig, &bob, &backward, LONG)
    );
    let all: Vec<_> = first.iter().chain(&second).map(|lease| &lease.partition).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(all.len(), distinct.len(), "two workers never get the same one");
    let rest = acquire(rig, &ann, &forward, LONG).await;
    assert_eq!(all.len() + rest.len(), names.len(), "each is given once");
}

pub async fn an_expired_lease_goes_to_another_with_a_new_epoch(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(100))]).await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let [old] = acquire(rig, &ann, &["a"], SHORT).await.try_into().unwrap();
    let new = within_bound(rig, "the lease expires", async || {
        acquire(rig, &bob, &["a"], LONG).await.pop()
    })
    .await;
    assert_eq!(new.epoch, old.epoch + 1);
    assert_eq!(row(rig, "a").await.owner, Some(bob.clone()));
    renew(rig, &ann, LONG).await;
    assert_eq!(held(rig, &ann).await, [], "a sign of life brings no lost lease back");
    assert_eq!(held(rig, &bob).await, [(partition("a"), new.epoch)]);
    // The late owner gives back what is not its any more.
    release(rig, &ann, &old, false).await;
    assert_eq!(row(rig, "a").await.owner, Some(bob));
}

pub async fn a_lease_lasts_as_long_as_its_owner_lives(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, None), shard("b", None, None)]).await;
    let (ann, bob, eve) = (worker("ann"), worker("bob"), worker("eve"));
    let [kept] = acquire(rig, &ann, &["a"], SHORT).await.try_into().unwrap();
    let [late] = acquire(rig, &bob, &["b"], SHORT).await.try_into().unwrap();
    renew(rig, &ann, LONG).await;
    within_bound(rig, "the lease of the silent worker ends", async || {
        acquire(rig, &eve, &["a", "b"], LONG).await.pop()
    })
    .await;
    assert_eq!(held(rig, &ann).await, [(kept.partition, kept.epoch)], "renewed, no new epoch");
    assert_eq!(held(rig, &eve).await, [(late.partition, late.epoch + 1)]);
    rig.ledger().release(SOURCE, &ann, &[], true).await.unwrap();
    assert_eq!(held(rig, &ann).await, [], "who has left lives no more");
    assert_eq!(acquire(rig, &eve, &["a"], LONG).await.len(), 1);
}

pub async fn a_renewal_is_a_sign_of_life(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, None)]).await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    renew(rig, &ann, LONG).await;
    renew(rig, &bob, LONG).await;
    assert_eq!(view(rig).await.workers, 2, "idle workers show themselves too");
    rig.ledger().release(SOURCE, &ann, &[], false).await.unwrap();
    assert_eq!(view(rig).await.workers, 2, "giving leases back is not leaving");
    rig.ledger().release(SOURCE, &ann, &[], true).await.unwrap();
    assert_eq!(view(rig).await.workers, 1, "who leaves is gone at once");
    renew(rig, &bob, SHORT).await;
    within_bound(rig, "a silent worker is no longer alive", async || {
        (view(rig).await.workers == 0).then_some(())
    })
    .await;
}

pub async fn a_released_lease_is_free_at_once(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, None)]).await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let lease = leased(rig, &ann, "a").await;
    release(rig, &bob, &lease, false).await;
    assert_eq!(row(rig, "a").await.owner, Some(ann.clone()), "only the owner can give it back");
    release(rig, &ann, &lease, false).await;
    assert_eq!(row(rig, "a").await.owner, None);
    let again = leased(rig, &ann, "a").await;
    release(rig, &ann, &lease, false).await;
    assert_eq!(
        row(rig, "a").await.owner,
        Some(ann.clone()),
        "a lease of before is not the new one"
    );
    release(rig, &ann, &again, false).await;
    let late = rig.sink().apply(&batch(&ann, &lease, 5, vec![])).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Fenced, "what is given back is not held");
    let next = leased(rig, &bob, "a").await;
    assert_eq!(next.epoch, again.epoch + 1);
    release(rig, &bob, &next, true).await;
    assert_eq!(row(rig, "a").await.owner, None, "leaving gives back as well");
}

pub async fn a_drained_partition_is_not_leased(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let lease = leased(rig, &ann, "a").await;
    let mut last = batch(&ann, &lease, 9, vec![letter("42", 1, None, version(9))]);
    last.fence.advances[0].drained = true;
    rig.sink().apply(&last).await.unwrap();
    release(rig, &ann, &lease, true).await;
    let found = row(rig, "a").await;
    assert_eq!((found.state, found.owner), (PartitionState::Drained, None));
    assert_eq!(acquire(rig, &bob, &["a"], LONG).await, [], "nothing is left to read");
    let relisted = listing(&[shard("a", None, Some(1))]);
    rig.ledger().register(SOURCE, STREAM, &relisted).await.unwrap();
    assert_eq!(row(rig, "a").await.state, PartitionState::Drained, "a listing opens nothing");
}

pub async fn a_gap_is_recorded_once_and_may_halt(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let gap = Gap {
        reason: GapReason::Trimmed,
        stream_arn: STREAM.to_owned(),
        partition: Some(partition("a")),
        after: Some(Position::After(sequence(5))),
        since: None,
    };
    rig.ledger().record_gap(SOURCE, 1, &gap, false).await.unwrap();
    let once = view(rig).await;
    assert_eq!((once.gaps, once.halted), (1, None));
    rig.ledger().record_gap(SOURCE, 1, &gap, false).await.unwrap();
    assert_eq!(view(rig).await.gaps, 1, "the same gap again changes nothing");
    let whole = Gap {
        reason: GapReason::StreamChanged,
        stream_arn: STREAM.to_owned(),
        partition: None,
        after: None,
        since: None,
    };
    rig.ledger().record_gap(SOURCE, 1, &whole, true).await.unwrap();
    let halted = view(rig).await;
    assert_eq!(halted.gaps, 2);
    assert!(halted.halted.is_some(), "where asked, the source halts");
    rig.ledger().record_gap(SOURCE, 1, &whole, true).await.unwrap();
    assert_eq!(view(rig).await, halted, "once, without a partition too");
}

pub async fn a_lost_shard_takes_no_late_batch(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let ann = worker("ann");
    let lease = leased(rig, &ann, "a").await;
    let gap = Gap {
        reason: GapReason::Vanished,
        stream_arn: STREAM.to_owned(),
        partition: Some(partition("a")),
        after: Some(lease.position.clone()),
        since: None,
    };
    rig.ledger().record_gap(SOURCE, 1, &gap, false).await.unwrap();
    let late = rig.sink().apply(&batch(&ann, &lease, 5, vec![])).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Fenced);
    let found = row(rig, "a").await;
    assert_eq!((found.state, found.position), (PartitionState::Lost, lease.position));
}

async fn renew(rig: &impl Rig, who: &WorkerId, lease_ttl: Duration) {
    rig.ledger().renew(SOURCE, who, lease_ttl).await.unwrap();
}

/// The leases that a worker has.
async fn held(rig: &impl Rig, who: &WorkerId) -> Vec<(PartitionId, Epoch)> {
    let rows = view(rig).await.partitions.into_iter();
    let own = rows.filter(|row| row.owner.as_ref() == Some(who));
    own.map(|row| (row.id, row.epoch)).collect()
}

async fn release(rig: &impl Rig, who: &WorkerId, lease: &Lease, leaving: bool) {
    let held = [(lease.partition.clone(), lease.epoch)];
    rig.ledger().release(SOURCE, who, &held, leaving).await.unwrap();
}
