//! The right to read and advance a partition.

use super::{Epoch, PartitionId, Position};

/// A lease: the right to read and advance one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The partition.
    pub partition: PartitionId,
    /// The epoch that fences off every earlier owner.
    pub epoch: Epoch,
    /// How far the partition was applied.
    pub position: Position,
}
