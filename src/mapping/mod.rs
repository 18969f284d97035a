//! Change -> rows, purely: no tokio, no sqlx, no AWS.

pub mod spec;

use crate::model::{Change, Reject, RowOp};
use spec::TableSpec;

/// A compiled mapping of one source.
#[derive(Debug, Default)]
pub struct Mapper {
    tables: Vec<TableSpec>,
    unmatched: Unmatched,
}

/// What becomes of an item that no entity's key template matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// It is counted.
    Ignore,
    /// It is counted and logged.
    Count,
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
    /// The source halts.
    Halt,
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its rows were appended.
    Mapped,
    /// It does not pass its entity's filter; deletes of what may be there were appended.
    Filtered,
    /// No key template matches; the source's [`Unmatched`] says what follows.
    Unmatched,
    /// It cannot be mapped; nothing was appended.
    Rejected(Reject),
}

impl Mapper {
    /// The target tables; a row names its own by index.
    #[must_use]
    pub fn tables(&self) -> &[TableSpec] {
        &self.tables
    }

    /// What becomes of items that no key template matches.
    #[must_use]
    pub fn unmatched(&self) -> Unmatched {
        self.unmatched
    }

    /// Why removals cannot be routed by the keys alone, where they cannot.
    #[must_use]
    pub fn needs_old_image(&self) -> Option<String> {
        None
    }

    /// Appends the rows of one change: all of them or, when it is rejected, none.
    pub fn map(&self, change: &Change, rows: &mut Vec<RowOp>) -> Outcome {
        let _ = (change, rows);
        Outcome::Unmatched
    }
}
