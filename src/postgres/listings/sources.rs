//! The sources that the ledger knows, for people to rename and forget.

use sqlx::Row;
use sqlx::postgres::PgPool;

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::session::{Tx, in_transaction};

/// What the ledger knew of a source that it has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// Its open dead letters.
    pub dead_letters: u64,
    /// Its gaps that were neither repaired nor accepted.
    pub gaps: u64,
}

/// Gives a source another name; its positions, dead letters and gaps stay.
///
/// # Errors
/// `Usage` if the ledger does not know it, or knows another one of the new name; `Conflict` while a worker of
/// it is alive; errors of the database.
pub async fn rename(pool: &PgPool, source: &str, to: &str) -> Result<()> {
    const RENAME: &str = "update dynaurora.sources set source = $2 where source = $1";
    const TAKEN: &str = "select exists (select from dynaurora.sources where source = $1)";
    in_transaction(pool, "rename a source", async |tx| {
        at_rest(tx, source).await?;
        let taken: bool = tx.query(TAKEN).bind(to).one(|row| row.try_get(0)).await?;
        if taken {
            let what = format!("the ledger knows a source {to} already");
            return Err(Error::new(ErrorKind::Usage, what).with_hint(format!(
                "if nothing is lost with it, stop its daemons, then `dynaurora sources forget {to}`"
            )));
        }
        tx.query(RENAME).bind(source).bind(to).execute().await.map(drop)
    })
    .await
}

/// Forgets a source: its positions, dead letters and gaps. Its rows stay in the target.
///
/// # Errors
/// `Usage` if the ledger does not know it; `Conflict` while a worker of it is alive; errors of the database.
pub async fn forget(pool: &PgPool, source: &str) -> Result<Forgotten> {
    const FORGET: &str = "delete from dynaurora.sources where source = $1";
    const LOST: &str = "\
        select (select count(*) from dynaurora.dead_letters \
                where source = $1 and state = 'open') as dead_letters, \
            (select count(*) from dynaurora.gaps \
                where source = $1 and state in ('open', 'repairing')) as gaps";
    in_transaction(pool, "forget a source", async |tx| {
        at_rest(tx, source).await?;
        let lost = tx.query(LOST).bind(source).one(|row| {
            let count = |name| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
            Ok(Forgotten { dead_letters: count("dead_letters")?, gaps: count("gaps")? })
        });
        let lost = lost.await?;
        tx.query(FORGET).bind(source).execute().await?;
        Ok(lost)
    })
    .await
}

/// Locks the source's row, whose workers must all be gone.
async fn at_rest(tx: &mut Tx, source: &str) -> Result<()> {
    const LOCK: &str = "select from dynaurora.sources where source = $1 for update";
    const ALIVE: &str = "\
        select min(worker) from dynaurora.workers where source = $1 and alive_until > now()";
    const KNOWN: &str = "select source from dynaurora.sources order by source";
    if tx.query(LOCK).bind(source).optional(|_| Ok(())).await?.is_none() {
        let known: Vec<String> = tx.query(KNOWN).all(|row| row.try_get(0)).await?;
        let what = format!("the ledger does not know the source {source}");
        let hint = format!("it knows: {}", known.join(", "));
        return Err(Error::new(ErrorKind::Usage, what).with_hint(hint));
    }
    let alive: Option<String> = tx.query(ALIVE).bind(source).one(|row| row.try_get(0)).await?;
    let Some(worker) = alive else { return Ok(()) };
    let what = format!("a worker of source {source} is alive: {worker}");
    Err(Error::new(ErrorKind::Conflict, what)
        .with_hint("stop its daemons; one that was killed counts as alive for a lease time"))
}
