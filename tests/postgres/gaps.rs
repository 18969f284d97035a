//! Gaps that an operator accepts.

use dynaurora::apply::ports::{Batch, Unit};
use dynaurora::engine::ports::{Continuity, Gap, Lease, LeaseRequest, Ledger, Listing};
use dynaurora::error::ErrorKind;
use dynaurora::model::{GapReason, Generation, Version, WorkerId};
use dynaurora::postgres::listings::gaps::{accept, list};

use super::rig::{LEASE_TTL, Rig, letter, shard};
use crate::rig::{SOURCE, batch, changed, identity, moved, partition, sequence, worker};

const NEW_STREAM: &str = "arn:aws:dynamodb:eu-west-1:000000000000:table/NorthPole/stream/b";

/// The stream is enabled anew after letter 1 was applied at a high sequence number.
async fn changed_stream(rig: &Rig, ann: &WorkerId) -> Lease {
    let lease = rig.lease(ann, "a").await;
    rig.apply(&batch(ann, &lease, 900, vec![letter("1", "old", 900)])).await.unwrap();
    let stream_arn = NEW_STREAM.to_owned();
    let reason = GapReason::StreamChanged;
    let gap = Gap { reason, stream_arn, partition: None, after: None, since: None };
    rig.ledger.record_gap(SOURCE, 1, &gap, true).await.unwrap();
    lease
}

async fn open_gap(rig: &Rig) -> i64 {
    list(&rig.pool, None, false).await.unwrap()[0].id
}

fn in_generation(batch: Batch, generation: Generation) -> Batch {
    let anew = |unit: &mut Unit| unit.version = Version { generation, ..unit.version };
    changed(batch, |own| {
        own.fence.generation = generation;
        own.rows.units.iter_mut().for_each(anew);
    })
}

/// Sequence numbers of two streams do not compare.
#[tokio::test]
async fn an_accepted_new_stream_writes_over_the_old_ones_rows_with_lower_numbers() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let before = changed_stream(&rig, &ann).await;
    accept(&rig.pool, open_gap(&rig).await).await.unwrap();

    let mut now = identity();
    now.stream_arn = NEW_STREAM.to_owned();
    let enrolled = rig.ledger.enrol(&now).await.unwrap();
    assert_eq!((enrolled.generation, enrolled.continuity), (2, Continuity::Same));
    let listing = Listing { shards: vec![shard("n")], complete: true };
    rig.ledger.register(SOURCE, NEW_STREAM, &listing).await.unwrap();
    assert_eq!(rig.ledger.view(SOURCE).await.unwrap().halted, None);

    let late = batch(&ann, &moved(&before, 900), 901, vec![letter("2", "late", 901)]);
    let fenced = rig.apply(&late).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "what was read of the old stream comes late");

    let request = LeaseRequest {
        source: SOURCE,
        worker: &ann,
        generation: 2,
        wanted: &[partition("n")],
        lease_ttl: LEASE_TTL,
    };
    let lease = rig.ledger.acquire(&request).await.unwrap().pop().unwrap();
    let lower = in_generation(batch(&ann, &lease, 5, vec![letter("1", "new", 5)]), 2);
    assert!(sequence(5) < sequence(900));
    assert_eq!(rig.apply(&lower).await.unwrap().tables[0].upserted, 1);
    assert_eq!(rig.texts("select body from letters").await, [Some("new".to_owned())]);
}

#[tokio::test]
async fn a_new_stream_is_not_accepted_while_a_backfill_is_active() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    changed_stream(&rig, &ann).await;
    rig.run("update dynaurora.sources set backfilling = true").await;
    let refused = accept(&rig.pool, open_gap(&rig).await).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.hint().unwrap().contains("dynaurora backfill --source santa --restart"));
    assert_eq!(list(&rig.pool, None, false).await.unwrap()[0].state, "open");
}
