//! Claims: while a load is active, a delete leaves its version behind, and scan pages look for it.
//!
//! Deleting leaves nothing in the target that could turn an older scan page away. So a delete notes its
//! version here, and a scan page skips the keys that it finds. Reading them with NOT EXISTS alone would not
//! do: under READ COMMITTED a page may not see a delete that commits a moment later, nor the delete a row
//! that the page has not committed. So the two take turns: pages run beside each other, and a transaction
//! with deletes has the table to itself. A claim for each row of the load, taken by upsert, serves as well
//! and costs twice as much as the rows themselves.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;

use super::encode::printed;
use super::rows::EntityRows;
use super::sqlstate;
use crate::engine::ports::{KeyHash, Unit};
use crate::error::Result;
use crate::model::{Cells, SequenceNumber, Version};

/// Both end with the transaction. A statement sees what was committed when it began, so what is read under the
/// lock must be read by a later one.
const BESIDE_PAGES: &str = "select pg_advisory_xact_lock_shared($1)";
const ALONE: &str = "select pg_advisory_xact_lock($1)";

const LEAVE: &str = "\
    insert into dynaurora.claims as c (source, target, key_hash, version) \
    select $1, $2, unnest($3::bytea[]), unnest($4::text[])::numeric \
    on conflict (source, target, key_hash) do update set version = excluded.version \
    where c.version < excluded.version";

/// Most pages meet a table without a delete, and need not hash their keys.
const ANY: &str = "\
    select exists (select from dynaurora.claims where source = $1 and target = $2)";

const FIND: &str = "\
    select key_hash from dynaurora.claims \
    where source = $1 and target = $2 and key_hash = any ($3::bytea[]) and version > $4::numeric";

struct Left {
    hash: KeyHash,
    version: Version,
}

/// Waits until no transaction is under way that these units must not run beside. First of all in its
/// transaction, so that nobody waits for it meanwhile.
pub(super) async fn take_turn(
    connection: &mut PgConnection,
    source: &str,
    units: &[Unit],
    prepared: bool,
) -> Result<()> {
    let turn = if units.iter().any(leaves_claim) {
        ALONE
    } else if units.iter().any(is_scanned) {
        BESIDE_PAGES
    } else {
        return Ok(());
    };
    sqlx::query(turn)
        .bind(lock(source))
        .persistent(prepared)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| sqlstate::error("wait for the pages of a load", error))
}

/// Leaves the claims of one table's deletes; yields the units that may be written, which are all but the
/// scanned ones whose key was deleted.
pub(super) async fn settle<'a>(
    connection: &mut PgConnection,
    source: &str,
    rows: &EntityRows,
    units: Vec<&'a Unit>,
    prepared: bool,
) -> Result<Vec<&'a Unit>> {
    let hash_of = |unit: &Unit| hash(&unit.op.cells, rows.key_columns());
    let deletes = units.iter().filter(|unit| leaves_claim(unit));
    let left: Vec<Left> =
        deletes.map(|unit| Left { hash: hash_of(unit), version: unit.version }).collect();
    if !left.is_empty() {
        leave(connection, (source, rows.label()), left, prepared).await?;
    }
    // The pages of a load have one version, that of its beginning.
    let Some(first) = units.iter().find(|unit| is_scanned(unit)) else { return Ok(units) };
    let failed = |error| sqlstate::error("look for deletes beside a load", error);
    let any: bool = sqlx::query_scalar(ANY)
        .bind(source)
        .bind(rows.label())
        .persistent(prepared)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !any {
        return Ok(units);
    }
    let scanned = units.iter().filter(|unit| is_scanned(unit));
    let hashes: Vec<KeyHash> = scanned.map(|unit| hash_of(unit)).collect();
    let deleted: Vec<Vec<u8>> = sqlx::query_scalar(FIND)
        .bind(source)
        .bind(rows.label())
        .bind(hashes.iter().map(KeyHash::as_slice).collect::<Vec<_>>())
        .bind(first.version.to_string())
        .persistent(prepared)
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    let deleted: HashSet<Vec<u8>> = deleted.into_iter().collect();
    let may_write = |unit: &&Unit| !is_scanned(unit) || !deleted.contains(hash_of(unit).as_slice());
    Ok(units.into_iter().filter(may_write).collect())
}

async fn leave(
    connection: &mut PgConnection,
    (source, target): (&str, &str),
    mut left: Vec<Left>,
    prepared: bool,
) -> Result<()> {
    // A soft delete may have a delete of the same key before it; the newer one's claim serves both.
    left.sort_unstable_by_key(|claim| (claim.hash, std::cmp::Reverse(claim.version)));
    left.dedup_by_key(|claim| claim.hash);
    let hashes: Vec<&[u8]> = left.iter().map(|claim| claim.hash.as_slice()).collect();
    sqlx::query(LEAVE)
        .bind(source)
        .bind(target)
        .bind(hashes)
        .bind(printed(&left, |claim| claim.version))
        .persistent(prepared)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| sqlstate::error("leave the claims of deletes", error))
}

/// What a scan itself ends, for its item has left the filter, is older than all that a load writes.
fn leaves_claim(unit: &Unit) -> bool {
    unit.op.action.ends_row() && !is_scanned(unit)
}

fn is_scanned(unit: &Unit) -> bool {
    unit.version.sequence == SequenceNumber::ZERO
}

/// The number of the source's lock.
fn lock(source: &str) -> i64 {
    let digest = Sha256::new().chain_update("dynaurora claims ").chain_update(source).finalize();
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

/// The hash of a key: each cell's length goes before it, so that boundaries count.
fn hash(cells: &Cells, key_columns: usize) -> KeyHash {
    let mut hasher = Sha256::new();
    for cell in cells.iter().take(key_columns) {
        let text = cell.unwrap_or_default();
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.finalize().into()
}
