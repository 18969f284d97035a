//! The engine's interfaces: a source of changes, a ledger, a sink and a clock.
//!
//! The doc comments are the contract. A contract suite runs over the simulated and the real implementation
//! of each trait, so that results of the simulator hold for the daemon.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use crate::apply::page::{Page, ShardIterator};
pub use crate::model::{GapReason, Incarnation, Lease};

use crate::apply::ports::Sink;
use crate::error::Result;
use crate::model::{Epoch, EpochMillis, Generation, PartitionId, Position, ShardListing, WorkerId};

mod backfills;
mod entries;
mod rewind;
mod seams;
pub use backfills::{Backfills, NewBackfill, NewStream, OpenLetter, Settling, Stale, Sweep, Swept};
pub use entries::{
    BackfillView, Continuity, Enrolment, Gap, LeaseRequest, LedgerView, PartitionRow,
    PartitionState, Publication, Published, SourceIdentity, Verified,
};
pub use rewind::Rewind;
pub(crate) use rewind::past;
pub use seams::{Ports, Seams};

// ---------------------------------------------------------------------------------------------- source

/// One DynamoDB table and its stream, read through the real SDK or in the simulated world.
///
/// Each call is one attempt with a timeout; the engine retries. Implementations must return `Expired`,
/// `Trimmed`, `Gone` and `Throttled` as distinct [`crate::error::ErrorKind`]s, never as an empty page or an
/// end.
pub trait Source: Send + Sync + 'static {
    /// The table and its stream now.
    ///
    /// # Errors
    /// `Gone` when the table does not exist.
    fn describe(&self) -> impl Future<Output = Result<StreamInfo>> + Send;

    /// A page of the stream's shards: those after the given one, or the first.
    fn list_shards(
        &self,
        stream_arn: &str,
        after: Option<&PartitionId>,
    ) -> impl Future<Output = Result<ListingPage>> + Send;

    /// The children of a closed shard that the service knows already; possibly none yet.
    ///
    /// # Errors
    /// When any page of them fails, because some of the children would pass for all.
    fn child_shards(
        &self,
        stream_arn: &str,
        parent: &PartitionId,
    ) -> impl Future<Output = Result<Vec<ShardListing>>> + Send;

    /// The page at `from`. With an iterator it continues there; without one it derives one from the position.
    /// Callers never have two reads of one partition in flight.
    ///
    /// # Errors
    /// `Expired`: the iterator is too old; read again without it. `Trimmed`: the stream no longer has the
    /// position. `Gone`: the shard or stream no longer exists. `Throttled`: slow down.
    fn read(&self, from: &ReadFrom) -> impl Future<Output = Result<Page>> + Send;

    /// What an operator can do, if possible the very command, so that the table has a stream whose records
    /// carry both images.
    fn stream_remedy(&self, table: &StreamInfo) -> Option<String> {
        let _ = table;
        None
    }
}

/// A table and its stream at one moment.
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
    /// The images in the records.
    pub view: StreamView,
    /// The key attributes' names, the partition key first.
    pub key_attributes: Vec<String>,
    /// The number of items, as the service counted them some hours ago.
    pub items: Option<u64>,
}

