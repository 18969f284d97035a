//! What every ledger must do when a source is enrolled: it begins above the rows that are there, and keeps
//! its tables for itself.

use dynaurora::apply::ports::Sink;
use dynaurora::engine::ports::{Backfills, Continuity, Ledger, NewBackfill, SourceIdentity};
use dynaurora::error::ErrorKind;
use dynaurora::model::{Generation, Version};

use super::{
    LETTERS, Rig, SOURCE, STREAM, batch, identity, leased, letter, listing, partition, sequence,
    shard, tables, view, worker,
};

/// Every sentence of the docs of an enrolment, each over a fresh ledger and fresh tables.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { enrolment [
            a_source_begins_above_the_rows_that_are_there
            a_source_over_empty_tables_begins_with_the_first_generation
            a_table_is_kept_by_one_source
        ] $($how)* }
    };
}
pub(crate) use cases;

fn with_tables() -> SourceIdentity {
    SourceIdentity { tables: tables(), ..identity() }
}

/// Applies one letter in the first generation, with a version of its own.
async fn written(rig: &impl Rig, at: Version) {
    rig.ledger().register(SOURCE, STREAM, &listing(&[shard("a", None, Some(1))])).await.unwrap();
    let ann = worker("ann");
    let lease = leased(rig, &ann, "a").await;
    rig.sink().apply(&batch(&ann, &lease, 5, vec![letter("42", 1, None, at)])).await.unwrap();
}

async fn begun(rig: &impl Rig, replaces: Generation) -> bool {
    let load = NewBackfill {
        source: SOURCE.into(),
        replaces,
        stream: None,
        partitions: vec![partition("scan/000-of-001")],
        items: None,
        rcu_max: None,
        mapping: None,
        rewind: None,
    };
    rig.ledger().begin_backfill(&load).await.unwrap()
}

pub async fn a_source_begins_above_the_rows_that_are_there(rig: &impl Rig) {
    let ledger = rig.ledger();
    ledger.enrol(&with_tables()).await.unwrap();
    written(rig, Version { generation: 4, sequence: sequence(5) }).await;
    rig.forget().await;
    assert_eq!(rig.rows(LETTERS).await.len(), 1, "only the ledger is lost");

    let own = with_tables();
    let (one, other) = futures_util::join!(ledger.enrol(&own), ledger.enrol(&own));
    for enrolled in [one.unwrap(), other.unwrap(), ledger.enrol(&own).await.unwrap()] {
        assert_eq!((enrolled.generation, enrolled.continuity), (5, Continuity::Same));
        assert_eq!(enrolled.listed_ago, None);
    }
    ledger.register(SOURCE, STREAM, &listing(&[])).await.unwrap();
    assert!(begun(rig, 5).await);
    let view = view(rig).await;
    assert_eq!(
        (view.generation, view.backfill.sweeps),
        (6, true),
        "of those rows some are no more"
    );
}

pub async fn a_source_over_empty_tables_begins_with_the_first_generation(rig: &impl Rig) {
    let ledger = rig.ledger();
    assert_eq!(ledger.enrol(&with_tables()).await.unwrap().generation, 1);
    written(rig, Version { generation: 1, sequence: sequence(5) }).await;
    assert_eq!(ledger.enrol(&with_tables()).await.unwrap().generation, 1, "it is known");
    assert!(begun(rig, 1).await);
    assert!(!view(rig).await.backfill.sweeps, "there was nothing to sweep");
}

pub async fn a_table_is_kept_by_one_source(rig: &impl Rig) {
    let ledger = rig.ledger();
    ledger.enrol(&with_tables()).await.unwrap();
    let other = SourceIdentity { source: "north".into(), ..with_tables() };
    let refused = ledger.enrol(&other).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(
        ledger.view("north").await.unwrap_err().kind(),
        ErrorKind::NotEnrolled,
        "it is not entered"
    );
    let [letters, toys, _] = tables().try_into().unwrap();
    let part = SourceIdentity { tables: vec![toys], ..other.clone() };
    assert!(ledger.enrol(&part).await.is_err(), "a table of child rows is a table too");

    let less = SourceIdentity { tables: Vec::new(), ..with_tables() };
    ledger.enrol(&less).await.unwrap();
    ledger.enrol(&part).await.unwrap();
    assert!(ledger.enrol(&with_tables()).await.is_err(), "now the other one keeps it");
    ledger.enrol(&SourceIdentity { tables: vec![letters], ..with_tables() }).await.unwrap();
}
