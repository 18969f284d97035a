//! The engine's seams: what it asks of a source of changes, of a ledger, of a sink and of a clock.
//!
//! The doc comments are the contract. One contract suite runs over the simulated and over the real
//! implementation of each trait, so that what the simulator proves holds for the daemon.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;
use crate::model::{
    Change, Epoch, EpochMillis, Generation, PartitionId, PartitionKind, Position, Reject, RowOp,
    SequenceNumber, Version,
};

mod entries;
mod loads;
mod rewind;
pub use entries::{
    Claim, Continuity, Enrolment, Gap, GapReason, Lease, LedgerView, PartitionRow, PartitionState,
    Publication, Published, SourceIdentity, Verified,
};
pub use loads::{LoadView, Loads, NewLoad, NewStream, OpenLetter, Stale, Sweep, Swept};
pub use rewind::Rewind;
pub(crate) use rewind::past;

/// Names one process among all that ever share a ledger; a restarted process has a new one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// Wraps a name that no other process, past or present, has.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// ---------------------------------------------------------------------------------------------- source

/// One DynamoDB table and its stream, read through the real SDK or in the simulated world.
///
/// Each call is one attempt bounded in time; retries are the engine's. Implementations must tell
/// `Expired`, `Trimmed`, `Gone` and `Throttled` apart by [`crate::error::ErrorKind`], never as an empty
/// page or an end.
pub trait Source: Send + Sync + 'static {
    /// What the table and its stream are now.
    ///
    /// # Errors
    /// `Gone` when the table does not exist.
    fn describe(&self) -> impl Future<Output = Result<StreamInfo>> + Send;

    /// A page of the stream's shards: those after this one, or the first ones.
    fn list_shards(
        &self,
        stream_arn: &str,
        after: Option<&PartitionId>,
    ) -> impl Future<Output = Result<ListingPage>> + Send;

    /// The children of a closed shard, as far as the service knows them already; possibly none yet.
    ///
    /// # Errors
    /// When a page of them fails after others succeeded too: some of the children would pass for all.
    fn child_shards(
        &self,
        stream_arn: &str,
        parent: &PartitionId,
    ) -> impl Future<Output = Result<Vec<ShardListing>>> + Send;

    /// The page at `from`. With an iterator it goes on from there; without, it derives one from the
    /// position. Callers never have two reads of one partition in flight.
    ///
    /// # Errors
    /// `Expired`: the iterator is too old; read again without it. `Trimmed`: the position is not in the
    /// stream any more. `Gone`: the shard or stream does not exist any more. `Throttled`: slow down.
    fn read(&self, from: &ReadFrom) -> impl Future<Output = Result<Page>> + Send;
}

/// What a table and its stream are at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// The table's ARN.
    pub table_arn: String,
    /// The table's id, which changes when a table is deleted and created again.
    pub table_id: String,
    /// The newest stream's ARN; `None` when the table never had one.
    pub stream_arn: Option<String>,
    /// Whether the stream is enabled.
    pub enabled: bool,
    /// What the records carry.
    pub view: StreamView,
    /// The key attributes' names, the partition key first.
    pub key_attributes: Vec<String>,
    /// How many items there are, as the service counted them some hours ago.
    pub items: Option<u64>,
}

/// What a stream's records carry besides the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamView {
    /// Only the keys: of no use here.
    KeysOnly,
    /// The item after the change.
    NewImage,
    /// The item before the change: of no use here.
    OldImage,
    /// Both images.
    NewAndOldImages,
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListingPage {
    /// The shards in the order of the listing; a page may come twice, or bring none.
    pub shards: Vec<ShardListing>,
    /// After which shard the next page begins; `None` at the end.
    pub next: Option<PartitionId>,
}

/// A listing of a stream's shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The shards in the order of the listing.
    pub shards: Vec<ShardListing>,
    /// Whether every page was read.
    pub complete: bool,
}

/// One shard as a listing shows it. `EndingSequenceNumber` is left out: an end is learnt by reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardListing {
    /// The shard.
    pub id: PartitionId,
    /// The shard that it continues, listed or not.
    pub parent: Option<PartitionId>,
    /// The first sequence number that it can hold, where the listing gives one.
    pub starting: Option<SequenceNumber>,
}

impl ShardListing {
    /// Where the reading of this shard starts: at its starting sequence number where that is known, so that
    /// trimming shows as an error; the horizon never reports a loss.
    #[must_use]
    pub fn start(&self) -> Position {
        self.starting.map_or(Position::Horizon, Position::At)
    }
}

