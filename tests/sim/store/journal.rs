//! What was committed, in order: the checker's evidence.

use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::ports::{
    Advance, Applied, DeadLetter, Gap, KeyHash, Listing, ShardListing, Unit, WorkerId,
};
use dynaurora::model::{Epoch, Generation, PartitionId, TableIndex, Version};

use super::{Key, Row};

/// One committed transaction.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When, since the run started.
    pub at: Duration,
    /// Of which source.
    pub source: Arc<str>,
    /// What it did.
    pub event: Event,
}

/// What a transaction did.
#[derive(Debug, Clone)]
pub enum Event {
    /// The source was entered.
    Enrolled { generation: Generation },
    /// Shards were listed.
    Registered { stream_arn: Arc<str>, listing: Arc<Listing> },
    /// A lease was given.
    Leased { worker: WorkerId, partition: PartitionId, epoch: Epoch },
    /// A lease was given back.
    Released { worker: WorkerId, partition: PartitionId, epoch: Epoch },
    /// A gap was recorded for the first time.
    Gap { gap: Gap, halted: bool },
    /// A batch was applied.
    Committed(Arc<Commit>),
}

/// An applied batch.
#[derive(Debug, Clone)]
pub struct Commit {
    pub worker: WorkerId,
    pub generation: Generation,
    pub claims: bool,
    pub units: Vec<Unit>,
    /// What the rows became that changed; `None` where a row was deleted.
    pub effects: Vec<(TableIndex, Key, Option<Row>)>,
    pub rejects: Vec<DeadLetter>,
    pub advances: Vec<Advance>,
    pub touched: Vec<(KeyHash, Version)>,
    pub discovered: Vec<ShardListing>,
    pub applied: Applied,
}
