//! What a sweep takes beside the rows that a backfill did not find.

use dynaurora::apply::ports::{Phase, Unit};
use dynaurora::engine::ports::{Backfills, LeaseRequest, Ledger, Stale, Sweep, Swept, Target};
use dynaurora::model::{Generation, RowAction, SequenceNumber, Version};

use super::rig::{LEASE_TTL, Rig, letter, unit};
use crate::contract::backfills::new_load;
use crate::rig::{LETTERS, SOURCE, batch, cells, changed, moved, partition, wishing, worker};

fn sweep(generation: Generation) -> Sweep {
    Sweep {
        source: SOURCE.into(),
        generation,
        tables: vec![LETTERS],
        spared: vec![(LETTERS, cells(&[Some("spared"), Some("1")]))],
        letters: Vec::new(),
    }
}

/// The parent rows are lost by hand, their items are deleted, and the backfill finds the others.
#[tokio::test]
async fn child_rows_without_a_parent_row_go_with_a_sweep() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let of = |child: &str| wishing(letter(child, "old", 5), &[(0, "kite"), (1, "ball")]);
    let units = ["gone", "kept", "spared"].map(of).to_vec();
    rig.apply(&batch(&ann, &lease, 5, units)).await.unwrap();
    rig.run("truncate letters").await;
    let deletes = vec![unit(RowAction::Delete, cells(&[Some("gone"), Some("1")]), 6)];
    let lease = moved(&lease, 5);
    rig.apply(&batch(&ann, &lease, 6, deletes)).await.unwrap();
    assert_eq!(rig.count("toys").await, 6, "a delete finds child rows through their parent row");

    let load = new_load(1);
    assert!(rig.ledger.begin_backfill(&load).await.unwrap());
    let scanned = Version { generation: 2, sequence: SequenceNumber::ZERO };
    let found = Unit { version: scanned, ..wishing(letter("kept", "new", 5), &[(0, "kite")]) };
    let wanted = [partition("scan/000-of-002")];
    let request = LeaseRequest {
        source: SOURCE,
        worker: &ann,
        generation: 2,
        wanted: &wanted,
        lease_ttl: LEASE_TTL,
    };
    let segment = rig.ledger.acquire(&request).await.unwrap().pop().unwrap();
    let page = changed(batch(&ann, &segment, 1, vec![found]), |own| {
        own.fence.generation = 2;
        own.phase = Phase::OfBackfill;
    });
    rig.apply(&page).await.unwrap();

    let sweep = sweep(2);
    let early = rig.sink.sweep(&sweep).await.unwrap();
    assert_eq!(early, Swept::Over, "nothing is swept before all is read");
    rig.run("update dynaurora.partitions set state = 'drained' where kind <> 'shard'").await;
    assert_eq!(rig.sink.stale(&sweep).await.unwrap(), Stale { rows: 4, of: 5 });
    let mut swept = 0;
    loop {
        match rig.sink.sweep(&sweep).await.unwrap() {
            Swept::Rows(rows) => swept += rows,
            Swept::Done => break,
            Swept::Over => panic!("the backfill goes on"),
        }
    }
    assert_eq!(swept, 2);
    let left = rig.texts("select child || position from toys order by 1").await;
    let expected = ["kept0", "spared0", "spared1"].map(|own| Some(own.to_owned()));
    assert_eq!(left, expected, "a dead letter holds the row of which these are");
}