/// A read's place.
#[derive(Debug, Clone)]
pub struct ReadFrom {
    /// The stream, for shards.
    pub stream_arn: Arc<str>,
    /// What to read.
    pub partition: PartitionId,
    /// From where, when there is no iterator.
    pub position: Position,
    /// Where the last page ended, while that is fresh.
    pub iterator: Option<ShardIterator>,
}

/// The service's own bookmark, valid for 15 minutes and never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIterator(pub String);

/// What one read brought.
#[derive(Debug)]
pub struct Page {
    /// The changes in order; none says nothing about the stream's end.
    pub changes: Vec<Change>,
    /// The position once these changes are applied; unchanged when there are none.
    pub next: Position,
    /// Where to go on; `None` when `end`.
    pub iterator: Option<ShardIterator>,
    /// Whether the partition holds nothing after these changes, ever.
    pub end: bool,
    /// The read units that a scan's page took; nothing for a stream's.
    pub consumed_capacity: Option<f64>,
}

// ---------------------------------------------------------------------------------------------- ledger

/// The table of partitions, leases, gaps and workers. All times are the database's own.
///
/// Its calls use connections of their own, so that applying cannot starve a renewal.
pub trait Ledger: Loads {
    /// Enters the source if it is new (generation 1), and says how what was entered earlier differs from
    /// what is there now. It never changes what is known about an old stream or table.
    fn enrol(&self, identity: &SourceIdentity) -> impl Future<Output = Result<Enrolment>> + Send;

    /// The source as it stands: its partitions, workers and counts.
    fn load(&self, source: &str) -> impl Future<Output = Result<LedgerView>> + Send;

