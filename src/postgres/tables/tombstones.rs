//! Tombstones: while a backfill is active, a delete records its version, and scan pages look for it.
//!
//! A deleted row has nothing in the target that could stop an older scan page. So a delete records its
//! version here, and a scan page skips the keys that it finds. A read with NOT EXISTS alone is not enough:
//! under READ COMMITTED a page may miss a delete that commits a moment later, and the delete may miss a row
//! that the page has not committed. So the two take turns: pages run side by side, and a transaction with
//! deletes runs alone. A claim upserted for each row of the backfill would also work, but costs twice as much
//! as the rows.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use sqlx::Row;

use super::rows::EntityRows;
use crate::apply::ports::{KeyHash, Unit};
use crate::error::Result;
use crate::model::{Cells, ItemTag, SequenceNumber, Version};
use crate::postgres::session::Tx;
use crate::postgres::sql::encode::printed;

/// Both locks end with the transaction. A statement sees what was committed when it began, so reads that
/// depend on the lock must be later statements.
const BESIDE_PAGES: &str = "select pg_advisory_xact_lock_shared($1)";
const ALONE: &str = "select pg_advisory_xact_lock($1)";

const WAIT: &str = "wait for the pages of a backfill";

const LEAVE: &str = "\
    insert into dynaurora.claims as c (source, target, key_hash, version) \
    select $1, $2, unnest($3::bytea[]), unnest($4::text[])::numeric \
    on conflict (source, target, key_hash) do update set version = excluded.version \
    where c.version < excluded.version";

/// Most pages meet a table without a tombstone, and need not hash their keys.
const ANY: &str = "\
    select exists (select from dynaurora.claims where source = $1 and target = $2)";

const FIND: &str = "\
    select c.key_hash from (select unnest($3::bytea[]) as key_hash, \
            unnest($4::text[])::numeric as version) own \
        join dynaurora.claims c on c.source = $1 and c.target = $2 and c.key_hash = own.key_hash \
    where c.version > own.version";

struct Noted {
    hash: KeyHash,
    version: Version,
}

/// How the units of one batch use tombstones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tombstones<'a> {
    pub source: &'a str,
    /// Whether the batch holds a backfill's pages.
    pub of_backfill: bool,
}

