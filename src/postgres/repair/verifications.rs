//! The result of each source's last verification, kept in the ledger.

use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::error::Result;
use crate::ops::ports::{Progress, Verification};
use crate::postgres::session::in_transaction;

/// Stores the result in place of an earlier one.
///
/// # Errors
/// When the database cannot be written.
pub async fn record(pool: &PgPool, source: &str, found: Verification) -> Result<()> {
    let count = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
    in_transaction(pool, "record the verification", async |tx| {
        tx.query(RECORD)
            .bind(source)
            .bind(found.took.as_secs_f64())
            .bind(found.share)
            .bind(count(found.items))
            .bind(count(found.mismatched))
            .bind(count(found.repaired))
            .execute()
            .await
            .map(drop)
    })
    .await
}

const RECORD: &str = "\
    insert into dynaurora.verifications as v \
        (source, started_at, share, items, mismatched, repaired) \
    values ($1, now() - $2 * interval '1 second', $3, $4, $5, $6) \
    on conflict (source) do update set started_at = excluded.started_at, ended_at = now(), \
        share = excluded.share, items = excluded.items, mismatched = excluded.mismatched, \
        repaired = excluded.repaired";

/// The source's progress, if the ledger has the function `synced_up_to`.
///
/// # Errors
/// When the database cannot be read.
pub async fn progress(pool: &PgPool, source: &str) -> Result<Progress> {
    in_transaction(pool, "ask how far the source is synced", async |tx| {
        let known = "select to_regprocedure('dynaurora.synced_up_to(text)') is not null";
        let known: bool = tx.query(known).one(|row| row.try_get(0)).await?;
        let synced = if known { "dynaurora.synced_up_to($1)" } else { "null::timestamptz" };
        let ask = format!(
            "select (extract(epoch from clock_timestamp()) * 1000)::bigint, \
             (extract(epoch from {synced}) * 1000)::bigint where $1::text is not null"
        );
        let ask = tx.query(AssertSqlSafe(ask)).bind(source);
        let progress =
            ask.one(|row| Ok(Progress { now_ms: row.try_get(0)?, synced_ms: row.try_get(1)? }));
        progress.await
    })
    .await
}
