//! The engine's seams: what it asks of a source of changes, of a ledger, of a sink and of a clock.
//!
//! The doc comments are the contract. One contract suite runs over the simulated and over the real
//! implementation of each trait, so that what the simulator proves holds for the daemon.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use crate::apply::page::{Page, ShardIterator};
pub use crate::model::Lease;

use crate::apply::ports::Sink;
use crate::error::Result;
use crate::model::{Epoch, EpochMillis, Generation, PartitionId, Position, ShardListing, WorkerId};

mod entries;
mod loads;
mod rewind;
mod seams;
pub use entries::{
    Claim, Continuity, Enrolment, Gap, GapReason, LedgerView, PartitionRow, PartitionState,
    Publication, Published, SourceIdentity, Verified,
};
pub use loads::{LoadView, Loads, NewLoad, NewStream, OpenLetter, Stale, Sweep, Swept};
pub use rewind::Rewind;
pub(crate) use rewind::past;
pub use seams::{Ports, Seams};

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

// ---------------------------------------------------------------------------------------------- target

/// The target tables as a backfill needs them too: what it did not find goes.
pub trait Target: Sink {
    /// How many rows of these tables a sweep would delete.
    fn stale(&self, sweep: &Sweep) -> impl Future<Output = Result<Stale>> + Send;

    /// Deletes some rows of an older generation, each looked at again under its lock, in one transaction that
    /// also sees that the load is still this one.
    fn sweep(&self, sweep: &Sweep) -> impl Future<Output = Result<Swept>> + Send;
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
