//! Enrolment: a source begins above the rows that are there, and keeps its tables for itself.
//!
//! In steady state it is one statement. What is new is entered in a transaction that runs alone: two sources
//! that want one table at once must see each other. The highest generation of a new source's rows is read
//! before it, without a short limit, because a large table is read whole. Nobody can write a higher one
//! meanwhile: another source would have to keep the table, and the same one would be known by then.

use std::time::Duration;

use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::engine::ports::{Continuity, Enrolment, SourceIdentity};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{TableName, TableSpec, VERSION_COLUMN};
use crate::model::{Generation, SequenceNumber};
use crate::postgres::session::{Pools, Tx, Work, begun_with, in_transaction};
use crate::postgres::sql::ident::{DEFAULT_SCHEMA, quoted, quoted_table};
use crate::postgres::tables::own_rows::own_rows;

const WHAT: &str = "enrol the source";

/// A table of a billion rows is read within this time.
const UNLIMITED: &str = "begin; set local statement_timeout = '30min'";
const READ_WITHIN: Duration = Duration::from_secs(31 * 60);

/// Rows of higher generations than this were damaged, and `verify --repair` mends them: no source comes so
/// far, and one that begins here can still go on.
const GENERATION_MAX: Generation = 2_000_000_000;

/// A table that a source cannot have, because another one keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The table.
    pub table: String,
    /// The source that keeps it.
    pub by: String,
}

impl Kept {
    /// Why the source is refused, and what can be done about it.
    #[must_use]
    pub fn refusal(&self, source: &str, kind: ErrorKind) -> Error {
        let Self { table, by } = self;
        let what = format!(
            "source {source} cannot fill the table {table}: source {by} keeps it; if {by} is its \
             old name, stop its daemons, then `dynaurora sources rename {by} {source}`; if {by} is \
             gone for good, `dynaurora sources forget {by}`"
        );
        Error::new(kind, what).with_hint(
            "otherwise give each source tables of its own, or a constant in the primary key",
        )
    }
}

/// The first of these tables that another source keeps, as far as the ledger knows.
///
/// # Errors
/// As the database answers.
pub async fn kept(pool: &PgPool, source: &str, tables: &[TableSpec]) -> Result<Option<Kept>> {
    let keeps = keeps(tables);
    in_transaction(pool, "ask who keeps the tables", async |tx| kept_by(tx, source, &keeps).await)
        .await
}

/// Registers the source, or compares it with what is known.
pub(super) async fn enrol(pools: &Pools, identity: &SourceIdentity) -> Result<Enrolment> {
    let keeps = keeps(&identity.tables);
    let look = async |tx: &mut Tx| look(tx, identity, &keeps).await;
    let known = pools.transact(Work::Ledger, WHAT, look).await?;
    if let Some(known) = known.as_ref().filter(|known| known.settled) {
        return Ok(known.enrolment.clone());
    }
    // Before anything large is read, too.
    let refuse = async |tx: &mut Tx| refuse(tx, &identity.source, &keeps).await;
    pools.transact(Work::Ledger, WHAT, refuse).await?;
    let news = identity.tables.iter().filter(|table| match &known {
        None => true,
        // A source of before the ledger knew tables has filled its own all along.
        Some(known) => known.keeps.as_ref().is_some_and(|own| !own.contains(&key(&table.name))),
    });
    let mut found = 0;
    for table in news.filter(|table| table.parent.is_none()) {
        let highest = highest(&pools.pool().await?, table).await?;
        found = found.max(highest);
        if known.as_ref().is_some_and(|known| highest > known.enrolment.generation) {
            // A backfill may have begun since, and have written those rows.
            let now = pools.transact(Work::Ledger, WHAT, look).await?;
            if let Some(known) = now.filter(|known| highest > known.enrolment.generation) {
                return Err(above(identity, table, highest, known.enrolment.generation));
            }
        }
    }
    let enter = async |tx: &mut Tx| enter(tx, identity, &keeps, found).await;
    pools.transact(Work::Ledger, WHAT, enter).await
}

/// What the ledger knows of a source.
struct Known {
    enrolment: Enrolment,
    /// Its tables, if a daemon has named them.
    keeps: Option<Vec<String>>,
    /// Whether there is nothing new about it.
    settled: bool,
}

const LOOK: &str = "\
    select generation, table_id, stream_arn, \
        extract(epoch from now() - listed_at)::double precision as listed_ago_secs, \
        case when keeps is not null then array(select jsonb_object_keys(keeps)) end as kept, \
        coalesce(keeps = $2::text::jsonb, false) \
            and not (table_id = '' and stream_arn = $3) as settled \
    from dynaurora.sources where source = $1";

async fn look(tx: &mut Tx, identity: &SourceIdentity, keeps: &str) -> Result<Option<Known>> {
    let query = tx.query(LOOK).bind(&*identity.source).bind(keeps).bind(&identity.stream_arn);
    let known = query.optional(|row| {
        let enrolment = enrolment(row, identity)?;
        Ok(Known { enrolment, keeps: row.try_get("kept")?, settled: row.try_get("settled")? })
    });
    known.await
}

/// Nobody enters a source meanwhile. It ends with the transaction.
const ALONE: &str = "select pg_advisory_xact_lock(hashtextextended('dynaurora enrolments', 0))";

