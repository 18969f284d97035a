//! The ledger in Postgres: sources, partitions, leases, workers and gaps.
//!
//! All times are the database's, taken at the begin of the transaction. Each call is one short transaction
//! over connections that no batch uses. Rows of several partitions are locked in the order of their names.

mod backfills;
pub mod enrolment;
pub(super) mod positions;
mod publications;
mod view;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::session::{Pools, Tx, Work};
use super::sql::encode::texts;
use super::sql::words::{interval, is_shard, lives};
use crate::engine::ports::{
    Enrolment, Gap, Lease, LeaseRequest, Ledger, LedgerView, Listing, Publication, Published,
    SourceIdentity,
};
use crate::error::Result;
use crate::model::{
    DRAINED_KEPT, Epoch, GapReason, Generation, Halt, PartitionId, RETENTION, WorkerId,
};

/// The ledger of one target.
#[derive(Debug, Clone)]
pub struct PostgresLedger {
    pools: Arc<Pools>,
}

impl PostgresLedger {
    /// The ledger over these pools, which it shares with the sinks of the same target.
    #[must_use]
    pub fn new(pools: Arc<Pools>) -> Self {
        Self { pools }
    }

    /// One call: `what` it does, in one transaction.
    async fn call<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T>,
    ) -> Result<T> {
        self.pools.transact(Work::Ledger, what, work).await
    }
}

impl Ledger for PostgresLedger {
    async fn enrol(&self, identity: &SourceIdentity) -> Result<Enrolment> {
        enrolment::enrol(&self.pools, identity).await
    }

    async fn view(&self, source: &str) -> Result<LedgerView> {
        self.call("view the ledger", async |tx| view::read(tx, source).await).await
    }

    async fn lead_discovery(
        &self,
        source: &str,
        worker: &WorkerId,
        every: Duration,
        within: Duration,
    ) -> Result<bool> {
        self.call("claim the turn to list the shards", async |tx| {
            let claimed = tx
                .query(AssertSqlSafe(lead_discovery()))
                .bind(source)
                .bind(worker.as_str())
                .bind(millis(every))
                .bind(millis(within))
                .execute()
                .await?;
            Ok(claimed == 1)
        })
        .await
    }

    async fn register(&self, source: &str, stream_arn: &str, listing: &Listing) -> Result<()> {
        let shards = listing.shards.as_slice();
        self.call("register the shards", async |tx| {
            positions::register(tx, source, stream_arn, shards).await?;
            if !listing.complete {
                return Ok(());
            }
            if tx.query(LISTED).bind(source).execute().await? == 0 {
                return Err(view::never_enrolled(source));
            }
            positions::note_continued(tx, source, stream_arn, shards).await?;
            let ids = texts(shards, |shard| Some(shard.id.as_str()));
            tx.query(AssertSqlSafe(forget())).bind(source).bind(ids).execute().await.map(drop)
        })
        .await
    }

    async fn acquire(&self, request: &LeaseRequest<'_>) -> Result<Vec<Lease>> {
        self.call("acquire leases", async |tx| {
            show_alive(tx, request.source, request.worker, request.lease_ttl).await?;
            tx.query(AssertSqlSafe(acquire()))
                .bind(request.source)
                .bind(request.worker.as_str())
                .bind(i64::from(request.generation))
                .bind(texts(request.wanted, |id| Some(id.as_str())))
                .all(lease)
                .await
        })
        .await
    }

    async fn renew(&self, source: &str, worker: &WorkerId, lease_ttl: Duration) -> Result<()> {
        let work = async |tx: &mut Tx| show_alive(tx, source, worker, lease_ttl).await;
        self.call("renew the leases", work).await
    }

    async fn publish(&self, publication: &Publication<'_>) -> Result<Published> {
        let work = async |tx: &mut Tx| publications::publish(tx, publication).await;
        self.call("publish how far the source is synced", work).await
    }

    async fn release(
        &self,
        source: &str,
        worker: &WorkerId,
        held: &[(PartitionId, Epoch)],
        leaving: bool,
    ) -> Result<()> {
        let epochs: Vec<i64> = held.iter().map(|(_, epoch)| *epoch).collect();
        self.call("release leases", async |tx| {
            // The worker's row first, as in renewals and publications, one of which may be running.
            tx.query(LOCK_WORKER).bind(source).bind(worker.as_str()).execute().await?;
            tx.query(RELEASE)
                .bind(source)
                .bind(worker.as_str())
                .bind(texts(held, |(partition, _)| Some(partition.as_str())))
                .bind(epochs)
                .execute()
                .await?;
            if leaving {
                tx.query(LEAVE).bind(source).bind(worker.as_str()).execute().await?;
            }
            Ok(())
        })
        .await
    }

