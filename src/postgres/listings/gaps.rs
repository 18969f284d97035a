//! Gaps, for people to list and accept.

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{EpochMillis, GapReason, Position};
use crate::postgres::session::{Tx, in_transaction};
use crate::postgres::sql::words::word;

/// A gap in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGap {
    /// Its number.
    pub id: i64,
    /// The source.
    pub source: String,
    /// Why changes were lost.
    pub reason: String,
    /// `open`, `repairing`, `repaired` or `accepted`.
    pub state: String,
    /// The shard, if it concerns one.
    pub partition: Option<String>,
    /// The position after which changes are lost.
    pub after: Option<String>,
    /// The time of the newest change applied before.
    pub since: Option<EpochMillis>,
    /// When it was found.
    pub recorded_at: EpochMillis,
}

fn gap(row: &PgRow) -> sqlx::Result<StoredGap> {
    Ok(StoredGap {
        id: row.try_get("id")?,
        source: row.try_get("source")?,
        reason: row.try_get("reason")?,
        state: row.try_get("state")?,
        partition: row.try_get("partition")?,
        after: row.try_get("after")?,
        since: row.try_get::<Option<i64>, _>("since_ms")?.map(EpochMillis),
        recorded_at: EpochMillis(row.try_get("recorded_ms")?),
    })
}

const LIST: &str = "\
    select id, source, reason, state, partition, after, \
        round(extract(epoch from since) * 1000)::bigint as since_ms, \
        round(extract(epoch from recorded_at) * 1000)::bigint as recorded_ms \
    from dynaurora.gaps where ($1::text is null or source = $1) \
        and ($2 or state in ('open', 'repairing')) order by id";

/// The gaps of a source, or of all; with `past` also closed ones.
///
/// # Errors
/// As the database answers.
pub async fn list(pool: &PgPool, source: Option<&str>, past: bool) -> Result<Vec<StoredGap>> {
    in_transaction(pool, "list the gaps", async |tx| {
        tx.query(LIST).bind(source).bind(past).all(gap).await
    })
    .await
}

const ACCEPT: &str = "\
    update dynaurora.gaps set state = 'accepted' where id = $1 and state = 'open' \
    returning id, source, reason, state, partition, after, \
        round(extract(epoch from since) * 1000)::bigint as since_ms, \
        round(extract(epoch from recorded_at) * 1000)::bigint as recorded_ms";

/// The new state of shard, stream or table, so that the same gap is not found again.
fn go_on() -> [String; 5] {
    let horizon = word(Position::Horizon);
    let [trimmed, unpolled, stream_changed, table_changed] = [
        GapReason::Trimmed,
        GapReason::Unpolled,
        GapReason::StreamChanged,
        GapReason::TableChanged,
    ]
    .map(|reason| word(reason.label()));
    [
        format!(
            "update dynaurora.partitions p set position = {horizon}, registered_at = now() \
             from dynaurora.gaps g where g.id = $1 and g.reason = {trimmed} \
             and p.source = g.source and p.partition = g.partition \
             and p.stream_arn = g.stream_arn"
        ),
        format!(
            "update dynaurora.partitions p set registered_at = now() from dynaurora.gaps g \
             where g.id = $1 and g.reason = {unpolled} and p.source = g.source \
             and p.position = {horizon} and p.stream_arn = g.stream_arn"
        ),
        // The next listing registers the new stream's shards. Sequence numbers of two streams do not compare,
        // so the rows of the old one must count as older, whatever their numbers: a new generation. A source
        // whose stream was found later than this gap does not go back.
        format!(
            "update dynaurora.sources s set stream_arn = g.stream_arn, \
             generation = s.generation + 1 from dynaurora.gaps g \
             where g.id = $1 and g.reason in ({stream_changed}, {table_changed}) \
             and s.source = g.source and not exists (select from dynaurora.gaps k \
             where k.source = g.source and k.id > g.id and k.stream_arn = s.stream_arn \
             and k.reason in ({stream_changed}, {table_changed}))"
        ),
        // What was read of the old stream and not applied yet fails at the fence.
        format!(
            "with held as (select p.source, p.partition, s.generation \
                 from dynaurora.gaps g join dynaurora.sources s on s.source = g.source \
                     join dynaurora.partitions p on p.source = s.source \
                 where g.id = $1 and g.reason in ({stream_changed}, {table_changed}) \
                 order by p.partition for no key update of p) \
             update dynaurora.partitions p set generation = h.generation, \
                 epoch = p.epoch + 1, owner = null, covered_epoch = null \
             from held h where p.source = h.source and p.partition = h.partition"
        ),
        // An empty id takes whatever table the daemon finds next.
        format!(
            "update dynaurora.sources s set table_id = '' from dynaurora.gaps g \
             where g.id = $1 and g.reason = {table_changed} and s.source = g.source"
        ),
    ]
}

const RESUME: &str = "\
    update dynaurora.sources s set halted = null from dynaurora.gaps a \
    where a.id = $1 and s.source = a.source and s.halted = a.reason \
        and not exists (select from dynaurora.gaps g where g.source = s.source \
            and g.state = 'open' and g.reason = s.halted)";

/// Accepts an open gap: its changes stay lost, and the source continues.
///
/// # Errors
/// `Usage` if there is no such gap or it is not open; `Conflict` if the stream changed and a backfill is
/// active; errors of the database.
pub async fn accept(pool: &PgPool, id: i64) -> Result<StoredGap> {
    in_transaction(pool, "accept a gap", async |tx| {
        let accepted = tx.query(ACCEPT).bind(id).optional(gap).await?;
        let accepted = accepted.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("there is no open gap {id}"))
                .with_hint("`dynaurora gaps list` shows the open ones")
        })?;
        let anew = [GapReason::StreamChanged, GapReason::TableChanged];
        if anew.iter().any(|reason| reason.label() == accepted.reason) {
            refuse_beside_backfill(tx, &accepted.source).await?;
        }
        for sql in go_on() {
            tx.query(AssertSqlSafe(sql)).bind(id).execute().await?;
        }
        tx.query(RESUME).bind(id).execute().await?;
        Ok(accepted)
    })
    .await
}

/// A new generation would leave the backfill's segments in the old one.
async fn refuse_beside_backfill(tx: &mut Tx, source: &str) -> Result<()> {
    let backfilling = tx.query(BACKFILLING).bind(source).optional(|row| row.try_get(0)).await?;
    if backfilling != Some(true) {
        return Ok(());
    }
    let what = format!("source {source} is being backfilled");
    Err(Error::new(ErrorKind::Conflict, what).with_hint(format!(
        "dynaurora backfill --source {source} --restart, which repairs the gap"
    )))
}

const BACKFILLING: &str =
    "select backfilling from dynaurora.sources where source = $1 for no key update";
