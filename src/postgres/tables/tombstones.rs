//! Tombstones: while a backfill is active, a delete records its version, and scan pages look for it.
//!
//! A deleted row has nothing in the target that could stop an older scan page. So a delete records its
//! version here, and a scan page skips the keys that it finds. A read with NOT EXISTS alone is not enough:
//! under READ COMMITTED a page may miss a delete that commits a moment later, and the delete may miss a row
//! that the page has not committed. So the two take turns: pages run side by side, and a transaction with
//! deletes runs alone. A claim upserted for each row of the backfill would also work, but costs twice as much
//! as the rows.
//!
//! A soft delete marks a row, if there is one. If the row comes after it, in a page that was read before or
//! in another file of an export, the row is written and marked at once: it ends the same in whatever order
//! the two are read.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use sqlx::Row;

use super::rows::EntityRows;
use crate::apply::ports::{KeyHash, Unit};
use crate::error::Result;
use crate::model::{Cells, ItemTag, RowAction, RowOp, SequenceNumber, Version};
use crate::postgres::session::Tx;
use crate::postgres::sql::encode::{printed, texts};

/// Both locks end with the transaction. A statement sees what was committed when it began, so reads that
/// depend on the lock must be later statements.
pub(super) const IN_COMMON: &str = "select pg_advisory_xact_lock_shared($1)";
pub(super) const ALONE: &str = "select pg_advisory_xact_lock($1)";

/// The lock that pages hold in common.
const PAGES: &str = "dynaurora claims ";
const WAIT: &str = "wait for the pages of a backfill";

const LEAVE: &str = "\
    insert into dynaurora.claims as c (source, target, key_hash, version, deleted_at) \
    select $1, $2, n.hash, n.version, case when n.soft then coalesce(n.at, now()) end \
    from (select unnest($3::bytea[]) as hash, unnest($4::text[])::numeric as version, \
        unnest($5::boolean[]) as soft, unnest($6::text[])::timestamptz as at) n \
    on conflict (source, target, key_hash) do update \
    set version = excluded.version, deleted_at = excluded.deleted_at \
    where c.version < excluded.version";

/// Most pages meet a table without a tombstone, and need not hash their keys.
const ANY: &str = "\
    select exists (select from dynaurora.claims where source = $1 and target = $2)";

const FIND: &str = "\
    select c.key_hash, c.version::text, c.deleted_at::text \
        from (select unnest($3::bytea[]) as key_hash, \
            unnest($4::text[])::numeric as version) own \
        join dynaurora.claims c on c.source = $1 and c.target = $2 and c.key_hash = own.key_hash \
    where c.version > own.version";

struct Noted<'u> {
    hash: KeyHash,
    version: Version,
    soft: bool,
    /// When the item was deleted softly, if that is known.
    at: Option<&'u str>,
}

/// A newer delete that a row of a load has met.
struct Met {
    version: String,
    /// Of a soft delete.
    deleted_at: Option<String>,
}

