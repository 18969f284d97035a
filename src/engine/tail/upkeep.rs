//! The two recurring conversations: with the ledger about leases, and with the source about its shards.
//!
//! Both are plain futures that take what they need and return what they learnt; the worker's loop owns all
//! state and decides what follows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lease;
use super::listing::{list, with_parents};
use crate::engine::options::OnGap;
use crate::engine::ports::{
    Claim, Clock, Continuity, Gap, Lease, Ledger, LedgerView, Listing, NewStream, PartitionRow,
    PartitionState, Seams, Source, SourceIdentity, StreamInfo, StreamView,
};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::Mapper;
use crate::model::{GapReason, Generation, PartitionId, Position, UNREAD_MAX, WorkerId};
use crate::telemetry::events;

/// A worker that lives and has not listed all shards for so long loses its turn to another: a listing of
/// 100,000 shards, those of a day included, takes four minutes.
const LISTED_WITHIN: Duration = Duration::from_secs(300);

/// What a round of upkeep is asked to do.
#[derive(Debug)]
pub(crate) struct Ask {
    pub source: Arc<str>,
    pub worker: WorkerId,
    pub lease_ttl: Duration,
    pub partitions_max: usize,
    /// Whether new leases are wanted; not while draining.
    pub acquire: bool,
}

/// What a round of upkeep learnt.
#[derive(Debug)]
pub(crate) struct Upkept {
    /// When the renewal was sent: the leases run at least from then.
    pub sent_at: Instant,
    pub view: LedgerView,
    pub leases: Vec<Lease>,
    pub give_up: Vec<PartitionId>,
}

/// Renews, loads, plans and acquires.
pub(crate) async fn keep_up<P: Seams>(ports: &P, ask: Ask) -> Result<Upkept> {
    let sent_at = ports.clock().now();
    let Ask { source, worker, lease_ttl, partitions_max, acquire } = ask;
    ports.ledger().renew(&source, &worker, lease_ttl).await?;
    let view = ports.ledger().load(&source).await?;
    let mine: Vec<PartitionId> = view
        .partitions
        .iter()
        .filter(|row| row.state == PartitionState::Open && row.owner.as_ref() == Some(&worker))
        .map(|row| row.id.clone())
        .collect();
    let plan = lease::plan(&view, &mine, partitions_max);
    let mut leases = Vec::new();
    if acquire && view.halted.is_none() && !plan.acquire.is_empty() {
        let claim = Claim {
            source: &source,
            worker: &worker,
            generation: view.generation,
            wanted: &plan.acquire,
            lease_ttl,
        };
        leases = ports.ledger().acquire(&claim).await?;
    }
    Ok(Upkept { sent_at, view, leases, give_up: plan.give_up })
}

/// What a discovery learnt.
#[derive(Debug)]
pub(crate) struct Discovered {
    pub stream_arn: Arc<str>,
    pub generation: Generation,
    /// Whether this worker listed the shards.
    pub listed: bool,
    /// A loss of continuity that the worker must record.
    pub gap: Option<Gap>,
}

/// What a discovery is asked to do.
#[derive(Debug)]
pub(crate) struct Survey {
    pub source: Arc<str>,
    pub worker: WorkerId,
    pub mapper: Arc<Mapper>,
    /// The stream as known so far; `None` at the start, which asks the source in any case.
    pub stream_arn: Option<Arc<str>>,
    pub generation: Generation,
    /// List only if the last listing is older than this.
    pub every: Duration,
    /// How long this worker counts as alive from now.
    pub lease_ttl: Duration,
    pub on_gap: OnGap,
}

