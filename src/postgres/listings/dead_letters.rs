//! Dead letters as people list and settle them; `postgres/tables/letters.rs` stores them.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::apply::ports::KeyHash;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EpochMillis, Reject, Version};
use crate::postgres::session::in_transaction;

/// The state of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterState {
    /// It waits for an operator.
    Open,
    /// A newer image of the same key was applied.
    Superseded,
    /// A retry applied the item's current state.
    Resolved,
    /// An operator dropped it.
    Dropped,
}

impl DeadLetterState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Superseded, Self::Resolved, Self::Dropped];

    /// The label in the table and the output.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Superseded => "superseded",
            Self::Resolved => "resolved",
            Self::Dropped => "dropped",
        }
    }

    /// Parses a label.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.label() == label)
    }
}

/// Which dead letters to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadLetterFilter<'a> {
    /// Only of this source.
    pub source: Option<&'a str>,
    /// Only in this state.
    pub state: Option<DeadLetterState>,
    /// At most this many, newest first; `None` for all.
    pub limit: Option<u32>,
}

/// A dead letter in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Its number.
    pub id: i64,
    /// Its source.
    pub source: String,
    /// Where it was read.
    pub partition: String,
    /// Its version as text.
    pub version: String,
    /// The item's key as DynamoDB JSON.
    pub key: String,
    /// The record as DynamoDB JSON.
    pub image: String,
    /// The bounded reason.
    pub reason: String,
    /// The entity that it was routed to.
    pub entity: Option<String>,
    /// The column or path at fault.
    pub place: Option<String>,
    /// The explanation for people.
    pub detail: String,
    /// Its state.
    pub state: DeadLetterState,
    /// When it was stored.
    pub created_at: EpochMillis,
    /// When it was settled.
    pub settled_at: Option<EpochMillis>,
    /// Why it was dropped.
    pub note: Option<String>,
}

/// The number of dead letters of one source, reason and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterCount {
    /// The source.
    pub source: String,
    /// The reason.
    pub reason: String,
    /// The state.
    pub state: DeadLetterState,
    /// How many.
    pub count: u64,
}

const SELECT: &str = "\
    select id, source, partition, version::text, key, image, reason, entity, place, detail, state, \
    (extract(epoch from created_at) * 1000)::bigint as created_at, \
    (extract(epoch from settled_at) * 1000)::bigint as settled_at, note \
    from dynaurora.dead_letters";

/// The dead letters that match the filter, newest first.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(pool: &PgPool, filter: DeadLetterFilter<'_>) -> Result<Vec<StoredDeadLetter>> {
    let sql = format!(
        "{SELECT} where ($1::text is null or source = $1) and ($2::text is null or state = $2) \
         order by id desc limit $3"
    );
    in_transaction(pool, "list the dead letters", async |tx| {
        tx.query(AssertSqlSafe(sql))
            .bind(filter.source)
            .bind(filter.state.map(DeadLetterState::label))
            .bind(filter.limit.map(i64::from))
            .all(letter)
            .await
    })
    .await
}

/// One dead letter.
///
/// # Errors
/// When the database cannot be read.
pub async fn show(pool: &PgPool, id: i64) -> Result<Option<StoredDeadLetter>> {
    in_transaction(pool, "read a dead letter", async |tx| {
        let one = tx.query(AssertSqlSafe(format!("{SELECT} where id = $1"))).bind(id);
        one.optional(letter).await
    })
    .await
}

/// Counts by source, reason and state.
///
/// # Errors
/// When the database cannot be read.
pub async fn counts(pool: &PgPool, source: Option<&str>) -> Result<Vec<DeadLetterCount>> {
    const COUNT: &str = "\
        select source, reason, state, count(*) from dynaurora.dead_letters \
        where $1::text is null or source = $1 group by 1, 2, 3 order by 1, 2, 3";
    in_transaction(pool, "count the dead letters", async |tx| {
        let counts = tx.query(COUNT).bind(source).all(|row| {
            Ok(DeadLetterCount {
                source: row.try_get(0)?,
                reason: row.try_get(1)?,
                state: state_of(row.try_get(2)?)?,
                count: row.try_get::<i64, _>(3)?.unsigned_abs(),
            })
        });
        counts.await
    })
    .await
}

