//! The whole ledger of a source, read in one transaction.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use crate::engine::ports::{BackfillView, LedgerView, PartitionRow, PartitionState, Verified};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EpochMillis, Halt, Incarnation, PartitionId, Position, UNREAD_MAX, WorkerId};
use crate::postgres::session::{self, Tx};
use crate::postgres::sql::words::{INCARNATION, lives};

fn source_of() -> String {
    let lives = lives("w");
    format!(
        "select {INCARNATION} as incarnation, generation, stream_arn, halted, \
         listed_at is not null as listed, backfilling, \
         loaded_at is not null as loaded, load_sweeps, sweep_confirmed, load_items, load_rcu_max, \
         load_mapping, \
         (select count(*) from dynaurora.partitions p where p.source = s.source \
         and p.stream_arn = s.stream_arn and p.replaying) as replaying, \
         (select count(*) from dynaurora.workers w \
         where w.source = s.source and {lives}) as workers, \
         array(select w.mapping from dynaurora.workers w where w.source = s.source \
         and {lives} and w.mapping is not null) as mappings, \
         (select count(*) from dynaurora.dead_letters d \
         where d.source = s.source and d.state = 'open') as dead_letters, \
         (select count(*) from dynaurora.gaps g \
         where g.source = s.source and g.state in ('open', 'repairing')) as gaps, \
         (select count(*) from dynaurora.gaps g \
         where g.source = s.source and g.state = 'open') as gaps_open, \
         v.mismatched - v.repaired as mismatched, \
         round(extract(epoch from v.ended_at) * 1000)::bigint as verified_ms, \
         floor(extract(epoch from dynaurora.synced_up_to(s.source)) * 1000)::bigint as synced_ms \
         from dynaurora.sources s left join dynaurora.verifications v on v.source = s.source \
         where s.source = $1"
    )
}

/// The database's clock decides whether an owner is alive.
fn partitions_of() -> String {
    format!(
        "select p.partition, p.parent, p.state, p.position, p.records, p.epoch, \
         w.worker as owner, \
         round(extract(epoch from p.last_event_at) * 1000)::bigint as last_event_ms, \
         p.position = $2 and p.registered_at < now() - $3 * interval '1 second' as overdue \
         from dynaurora.partitions p join dynaurora.sources s on s.source = p.source \
         left join dynaurora.workers w on w.source = p.source and w.worker = p.owner and {} \
         where p.source = $1 and (p.stream_arn = s.stream_arn \
         or (p.stream_arn is null and p.generation = s.generation)) \
         order by p.partition",
        lives("w"),
    )
}

/// The source's view; fails on a reader, whose view may be old.
pub(super) async fn read(tx: &mut Tx, source: &str) -> Result<LedgerView> {
    session::refuse_reader(tx).await?;
    let known = tx.query(AssertSqlSafe(source_of())).bind(source).optional(source_view).await?;
    let view = known.ok_or_else(|| never_enrolled(source))?;
    Ok(LedgerView { partitions: partitions(tx, source).await?, ..view })
}

/// The partitions of the source's newest stream and backfill.
pub(super) async fn partitions(tx: &mut Tx, source: &str) -> Result<Vec<PartitionRow>> {
    tx.query(AssertSqlSafe(partitions_of()))
        .bind(source)
        .bind(Position::Horizon.to_string())
        .bind(UNREAD_MAX.as_secs_f64())
        .all(partition)
        .await
}

pub(super) fn never_enrolled(source: &str) -> Error {
    let what = format!("the ledger does not know the source {source}");
    Error::new(ErrorKind::NotEnrolled, what)
}

/// A position from the ledger's text.
pub(super) fn position(text: &str) -> sqlx::Result<Position> {
    Position::parse(text).ok_or_else(|| unreadable("position"))
}

fn source_view(row: &PgRow) -> sqlx::Result<LedgerView> {
    Ok(LedgerView {
        incarnation: Incarnation::new(row.try_get::<String, _>("incarnation")?),
        generation: row.try_get::<i32, _>("generation")?.unsigned_abs(),
        halted: row.try_get::<Option<&str>, _>("halted")?.map(Halt::parse),
        stream_arn: row.try_get::<String, _>("stream_arn")?.into(),
        listed: row.try_get("listed")?,
        backfill: BackfillView {
            active: row.try_get("backfilling")?,
            loaded: row.try_get("loaded")?,
            sweeps: row.try_get("load_sweeps")?,
            replaying: row.try_get::<i64, _>("replaying")?.unsigned_abs(),
            sweep_confirmed: row.try_get("sweep_confirmed")?,
            items: row.try_get::<Option<i64>, _>("load_items")?.map(i64::unsigned_abs),
            rcu_max: row.try_get("load_rcu_max")?,
            mapping: row.try_get("load_mapping")?,
        },
        partitions: Vec::new(),
        workers: usize::try_from(row.try_get::<i64, _>("workers")?).unwrap_or(0),
        mappings: row.try_get("mappings")?,
        dead_letters: row.try_get::<i64, _>("dead_letters")?.unsigned_abs(),
        gaps: row.try_get::<i64, _>("gaps")?.unsigned_abs(),
        gaps_open: row.try_get::<i64, _>("gaps_open")?.unsigned_abs(),
        verified: verified(row)?,
        synced_up_to: row.try_get::<Option<i64>, _>("synced_ms")?.map(EpochMillis),
    })
}

fn verified(row: &PgRow) -> sqlx::Result<Option<Verified>> {
    let mismatched: Option<i64> = row.try_get("mismatched")?;
    let at: Option<i64> = row.try_get("verified_ms")?;
    Ok(mismatched.zip(at).map(|(mismatched, at)| Verified {
        mismatched: mismatched.unsigned_abs(),
        at: EpochMillis(at),
    }))
}

fn partition(row: &PgRow) -> sqlx::Result<PartitionRow> {
    let id = |text: String| PartitionId::new(text);
    let state = match row.try_get("state")? {
        "open" => PartitionState::Open,
        "drained" => PartitionState::Drained,
        "lost" => PartitionState::Lost,
        _ => return Err(unreadable("state")),
    };
    Ok(PartitionRow {
        id: id(row.try_get("partition")?),
        parent: row.try_get::<Option<String>, _>("parent")?.map(id),
        state,
        position: position(row.try_get("position")?)?,
        records: row.try_get::<i64, _>("records")?.unsigned_abs(),
        epoch: row.try_get("epoch")?,
        owner: row.try_get::<Option<String>, _>("owner")?.map(WorkerId::new),
        last_event_at: row.try_get::<Option<i64>, _>("last_event_ms")?.map(EpochMillis),
        overdue: row.try_get("overdue")?,
    })
}

fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the ledger holds an unknown {what}").into())
}
