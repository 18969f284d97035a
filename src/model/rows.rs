//! What becomes of one row of a target table.

use super::Cells;

/// The number of a target table within its source's mapping (see `Mapper::tables`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableIndex(pub u16);

/// One row's fate. The first cells of an upsert, and all cells of a delete, are the table's primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOp {
    /// The target table.
    pub table: TableIndex,
    /// What to do with the row.
    pub action: RowAction,
    /// The cells in the order of the table's columns (for a delete: the key columns only).
    pub cells: Cells,
    /// The rows of its child tables; they replace all that are there, in the same transaction.
    pub children: Vec<(TableIndex, Cells)>,
}

/// What to do with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowAction {
    /// Insert it, or update it where the stored version is lower.
    Upsert,
    /// Delete it where the stored version is lower, and its child rows with it.
    Delete,
    /// Mark it as deleted where the stored version is lower; its child rows stay as they are. Behind the key
    /// comes one cell: when the item was deleted, NULL where nobody knows.
    SoftDelete,
    /// Add it to a history, unless it is there already. The key's last cell is the change's sequence number,
    /// so that a batch keeps every version; the sink stores the whole version in its place.
    Record,
}

impl RowAction {
    /// Whether the item has no row any more that shows it.
    #[must_use]
    pub fn ends_row(self) -> bool {
        matches!(self, Self::Delete | Self::SoftDelete)
    }

    /// The word that people read.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Delete => "delete",
            Self::SoftDelete => "soft delete",
            Self::Record => "record",
        }
    }
}