    /// Claims the turn to list the source's shards: true for one worker only, and only when the last
    /// complete listing is older than `every` and no other living worker has had the turn for less than
    /// `within`.
    fn lead_discovery(
        &self,
        source: &str,
        worker: &WorkerId,
        every: Duration,
        within: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Adds the shards that are new; a known shard stays as it is, an omitted one too. A shard that is known
    /// from an older stream of the same source starts afresh.
    fn register(
        &self,
        source: &str,
        stream_arn: &str,
        listing: &Listing,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Takes the leases of those of the wanted partitions that are open and free, or whose owner is no longer
    /// alive, each with a new epoch. Two workers never get the same one. A sign of life, as a renewal is.
    fn acquire(&self, claim: &Claim<'_>) -> impl Future<Output = Result<Vec<Lease>>> + Send;

    /// A sign of life: the worker is alive for `lease_ttl` from now. A lease lasts as long as its owner
    /// lives, so this renews all of them at once, whatever their number. Which those still are,
    /// [`Ledger::load`] tells: what another worker took has another epoch.
    fn renew(
        &self,
        source: &str,
        worker: &WorkerId,
        lease_ttl: Duration,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Publishes how far the worker is. It holds for a shard from the first publication with its lease until
    /// one without it or until the lease is given back, taken by another or at its shard's end; the shard
    /// then stays at what was published last.
    fn publish(
        &self,
        publication: &Publication<'_>,
    ) -> impl Future<Output = Result<Published>> + Send;

    /// Gives leases back at once, so that others need not wait for their end; with `leaving` the worker
    /// itself goes too.
    fn release(
        &self,
        source: &str,
        worker: &WorkerId,
        held: &[(PartitionId, Epoch)],
        leaving: bool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Records a gap once (a second record of the same one changes nothing) and, where asked, halts the
    /// source until an operator acts. One that was found in an earlier generation is not recorded: the load
    /// that began since reads what it lost. One that is being repaired and is found anew is open again.
    fn record_gap(
        &self,
        source: &str,
        found_in: Generation,
        gap: &Gap,
        halt: bool,
    ) -> impl Future<Output = Result<()>> + Send;
}

// ------------------------------------------------------------------------------------------------ sink

/// The target tables, together with the positions in one transaction.
pub trait Sink: Send + Sync + 'static {
    /// Applies the batch in one transaction: rows, each guarded by its version; rejects as dead letters; last
    /// the fence, which advances every position of the batch or rolls everything back.
    ///
    /// # Errors
    /// `Fenced`: nothing was written, the lease or the position is another's now. `Data`: nothing was
    /// written, some unit's data was refused. `Unreachable` and `Unavailable` may come after the commit took
    /// effect: only the ledger's positions tell.
    fn apply(&self, batch: &Batch) -> impl Future<Output = Result<Applied>> + Send;

    /// Runs the rows of some units and rolls them back: does the database take this data?
    ///
    /// # Errors
    /// `Data` when it does not; other kinds say nothing about the data.
    fn probe(&self, batch: &Batch, units: &[Unit]) -> impl Future<Output = Result<()>> + Send;

    /// How many rows of these tables a sweep would delete.
    fn stale(&self, sweep: &Sweep) -> impl Future<Output = Result<Stale>> + Send;

    /// Deletes some rows of an older generation, each looked at again under its lock, in one transaction that
    /// also sees that the load is still this one.
    fn sweep(&self, sweep: &Sweep) -> impl Future<Output = Result<Swept>> + Send;
}

impl Batch {
    /// Whether it is of a load's segments or files; the two kinds of partitions never meet in one batch.
    #[must_use]
    pub fn is_of_load(&self) -> bool {
        self.advances.iter().any(|advance| advance.partition.kind() != PartitionKind::Shard)
    }
}

/// What one transaction applies. Sealed by the engine: units are sorted, and unique by table, key and action.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The source.
    pub source: Arc<str>,
    /// The generation of every advance; the fence checks it.
    pub generation: Generation,
    /// Who applies; the fence checks it. Empty only in an empty batch.
    pub worker: Option<WorkerId>,
    /// Whether a backfill is active.
    pub claims: bool,
    /// The rows, sorted by table and key, one per key: the last change of each. Only a soft delete has the
    /// change before it behind it, which is to be written first.
    pub units: Vec<Unit>,
    /// The records that cannot be mapped or stored.
    pub rejects: Vec<DeadLetter>,
    /// The steps of the positions; a batch without any is never applied.
    pub advances: Vec<Advance>,
    /// The keys of the records mapped in this batch with the version of the last one each: an open dead
    /// letter of such a key with a lower version is superseded. Filled only while dead letters may be open.
    pub touched: Vec<(KeyHash, Version)>,
    /// Shards found at the end of another, entered in the same transaction.
    pub discovered: Vec<ShardListing>,
    /// The stream to which discovered shards belong.
    pub stream_arn: Arc<str>,
}

/// One row, its version and the record that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The row and what to do with it.
    pub op: RowOp,
    /// The version that guards it.
    pub version: Version,
    /// The record, for a dead letter should Postgres refuse the row.
    pub record: RecordRef,
}

/// Which record of which page of the batch under construction; meaningful to the engine only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordRef {
    /// The page's number within the batch.
    pub page: u32,
    /// The record's number within the page.
    pub index: u32,
}

/// The step of one partition's position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: PartitionId,
    /// The lease's epoch.
    pub epoch: Epoch,
    /// The position that the ledger must have.
    pub from: Position,
    /// The position that it gets.
    pub to: Position,
    /// Whether this was the partition's last page.
    pub drained: bool,
    /// How many records the step passes.
    pub records: u64,
    /// The time of the newest record.
    pub last_event_at: Option<EpochMillis>,
}

/// The SHA-256 of an item's key in canonical form (`Change::key_hash`).
pub type KeyHash = [u8; 32];

/// A record that could not be mapped or stored, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Where it was read.
    pub partition: PartitionId,
    /// Its version.
    pub version: Version,
    /// The item's key as DynamoDB JSON, attributes sorted by name.
    pub key: String,
    /// The hash of the key.
    pub key_hash: KeyHash,
    /// The whole record as DynamoDB JSON: `{"op", "keys", "new_image", "old_image"}`.
    pub image: String,
    /// Why.
    pub reject: Reject,
}

/// What a committed batch did, per table in the order of the mapping's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// One entry per table of the mapping.
    pub tables: Vec<TableApplied>,
    /// Open dead letters that a newer image of the same key superseded.
    pub dead_letters_superseded: u64,
}

/// What a committed batch did to one table, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableApplied {
    /// Rows inserted or updated.
    pub upserted: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows that the version guard left alone: a newer one was there, or nothing to delete.
    pub superseded: u64,
}

// ----------------------------------------------------------------------------------------------- clock

/// Time, so that the whole engine can run under simulated time.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Monotonic time.
    fn now(&self) -> Instant;

    /// The time of day, for lag and freshness only; never for leases.
    fn wall(&self) -> EpochMillis;

    /// Waits.
    fn sleep_until(&self, until: Instant) -> impl Future<Output = ()> + Send;
}
