//! What a verification and a repair ask of both sides: items, rows beside what they should be, repairs, dead
//! letters, and the ledger's word on how far the source is.
//!
//! The doc comments are the contract. Two contract suites (`tests/contract/repair.rs` and `histories.rs`) run
//! over the simulated and over the real implementation.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use crate::apply::ports::KeyHash;
use crate::engine::ports::{Clock, Ledger, Source};
use crate::error::Result;
use crate::model::{Cells, Item, KeyType, Reject, RowOp, TableIndex, Version};

// ----------------------------------------------------------------------------------------------- items

/// The items of one table as they are now. Scans are pages of [`Source::read`], read consistently.
pub trait Items: Source {
    /// The key attributes, the partition key first, each with its type.
    fn key_schema(&self) -> impl Future<Output = Result<Vec<(String, KeyType)>>> + Send;

    /// The item with this key by a consistent read, `None` where there is none, with the read units that it
    /// took where the service tells them.
    fn item(&self, key: &Item) -> impl Future<Output = Result<(Option<Item>, Option<f64>)>> + Send;
}

// ------------------------------------------------------------------------------------------------ rows

/// Target rows beside what the mapping says they should be. Nothing is written.
pub trait Rows: Send + Sync + 'static {
    /// Compares rows of one entity's table, none twice, and what hangs on them; the answers come in the
    /// order of `rows`. An upsert should be there as it stands, with these children and no others. Of a
    /// delete, neither the row nor any child should be; of a soft delete, the row is as well marked as
    /// deleted, and then its children stay. A history should have an open version with what the row shows
    /// exactly where the row should be there, and times that neither fall nor leave anything out.
    fn compare(
        &self,
        table: TableIndex,
        rows: &[RowOp],
    ) -> impl Future<Output = Result<Vec<Comparison>>> + Send;

    /// The next `limit` rows of a table by its primary key, none of another source and none that is
    /// marked as deleted. Of a child table only those whose parent is missing are told, and of a
    /// history only those that are open though their row is missing or marked, or whose times are
    /// wrong, each with the row's version.
    fn page(
        &self,
        table: TableIndex,
        after: Option<&[String]>,
        limit: u32,
    ) -> impl Future<Output = Result<RowsPage>> + Send;
}

/// What the target has for one row asked about, beside what it should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The version of the entity's own row; `None` when there is no such row.
    pub version: Option<String>,
    /// Whether that row is marked as deleted.
    pub marked: bool,
    /// The row's primary key in the target.
    pub key: Vec<String>,
    /// How the row and its children differ.
    pub differences: Vec<Difference>,
}

/// How one target row is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table: the entity's own, one of its children's or its history.
    pub table: TableIndex,
    /// The row's primary key.
    pub key: Vec<String>,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It should exist.
    Missing,
    /// It should not exist.
    Unexpected,
    /// Some of its columns differ.
    Differs(Vec<Cell>),
}

/// A column with a wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The column's number in its table.
    pub column: usize,
    /// What it should hold.
    pub expected: Option<String>,
    /// What it holds.
    pub found: Option<String>,
}

/// A page through a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsPage {
    /// The rows, by their primary key.
    pub rows: Vec<MetRow>,
    /// The key after which to go on; `None` at the end.
    pub next: Option<Vec<String>>,
}

/// A row met while paging through a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetRow {
    /// Its primary key.
    pub key: Vec<String>,
    /// Its version; a child row has none.
    pub version: Option<String>,
}

// --------------------------------------------------------------------------------------------- repairs

/// The most rows of one repair: writers wait for it, and so many reads of items take some tens of
/// milliseconds.
pub const REPAIR_ROWS_MAX: usize = 25;