impl Tombstones<'_> {
    /// Waits for conflicting transactions to end. It is the first statement of its transaction, so that
    /// nobody waits for this one meanwhile. A sweep spares the rows of dead letters, so it runs alone too,
    /// and a batch with `rejects` waits for it.
    pub(super) async fn take_turn(self, tx: &mut Tx, units: &[Unit], rejects: bool) -> Result<()> {
        let turn = if units.iter().any(leaves_tombstone) {
            ALONE
        } else if rejects || units.iter().any(|unit| self.looks_for_tombstones(unit)) {
            BESIDE_PAGES
        } else {
            return Ok(());
        };
        tx.query(turn).named(WAIT).bind(lock(self.source)).execute().await.map(drop)
    }

    /// Leaves the tombstones of one table's deletes; returns the units to write: all except backfilled ones
    /// whose key was deleted since.
    pub(super) async fn settle<'u>(
        self,
        tx: &mut Tx,
        rows: &EntityRows,
        units: Vec<&'u Unit>,
    ) -> Result<Vec<&'u Unit>> {
        let hash_of = |unit: &&Unit| hash(&unit.op.cells, rows.key_columns(), unit.op.item);
        let noted = |unit: &&Unit| Noted { hash: hash_of(unit), version: unit.version };
        let left: Vec<Noted> =
            units.iter().filter(|unit| leaves_tombstone(unit)).map(noted).collect();
        if !left.is_empty() {
            self.leave(tx, rows.label(), left).await?;
        }
        let looking = units.iter().filter(|unit| self.looks_for_tombstones(unit));
        if looking.clone().next().is_none() {
            return Ok(units);
        }
        const LOOK: &str = "look for deletes during a backfill";
        let any = tx.query(ANY).named(LOOK).bind(self.source).bind(rows.label());
        let any: bool = any.one(|row| row.try_get(0)).await?;
        if !any {
            return Ok(units);
        }
        let mut looking: Vec<Noted> = looking.map(noted).collect();
        // An older daemon's tombstones name no item.
        let unnamed = units.iter().filter(|unit| unit.op.item.is_some());
        let unnamed = unnamed.filter(|unit| self.looks_for_tombstones(unit));
        looking.extend(unnamed.map(|unit| Noted {
            hash: hash(&unit.op.cells, rows.key_columns(), None),
            version: unit.version,
        }));
        let hashes: Vec<&[u8]> =
            looking.iter().map(|tombstone| tombstone.hash.as_slice()).collect();
        let deleted = tx
            .query(FIND)
            .named(LOOK)
            .bind(self.source)
            .bind(rows.label())
            .bind(hashes)
            .bind(printed(&looking, |tombstone| tombstone.version))
            .all(|row| row.try_get::<Vec<u8>, _>(0))
            .await?;
        let deleted: HashSet<Vec<u8>> = deleted.into_iter().collect();
        let is_gone = |unit: &Unit, item| {
            deleted.contains(hash(&unit.op.cells, rows.key_columns(), item).as_slice())
        };
        let may_write = |unit: &&Unit| {
            !self.looks_for_tombstones(unit)
                || !is_gone(unit, unit.op.item) && (unit.op.item.is_none() || !is_gone(unit, None))
        };
        Ok(units.into_iter().filter(may_write).collect())
    }

    async fn leave(self, tx: &mut Tx, target: &str, mut left: Vec<Noted>) -> Result<()> {
        // A soft delete may follow a delete of the same key; the newer tombstone serves both.
        left.sort_unstable_by_key(|tombstone| {
            (tombstone.hash, std::cmp::Reverse(tombstone.version))
        });
        left.dedup_by_key(|tombstone| tombstone.hash);
        let hashes: Vec<&[u8]> = left.iter().map(|tombstone| tombstone.hash.as_slice()).collect();
        tx.query(LEAVE)
            .named("leave the tombstones of deletes")
            .bind(self.source)
            .bind(target)
            .bind(hashes)
            .bind(printed(&left, |tombstone| tombstone.version))
            .execute()
            .await
            .map(drop)
    }

    /// Deletes need not look for tombstones: the row's own version guards them.
    fn looks_for_tombstones(self, unit: &Unit) -> bool {
        (self.of_backfill || is_first(unit)) && !unit.op.action.ends_row()
    }
}

/// Waits like a transaction with deletes; the rare statement does not stay prepared.
pub(super) async fn alone(tx: &mut Tx, source: &str) -> Result<()> {
    tx.query_once(ALONE).named(WAIT).bind(lock(source)).execute().await.map(drop)
}

/// A removal by the scan itself, for an item that left the filter, is older than all that a backfill writes.
fn leaves_tombstone(unit: &Unit) -> bool {
    unit.op.action.ends_row() && !is_first(unit)
}

/// Whether this is the version of rows of a scan or a full export.
fn is_first(unit: &Unit) -> bool {
    unit.version.sequence == SequenceNumber::ZERO
}

/// The number of the source's lock.
fn lock(source: &str) -> i64 {
    let digest = Sha256::new().chain_update("dynaurora claims ").chain_update(source).finalize();
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

/// The hash of a key, with each cell's length before it, so that boundaries count; of an item's own row where
/// rows name their items.
pub(super) fn hash(cells: &Cells, key_columns: usize, item: Option<ItemTag>) -> KeyHash {
    let mut hasher = Sha256::new();
    for cell in cells.iter().take(key_columns) {
        let text = cell.unwrap_or_default();
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    if let Some(item) = item {
        hasher.update(item.to_string());
    }
    hasher.finalize().into()
}
