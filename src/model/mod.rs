//! The vocabulary shared by all rooms, without I/O.

/// A DynamoDB attribute value. `N` holds the exact text of the number as DynamoDB sent it.
pub use serde_dynamo::AttributeValue;

mod cells;
mod change;
mod counts;
mod halt;
mod incarnation;
mod item;
mod item_tag;
mod key_type;
mod lease;
mod partition;
mod position;
mod record;
mod reject;
mod retention;
mod rows;
mod segment;
mod sequence;
mod time;
mod version;
mod worker;

pub use cells::Cells;
pub use change::{Change, ChangeOp};
pub use counts::{RecordCounts, RecordOutcome};
pub use halt::{GapReason, Halt};
pub use incarnation::Incarnation;
pub use item::Item;
pub use item_tag::ItemTag;
pub use key_type::KeyType;
pub use lease::Lease;
pub use partition::{PartitionId, PartitionKind, ShardListing};
pub use position::Position;
pub use record::StoredRecord;
pub use reject::{Reject, RejectReason};
pub use retention::{DRAINED_KEPT, RETENTION, UNREAD_MAX, hours};
pub use rows::{RowAction, RowOp, TableIndex};
pub use segment::Segment;
pub use sequence::SequenceNumber;
pub use time::EpochMillis;
pub use version::{Epoch, Generation, Stamp, Version};
pub use worker::WorkerId;
