//! Backfills in Postgres: begin and end of a generation.
//!
//! Each is one transaction that locks the source's row first, so two of them never mix. Then it locks the
//! partitions' rows in the order of their names, like batches and renewals.

use sqlx::{AssertSqlSafe, Row};

use super::{PostgresLedger, positions, view};
use crate::engine::ports::{Backfills, NewBackfill, NewStream, OpenLetter, Settling};
use crate::error::Result;
use crate::model::{GapReason, Generation, Position};
use crate::postgres::session::{Tx, Work};
use crate::postgres::sql::encode::{printed, texts};
use crate::postgres::sql::words::{REPLAYS_TO_END, all_is_read, is_shard, sequence_after, word};
use crate::postgres::tables::letters;

impl PostgresLedger {
    /// Records an operator's consent: the active backfill's sweep may delete as much as it must.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn confirm_sweep(&self, source: &str) -> Result<()> {
        let work = async |tx: &mut Tx| tx.query(CONFIRM).bind(source).execute().await.map(drop);
        self.call("confirm a sweep", work).await
    }
}

const CONFIRM: &str = "\
    update dynaurora.sources set sweep_confirmed = true where source = $1 and backfilling";

impl Backfills for PostgresLedger {
    async fn begin_backfill(&self, backfill: &NewBackfill) -> Result<bool> {
        self.call("begin a backfill", async |tx| {
            let begun = begin(tx, backfill).await?;
            if !begun {
                tx.undo();
            }
            Ok(begun)
        })
        .await
    }

    async fn end_backfill(&self, source: &str, generation: Generation) -> Result<bool> {
        self.call("end a backfill", async |tx| {
            if tx
                .query(AssertSqlSafe(end()))
                .bind(source)
                .bind(i64::from(generation))
                .execute()
                .await?
                == 0
            {
                return Ok(false);
            }
            tx.query(REPAIRED).bind(source).execute().await?;
            tx.query(CLEAR_CLAIMS).bind(source).execute().await?;
            Ok(true)
        })
        .await
    }

    async fn settle_letters(&self, source: &str, generation: Generation) -> Result<Settling> {
        let work = async |tx: &mut Tx| letters::settle(tx, source, generation).await;
        // It waits for the batches under way, so it may take as long as one of them.
        self.pools.transact(Work::Apply, "settle the dead letters of a backfill", work).await
    }

    async fn open_letters(&self, source: &str, limit: u32) -> Result<Vec<OpenLetter>> {
        self.call("read the open dead letters", async |tx| {
            let letters = tx.query(OPEN_LETTERS).bind(source).bind(i64::from(limit));
            let read = letters
                .all(|row| Ok(OpenLetter { id: row.try_get("id")?, image: row.try_get("image")? }));
            read.await
        })
        .await
    }
}

/// Whether it sweeps: `load_sweeps` is that of a backfill that did not end, or of an enrolment over rows that
/// were there. Deletes that an accepted gap lost are only found by a sweep too.
///
/// A backfill without a new stream ($8) goes on with the ledger's, and one of older items needs the stream
/// that holds their moment ($9). A gap that was found later than that of the chosen stream names a newer one.
///
/// Gaps record halts that only a backfill or an operator may end; the reasons of open gaps are the halts that
/// a backfill ends.
const BEGIN: &str = "\
    update dynaurora.sources s set generation = s.generation + 1, backfilling = true, \
        load_began_at = now(), sweep_confirmed = false, halted = null, \
        load_sweeps = s.load_sweeps or s.loaded_at is not null or $5 \
            or exists (select from dynaurora.gaps g \
                where g.source = s.source and g.state <> 'repaired'), \
        load_items = $3, load_rcu_max = $4, load_mapping = $6, \
        listed_at = case when $5 then now() else s.listed_at end \
    where s.source = $1 and s.generation = $2 and (s.listed_at is not null or $5) \
        and (s.halted is null or exists (select from dynaurora.gaps g \
            where g.source = s.source and g.state = 'open' and g.reason = s.halted)) \
        and not exists (select from dynaurora.gaps g where g.source = s.source \
            and g.state = 'open' and g.reason = $7) \
        and ($9::text is null or $9 = coalesce($8, s.stream_arn)) \
        and not exists (select from dynaurora.gaps g where g.source = s.source \
            and g.state = 'open' and g.reason = $10 and g.stream_arn <> coalesce($8, s.stream_arn) \
            and ($8::text is null or exists (select from dynaurora.gaps k \
                where k.source = g.source and k.reason = g.reason and k.stream_arn = $8 \
                    and k.id < g.id)))";

/// Every partition of the source, also of older streams: epochs only grow.
const LOCK: &str = "\
    select partition from dynaurora.partitions where source = $1 \
    order by partition for no key update";

