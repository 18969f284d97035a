//! Dead letters as batches store and supersede them. Of one item at most one is open, and only while it is
//! newer than what was applied of the item.
//!
//! Along the stream this is simple: the records of one item come in order, so a letter is older than all that
//! is applied later, and whatever is applied supersedes it.
//!
//! A page of a backfill has no place in that order. It may wait while the tail applies the item's correction
//! or its delete, and then its letter comes later although it is older. The target's rows cannot tell: the
//! row may be gone, kept unchanged, damaged by hand, or have a key that the rejected image does not give. So
//! while a backfill is active, each batch of the stream leaves the keys that it applied, one row for all of
//! them, and the end of the backfill settles its pages' letters by them ([`settle`]). Three things make this
//! airtight:
//!
//! - All pages are committed by then, so no letter of them is to come.
//! - A batch that leaves keys holds a lock of the source in common with the others; to settle takes it alone.
//!   So a batch is either committed, and its keys are seen, or begins later, and sees the letters.
//! - Whoever reads the stream notes keys for as long as its view shows the backfill as active; the first view
//!   after that shows the open letters.
//!
//! Letters of an older generation are settled there as well: the backfill has read every item that is left,
//! so it has applied the item, or rejected it again, or there is no such item any more.

use std::collections::{HashMap, HashSet};

use sqlx::{AssertSqlSafe, Row};

use super::sweep;
use super::tombstones::{ALONE, IN_COMMON, lock};
use crate::apply::ports::{DeadLetter, KeyHash};
use crate::engine::ports::Settling;
use crate::error::Result;
use crate::model::{Generation, SequenceNumber, Version};
use crate::postgres::session::Tx;
use crate::postgres::sql::encode::{printed, texts};

/// Batches whose keys are read in one step, with a few ten thousand keys: the tail waits for it.
const BATCHES_MAX: i64 = 50;

/// Both locks end with the transaction, as those of [`super::tombstones`]; they are others, since neither
/// pages nor deletes wait for these.
const LETTERS: &str = "dynaurora letters ";

/// A letter older than another one of its item is history at once, whatever became of that other one.
const STORE: &str = "\
    insert into dynaurora.dead_letters as d (source, partition, version, key, key_hash, image, \
        reason, entity, place, detail, state, settled_at) \
    select $1, n.partition, n.version, n.key, n.key_hash, n.image, n.reason, n.entity, n.place, \
        n.detail, case when n.newest then 'open' else 'superseded' end, \
        case when not n.newest then now() end \
    from (select m.*, m.first and not exists (select from dynaurora.dead_letters o \
            where o.source = $1 and o.key_hash = m.key_hash and o.version >= m.version) as newest \
        from (select unnest($2::text[]) as partition, unnest($3::text[])::numeric as version, \
            unnest($4::text[]) as key, unnest($5::bytea[]) as key_hash, \
            unnest($6::text[]) as image, unnest($7::text[]) as reason, \
            unnest($8::text[]) as entity, unnest($9::text[]) as place, \
            unnest($10::text[]) as detail, unnest($11::boolean[]) as first) m) n \
    on conflict (source, key_hash) where state = 'open' do nothing \
    returning d.key_hash, d.version::text";

const SUPERSEDE: &str = "\
    update dynaurora.dead_letters d set state = 'superseded', settled_at = now() \
    from (select unnest($2::bytea[]) as key_hash, unnest($3::text[])::numeric as version) t \
    where d.source = $1 and d.state = 'open' and d.key_hash = t.key_hash \
        and d.version < t.version";

const NOTE: &str = "\
    with noted as (insert into dynaurora.touched (source, key_hashes, versions) \
        values ($1, $2::bytea[], $3::text[]::numeric[])) ";

const SETTLE_OLDER: &str = "\
    update dynaurora.dead_letters set state = 'superseded', settled_at = now() \
    where source = $1 and state = 'open' and version < $2::numeric";

const SETTLE_OVERTAKEN: &str = "\
    with read as (delete from dynaurora.touched where id in (select id from dynaurora.touched \
            where source = $1 order by id limit $2) returning key_hashes, versions), \
    newest as (select t.key_hash, max(t.version) as version \
        from read r, unnest(r.key_hashes, r.versions) as t (key_hash, version) group by 1), \
    overtaken as (update dynaurora.dead_letters d \
        set state = 'superseded', settled_at = now() from newest t \
        where d.source = $1 and d.state = 'open' and d.key_hash = t.key_hash \
            and d.version < t.version) \
    select count(*) from read";

/// Whether a batch with these keys leaves them to the end of the backfill. What a scan applied is older than
/// all other letters of its generation, so that none of them needs to know it.
pub(super) fn leaves_keys(backfilling: bool, touched: &[(KeyHash, Version)]) -> bool {
    backfilling && touched.iter().any(|(_, version)| version.sequence != SequenceNumber::ZERO)
}