/// Repairs of single rows, after which a newer change of the stream still wins and no deleted row comes back.
pub trait Repairs: Send + Sync + 'static {
    /// Makes up to [`REPAIR_ROWS_MAX`] rows of one entity's table what they should be, all or none.
    ///
    /// First all writers are kept off the table and its child tables, and those under way are waited for;
    /// only then is `truth` awaited: what each row should be by a consistent read of its item. A row that
    /// is there keeps its version if some change of this generation or an earlier one can have given it;
    /// any other row gets the version of a scanned one. What [`Guard`] does not let through stays, and so
    /// does a row with version 0 that should not be there: dynaurora did not write it. Of an end that names
    /// its item, a row of another item stays too.
    ///
    /// The history of a row that was written or deleted follows: where its newest version is not what the row
    /// now is, one of now is added; its times are set anew.
    ///
    /// # Errors
    /// `Conflict` when the tables cannot be locked in time, the truth takes too long, or the source is being
    /// backfilled; `Data` when a row is refused. Nothing was written then.
    fn repair(
        &self,
        table: TableIndex,
        rows: &[RowRepair],
        truth: impl Future<Output = Truth> + Send,
    ) -> impl Future<Output = Result<Vec<Fate>>> + Send;
}

/// What rows should be, in the order in which they were asked for: a delete where a row should not be, `None`
/// where nobody can tell.
pub type Truth = Result<Vec<Option<RowOp>>>;

/// One row to repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRepair {
    /// The row's primary key.
    pub key: Cells,
    /// Which row may be repaired.
    pub guard: Guard,
    /// What the history records; `None` for a repair that is not a version of its own.
    pub recorded: Option<Recorded>,
}

/// How a history records a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The version as text of the change that the repair replaces, or the row's own if that is higher. A
    /// history has one row per version, however often it is repaired.
    pub version: String,
    /// The word for a row that ends: one of [`crate::mapping::spec::HISTORY_ENDS`].
    pub end: String,
}

/// Which row may be repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Any: only for the result of reading the very item that has this row.
    Any,
    /// The one with this version as text; `None` if there was no row.
    Same(Option<String>),
    /// One with a lower version than this, as text.
    Below(String),
}

impl Comparison {
    /// The version of a row that an item has, or that outlived it unmarked.
    #[must_use]
    pub fn live_version(&self) -> Option<&str> {
        self.version.as_deref().filter(|_| !self.marked)
    }
}

impl Guard {
    /// Whether a row with this version, or no row, may be repaired.
    #[must_use]
    pub fn lets(&self, stored: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Same(compared) => compared.as_deref() == stored,
            Self::Below(limit) => match (stored.and_then(Version::parse), Version::parse(limit)) {
                (Some(stored), Some(limit)) => stored < limit,
                (stored, limit) => stored.is_none() && limit.is_some(),
            },
        }
    }
}

/// What became of one row that was to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was written.
    Written,
    /// It was deleted, or remaining child rows were.
    Deleted,
    /// Its version is not the compared one: the stream wrote it meanwhile.
    Moved,
    /// Not changed: the source's current state does not decide it, or it belongs to somebody else.
    LeftAlone,
}

// ---------------------------------------------------------------------------------------- dead letters

/// The dead letters of a target.
pub trait Letters: Send + Sync + 'static {
    /// Which of these keys wait as open dead letters of the source, each with the letter's version: of one
    /// item at most one is open.
    fn open_among(
        &self,
        source: &str,
        hashes: &[KeyHash],
    ) -> impl Future<Output = Result<HashMap<KeyHash, Version>>> + Send;

    /// The dead letter with this number; `None` where there is none that is open.
    fn open_letter(&self, id: i64) -> impl Future<Output = Result<Option<Letter>>> + Send;

    /// Settles an open dead letter as resolved; false when it is not open any more.
    fn resolve(&self, id: i64) -> impl Future<Output = Result<bool>> + Send;

    /// Updates the reason of an open dead letter that cannot be settled.
    fn keep_open(&self, id: i64, reject: &Reject) -> impl Future<Output = Result<()>> + Send;
}

/// An open dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its number.
    pub id: i64,
    /// Its version as text.
    pub version: String,
    /// The text of its [`crate::model::StoredRecord`].
    pub record: String,
}

