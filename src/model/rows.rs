//! An operation on one row of a target table.

use super::{Cells, ItemTag};

/// The number of a target table within its source's mapping (see `Mapper::tables`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableIndex(pub u16);

/// An operation on one row. The primary key is the first cells of an upsert, and all cells of a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOp {
    /// The target table.
    pub table: TableIndex,
    /// What to do with the row.
    pub action: RowAction,
    /// The cells in the order of the table's columns (for a delete: the key columns only).
    pub cells: Cells,
    /// The rows of its child tables; they replace all existing ones in the same transaction.
    pub children: Vec<(TableIndex, Cells)>,
    /// The item, where the key does not tell it: the row may be another item's by now, and an end then
    /// leaves it alone. `None` in all other tables, and where anybody's row is meant.
    pub item: Option<ItemTag>,
}

/// What to do with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowAction {
    /// Insert it, or update it if the stored version is lower.
    Upsert,
    /// Delete it if the stored version is lower, with its child rows.
    Delete,
    /// Mark it as deleted if the stored version is lower; its child rows stay. After the key comes one cell:
    /// the time of the item's deletion, NULL if unknown.
    SoftDelete,
    /// Add it to a history, unless it exists, or a load brought its row nothing new. The key's last
    /// cell is the change's sequence number, so that a batch keeps every version; the sink replaces it
    /// by the whole version.
    Record,
}

impl RowAction {
    /// Whether no row shows the item any more.
    #[must_use]
    pub fn ends_row(self) -> bool {
        matches!(self, Self::Delete | Self::SoftDelete)
    }

    /// The word for people.
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
