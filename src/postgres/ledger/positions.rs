//! The ledger's partition rows as batches and listings write them: the fence, and new shards.

use crate::apply::ports::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{PartitionId, PartitionKind, ShardListing};
use crate::postgres::session::Tx;
use crate::postgres::sql::encode::{printed, texts};

/// Rows are locked in the order of their names, so that a batch and a renewal cannot deadlock. A drained
/// shard has no owner; it keeps its synced time for its children.
const ADVANCE: &str = "\
    with step as (select unnest($4::text[]) as partition, unnest($5::bigint[]) as epoch, \
            unnest($6::text[]) as at, unnest($7::text[]) as next, \
            unnest($8::boolean[]) as drained, unnest($9::bigint[]) as last_event_ms, \
            unnest($10::bigint[]) as records), \
    held as (select p.partition, s.next, s.drained, s.records, \
            to_timestamp(s.last_event_ms::double precision / 1000) as last_event_at \
        from dynaurora.partitions p join step s on s.partition = p.partition \
        where p.source = $1 and p.owner = $2 and p.generation = $3 and p.epoch = s.epoch \
            and p.position = s.at and p.state = 'open' \
        order by p.partition for no key update of p) \
    update dynaurora.partitions p set position = h.next, \
        state = case when h.drained then 'drained' else 'open' end, \
        records = p.records + h.records, \
        last_event_at = greatest(h.last_event_at, p.last_event_at), \
        owner = case when not h.drained then p.owner end, \
        drained_at = case when h.drained then now() end, \
        covered_epoch = case when not h.drained then p.covered_epoch end, \
        synced_up_to = case when not h.drained then p.synced_up_to else greatest( \
            p.synced_up_to, h.last_event_at, p.last_event_at, \
            (select w.synced_up_to from dynaurora.workers w where w.source = p.source \
                and w.worker = p.owner and p.covered_epoch = p.epoch), \
            (select parent.synced_up_to from dynaurora.partitions parent \
                where parent.source = p.source and parent.partition = p.parent \
                    and parent.stream_arn = p.stream_arn)) end \
    from held h where p.source = $1 and p.partition = h.partition";

/// Moves the positions of a batch: lease fence, duplicate check and gap check in one. It is the last
/// statement of the transaction, because it locks the rows that another worker needs to take over.
pub(in crate::postgres) async fn advance(tx: &mut Tx, batch: &Batch) -> Result<()> {
    let steps = batch.fence.advances.as_slice();
    if steps.is_empty() {
        let what = "a batch that advances no partition has no fence";
        return Err(Error::new(ErrorKind::Unknown, what));
    }
    let epochs: Vec<i64> = steps.iter().map(|step| step.epoch).collect();
    let drained: Vec<bool> = steps.iter().map(|step| step.drained).collect();
    let times: Vec<Option<i64>> =
        steps.iter().map(|step| step.last_event_at.map(|at| at.0)).collect();
    let records: Vec<i64> =
        steps.iter().map(|step| i64::try_from(step.records).unwrap_or(i64::MAX)).collect();
    let moved = tx
        .query(ADVANCE)
        .named("advance the positions of a batch")
        .bind(&*batch.source)
        .bind(batch.fence.worker.as_str())
        .bind(i64::from(batch.fence.generation))
        .bind(texts(steps, |step| Some(step.partition.as_str())))
        .bind(epochs)
        .bind(printed(steps, |step| &step.from))
        .bind(printed(steps, |step| &step.to))
        .bind(drained)
        .bind(times)
        .bind(records)
        .execute()
        .await?;
    if moved == steps.len() as u64 {
        return Ok(());
    }
    let what = format!("only {moved} of {} positions were as the batch expects", steps.len());
    Err(Error::new(ErrorKind::Fenced, what))
}

const CHANGE_STREAM: &str = "\
    update dynaurora.sources set stream_arn = $2, listed_at = null \
    where source = $1 and stream_arn <> $2";

/// A known shard of the same stream stays as it is. A reset shard keeps its epoch: epochs only grow.
const REGISTER: &str = "\
    insert into dynaurora.partitions as p \
        (source, partition, stream_arn, parent, position, generation) \
    select s.source, n.partition, $2, n.parent, n.position, s.generation \
    from (select unnest($3::text[]) as partition, unnest($4::text[]) as parent, \
            unnest($5::text[]) as position) n, dynaurora.sources s \
    where s.source = $1 order by n.partition \
    on conflict (source, partition) do update set kind = $6, \
        stream_arn = excluded.stream_arn, parent = excluded.parent, state = 'open', \
        position = excluded.position, generation = excluded.generation, owner = null, \
        records = 0, replays_to = null, last_event_at = null, drained_at = null, \
        synced_up_to = null, covered_epoch = null, continued = false, registered_at = now() \
    where p.stream_arn is distinct from excluded.stream_arn";

/// Registers shards that are new or known only from another stream, and makes their stream the source's.
pub(in crate::postgres) async fn register(
    tx: &mut Tx,
    source: &str,
    stream_arn: &str,
    shards: &[ShardListing],
) -> Result<()> {
    const WHAT: &str = "enter the shards of a listing";
    tx.query(CHANGE_STREAM).named(WHAT).bind(source).bind(stream_arn).execute().await?;
    if shards.is_empty() {
        return Ok(());
    }
    tx.query(REGISTER)
        .named(WHAT)
        .bind(source)
        .bind(stream_arn)
        .bind(texts(shards, |shard| Some(shard.id.as_str())))
        .bind(texts(shards, |shard| shard.parent.as_ref().map(PartitionId::as_str)))
        .bind(printed(shards, |shard| shard.start()))
        .bind(PartitionKind::Shard.label())
        .execute()
        .await
        .map(drop)
}

const CONTINUE: &str = "\
    with known as (select p.partition from dynaurora.partitions p \
        where p.source = $1 and p.stream_arn = $2 and p.partition = any ($3::text[]) \
            and not p.continued order by p.partition for no key update of p) \
    update dynaurora.partitions p set continued = true \
    from known k where p.source = $1 and p.partition = k.partition";

/// Notes of the parents of these shards that all of their children are known.
pub(in crate::postgres) async fn note_continued(
    tx: &mut Tx,
    source: &str,
    stream_arn: &str,
    shards: &[ShardListing],
) -> Result<()> {
    tx.query(CONTINUE)
        .named("note which shards are continued")
        .bind(source)
        .bind(stream_arn)
        .bind(texts(shards, |shard| shard.parent.as_ref().map(PartitionId::as_str)))
        .execute()
        .await
        .map(drop)
}
