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
use sqlx::Row;

use super::rows::EntityRows;
use crate::apply::ports::{KeyHash, Unit};
use crate::error::Result;
use crate::model::{Cells, SequenceNumber, Version};
use crate::postgres::session::Tx;
use crate::postgres::sql::encode::printed;

/// Both end with the transaction. A statement sees what was committed when it began, so what is read
/// under the lock must be read by a later one.
const BESIDE_PAGES: &str = "select pg_advisory_xact_lock_shared($1)";
const ALONE: &str = "select pg_advisory_xact_lock($1)";

const WAIT: &str = "wait for the pages of a load";

const LEAVE: &str = "\
    insert into dynaurora.claims as c (source, target, key_hash, version) \
    select $1, $2, unnest($3::bytea[]), unnest($4::text[])::numeric \
    on conflict (source, target, key_hash) do update set version = excluded.version \
    where c.version < excluded.version";

/// Most pages meet a table without a delete, and need not hash their keys.
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

/// What the units of one batch have to do with claims.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claims<'a> {
    pub source: &'a str,
    /// Whether the batch is of a load's pages.
    pub of_load: bool,
}

impl Claims<'_> {
    /// Waits until no transaction is under way that these units must not run beside. First of all in its
    /// transaction, so that nobody waits for it meanwhile. A sweep spares the rows of dead letters, so it has
    /// the table to itself too, and who `rejects` waits for it.
    pub(super) async fn take_turn(self, tx: &mut Tx, units: &[Unit], rejects: bool) -> Result<()> {
        let turn = if units.iter().any(leaves_claim) {
            ALONE
        } else if rejects || units.iter().any(|unit| self.looks_for_claims(unit)) {
            BESIDE_PAGES
        } else {
            return Ok(());
        };
        tx.query(turn).named(WAIT).bind(lock(self.source)).execute().await.map(drop)
    }

    /// Leaves the claims of one table's deletes; yields the units that may be written, which are all but the
    /// loaded ones whose key was deleted since.
    pub(super) async fn settle<'u>(
        self,
        tx: &mut Tx,
        rows: &EntityRows,
        units: Vec<&'u Unit>,
    ) -> Result<Vec<&'u Unit>> {
        let hash_of = |unit: &&Unit| hash(&unit.op.cells, rows.key_columns());
        let noted = |unit: &&Unit| Noted { hash: hash_of(unit), version: unit.version };
        let left: Vec<Noted> = units.iter().filter(|unit| leaves_claim(unit)).map(noted).collect();
        if !left.is_empty() {
            self.leave(tx, rows.label(), left).await?;
        }
        let looking = units.iter().filter(|unit| self.looks_for_claims(unit));
        if looking.clone().next().is_none() {
            return Ok(units);
        }
        const LOOK: &str = "look for deletes beside a load";
        let any = tx.query(ANY).named(LOOK).bind(self.source).bind(rows.label());
        let any: bool = any.one(|row| row.try_get(0)).await?;
        if !any {
            return Ok(units);
        }
        let looking: Vec<Noted> = looking.map(noted).collect();
        let hashes: Vec<&[u8]> = looking.iter().map(|claim| claim.hash.as_slice()).collect();
        let deleted = tx
            .query(FIND)
            .named(LOOK)
            .bind(self.source)
            .bind(rows.label())
            .bind(hashes)
            .bind(printed(&looking, |claim| claim.version))
            .all(|row| row.try_get::<Vec<u8>, _>(0))
            .await?;
        let deleted: HashSet<Vec<u8>> = deleted.into_iter().collect();
        let may_write = |unit: &&Unit| {
            !self.looks_for_claims(unit) || !deleted.contains(hash_of(unit).as_slice())
        };
        Ok(units.into_iter().filter(may_write).collect())
    }

    async fn leave(self, tx: &mut Tx, target: &str, mut left: Vec<Noted>) -> Result<()> {
        // A soft delete may have a delete of the same key before it; the newer one's claim serves both.
        left.sort_unstable_by_key(|claim| (claim.hash, std::cmp::Reverse(claim.version)));
        left.dedup_by_key(|claim| claim.hash);
        let hashes: Vec<&[u8]> = left.iter().map(|claim| claim.hash.as_slice()).collect();
        tx.query(LEAVE)
            .named("leave the claims of deletes")
            .bind(self.source)
            .bind(target)
            .bind(hashes)
            .bind(printed(&left, |claim| claim.version))
            .execute()
            .await
            .map(drop)
    }

    /// Deletes need no claim to be right: the target row's own version guards them.
    fn looks_for_claims(self, unit: &Unit) -> bool {
        (self.of_load || is_first(unit)) && !unit.op.action.ends_row()
    }
}

/// Waits as a transaction with deletes does; a rare statement, which does not stay prepared.
pub(super) async fn alone(tx: &mut Tx, source: &str) -> Result<()> {
    tx.query_once(ALONE).named(WAIT).bind(lock(source)).execute().await.map(drop)
}

/// What a scan itself ends, for its item has left the filter, is older than all that a load writes.
fn leaves_claim(unit: &Unit) -> bool {
    unit.op.action.ends_row() && !is_first(unit)
}

/// Whether this is the version of a scan's rows, and of a full export's.
fn is_first(unit: &Unit) -> bool {
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
