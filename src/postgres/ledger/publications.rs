//! A worker's published progress: one row of `workers`, and the shards that it covers.

use sqlx::{AssertSqlSafe, Row};

use crate::engine::ports::{Publication, Published};
use crate::error::Result;
use crate::model::EpochMillis;
use crate::postgres::session::Tx;
use crate::postgres::sql::encode::texts;
use crate::postgres::sql::words::INCARNATION;

/// Locks the worker's row first, like a renewal; a late publication finds none. A shard no longer covered
/// keeps the last published time, which is still in that row.
fn cover() -> String {
    format!(
        "with said as (select synced_up_to from dynaurora.workers \
         where source = $1 and worker = $2 and publication < $3 and $6 = {INCARNATION} \
         for no key update), {COVER}"
    )
}

const COVER: &str = "\
    named as (select unnest($4::text[]) as partition, unnest($5::bigint[]) as epoch), \
    changed as (select p.partition, n.partition is not null as covered, said.synced_up_to \
        from said cross join dynaurora.partitions p \
            left join named n on n.partition = p.partition and n.epoch = p.epoch \
        where p.source = $1 and p.owner = $2 \
            and (n.partition is null) <> (p.covered_epoch is distinct from p.epoch) \
        order by p.partition for no key update of p) \
    update dynaurora.partitions p set covered_epoch = case when c.covered then p.epoch end, \
        synced_up_to = case when c.covered then p.synced_up_to \
            else greatest(p.synced_up_to, c.synced_up_to) end \
    from changed c where p.source = $1 and p.partition = c.partition";

fn say() -> String {
    format!(
        "with said as (update dynaurora.workers set publication = $3, published_at = now(), \
         synced_up_to = to_timestamp($4::double precision / 1000), \
         last_poll_at = to_timestamp($5::double precision / 1000), mapping = $6 \
         where source = $1 and worker = $2 and publication < $3 and $7 = {INCARNATION} \
         returning 1) \
         select (select count(*) from said) = 1 as taken, \
         floor(extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms"
    )
}

/// Writes the publication: one update of one row, unless the covered shards changed.
pub(super) async fn publish(tx: &mut Tx, publication: &Publication<'_>) -> Result<Published> {
    let Publication { source, worker, number, covers, .. } = *publication;
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    if let Some(covers) = covers {
        let epochs: Vec<i64> = covers.iter().map(|(_, epoch)| *epoch).collect();
        tx.query(AssertSqlSafe(cover()))
            .bind(source)
            .bind(worker.as_str())
            .bind(number)
            .bind(texts(covers, |(partition, _)| Some(partition.as_str())))
            .bind(epochs)
            .bind(publication.incarnation.as_str())
            .execute()
            .await?;
    }
    tx.query(AssertSqlSafe(say()))
        .bind(source)
        .bind(worker.as_str())
        .bind(number)
        .bind(publication.synced_up_to.map(|at| at.0))
        .bind(publication.last_poll_at.map(|at| at.0))
        .bind(publication.mapping)
        .bind(publication.incarnation.as_str())
        .one(|row| {
            let now = EpochMillis(row.try_get("now_ms")?);
            Ok(Published { now, taken: row.try_get("taken")? })
        })
        .await
}