/// An operator who accepts a changed table leaves its id empty. What was accepted is the table of the stream
/// that was found then, and no later one.
const ENTER: &str = "\
    insert into dynaurora.sources as s \
        (source, table_arn, table_id, stream_arn, generation, load_sweeps, keeps) \
    values ($1, $2, $3, $4, $5, $5 > 1, $6::text::jsonb) on conflict (source) do update \
    set keeps = excluded.keeps, \
        table_arn = case when s.table_id = '' and s.stream_arn = excluded.stream_arn \
            then excluded.table_arn else s.table_arn end, \
        table_id = case when s.table_id = '' and s.stream_arn = excluded.stream_arn \
            then excluded.table_id else s.table_id end";

async fn enter(
    tx: &mut Tx,
    identity: &SourceIdentity,
    keeps: &str,
    found: Generation,
) -> Result<Enrolment> {
    let source = &*identity.source;
    tx.query_once(ALONE).optional(|_| Ok(())).await?;
    refuse(tx, source, keeps).await?;
    tx.query_once(ENTER)
        .bind(source)
        .bind(&identity.table_arn)
        .bind(&identity.table_id)
        .bind(&identity.stream_arn)
        .bind(i32::try_from(found).unwrap_or(i32::MAX).saturating_add(1))
        .bind(keeps)
        .execute()
        .await?;
    let known = look(tx, identity, keeps).await?;
    let gone = || Error::new(ErrorKind::Conflict, "the source was forgotten while it was enrolled");
    known.map(|known| known.enrolment).ok_or_else(gone)
}

/// Fails if another source keeps one of the tables. It may be about to let go of it: a config can move a
/// table from one to the other.
async fn refuse(tx: &mut Tx, source: &str, keeps: &str) -> Result<()> {
    match kept_by(tx, source, keeps).await? {
        Some(kept) => Err(kept.refusal(source, ErrorKind::Conflict)),
        None => Ok(()),
    }
}

/// A constant that two sources have in one column, with other values, keeps their rows apart.
const KEPT_BY: &str = "\
    select theirs.key, o.source from dynaurora.sources o \
        cross join lateral jsonb_each(o.keeps) theirs \
        join jsonb_each($2::text::jsonb) own on own.key = theirs.key \
    where o.source <> $1 and not exists (select from jsonb_each_text(theirs.value) one \
        join jsonb_each_text(own.value) other on other.key = one.key \
        where other.value <> one.value) \
    order by 1, 2 limit 1";

async fn kept_by(tx: &mut Tx, source: &str, keeps: &str) -> Result<Option<Kept>> {
    let query = tx.query_once(KEPT_BY).bind(source).bind(keeps);
    query.optional(|row| Ok(Kept { table: row.try_get(0)?, by: row.try_get(1)? })).await
}

/// The highest generation of the source's own rows in a table; 0 without rows of dynaurora's. Rows of version
/// 0 are the user's.
async fn highest(pool: &PgPool, table: &TableSpec) -> Result<Generation> {
    const WHAT: &str = "find the highest version of a table's rows";
    let version = quoted(VERSION_COLUMN)?;
    let factor = SequenceNumber::DIGITS_MAX;
    let sql = format!(
        "select coalesce(div(max(t.{version}), 1e{factor}), 0)::bigint from {} t \
         where t.{version} > 0 and t.{version} < {GENERATION_MAX} * 1e{factor}{}",
        quoted_table(&table.name)?,
        own_rows(table, "t", " and ")?,
    );
    let work = begun_with(pool, UNLIMITED, WHAT, async |tx| {
        tx.query_once(AssertSqlSafe(sql)).one(|row| row.try_get::<i64, _>(0)).await
    });
    let highest = tokio::time::timeout(READ_WITHIN, work).await.map_err(|_| {
        Error::new(ErrorKind::Unreachable, format!("read {}: no answer in time", table.name))
    })??;
    Ok(Generation::try_from(highest).unwrap_or(GENERATION_MAX))
}

fn above(
    identity: &SourceIdentity,
    table: &TableSpec,
    highest: Generation,
    own: Generation,
) -> Error {
    let SourceIdentity { source, .. } = identity;
    let what = format!(
        "the table {} has rows of generation {highest}, which would turn away the changes of \
         source {source}, generation {own}",
        table.name
    );
    Error::new(ErrorKind::Config, what).with_hint(format!(
        "stop its daemons, then `dynaurora sources forget {source}`: it begins above those rows, \
         with a backfill"
    ))
}

/// The tables as `sources.keeps` has them.
fn keeps(tables: &[TableSpec]) -> String {
    let constants = |table: &TableSpec| {
        let named = table.constants.iter().filter_map(|constant| {
            let column = table.columns.get(constant.column)?;
            Some((column.name.clone(), Value::from(constant.value.clone())))
        });
        Value::Object(named.collect())
    };
    let tables: Map<String, Value> =
        tables.iter().map(|table| (key(&table.name), constants(table))).collect();
    Value::Object(tables).to_string()
}

fn key(name: &TableName) -> String {
    format!("{}.{}", name.schema.as_deref().unwrap_or(DEFAULT_SCHEMA), name.name)
}

fn enrolment(row: &PgRow, identity: &SourceIdentity) -> sqlx::Result<Enrolment> {
    let generation: i32 = row.try_get("generation")?;
    let table_id: String = row.try_get("table_id")?;
    let stream_arn: String = row.try_get("stream_arn")?;
    let continuity = if table_id != identity.table_id {
        Continuity::TableChanged { was: table_id }
    } else if stream_arn != identity.stream_arn {
        Continuity::StreamChanged { was: stream_arn }
    } else {
        Continuity::Same
    };
    let listed_ago: Option<f64> = row.try_get("listed_ago_secs")?;
    let listed_ago = listed_ago.map(|secs| Duration::try_from_secs_f64(secs).unwrap_or_default());
    Ok(Enrolment { generation: generation.unsigned_abs(), continuity, listed_ago })
}
