//! What the target must hold at a position: the fold of the stream's records up to there (I8).

use std::collections::HashMap;

use dynaurora::engine::ports::{ReadFrom, Source};
use dynaurora::model::{Cells, Change, Position, RowAction, RowOp, TableIndex};
use dynaurora::postgres::repair::compare::compare;

use super::stage::{SOON_SECS, Stage, within};

/// The records of the stream's one shard, to its end or at least to this position: those who write may be
/// faster than this reader.
pub(super) async fn records(stage: &Stage, until: Option<&Position>) -> Vec<Change> {
    let source = stage.source().await;
    let stream_arn = source.describe().await.unwrap().stream_arn.unwrap();
    let shards = source.list_shards(&stream_arn, None).await.unwrap().shards;
    let [shard] = shards.as_slice() else { panic!("one shard, not {shards:?}") };
    let mut from = ReadFrom {
        stream_arn: stream_arn.into(),
        partition: shard.id.clone(),
        position: Position::Horizon,
        iterator: None,
    };
    let mut records = Vec::new();
    loop {
        let mut page = source.read(&from).await.unwrap();
        let there = until.is_some_and(|until| passed(&page.changes, until) < page.changes.len());
        let end = page.changes.is_empty();
        records.append(&mut page.changes);
        if there || end {
            return records;
        }
        from.position = page.next;
        from.iterator = page.iterator;
    }
}

/// How many of these records a position is past.
pub(super) fn passed(records: &[Change], position: &Position) -> usize {
    match position {
        Position::After(last) => records.partition_point(|record| record.sequence <= *last),
        _ => 0,
    }
}

/// Waits until Postgres has no session of a daemon any more: what a killed one had sent is then done or
/// rolled back.
pub(super) async fn sessions_are_over(stage: &Stage) {
    let sql = "select count(*) from pg_stat_activity \
               where datname = current_database() and application_name = 'dynaurora'";
    within(SOON_SECS, "the killed daemon's sessions are over", async || {
        (stage.number(sql).await == 0).then_some(())
    })
    .await;
}

/// Holds the target against the fold up to the ledger's position, row by row and typed; no daemon may run.
pub(super) async fn target_is_the_fold(stage: &Stage) -> usize {
    sessions_are_over(stage).await;
    let ledger = stage.ledger().await;
    let [partition] = ledger.as_slice() else { panic!("one partition, not {ledger:?}") };
    let records = records(stage, Some(&partition.position)).await;
    let count = passed(&records, &partition.position);
    let mapper = &stage.plan().mapper;
    let mut live: HashMap<(TableIndex, Cells), RowOp> = HashMap::new();
    let mut rows = Vec::new();
    for record in &records[..count] {
        mapper.map(record, &mut rows);
        for row in rows.drain(..) {
            let key_columns = mapper.tables()[usize::from(row.table.0)].key_columns;
            let key = (row.table, row.cells.prefix(key_columns));
            match row.action {
                RowAction::Upsert => live.insert(key, row),
                RowAction::Delete | RowAction::SoftDelete => live.remove(&key),
                RowAction::Record => None,
            };
        }
    }
    let mut expected = vec![Vec::new(); mapper.tables().len()];
    for row in live.into_values() {
        expected[usize::from(row.table.0)].push(row.cells);
        for (table, cells) in row.children {
            expected[usize::from(table.0)].push(cells);
        }
    }
    for (at, rows) in expected.iter().enumerate() {
        let found = compare(&stage.pool, mapper.tables(), at, rows).await.unwrap();
        let clean = found.missing + found.unexpected == 0;
        assert!(clean, "after {count} records, at {}: {found:#?}", partition.position);
    }
    count
}