    async fn note_halt(&self, source: &str, worker: &WorkerId, why: &str) -> Result<()> {
        self.call("note why the source is halted", async |tx| {
            let note = tx.query_once(NOTE_HALT).bind(source).bind(worker.as_str()).bind(why);
            note.execute().await.map(drop)
        })
        .await
    }

    async fn record_gap(
        &self,
        source: &str,
        found_in: Generation,
        gap: &Gap,
        halt: bool,
    ) -> Result<()> {
        let partition = gap.partition.as_ref().map(PartitionId::as_str);
        self.call("record a gap", async |tx| {
            let current = tx.query(CURRENT).bind(source).bind(i64::from(found_in));
            if current.optional(|_| Ok(())).await?.is_none() {
                return Ok(());
            }
            tx.query(RECORD_GAP)
                .bind(source)
                .bind(&gap.stream_arn)
                .bind(partition)
                .bind(gap.reason.label())
                .bind(gap.after.as_ref().map(ToString::to_string))
                .bind(gap.since.map(|at| at.as_secs_f64()))
                .execute()
                .await?;
            if gap.reason == GapReason::Vanished {
                let lost = tx.query(LOSE).bind(source).bind(partition).bind(&gap.stream_arn);
                lost.execute().await?;
            }
            if halt {
                tx.query(HALT)
                    .bind(source)
                    .bind(Halt::from(gap.reason).to_string())
                    .execute()
                    .await?;
            }
            Ok(())
        })
        .await
    }
}

/// A time that is yet to come was taken from a clock that was ahead: it says nothing.
fn lead_discovery() -> String {
    format!(
        "update dynaurora.sources s set discovery_worker = $2, \
         discovery_at = case when s.discovery_worker = $2 then s.discovery_at else now() end \
         where s.source = $1 and (s.listed_at is null or s.listed_at > now() \
         or s.listed_at <= now() - $3 * interval '1 millisecond') \
         and (s.discovery_worker is null or s.discovery_worker = $2 or s.discovery_at > now() \
         or s.discovery_at <= now() - $4 * interval '1 millisecond' \
         or not exists (select from dynaurora.workers w where w.source = s.source \
         and w.worker = s.discovery_worker and {}))",
        lives("w"),
    )
}

const LISTED: &str = "\
    update dynaurora.sources set listed_at = now(), discovery_worker = null, discovery_at = null \
    where source = $1";

/// Drained shards stay until no listing has them and no replay of their children can come any more. A shard
/// that no listing has any more, once the service would have forgotten it, is continued by what is listed or
/// by what is gone as well. A batch that was made before a load ended may leave claims and
/// keys behind. Dead letters
/// that were settled stay for 30 days, long enough to look back at a month's incidents; they go some at a
/// time, so that no listing waits for them.
fn forget() -> String {
    let (shard, kept) = (is_shard("p"), interval(DRAINED_KEPT));
    let unlisted =
        format!("p.source = $1 and {shard} and p.state = 'drained' and p.partition <> all ($2)");
    format!(
        "with forgotten as (delete from dynaurora.workers \
         where source = $1 and alive_until < now() - interval '1 day' \
         and worker not in (select owner from dynaurora.partitions \
         where source = $1 and owner is not null)), \
         unclaimed as (delete from dynaurora.claims c using dynaurora.sources s \
         where s.source = $1 and not s.backfilling and c.source = s.source), \
         untouched as (delete from dynaurora.touched t using dynaurora.sources s \
         where s.source = $1 and not s.backfilling and t.source = s.source), \
         past as (delete from dynaurora.partitions p using dynaurora.sources s \
         where s.source = $1 and p.source = s.source and not {shard} \
         and p.generation < s.generation and p.registered_at < now() - {kept}), \
         continued as (update dynaurora.partitions p set continued = true \
         where {unlisted} and not p.continued and p.registered_at >= now() - {kept} \
         and coalesce(p.drained_at, p.registered_at) < now() - {}), \
         settled as (delete from dynaurora.dead_letters where id in (select id \
         from dynaurora.dead_letters where source = $1 and state <> 'open' \
         and settled_at < now() - interval '30 days' order by settled_at limit 1000)) \
         delete from dynaurora.partitions p \
         where {unlisted} and p.registered_at < now() - {kept}",
        interval(RETENTION),
    )
}

