//! What the last verification of each source found, kept in the ledger.

use sqlx::{PgPool, Row};

use crate::error::Result;
use crate::ops::ports::{Progress, Verification};
use crate::postgres::sqlstate;

/// Keeps what was found, in place of what an earlier one found.
///
/// # Errors
/// When the database cannot be written.
pub async fn record(pool: &PgPool, source: &str, found: Verification) -> Result<()> {
    let count = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
    sqlx::query(
        "insert into dynaurora.verifications as v \
         (source, started_at, share, items, mismatched, repaired) \
         values ($1, now() - $2 * interval '1 second', $3, $4, $5, $6) \
         on conflict (source) do update set started_at = excluded.started_at, ended_at = now(), \
         share = excluded.share, items = excluded.items, mismatched = excluded.mismatched, \
         repaired = excluded.repaired",
    )
    .bind(source)
    .bind(found.took.as_secs_f64())
    .bind(found.share)
    .bind(count(found.items))
    .bind(count(found.mismatched))
    .bind(count(found.repaired))
    .execute(pool)
    .await
    .map(drop)
    .map_err(|error| sqlstate::error("record the verification", error))
}

/// How far the source has come, where the ledger's function `synced_up_to` can tell.
///
/// # Errors
/// When the database cannot be read.
pub async fn progress(pool: &PgPool, source: &str) -> Result<Progress> {
    let failed = |error| sqlstate::error("ask how far the source is synced", error);
    let known = "select to_regprocedure('dynaurora.synced_up_to(text)') is not null";
    let known: bool = sqlx::query_scalar(known).fetch_one(pool).await.map_err(failed)?;
    let synced = if known { "dynaurora.synced_up_to($1)" } else { "null::timestamptz" };
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "select (extract(epoch from clock_timestamp()) * 1000)::bigint, \
         (extract(epoch from {synced}) * 1000)::bigint where $1::text is not null"
    )))
    .bind(source)
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    Ok(Progress {
        now_ms: row.try_get(0).map_err(failed)?,
        synced_ms: row.try_get(1).map_err(failed)?,
    })
}