/// The numbers of a source's open dead letters, optionally of one reason, oldest first.
///
/// # Errors
/// When the database cannot be read.
pub async fn open_ids(pool: &PgPool, source: &str, reason: Option<&str>) -> Result<Vec<i64>> {
    const OPEN: &str = "\
        select id from dynaurora.dead_letters where source = $1 and state = 'open' \
            and ($2::text is null or reason = $2) order by id";
    in_transaction(pool, "list the open dead letters", async |tx| {
        tx.query(OPEN).bind(source).bind(reason).all(|row| row.try_get(0)).await
    })
    .await
}

/// Updates the reason of an open dead letter that cannot be settled.
///
/// # Errors
/// When the database cannot be written.
pub async fn keep_open(pool: &PgPool, id: i64, reject: &Reject) -> Result<()> {
    const KEEP: &str = "\
        update dynaurora.dead_letters set reason = $2, entity = $3, place = $4, detail = $5 \
        where id = $1 and state = 'open'";
    in_transaction(pool, "update a dead letter", async |tx| {
        tx.query(KEEP)
            .bind(id)
            .bind(reject.reason.label())
            .bind(reject.entity.as_deref())
            .bind(reject.place.as_deref())
            .bind(reject.detail.replace('\0', "\u{fffd}"))
            .execute()
            .await
            .map(drop)
    })
    .await
}

/// Settles an open dead letter, with an optional note; false if it is no longer open.
///
/// # Errors
/// `Usage` when asked to open it, otherwise when the database cannot be written.
pub async fn settle(
    pool: &PgPool,
    id: i64,
    state: DeadLetterState,
    note: Option<&str>,
) -> Result<bool> {
    if state == DeadLetterState::Open {
        return Err(Error::new(ErrorKind::Usage, "a dead letter cannot be opened again"));
    }
    const SETTLE: &str = "\
        update dynaurora.dead_letters set state = $2, settled_at = now(), note = $3 \
        where id = $1 and state = 'open'";
    in_transaction(pool, "settle a dead letter", async |tx| {
        let settled = tx.query(SETTLE).bind(id).bind(state.label()).bind(note).execute().await?;
        Ok(settled == 1)
    })
    .await
}

/// Which of these keys have an open dead letter, each with its version.
///
/// # Errors
/// When the database cannot be read.
pub async fn open_among(
    pool: &PgPool,
    source: &str,
    hashes: &[KeyHash],
) -> Result<HashMap<KeyHash, Version>> {
    const OPEN: &str = "\
        select key_hash, version::text from dynaurora.dead_letters \
        where source = $1 and state = 'open' and key_hash = any ($2)";
    let wanted: Vec<&[u8]> = hashes.iter().map(KeyHash::as_slice).collect();
    let open = in_transaction(pool, "look for open dead letters", async |tx| {
        let open = tx.query(OPEN).bind(source).bind(wanted);
        open.all(|row| Ok((row.try_get::<Vec<u8>, _>(0)?, row.try_get::<String, _>(1)?))).await
    });
    let known = |(hash, version): (Vec<u8>, String)| {
        Some((hash.try_into().ok()?, Version::parse(&version)?))
    };
    Ok(open.await?.into_iter().filter_map(known).collect())
}

fn letter(row: &PgRow) -> sqlx::Result<StoredDeadLetter> {
    Ok(StoredDeadLetter {
        id: row.try_get("id")?,
        source: row.try_get("source")?,
        partition: row.try_get("partition")?,
        version: row.try_get("version")?,
        key: row.try_get("key")?,
        image: row.try_get("image")?,
        reason: row.try_get("reason")?,
        entity: row.try_get("entity")?,
        place: row.try_get("place")?,
        detail: row.try_get("detail")?,
        state: state_of(row.try_get("state")?)?,
        created_at: EpochMillis(row.try_get("created_at")?),
        settled_at: row.try_get::<Option<i64>, _>("settled_at")?.map(EpochMillis),
        note: row.try_get("note")?,
    })
}

fn state_of(label: &str) -> sqlx::Result<DeadLetterState> {
    DeadLetterState::parse(label)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown state {label}").into()))
}