/// Skips rows that another worker is taking instead of waiting; a row just taken has another epoch than the
/// one seen.
fn acquire() -> String {
    format!(
        "with seen as materialized (select p.partition, p.epoch \
         from dynaurora.partitions p join dynaurora.sources s on s.source = p.source \
         where p.source = $1 and s.generation = $3 and p.generation = $3 \
         and (p.stream_arn is null or p.stream_arn = s.stream_arn) and p.state = 'open' \
         and p.partition = any ($4) and not exists (select from dynaurora.workers w \
         where w.source = p.source and w.worker = p.owner and {})), \
         free as (select p.partition from dynaurora.partitions p \
         join seen n on n.partition = p.partition and n.epoch = p.epoch \
         where p.source = $1 and p.state = 'open' \
         order by p.partition for no key update of p skip locked) \
         update dynaurora.partitions p set owner = $2, epoch = p.epoch + 1, covered_epoch = null, \
         synced_up_to = greatest(p.synced_up_to, (select w.synced_up_to \
         from dynaurora.workers w where w.source = p.source and w.worker = p.owner \
         and p.covered_epoch = p.epoch), \
         (select parent.synced_up_to from dynaurora.partitions parent \
         where parent.source = p.source and parent.partition = p.parent \
         and parent.stream_arn = p.stream_arn)) \
         from free f where p.source = $1 and p.partition = f.partition \
         returning p.partition, p.epoch, p.position",
        lives("w"),
    )
}

/// Updates only the worker's row: its leases last as long as it lives.
async fn show_alive(
    tx: &mut Tx,
    source: &str,
    worker: &WorkerId,
    lease_ttl: Duration,
) -> Result<()> {
    let alive = tx.query(SHOW_ALIVE).bind(source).bind(worker.as_str()).bind(millis(lease_ttl));
    if alive.execute().await? == 0 {
        return Err(view::never_enrolled(source));
    }
    Ok(())
}

const SHOW_ALIVE: &str = "\
    insert into dynaurora.workers as w (source, worker, seen_at, alive_until) \
    select s.source, $2, now(), now() + $3 * interval '1 millisecond' \
    from dynaurora.sources s where s.source = $1 \
    on conflict (source, worker) do update set seen_at = excluded.seen_at, \
        alive_until = excluded.alive_until";

const LOCK_WORKER: &str = "\
    select from dynaurora.workers where source = $1 and worker = $2 for update";

const RELEASE: &str = "\
    with held as (select p.partition \
        from dynaurora.partitions p join (select unnest($3::text[]) as partition, \
            unnest($4::bigint[]) as epoch) h on h.partition = p.partition \
        where p.source = $1 and p.owner = $2 and p.epoch = h.epoch \
        order by p.partition for no key update of p) \
    update dynaurora.partitions p set owner = null, covered_epoch = null, \
        synced_up_to = greatest(p.synced_up_to, (select w.synced_up_to \
            from dynaurora.workers w where w.source = p.source and w.worker = p.owner \
                and p.covered_epoch = p.epoch)) \
    from held h where p.source = $1 and p.partition = h.partition";

/// Whoever leaves in good order leaves no halt of an earlier worker behind.
const LEAVE: &str = "\
    delete from dynaurora.workers where source = $1 \
        and (worker = $2 or halted is not null and alive_until <= now())";

const NOTE_HALT: &str = "\
    insert into dynaurora.workers as w (source, worker, seen_at, alive_until, halted) \
    select s.source, $2, now(), now(), $3 from dynaurora.sources s where s.source = $1 \
    on conflict (source, worker) do update set seen_at = excluded.seen_at, \
        alive_until = excluded.alive_until, halted = excluded.halted";

const RECORD_GAP: &str = "\
    insert into dynaurora.gaps (source, stream_arn, partition, reason, after, since) \
    values ($1, $2, $3, $4, $5, to_timestamp($6)) \
    on conflict (source, stream_arn, reason, coalesce(partition, ''), coalesce(after, '')) \
        where state in ('open', 'repairing') do update set state = 'open'";

/// Keeps a backfill from beginning meanwhile.
const CURRENT: &str = "\
    select from dynaurora.sources where source = $1 and generation = $2 for no key update";

const HALT: &str = "update dynaurora.sources set halted = $2 where source = $1";

const LOSE: &str = "\
    update dynaurora.partitions set state = 'lost' \
    where source = $1 and partition = $2 and stream_arn = $3 and state = 'open'";

fn lease(row: &PgRow) -> sqlx::Result<Lease> {
    Ok(Lease {
        partition: PartitionId::new(row.try_get::<String, _>("partition")?),
        epoch: row.try_get("epoch")?,
        position: view::position(row.try_get("position")?)?,
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
