//! Claims: while a backfill is active, deletes and scan pages serialise on a row per key.
//!
//! Deleting leaves nothing in the target that could turn an older scan page away. So a delete
//! leaves its version here, before it touches the target row and in the same transaction, and a
//! scan page writes only the keys whose claim it gets. A table of tombstones read with NOT EXISTS
//! would not do: under READ COMMITTED the page may not see a delete that commits a moment later;
//! taking the claim by upsert waits for it.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;

use super::encode::printed;
use super::rows::EntityRows;
use super::sqlstate;
use crate::engine::ports::{KeyHash, Unit};
use crate::error::Result;
use crate::model::{Cells, SequenceNumber, Version};

const TAKE: &str = "\
    insert into dynaurora.claims as c (source, target, key_hash, version) \
    select $1, $2, unnest($3::bytea[]), unnest($4::text[])::numeric \
    on conflict (source, target, key_hash) do update set version = excluded.version \
    where c.version < excluded.version \
    returning key_hash";

struct Wanted {
    hash: KeyHash,
    version: Version,
}

/// Takes the claims of one table's units; yields the units that may be written.
pub(super) async fn take<'a>(
    connection: &mut PgConnection,
    source: &str,
    rows: &EntityRows,
    units: Vec<&'a Unit>,
    prepared: bool,
) -> Result<Vec<&'a Unit>> {
    let hash_of = |unit: &Unit| hash(&unit.op.cells, rows.key_columns());
    let mut wanted: Vec<Wanted> = units
        .iter()
        .filter(|unit| unit.op.action.ends_row() || is_scanned(unit))
        .map(|unit| Wanted { hash: hash_of(unit), version: unit.version })
        .collect();
    if wanted.is_empty() {
        return Ok(units);
    }
    // Two writers that take claims in one order cannot deadlock.
    wanted.sort_unstable_by_key(|claim| (claim.hash, std::cmp::Reverse(claim.version)));
    // A soft delete may have a delete of the same key before it; the newer one's claim serves both.
    wanted.dedup_by_key(|claim| claim.hash);
    let hashes: Vec<&[u8]> = wanted.iter().map(|claim| claim.hash.as_slice()).collect();
    let taken: Vec<Vec<u8>> = sqlx::query_scalar(TAKE)
        .bind(source)
        .bind(rows.label())
        .bind(hashes)
        .bind(printed(&wanted, |claim| claim.version))
        .persistent(prepared)
        .fetch_all(connection)
        .await
        .map_err(|error| sqlstate::error("take the claims of a backfill", error))?;
    let taken: HashSet<Vec<u8>> = taken.into_iter().collect();
    // A delete needs no claim to be right: the target row's own version guards it.
    let may_write = |unit: &&Unit| {
        unit.op.action.ends_row() || !is_scanned(unit) || taken.contains(hash_of(unit).as_slice())
    };
    Ok(units.into_iter().filter(may_write).collect())
}

fn is_scanned(unit: &Unit) -> bool {
    unit.version.sequence == SequenceNumber::ZERO
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
