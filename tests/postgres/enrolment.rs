//! A source begins, is renamed and is forgotten: what only the real server can show.

use std::time::Duration;

use dynaurora::engine::ports::{Backfills, Continuity, Gap, Ledger, SourceIdentity};
use dynaurora::error::ErrorKind;
use dynaurora::mapping::spec::{ColumnType, Constant, TableSpec};
use dynaurora::model::GapReason;
use dynaurora::postgres::listings::gaps::{accept, list};
use dynaurora::postgres::listings::sources::{Forgotten, forget, rename};

use super::rig::{Rig, dead_letter, letter, tables};
use crate::contract::backfills::new_load;
use crate::rig::tables::{Build, table};
use crate::rig::{SOURCE, STREAM, batch, changed, identity, worker};

fn named(source: &str, tables: Vec<TableSpec>) -> SourceIdentity {
    SourceIdentity { source: source.into(), tables, ..identity() }
}

/// One table for two sources, told apart by the region in the key.
fn shared(region: &str) -> Vec<TableSpec> {
    let mut letters = table("everybody")
        .key("region", ColumnType::Text)
        .key("child", ColumnType::Text)
        .column("body", ColumnType::Text);
    letters.constants.push(Constant { column: 0, value: region.to_owned() });
    vec![letters]
}

#[tokio::test]
async fn only_rows_that_a_change_can_have_written_count() {
    for (versions, generation) in [
        ("(0)", 1),
        ("(17)", 1),
        ("(0), (3e40)", 4),
        ("(1e40 + 5), (3e40 + 9999999999999999999999999999999999999999)", 4),
        ("(2e40), (9e50), ('NaN'), (-1)", 3),
    ] {
        let rig = Rig::with_tables(&tables()).await;
        rig.run(&format!(
            "insert into letters (child, number, dynaurora_version) \
             select 'x', row_number() over (), v from (values {versions}) own (v)"
        ))
        .await;
        let enrolled = rig.ledger.enrol(&named(SOURCE, tables())).await.unwrap();
        assert_eq!(enrolled.generation, generation, "{versions}");
    }
}

#[tokio::test]
async fn sources_that_share_a_table_begin_above_their_own_rows_alone() {
    let rig = Rig::with_tables(&shared("eu")).await;
    rig.run(
        "insert into everybody (region, child, dynaurora_version) \
         values ('eu', 'x', 7e40), ('us', 'x', 3e40), ('moon', 'x', 9e40)",
    )
    .await;
    let enrol =
        async |source: &str, region: &str| rig.ledger.enrol(&named(source, shared(region))).await;
    assert_eq!(enrol("us", "us").await.unwrap().generation, 4);
    assert_eq!(enrol("eu", "eu").await.unwrap().generation, 8);
    let refused = enrol("more", "us").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let text = refused.to_string();
    assert!(text.contains("public.everybody") && text.contains("source us keeps it"), "{text}");
    assert!(text.contains("dynaurora sources rename us more"), "{text}");
    let whole = named("all", vec![TableSpec { constants: Vec::new(), ..shared("eu").remove(0) }]);
    assert!(rig.ledger.enrol(&whole).await.is_err(), "without a constant all rows are its own");
}

#[tokio::test]
async fn two_sources_that_want_one_table_at_once_do_not_both_get_it() {
    let rig = Rig::with_tables(&tables()).await;
    let (one, other) = (named("one", tables()), named("other", tables()));
    let (one, other) = tokio::join!(rig.ledger.enrol(&one), rig.ledger.enrol(&other));
    assert!(one.is_ok() ^ other.is_ok(), "{one:?} {other:?}");
    assert_eq!(rig.count("dynaurora.sources").await, 1);
}

/// A known source would fill another table, whose rows turn its changes away: the reason, and a remedy that
/// works.
#[tokio::test]
async fn a_table_with_rows_of_a_higher_generation_is_refused_until_the_source_begins_anew() {
    let rig = Rig::with_tables(&tables()).await;
    rig.ledger.enrol(&named(SOURCE, Vec::new())).await.unwrap();
    rig.run("insert into letters (child, number, dynaurora_version) values ('x', 1, 4e40)").await;
    let refused = rig.ledger.enrol(&named(SOURCE, tables())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.to_string().contains("rows of generation 4"), "{refused}");
    assert!(refused.hint().unwrap().contains("dynaurora sources forget santa"), "{refused:?}");
    forget(&rig.pool, SOURCE).await.unwrap();
    let enrolled = rig.ledger.enrol(&named(SOURCE, tables())).await.unwrap();
    assert_eq!(enrolled.generation, 5);
}

