//! Dead letters as people see them.

use dynaurora::apply::ports::DeadLetter;
use dynaurora::engine::ports::{Lease, Ledger};
use dynaurora::error::ErrorKind;
use dynaurora::postgres::listings::dead_letters::{
    DeadLetterFilter, DeadLetterState, counts, list, open_ids, settle, show,
};

use super::rig::{Rig, dead_letter};
use crate::rig::{SOURCE, batch, changed, moved, version, worker};

#[tokio::test]
async fn dead_letters_are_stored_whole_superseded_listed_and_settled() {
    let (rig, lease, letters) = three_letters().await;
    let touched = vec![(letters[0].key_hash, version(6)), (letters[1].key_hash, version(5))];
    let empty = batch(&worker("ann"), &moved(&lease, 5), 6, vec![]);
    let next = changed(empty, |own| own.rows.touched = touched);
    assert_eq!(rig.apply(&next).await.unwrap().dead_letters_superseded, 1);

    let all = list(&rig.pool, DeadLetterFilter::default()).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[2].state, DeadLetterState::Superseded);
    assert!(all[2].settled_at.is_some() && all[0].settled_at.is_none());
    let open = DeadLetterFilter {
        source: Some(SOURCE),
        state: Some(DeadLetterState::Open),
        limit: Some(1),
    };
    let newest = list(&rig.pool, open).await.unwrap();
    assert_eq!(newest, all[..1]);
    let nobody = DeadLetterFilter { source: Some("nobody"), ..open };
    assert_eq!(list(&rig.pool, nobody).await.unwrap(), []);

    let stored = show(&rig.pool, newest[0].id).await.unwrap().unwrap();
    assert_eq!((&stored.key, &stored.image), (&letters[2].key, &letters[2].image));
    assert_eq!((stored.version, stored.reason.as_str()), (version(5).to_string(), "nul"));
    assert_eq!(stored.entity.as_deref(), Some("letter"));
    assert_eq!(stored.detail, "the attribute \u{fffd} holds U+0000");
    assert!(show(&rig.pool, -1).await.unwrap().is_none());

    assert!(settle(&rig.pool, stored.id, DeadLetterState::Dropped, Some("old")).await.unwrap());
    assert!(!settle(&rig.pool, stored.id, DeadLetterState::Resolved, None).await.unwrap());
    let error = settle(&rig.pool, stored.id, DeadLetterState::Open, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let counts = counts(&rig.pool, Some(SOURCE)).await.unwrap();
    let counts: Vec<_> = counts.iter().map(|count| (count.state.label(), count.count)).collect();
    assert_eq!(counts, [("dropped", 1), ("open", 1), ("superseded", 1)]);
    assert_eq!(rig.ledger.view(SOURCE).await.unwrap().dead_letters, 1);
}

#[tokio::test]
async fn settled_dead_letters_are_kept_for_a_month_and_open_ones_for_ever() {
    let (rig, ..) = three_letters().await;
    let ids = open_ids(&rig.pool, SOURCE, Some("nul")).await.unwrap();
    assert_eq!(ids.len(), 3);
    assert!(open_ids(&rig.pool, SOURCE, Some("range")).await.unwrap().is_empty());
    for id in &ids[..2] {
        assert!(settle(&rig.pool, *id, DeadLetterState::Resolved, None).await.unwrap());
    }
    rig.run(
        "update dynaurora.dead_letters set created_at = now() - interval '1 year', \
         settled_at = settled_at - interval '31 days' where id = (select min(id) \
         from dynaurora.dead_letters)",
    )
    .await;
    rig.register(&["a", "b"]).await;
    let left = list(&rig.pool, DeadLetterFilter::default()).await.unwrap();
    assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
}

/// Three open dead letters of a batch, and the lease that it moved.
async fn three_letters() -> (Rig, Lease, [DeadLetter; 3]) {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let letters = ["1", "2", "3"].map(|child| dead_letter(child, 5));
    let first = changed(batch(&ann, &lease, 5, vec![]), |own| own.rows.rejects = letters.to_vec());
    rig.apply(&first).await.unwrap();
    (rig, lease, letters)
}