/// Begins a transaction that leaves keys.
pub(super) async fn begin(tx: &mut Tx, source: &str) -> Result<()> {
    let turn = tx.query(IN_COMMON).named("wait for the end of a backfill");
    turn.bind(lock(LETTERS, source)).execute().await.map(drop)
}

/// Stores the rejects of a batch. The newest of each item takes the place of an older open one.
pub(super) async fn store(tx: &mut Tx, source: &str, rejects: &[DeadLetter]) -> Result<()> {
    // In the order of their records, which people see. A page and the tail that so deadlock are tried again.
    let mut left: Vec<&DeadLetter> = rejects.iter().collect();
    while !left.is_empty() {
        let own: Vec<_> = left.iter().map(|letter| (letter.key_hash, letter.version)).collect();
        supersede(tx, source, &own, false).await?;
        let stored = insert(tx, source, &left).await?;
        // What is left met a letter of its item that was committed in between, and is now compared with it.
        left.retain(|letter| !stored.contains(&(letter.key_hash, letter.version.to_string())));
    }
    Ok(())
}

/// Inserts letters; returns those that were inserted.
async fn insert(
    tx: &mut Tx,
    source: &str,
    letters: &[&DeadLetter],
) -> Result<HashSet<(KeyHash, String)>> {
    let hashes: Vec<&[u8]> = letters.iter().map(|letter| letter.key_hash.as_slice()).collect();
    // A detail may contain an attribute's name, which can hold characters that Postgres does not allow.
    let details: Vec<String> =
        letters.iter().map(|letter| letter.reject.detail.replace('\0', "\u{fffd}")).collect();
    let mut newest: HashMap<KeyHash, Version> = HashMap::new();
    for letter in letters {
        let known = newest.entry(letter.key_hash).or_insert(letter.version);
        *known = letter.version.max(*known);
    }
    let is_newest = |letter: &&DeadLetter| newest.get(&letter.key_hash) == Some(&letter.version);
    let first: Vec<bool> = letters.iter().map(is_newest).collect();
    let stored = tx
        .query(STORE)
        .named("store the dead letters of a batch")
        .bind(source)
        .bind(texts(letters, |letter| Some(letter.partition.as_str())))
        .bind(printed(letters, |letter| letter.version))
        .bind(texts(letters, |letter| Some(&letter.key)))
        .bind(hashes)
        .bind(texts(letters, |letter| Some(&letter.image)))
        .bind(texts(letters, |letter| Some(letter.reject.reason.label())))
        .bind(texts(letters, |letter| letter.reject.entity.as_deref()))
        .bind(texts(letters, |letter| letter.reject.place.as_deref()))
        .bind(details)
        .bind(first)
        .all(|row| Ok((row.try_get::<Vec<u8>, _>(0)?, row.try_get::<String, _>(1)?)))
        .await?;
    let stored = stored.into_iter();
    Ok(stored.filter_map(|(hash, version)| Some((hash.try_into().ok()?, version))).collect())
}

/// Supersedes the open dead letters of keys with a later record; with `leaves` also leaves the keys to the
/// end of the backfill.
pub(super) async fn supersede(
    tx: &mut Tx,
    source: &str,
    later: &[(KeyHash, Version)],
    leaves: bool,
) -> Result<u64> {
    if later.is_empty() {
        return Ok(0);
    }
    let hashes: Vec<&[u8]> = later.iter().map(|(hash, _)| hash.as_slice()).collect();
    let query = if leaves {
        tx.query(AssertSqlSafe(format!("{NOTE}{SUPERSEDE}")))
    } else {
        tx.query(SUPERSEDE)
    };
    query
        .named("supersede dead letters")
        .bind(source)
        .bind(hashes)
        .bind(printed(later, |(_, version)| *version))
        .execute()
        .await
}

/// One step of settling the letters of a backfill whose partitions are all drained.
pub(in crate::postgres) async fn settle(
    tx: &mut Tx,
    source: &str,
    generation: Generation,
) -> Result<Settling> {
    if !sweep::is_current(tx, source, generation).await? {
        return Ok(Settling::Over);
    }
    const WHAT: &str = "settle the dead letters of a backfill";
    tx.query_once(ALONE).named(WHAT).bind(lock(LETTERS, source)).execute().await?;
    let first = Version::scanned(generation).to_string();
    tx.query_once(SETTLE_OLDER).named(WHAT).bind(source).bind(first).execute().await?;
    let overtaken = tx.query_once(SETTLE_OVERTAKEN).named(WHAT).bind(source).bind(BATCHES_MAX);
    let read: i64 = overtaken.one(|row| row.try_get(0)).await?;
    Ok(if read < BATCHES_MAX { Settling::Done } else { Settling::More })
}