#[tokio::test]
async fn a_renamed_source_goes_on_where_it_was() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let rejected = changed(batch(&ann, &lease, 5, vec![letter("ada", "kite", 5)]), |own| {
        own.rows.rejects.push(dead_letter("bo", 4));
    });
    rig.apply(&rejected).await.unwrap();
    let before = rig.ledger.view(SOURCE).await.unwrap();

    let alive = rename(&rig.pool, SOURCE, "north").await.unwrap_err();
    assert_eq!(alive.kind(), ErrorKind::Conflict, "its worker is alive: {alive}");
    rig.expire_leases().await;
    let unknown = rename(&rig.pool, "noth", "north").await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.hint()), (ErrorKind::Usage, Some("it knows: santa")));
    assert_eq!(rename(&rig.pool, SOURCE, SOURCE).await.unwrap_err().kind(), ErrorKind::Usage);
    rename(&rig.pool, SOURCE, "north").await.unwrap();
    let after = rig.ledger.view("north").await.unwrap();
    assert_eq!((after.generation, after.dead_letters), (before.generation, 1));
    let positions = |view: &dynaurora::engine::ports::LedgerView| -> Vec<_> {
        view.partitions.iter().map(|row| (row.id.clone(), row.position.clone())).collect()
    };
    assert_eq!(positions(&after), positions(&before));
    assert_eq!(rig.ledger.view(SOURCE).await.unwrap_err().kind(), ErrorKind::NotEnrolled);

    let lost = forget(&rig.pool, "north").await.unwrap();
    assert_eq!(lost, Forgotten { dead_letters: 1, gaps: 0 });
    for own in ["sources", "partitions", "workers", "dead_letters"] {
        assert_eq!(rig.count(&format!("dynaurora.{own}")).await, 0, "{own}");
    }
    assert_eq!(rig.count("letters").await, 1, "its rows stay");
}

/// What an operator accepted is the table that was found, not one that was made since.
#[tokio::test]
async fn an_accepted_table_is_not_that_of_a_later_stream() {
    let rig = Rig::new().await;
    let recreated = |id: &str, stream: &str| {
        let (table_id, stream_arn) = (id.to_owned(), format!("{STREAM}{stream}"));
        SourceIdentity { table_id, stream_arn, ..identity() }
    };
    let enrol = async |found: &SourceIdentity| rig.ledger.enrol(found).await.unwrap().continuity;
    let second = recreated("second", "2");
    assert!(matches!(enrol(&second).await, Continuity::TableChanged { .. }));
    let gap = Gap {
        reason: GapReason::TableChanged,
        stream_arn: second.stream_arn.clone(),
        partition: None,
        after: None,
        since: None,
    };
    rig.ledger.record_gap(SOURCE, 1, &gap, true).await.unwrap();
    let open = list(&rig.pool, None, false).await.unwrap();
    accept(&rig.pool, open[0].id).await.unwrap();

    let third = recreated("third", "3");
    assert!(
        matches!(enrol(&third).await, Continuity::TableChanged { .. }),
        "a person is asked again"
    );
    assert_eq!(enrol(&second).await, Continuity::Same, "this one was accepted");
    assert!(matches!(enrol(&third).await, Continuity::TableChanged { .. }));
}

/// The deletes that a gap lost are found by the first backfill after it was accepted, though none came
/// before.
#[tokio::test]
async fn a_backfill_after_an_accepted_gap_sweeps() {
    let rig = Rig::new().await;
    let gap = Gap {
        reason: GapReason::Unpolled,
        stream_arn: STREAM.to_owned(),
        partition: None,
        after: None,
        since: None,
    };
    rig.ledger.record_gap(SOURCE, 1, &gap, true).await.unwrap();
    accept(&rig.pool, list(&rig.pool, None, false).await.unwrap()[0].id).await.unwrap();
    let load = new_load(1);
    assert!(rig.ledger.begin_backfill(&load).await.unwrap());
    assert!(rig.ledger.view(SOURCE).await.unwrap().backfill.sweeps);
}

/// A table's rows are not read again for a source that is known, and a locked table does not keep it from its
/// shards.
#[tokio::test]
async fn a_known_source_is_enrolled_without_a_look_at_its_tables() {
    let rig = Rig::with_tables(&tables()).await;
    rig.ledger.enrol(&named(SOURCE, tables())).await.unwrap();
    let mut locked = rig.pool.begin().await.unwrap();
    sqlx::raw_sql("lock table letters").execute(&mut *locked).await.unwrap();
    let again = rig.ledger.enrol(&named(SOURCE, tables())).await;
    assert_eq!(again.unwrap().listed_ago, None::<Duration>);
}
