//! A source's freshness as queries of the target see it: the view `dynaurora.freshness`.

use sqlx::Row;
use sqlx::postgres::{PgPool, PgRow};

use crate::error::Result;
use crate::model::EpochMillis;
use crate::postgres::session::in_transaction;

/// One source in the view.
#[derive(Debug, Clone, PartialEq)]
pub struct Freshness {
    /// `live`, `idle`, `behind`, `stuck`, `backfilling`, `gapped` or `halted`; the list may grow.
    pub state: String,
    /// Every change before this time is in the target; `None` while unknown.
    pub synced_up_to: Option<EpochMillis>,
    /// The newest applied change's time.
    pub last_event_at: Option<EpochMillis>,
    /// The oldest of the shards' last polls.
    pub last_poll_at: Option<EpochMillis>,
    /// How long ago `synced_up_to` was, by the server's clock.
    pub lag_secs: Option<f64>,
    /// Whether a worker is alive.
    pub alive: bool,
    /// Whether every change made up to the requested time is in the target.
    pub fresh: bool,
}

/// Looks once, in a transaction of its own: nothing is held between two looks, on a replica too.
///
/// # Errors
/// `Schema` before `dynaurora apply`, `Denied` without the grants, and what the connection meets.
pub async fn look(pool: &PgPool, source: &str, after: EpochMillis) -> Result<Option<Freshness>> {
    const WHAT: &str = "read how fresh the source is";
    const LOOK: &str = "\
        select state, alive, extract(epoch from lag)::float8 as lag_secs, \
            floor(extract(epoch from synced_up_to) * 1000)::bigint as synced_ms, \
            floor(extract(epoch from last_event_at) * 1000)::bigint as event_ms, \
            floor(extract(epoch from last_poll_at) * 1000)::bigint as poll_ms, \
            coalesce(synced_up_to > to_timestamp($2::double precision / 1000), false) as fresh \
        from dynaurora.freshness where source = $1";
    in_transaction(pool, WHAT, async |tx| {
        let look = tx.query(LOOK).bind(source).bind(after.0);
        look.optional(freshness).await
    })
    .await
}

fn freshness(row: &PgRow) -> sqlx::Result<Freshness> {
    let time = |name: &str| -> sqlx::Result<Option<EpochMillis>> {
        Ok(row.try_get::<Option<i64>, _>(name)?.map(EpochMillis))
    };
    Ok(Freshness {
        state: row.try_get("state")?,
        synced_up_to: time("synced_ms")?,
        last_event_at: time("event_ms")?,
        last_poll_at: time("poll_ms")?,
        lag_secs: row.try_get("lag_secs")?,
        alive: row.try_get("alive")?,
        fresh: row.try_get("fresh")?,
    })
}