// ------------------------------------------------------------------------------------------- the ledger

/// What the ledger knows of a source's progress, and keeps of verifications.
pub trait Verifications: Send + Sync + 'static {
    /// How far the source has come.
    fn progress(&self, source: &str) -> impl Future<Output = Result<Progress>> + Send;

    /// Keeps what a verification found, in place of what an earlier one found.
    fn record(&self, source: &str, found: Verification) -> impl Future<Output = Result<()>> + Send;
}

/// A source's progress in the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The database's time of day, in milliseconds since 1970.
    pub now_ms: i64,
    /// Every change up to this time is in the target; `None` while unknown.
    pub synced_ms: Option<i64>,
}

/// The result of a verification.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verification {
    /// How long it took.
    pub took: Duration,
    /// The share of the source that was read, from 0 to 1.
    pub share: f64,
    /// Items read.
    pub items: u64,
    /// Wrong rows.
    pub mismatched: u64,
    /// Those of them that were repaired.
    pub repaired: u64,
}

// ------------------------------------------------------------------------------------------------- all

/// Both sides and what a verification needs beside them.
#[derive(Debug)]
pub struct Parties<I, L, T, C> {
    /// The items.
    pub items: I,
    /// Where positions are kept.
    pub ledger: L,
    /// The target tables, with dead letters and verifications.
    pub target: T,
    /// Time.
    pub clock: C,
}

/// All of it under one name, so that what needs it has one bound.
pub trait Sides: Send + Sync + 'static {
    /// The items.
    type Items: Items;
    /// Where positions are kept.
    type Ledger: Ledger;
    /// The target tables, with dead letters and verifications.
    type Target: Rows + Repairs + Letters + Verifications;
    /// Time.
    type Clock: Clock;

    /// The items.
    fn items(&self) -> &Self::Items;

    /// Where positions are kept.
    fn ledger(&self) -> &Self::Ledger;

    /// The target tables, with dead letters and verifications.
    fn target(&self) -> &Self::Target;

    /// Time.
    fn clock(&self) -> &Self::Clock;
}

impl<I, L, T, C> Sides for Parties<I, L, T, C>
where
    I: Items,
    L: Ledger + 'static,
    T: Rows + Repairs + Letters + Verifications,
    C: Clock,
{
    type Items = I;
    type Ledger = L;
    type Target = T;
    type Clock = C;

    fn items(&self) -> &I {
        &self.items
    }

    fn ledger(&self) -> &L {
        &self.ledger
    }

    fn target(&self) -> &T {
        &self.target
    }

    fn clock(&self) -> &C {
        &self.clock
    }
}

/// Who watches a verification; `()` does not look.
pub trait Observer: Send + Sync {
    /// So many items are compared so far, and so many rows differ.
    fn items(&self, items: u64, differing: usize);

    /// So many more rows were looked at.
    fn rows(&self, rows: u32);

    /// The source is read a second time.
    fn again(&self);
}

impl Observer for () {
    fn items(&self, _: u64, _: usize) {}

    fn rows(&self, _: u32) {}

    fn again(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_lets_only_the_row_through_that_was_meant() {
        let at = |sequence: u32| format!("1{sequence:040}");
        assert!(Guard::Any.lets(Some("x")) && Guard::Any.lets(None));
        let same = Guard::Same(Some(at(5)));
        assert!(same.lets(Some(&at(5))) && !same.lets(Some(&at(6))) && !same.lets(None));
        assert!(Guard::Same(None).lets(None) && !Guard::Same(None).lets(Some("0")));
        let below = Guard::Below(at(5));
        assert!(below.lets(Some(&at(4))) && below.lets(Some("0")) && below.lets(None));
        assert!(!below.lets(Some(&at(5))) && !below.lets(Some(&at(6))));
        assert!(!Guard::Below("x".to_owned()).lets(None));
    }
}