/// What to write of one table's units.
pub(super) struct Settled<'u> {
    pub units: Vec<&'u Unit>,
    /// Soft deletes that came before the rows among these units; each marks its own again.
    pub marks: Vec<Unit>,
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
            IN_COMMON
        } else {
            return Ok(());
        };
        tx.query(turn).named(WAIT).bind(lock(PAGES, self.source)).execute().await.map(drop)
    }

    /// Leaves the tombstones of one table's deletes; returns the units to write: all except backfilled ones
    /// whose key was deleted since, unless the row stays, marked.
    pub(super) async fn settle<'u>(
        self,
        tx: &mut Tx,
        rows: &EntityRows,
        units: Vec<&'u Unit>,
    ) -> Result<Settled<'u>> {
        let noted = |unit: &&'u Unit| {
            let soft = unit.op.action == RowAction::SoftDelete;
            Noted {
                hash: hash(&unit.op.cells, rows.key_columns(), unit.op.item),
                version: unit.version,
                soft,
                at: soft.then(|| unit.op.cells.cell(rows.key_columns())).flatten(),
            }
        };
        let left: Vec<Noted<'_>> =
            units.iter().filter(|unit| leaves_tombstone(unit)).map(noted).collect();
        if !left.is_empty() {
            self.leave(tx, rows.label(), left).await?;
        }
        let looking = units.iter().filter(|unit| self.looks_for_tombstones(unit));
        let mut looking: Vec<Noted<'_>> = looking.map(noted).collect();
        // An older daemon's tombstones name no item.
        let unnamed = units.iter().filter(|unit| unit.op.item.is_some());
        let unnamed = unnamed.filter(|unit| self.looks_for_tombstones(unit));
        looking.extend(unnamed.map(|unit| Noted {
            hash: hash(&unit.op.cells, rows.key_columns(), None),
            version: unit.version,
            soft: false,
            at: None,
        }));
        let met = self.find(tx, rows.label(), &looking).await?;
        let mut settled = Settled { units: Vec::with_capacity(units.len()), marks: Vec::new() };
        for unit in units {
            let met_by = |item| met.get(hash(&unit.op.cells, rows.key_columns(), item).as_slice());
            let own = self.looks_for_tombstones(unit).then(|| {
                let unnamed = unit.op.item.and_then(|_| met_by(None));
                met_by(unit.op.item).or(unnamed)
            });
            match own.flatten() {
                None => settled.units.push(unit),
                // Where rows name their items another item may have the key by now.
                Some(Met { version, deleted_at: Some(at) }) if unit.op.item.is_none() => {
                    settled.units.push(unit);
                    settled.marks.extend(mark(unit, rows.key_columns(), version, at));
                }
                Some(_) => {}
            }
        }
        Ok(settled)
    }

    /// The newer deletes of these rows, by the hash of the key.
    async fn find(
        self,
        tx: &mut Tx,
        target: &str,
        looking: &[Noted<'_>],
    ) -> Result<HashMap<Vec<u8>, Met>> {
        const LOOK: &str = "look for deletes during a backfill";
        if looking.is_empty() {
            return Ok(HashMap::new());
        }
        let any = tx.query(ANY).named(LOOK).bind(self.source).bind(target);
        let any: bool = any.one(|row| row.try_get(0)).await?;
        if !any {
            return Ok(HashMap::new());
        }
        let hashes: Vec<&[u8]> =
            looking.iter().map(|tombstone| tombstone.hash.as_slice()).collect();
        let met = tx
            .query(FIND)
            .named(LOOK)
            .bind(self.source)
            .bind(target)
            .bind(hashes)
            .bind(printed(looking, |tombstone| tombstone.version))
            .all(|row| {
                let met = Met { version: row.try_get(1)?, deleted_at: row.try_get(2)? };
                Ok((row.try_get::<Vec<u8>, _>(0)?, met))
            });
        Ok(met.await?.into_iter().collect())
    }

    async fn leave(self, tx: &mut Tx, target: &str, mut left: Vec<Noted<'_>>) -> Result<()> {
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
            .bind(left.iter().map(|tombstone| tombstone.soft).collect::<Vec<_>>())
            .bind(texts(&left, |tombstone| tombstone.at))
            .execute()
            .await
            .map(drop)
    }

    /// Deletes need not look for tombstones: the row's own version guards them.
    fn looks_for_tombstones(self, unit: &Unit) -> bool {
        (self.of_backfill || is_first(unit)) && !unit.op.action.ends_row()
    }
}

/// The soft delete that a row has met, once more.
fn mark(unit: &Unit, key_columns: usize, version: &str, at: &str) -> Option<Unit> {
    let mut cells = unit.op.cells.prefix(key_columns);
    cells.push(at);
    let op = RowOp { action: RowAction::SoftDelete, cells, children: Vec::new(), ..unit.op };
    Some(Unit { op, version: Version::parse(version)?, record: unit.record })
}

/// Waits like a transaction with deletes; the rare statement does not stay prepared.
pub(super) async fn alone(tx: &mut Tx, source: &str) -> Result<()> {
    tx.query_once(ALONE).named(WAIT).bind(lock(PAGES, source)).execute().await.map(drop)
}

/// A removal by the scan itself, for an item that left the filter, is older than all that a backfill writes.
fn leaves_tombstone(unit: &Unit) -> bool {
    unit.op.action.ends_row() && !is_first(unit)
}

/// Whether this is the version of rows of a scan or a full export.
fn is_first(unit: &Unit) -> bool {
    unit.version.sequence == SequenceNumber::ZERO
}

/// The number of one of the source's locks.
pub(super) fn lock(what: &str, source: &str) -> i64 {
    let digest = Sha256::new().chain_update(what).chain_update(source).finalize();
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
