//! What every ledger must do when a load of older items begins and ends.

use std::collections::HashMap;

use dynaurora::apply::ports::{Advance, Sink};
use dynaurora::engine::ports::{
    Backfills, Lease, LeaseRequest, Ledger, NewBackfill, NewStream, PartitionState, Rewind,
};
use dynaurora::model::{EpochMillis, PartitionId, Position};

use super::{
    LONG, Rig, SOURCE, STREAM, advance, batch, enrolled, leased, letter, partition, row, sequence,
    shard, version, view, worker,
};

const AS_OF: EpochMillis = EpochMillis(1_700_000_000_000);
const FILE: &str = "file/0/-/s3://bucket/data/a.json.gz";

/// Each sentence over a fresh ledger.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { rewind [
            what_was_applied_since_is_read_again
            a_load_ends_once_every_shard_is_back
            without_a_start_no_load_begins
            another_stream_than_that_of_the_items_begins_nothing
        ] $($how)* }
    };
}
pub(crate) use cases;

/// `old` was applied before the moment; `p`, which is drained, and its child after it; `new` not at all.
async fn applied(rig: &impl Rig) {
    let shards = [
        shard("old", None, Some(100)),
        shard("p", None, Some(100)),
        shard("c", Some("p"), Some(200)),
        shard("new", None, Some(100)),
    ];
    enrolled(rig, &shards).await;
    let ann = worker("ann");
    for (name, to, drained, seconds) in
        [("old", 150, false, -1), ("p", 190, true, 1), ("c", 250, false, 2)]
    {
        let lease = leased(rig, &ann, name).await;
        let step = Advance {
            drained,
            last_event_at: Some(EpochMillis(AS_OF.0 + seconds * 1000)),
            ..advance(&lease, to)
        };
        let units = vec![letter(name, 1, None, version(to))];
        let mut batch = batch(&ann, &lease, to, units);
        batch.fence.advances = vec![step];
        rig.sink().apply(&batch).await.unwrap();
    }
}

fn load(starts: &[(&str, u64)]) -> NewBackfill {
    let start = |(name, at): &(&str, u64)| (partition(name), Position::At(sequence(*at)));
    let starts: HashMap<_, _> = starts.iter().map(start).collect();
    NewBackfill {
        source: SOURCE.into(),
        replaces: 1,
        stream: None,
        partitions: vec![partition(FILE)],
        items: Some(0),
        rcu_max: None,
        mapping: None,
        rewind: Some(Rewind { stream_arn: STREAM.into(), as_of: AS_OF, starts }),
    }
}

const STARTS: [(&str, u64); 4] = [("old", 110), ("p", 110), ("c", 200), ("new", 110)];

pub async fn what_was_applied_since_is_read_again(rig: &impl Rig) {
    applied(rig).await;
    assert!(rig.ledger().begin_backfill(&load(&STARTS)).await.unwrap());
    let found = view(rig).await;
    assert!(found.backfill.active && found.generation == 2);
    assert_eq!(found.backfill.replaying, 2);
    let at = |number| Position::At(sequence(number));
    let after = |number| Position::After(sequence(number));
    for (name, position) in [
        ("old", after(150)),
        ("p", at(110)),
        ("c", at(200)),
        ("new", at(100)),
        (FILE, Position::Start),
    ] {
        let row = row(rig, name).await;
        assert_eq!((row.state, row.position), (PartitionState::Open, position), "{name}");
    }
    assert_eq!(row(rig, "c").await.last_event_at, None, "it is not true any more");
}

/// Leases in the load's generation and moves the position.
async fn moves(rig: &impl Rig, name: &str, to: Position, drained: bool) {
    let ann = worker("ann");
    let wanted = [partition(name)];
    let request = LeaseRequest {
        source: SOURCE,
        worker: &ann,
        generation: 2,
        wanted: &wanted,
        lease_ttl: LONG,
    };
    let mut leases: Vec<Lease> = rig.ledger().acquire(&request).await.unwrap();
    let lease = leases.pop().expect("it is free");
    let step = Advance { to, drained, ..advance(&lease, 1) };
    let mut batch = batch(&ann, &lease, 1, vec![]);
    batch.fence.generation = 2;
    batch.fence.advances = vec![step];
    rig.sink().apply(&batch).await.unwrap();
    let held: Vec<(PartitionId, i64)> = vec![(lease.partition, lease.epoch)];
    rig.ledger().release(SOURCE, &ann, &held, false).await.unwrap();
}

pub async fn a_load_ends_once_every_shard_is_back(rig: &impl Rig) {
    applied(rig).await;
    assert!(rig.ledger().begin_backfill(&load(&STARTS)).await.unwrap());
    let after = |number| Position::After(sequence(number));
    let replaying = async || view(rig).await.backfill.replaying;
    let ends = async || rig.ledger().end_backfill(SOURCE, 2).await.unwrap();
    moves(rig, FILE, Position::Line(0), true).await;
    assert!(!ends().await, "two shards are not where they were");
    moves(rig, "p", after(190), false).await;
    assert_eq!(replaying().await, 2, "it was at its end");
    moves(rig, "p", after(190), true).await;
    moves(rig, "c", after(249), false).await;
    assert_eq!(replaying().await, 1);
    assert!(!ends().await);
    moves(rig, "c", after(250), false).await;
    assert_eq!(replaying().await, 0);
    assert!(ends().await);
    assert!(!view(rig).await.backfill.active);
}

pub async fn without_a_start_no_load_begins(rig: &impl Rig) {
    applied(rig).await;
    let before = view(rig).await;
    assert!(!rig.ledger().begin_backfill(&load(&STARTS[..2])).await.unwrap());
    assert_eq!(view(rig).await, before, "nothing happened");
}

/// Items are as of their time: what was changed until a later stream began is in neither.
pub async fn another_stream_than_that_of_the_items_begins_nothing(rig: &impl Rig) {
    applied(rig).await;
    let before = view(rig).await;
    let new = || NewStream {
        stream_arn: format!("{STREAM}2").into(),
        shards: vec![shard("later", None, Some(1))],
    };
    let of = |stream_arn: &str| {
        let own = load(&STARTS);
        let rewind = own.rewind.map(|own| Rewind { stream_arn: stream_arn.into(), ..own });
        NewBackfill { rewind, ..own }
    };
    let later = NewBackfill { stream: Some(new()), ..of(STREAM) };
    assert!(!rig.ledger().begin_backfill(&later).await.unwrap(), "it was enabled again since");
    let unknown = of(&format!("{STREAM}2"));
    assert!(!rig.ledger().begin_backfill(&unknown).await.unwrap(), "the ledger has another one");
    assert_eq!(view(rig).await, before, "nothing happened");
    let fitting = NewBackfill { stream: Some(new()), ..of(&format!("{STREAM}2")) };
    assert!(rig.ledger().begin_backfill(&fitting).await.unwrap());
    assert_eq!(row(rig, "later").await.position, Position::At(sequence(1)));
}