/// Describes the table, compares it with what the ledger knows, and lists the shards if it is our turn.
pub(crate) async fn discover<P: Seams>(ports: &P, survey: Survey) -> Result<Discovered> {
    let Survey { source, worker, mapper, stream_arn: known, generation, every, lease_ttl, on_gap } =
        survey;
    if let Some(stream_arn) = &known
        && !ports.ledger().lead_discovery(&source, &worker, every, LISTED_WITHIN).await?
    {
        let stream_arn = Arc::clone(stream_arn);
        return Ok(Discovered { stream_arn, generation, listed: false, gap: None });
    }
    let described = ports.source().describe().await;
    request("DescribeTable", described.as_ref().err());
    let info = described?;
    let stream_arn: Arc<str> = usable(&info, &mapper)?.into();
    let identity = SourceIdentity {
        source: Arc::clone(&source),
        table_arn: info.table_arn,
        table_id: info.table_id,
        stream_arn: stream_arn.to_string(),
    };
    let enrolment = ports.ledger().enrol(&identity).await?;
    let generation = enrolment.generation;
    let broken = match &enrolment.continuity {
        Continuity::Same => None,
        Continuity::StreamChanged { .. } => Some(GapReason::StreamChanged),
        Continuity::TableChanged { .. } => Some(GapReason::TableChanged),
    };
    if known.is_none() {
        // Only who is alive keeps its turn.
        ports.ledger().renew(&source, &worker, lease_ttl).await?;
    }
    let lead = known.is_some()
        || broken.is_some()
        || ports.ledger().lead_discovery(&source, &worker, every, LISTED_WITHIN).await?;
    let unpolled = lead && enrolment.listed_ago.is_some_and(|ago| ago > UNREAD_MAX);
    if let Some(reason) = broken.or(unpolled.then_some(GapReason::Unpolled)) {
        let stream_arn = stream_arn.to_string();
        let gap = Gap { reason, stream_arn, partition: None, after: None, since: None };
        if on_gap.halts(reason) {
            let stream_arn = gap.stream_arn.as_str().into();
            return Ok(Discovered { stream_arn, generation, listed: false, gap: Some(gap) });
        }
        let (source_name, label) = (&*source, reason.label());
        events::GapFound { source: source_name, reason: label, partition: None, halts: false }
            .emit();
        ports.ledger().record_gap(&source, generation, &gap, false).await?;
    }
    if let Continuity::StreamChanged { was } = enrolment.continuity {
        // The new stream's shards are entered by the load that repairs the gap, in one transaction.
        let stream_arn = known.unwrap_or_else(|| was.into());
        return Ok(Discovered { stream_arn, generation, listed: false, gap: None });
    }
    let mut gap = None;
    if lead {
        let listed = list(ports.source(), ports.clock(), &stream_arn).await;
        let known = ports.ledger().load(&source).await?.partitions;
        gap = forgotten(&known, &stream_arn);
        let known = known.into_iter().map(|row| row.id).collect();
        let listing = with_parents(ports, &stream_arn, known, listed?).await;
        ports.ledger().register(&source, &stream_arn, &listing).await?;
    }
    Ok(Discovered { stream_arn, generation, listed: lead, gap })
}

/// A shard that stands at its horizon for so long that the service may have dropped records which nobody
/// read. Any other position would tell, the horizon never does.
fn forgotten(rows: &[PartitionRow], stream_arn: &str) -> Option<Gap> {
    let row = rows.iter().find(|row| row.state == PartitionState::Open && row.overdue)?;
    let (partition, after) = (Some(row.id.clone()), Some(Position::Horizon));
    let stream_arn = stream_arn.to_owned();
    Some(Gap {
        reason: GapReason::Unpolled,
        stream_arn,
        partition,
        after,
        since: row.last_event_at,
    })
}

/// The stream that took the place of the known one, if another did; `None` when its shards cannot all be
/// listed now.
pub(crate) async fn new_stream<P: Seams>(
    ports: &P,
    newest: Option<String>,
    known: &str,
) -> Result<Option<Option<NewStream>>> {
    let Some(stream_arn) = newest.filter(|arn| *arn != *known) else { return Ok(Some(None)) };
    let stream_arn: Arc<str> = stream_arn.into();
    let listed = list(ports.source(), ports.clock(), &stream_arn).await;
    let Listing { shards, complete } =
        with_parents(ports, &stream_arn, HashSet::new(), listed?).await;
    Ok(complete.then_some(Some(NewStream { stream_arn, shards })))
}

/// The stream's ARN, if this stream can feed this mapping.
///
/// # Errors
/// `Config`, with the command that mends it, when there is no stream or its records carry too little.
pub fn usable(info: &StreamInfo, mapper: &Mapper) -> Result<String> {
    let table = info.table_arn.rsplit('/').next().unwrap_or(&info.table_arn);
    let enable = |view: &str| {
        format!(
            "aws dynamodb update-table --table-name {table} --stream-specification \
             StreamEnabled=true,StreamViewType={view}"
        )
    };
    let need_old = mapper.needs_old_image();
    let wanted =
        if need_old.is_some() { "NEW_AND_OLD_IMAGES" } else { "NEW_IMAGE or NEW_AND_OLD_IMAGES" };
    let Some(stream_arn) = &info.stream_arn else {
        return Err(Error::new(ErrorKind::Config, format!("table {table} has no stream"))
            .with_hint(enable("NEW_AND_OLD_IMAGES")));
    };
    let refuse = |why: String| {
        let change = format!(
            "the view type of a stream cannot be changed: disable the stream \
             (aws dynamodb update-table --table-name {table} \
             --stream-specification StreamEnabled=false), then {}",
            enable("NEW_AND_OLD_IMAGES")
        );
        Err(Error::new(ErrorKind::Config, why).with_hint(change))
    };
    match (info.view, need_old) {
        (StreamView::KeysOnly | StreamView::OldImage, _) => refuse(format!(
            "the stream of table {table} does not carry new images; its view type must be {wanted}"
        )),
        (StreamView::NewImage, Some(need)) => refuse(format!(
            "the stream of table {table} does not carry old images, and the primary key of entity \
             {} needs them for removals: its column {} comes from an attribute that is no key",
            need.entity, need.column
        )),
        _ => Ok(stream_arn.clone()),
    }
}

/// Counts a request to AWS.
pub(crate) fn request(operation: &'static str, error: Option<&Error>) {
    let code = error.map_or("ok", |error| error.code().unwrap_or(error.kind().label()));
    events::AwsRequest { operation, code }.emit();
}
