//! A change of one item: a stream record, or an item that a backfill read.

use super::{EpochMillis, Item, SequenceNumber};

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeOp {
    /// The item is new.
    Insert,
    /// The item changed.
    Modify,
    /// The item was removed.
    Remove,
    /// The item was read by a backfill.
    Scan,
}

impl ChangeOp {
    /// The label in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Modify => "modify",
            Self::Remove => "remove",
            Self::Scan => "scan",
        }
    }
}

/// One stream record or one scanned item, without AWS types.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub op: ChangeOp,
    /// The record's sequence number; zero for a scanned item.
    pub sequence: SequenceNumber,
    /// The item's key attributes.
    pub keys: Item,
    /// The item after the change; absent after a removal.
    pub new_image: Option<Item>,
    /// The item before the change, if the stream's view type has it.
    pub old_image: Option<Item>,
    /// When the change was made, in whole seconds rounded down; for lag, never for order.
    pub changed_at: Option<EpochMillis>,
    /// Whether the service removed the item because its time to live had passed.
    pub expired: bool,
    /// The record's size as the service counts it, in bytes.
    pub bytes: usize,
}

impl Change {
    /// The change that a scan makes of an item.
    #[must_use]
    pub fn scanned(keys: Item, item: Item) -> Self {
        Self { new_image: Some(item), ..Self::bare(ChangeOp::Scan, keys) }
    }

    /// The removal of an item of which the image is known, or only the key.
    #[must_use]
    pub fn removal(keys: Item, old_image: Option<Item>) -> Self {
        Self { old_image, ..Self::bare(ChangeOp::Remove, keys) }
    }

    /// A change that no stream told: without images, a time or a place in an order.
    fn bare(op: ChangeOp, keys: Item) -> Self {
        Self {
            op,
            sequence: SequenceNumber::ZERO,
            keys,
            new_image: None,
            old_image: None,
            changed_at: None,
            expired: false,
            bytes: 0,
        }
    }
}