/// The images in a stream's records, besides the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamView {
    /// Only the keys: not usable here.
    KeysOnly,
    /// The item after the change.
    NewImage,
    /// The item before the change: not usable here.
    OldImage,
    /// Both images.
    NewAndOldImages,
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListingPage {
    /// The shards in the order of the listing; a page may repeat or be empty.
    pub shards: Vec<ShardListing>,
    /// The shard after which the next page begins; `None` at the end.
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

/// The place of a read.
#[derive(Debug, Clone)]
pub struct ReadFrom {
    /// The stream, for shards.
    pub stream_arn: Arc<str>,
    /// What to read.
    pub partition: PartitionId,
    /// The position to use without an iterator.
    pub position: Position,
    /// Where the last page ended, while the iterator is valid.
    pub iterator: Option<ShardIterator>,
}

// ---------------------------------------------------------------------------------------------- ledger

/// The table of partitions, leases, gaps and workers. All times are the database's own.
///
/// Its calls use their own connections, so that applying cannot starve a renewal.
pub trait Ledger: Backfills {
    /// Registers the source if it is new, and compares what was registered earlier with what exists now. It
    /// never changes what is known about an old stream or table.
    ///
    /// A new source begins one generation above the highest among the rows that dynaurora wrote into its
    /// tables, with generation 1 if there are none: rows of a ledger that is gone would turn its changes
    /// away. Its first backfill sweeps what it does not find of them.
    ///
    /// # Errors
    /// `Conflict` if another source fills one of these tables and no constant keeps the rows of the two
    /// apart; nothing is registered then. `Config` if a known source is to fill another table, where rows
    /// have a higher generation than its own.
    fn enrol(&self, identity: &SourceIdentity) -> impl Future<Output = Result<Enrolment>> + Send;

    /// The current source: its partitions, workers and counts.
    ///
    /// Two views of the same [`Incarnation`] show no commit of before the first one undone.
    fn view(&self, source: &str) -> impl Future<Output = Result<LedgerView>> + Send;

    /// Takes the turn to list the source's shards: true for one worker only, and only if the last complete
    /// listing is older than `every` and no other living worker has had the turn for less than `within`.
    fn lead_discovery(
        &self,
        source: &str,
        worker: &WorkerId,
        every: Duration,
        within: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Adds new shards; known and omitted ones stay as they are. A shard known from an older stream of the
    /// same source starts anew.
    fn register(
        &self,
        source: &str,
        stream_arn: &str,
        listing: &Listing,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Takes the leases of those wanted partitions that are open and free, or whose owner is dead, each with
    /// a new epoch. Two workers never get the same one. Counts as a sign of life, like a renewal.
    fn acquire(
        &self,
        request: &LeaseRequest<'_>,
    ) -> impl Future<Output = Result<Vec<Lease>>> + Send;

    /// A sign of life: the worker is alive for `lease_ttl` from now. A lease lasts as long as its owner
    /// lives, so this renews all of them at once. [`Ledger::view`] shows which leases the worker still has:
    /// one that another worker took has a new epoch.
    fn renew(
        &self,
        source: &str,
        worker: &WorkerId,
        lease_ttl: Duration,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Publishes the worker's progress. It covers a shard from the first publication with its lease until one
    /// without it, or until the lease is released, taken by another, or ended with its shard; the shard then
    /// keeps the last published time.
    ///
    /// It is refused by another run of the server than the one it names: what the worker saw committed there
    /// may be lost.
    fn publish(
        &self,
        publication: &Publication<'_>,
    ) -> impl Future<Output = Result<Published>> + Send;

    /// Releases leases at once, so that others need not wait until they expire; with `leaving` the worker
    /// itself is removed too.
    fn release(
        &self,
        source: &str,
        worker: &WorkerId,
        held: &[(PartitionId, Epoch)],
        leaving: bool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Notes why the worker, which has left, halted the source by itself. Those who ask the ledger how the
    /// source is learn it until another worker shows itself alive.
    fn note_halt(
        &self,
        source: &str,
        worker: &WorkerId,
        why: &str,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Records a gap once (repeating it changes nothing) and, if asked, halts the source until an operator
    /// acts. A gap found in an earlier generation is not recorded: the backfill since then reads the lost
    /// changes. A gap that is found again while being repaired is open again.
    fn record_gap(
        &self,
        source: &str,
        found_in: Generation,
        gap: &Gap,
        halt: bool,
    ) -> impl Future<Output = Result<()>> + Send;
}

// ---------------------------------------------------------------------------------------------- target

/// The target tables as a backfill needs them too: what it did not find goes.
pub trait Target: Sink {
    /// How many rows of these tables a sweep would delete.
    fn stale(&self, sweep: &Sweep) -> impl Future<Output = Result<Stale>> + Send;

    /// Deletes some rows of an older generation in one transaction. It checks each again under its lock, and
    /// that the backfill is still the same.
    fn sweep(&self, sweep: &Sweep) -> impl Future<Output = Result<Swept>> + Send;
}

// ----------------------------------------------------------------------------------------------- clock

/// Time, so that the whole engine can run under simulated time.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Monotonic time.
    fn now(&self) -> Instant;

    /// The time of day, only for lag and freshness; never for leases.
    fn wall(&self) -> EpochMillis;

    /// Waits.
    fn sleep_until(&self, until: Instant) -> impl Future<Output = ()> + Send;
}