fn unlease() -> String {
    format!(
        "update dynaurora.partitions p set generation = $2, epoch = p.epoch + 1, owner = null, \
         records = 0, position = case when k.trimmed then {horizon} else p.position end, \
         registered_at = case when k.trimmed or p.position = {horizon} then now() \
         else p.registered_at end, \
         replays_to = case when p.replaying and (p.replays_to = {end} or not k.trimmed) \
         then p.replays_to end \
         from (select o.partition, exists (select from dynaurora.gaps g \
         where g.source = o.source and g.state = 'open' and g.reason = {trimmed} \
         and g.partition = o.partition and g.stream_arn = o.stream_arn) as trimmed \
         from dynaurora.partitions o where o.source = $1 and {shard}) k \
         where p.source = $1 and p.partition = k.partition",
        horizon = word(Position::Horizon),
        end = word(REPLAYS_TO_END),
        trimmed = word(GapReason::Trimmed.label()),
        shard = is_shard("o"),
    )
}

/// The shard's newest record no longer describes it; its synced time will be right again before anyone sees
/// it. A shard that still replays an earlier backfill replays up to the further of the two places.
fn rewind() -> String {
    format!(
        "update dynaurora.partitions p set state = 'open', position = n.position, \
         last_event_at = null, replays_to = case when p.state = 'drained' then {end} \
         when {own} is null or p.replays_to = {end} then p.replays_to \
         when {other} > {own} then p.replays_to else p.position end \
         from (select unnest($2::text[]) as partition, unnest($3::text[]) as position) n \
         where p.source = $1 and p.partition = n.partition",
        end = word(REPLAYS_TO_END),
        own = sequence_after("p.position"),
        other = sequence_after("p.replays_to"),
    )
}

const ENTER: &str = "\
    insert into dynaurora.partitions as p (source, partition, kind, position, generation) \
    select $1, unnest($3::text[]), unnest($4::text[]), $5, $2 \
    on conflict (source, partition) do update set kind = excluded.kind, stream_arn = null, \
        parent = null, state = 'open', position = excluded.position, \
        generation = excluded.generation, epoch = p.epoch + 1, owner = null, records = 0, \
        last_event_at = null, drained_at = null, registered_at = now()";

/// Unread changes of the previous stream are lost, even if no listing has recorded it.
const CHANGED: &str = "\
    insert into dynaurora.gaps (source, stream_arn, reason) values ($1, $2, $3) \
    on conflict do nothing";

const REPAIRING: &str = "\
    update dynaurora.gaps set state = 'repairing' where source = $1 and state = 'open'";

const CLEAR_CLAIMS: &str = "delete from dynaurora.claims where source = $1";

/// Whether it began; what was done before the answer is no is to be undone.
async fn begin(tx: &mut Tx, backfill: &NewBackfill) -> Result<bool> {
    let source = &*backfill.source;
    let replaces = i64::from(backfill.replaces);
    let begun = tx
        .query(BEGIN)
        .bind(source)
        .bind(replaces)
        .bind(backfill.items.and_then(|items| i64::try_from(items).ok()))
        .bind(backfill.rcu_max)
        .bind(backfill.stream.is_some())
        .bind(backfill.mapping)
        .bind(GapReason::TableChanged.label())
        .bind(backfill.stream.as_ref().map(|stream| &*stream.stream_arn))
        .bind(backfill.rewind.as_ref().map(|rewind| &*rewind.stream_arn))
        .bind(GapReason::StreamChanged.label())
        .execute()
        .await?;
    if begun == 0 {
        return Ok(false);
    }
    if let Some(NewStream { stream_arn, shards }) = &backfill.stream {
        positions::register(tx, source, stream_arn, shards).await?;
        let changed = tx.query(CHANGED).bind(source).bind(&**stream_arn);
        changed.bind(GapReason::StreamChanged.label()).execute().await?;
    }
    tx.query(LOCK).bind(source).execute().await?;
    let mut rewound = Vec::new();
    if let Some(rewind) = &backfill.rewind {
        let rows = view::partitions(tx, source).await?;
        let Some(shards) = rewind.shards(&rows) else { return Ok(false) };
        rewound = shards;
    }
    tx.query(AssertSqlSafe(unlease())).bind(source).bind(replaces + 1).execute().await?;
    tx.query(AssertSqlSafe(rewind()))
        .bind(source)
        .bind(texts(&rewound, |(id, _)| Some(id.as_str())))
        .bind(printed(&rewound, |(_, position)| position))
        .execute()
        .await?;
    let mut partitions = backfill.partitions.clone();
    partitions.sort_unstable();
    tx.query(ENTER)
        .bind(source)
        .bind(replaces + 1)
        .bind(texts(&partitions, |id| Some(id.as_str())))
        .bind(texts(&partitions, |id| Some(id.kind().label())))
        .bind(Position::Start.to_string())
        .execute()
        .await?;
    tx.query(REPAIRING).bind(source).execute().await?;
    tx.query(CLEAR_CLAIMS).bind(source).execute().await?;
    Ok(true)
}

fn end() -> String {
    format!(
        "update dynaurora.sources s set backfilling = false, sweep_confirmed = false, \
         loaded_at = now() where s.source = $1 and s.generation = $2 and s.backfilling and {}",
        all_is_read("s"),
    )
}

const REPAIRED: &str = "\
    update dynaurora.gaps set state = 'repaired' where source = $1 and state = 'repairing'";

const OPEN_LETTERS: &str = "\
    select id, image from dynaurora.dead_letters where source = $1 and state = 'open' \
    order by id limit $2";
