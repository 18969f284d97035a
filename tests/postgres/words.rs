//! What the ledger holds as text means the same to its SQL as to the program.

use std::collections::HashMap;

use dynaurora::engine::ports::{Backfills, Ledger, NewBackfill, Rewind};
use dynaurora::model::{EpochMillis, GapReason, PartitionId, PartitionKind, Position};
use dynaurora::model::{SequenceNumber, Version};

use super::rig::{Rig, tables};
use crate::rig::{SOURCE, STREAM};

fn number(text: &str) -> SequenceNumber {
    SequenceNumber::parse(text).unwrap()
}

fn after(text: &str) -> Position {
    Position::After(number(text))
}

/// Each position with whether a shard there has still to come back to 100.
fn positions() -> [(Position, bool); 8] {
    [
        (Position::Horizon, true),
        (Position::Start, true),
        (Position::At(number("100")), true),
        (after("99"), true),
        (after("100"), false),
        (after("000000000000000000000000000000000000101"), false),
        (Position::Key(r#"{"pk":{"S":"after:7"}}"#.into()), true),
        (Position::Line(12), true),
    ]
}

/// The shard `n0`, `n1`, … at each of the positions.
async fn shards_at(rig: &Rig, positions: &[Position]) {
    let names: Vec<String> = (0..positions.len()).map(|at| format!("n{at}")).collect();
    rig.register(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (name, position) in names.iter().zip(positions) {
        let sql = "update dynaurora.partitions set position = $1 where partition = $2";
        let update = sqlx::query(sql).bind(position.to_string()).bind(name);
        update.execute(&rig.pool).await.unwrap();
    }
}

#[tokio::test]
async fn every_position_is_one_of_the_ledgers_and_comes_back() {
    let rig = Rig::with_tables(&tables()).await;
    let positions = positions();
    shards_at(&rig, &positions.clone().map(|(position, _)| position)).await;
    rig.run("update dynaurora.partitions set replays_to = 'after:100'").await;
    let view = rig.ledger.view(SOURCE).await.unwrap();
    let replaying = "select replaying::text from dynaurora.partitions order by partition";
    let replaying = rig.texts(replaying).await;
    for (at, (position, comes_back)) in positions.iter().enumerate() {
        assert_eq!(view.partitions[at].position, *position);
        assert_eq!(replaying[at], Some(comes_back.to_string()), "{position}");
    }
}

/// A shard that is rewound again goes on to whichever place is further.
#[tokio::test]
async fn a_rewound_shard_remembers_the_furthest_place() {
    let rig = Rig::with_tables(&tables()).await;
    let cases = [
        ("150", "null", "after:150"),
        ("90", "'after:100'", "after:100"),
        ("90", "'after:0000000000000000000000000000000000000089'", "after:90"),
        ("150", "'after:99'", "after:150"),
        ("150", "'end'", "end"),
    ];
    shards_at(&rig, &cases.map(|(at, ..)| after(at))).await;
    for (at, (_, before, _)) in cases.iter().enumerate() {
        let set = format!("set replays_to = {before} where partition = 'n{at}'");
        rig.run(&format!("update dynaurora.partitions {set}")).await;
    }
    let start = |at| (PartitionId::new(format!("n{at}")), Position::At(number("1")));
    let starts: HashMap<_, _> = (0..cases.len()).map(start).collect();
    let backfill = NewBackfill {
        source: SOURCE.into(),
        replaces: 1,
        stream: None,
        partitions: Vec::new(),
        items: None,
        rcu_max: None,
        mapping: None,
        rewind: Some(Rewind { stream_arn: STREAM.into(), as_of: EpochMillis(0), starts }),
    };
    assert!(rig.ledger.begin_backfill(&backfill).await.unwrap());
    let replays = "select replays_to from dynaurora.partitions order by partition";
    assert_eq!(rig.texts(replays).await, cases.map(|(.., to)| Some(to.to_owned())));
}

#[tokio::test]
async fn versions_reasons_and_kinds_are_the_ledgers() {
    let rig = Rig::with_tables(&tables()).await;
    rig.register(&[]).await;
    let scanned = Version { generation: 7, sequence: SequenceNumber::ZERO };
    let sql = format!("select mod({scanned}, 1e40)::text || ' ' || div({scanned}, 1e40)::text");
    assert_eq!(rig.texts(&sql).await, [Some("0 7".to_owned())]);
    for reason in GapReason::ALL.map(GapReason::label) {
        let values = format!("values ('{SOURCE}', 's', '{reason}')");
        rig.run(&format!("insert into dynaurora.gaps (source, stream_arn, reason) {values}")).await;
    }
    for kind in [PartitionKind::Shard, PartitionKind::Segment, PartitionKind::File] {
        let stream = if kind == PartitionKind::Shard { "'s'" } else { "null" };
        let label = kind.label();
        rig.run(&format!(
            "insert into dynaurora.partitions \
             (source, partition, kind, stream_arn, position, generation) \
             values ('{SOURCE}', '{label}', '{label}', {stream}, 'start', 1)"
        ))
        .await;
    }
}
