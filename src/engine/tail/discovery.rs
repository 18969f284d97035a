//! The recurring conversation with the source about its stream: what it is, and which shards it has.
//!
//! Plain futures that take what they need and return what they learnt; the worker's loop owns all state and
//! decides what follows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::listing::{list, with_parents};
use crate::engine::options::OnGap;
use crate::engine::ports::{
    Continuity, Gap, Ledger, Listing, NewStream, PartitionRow, PartitionState, Seams, Source,
    SourceIdentity, StreamInfo, StreamView,
};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::Mapper;
use crate::model::{GapReason, Generation, Position, UNREAD_MAX, WorkerId};
use crate::telemetry::events;

/// A living worker that has not listed all shards after this long loses its turn: a listing of 100,000
/// shards, those of the last day included, takes four minutes.
const LISTED_WITHIN: Duration = Duration::from_secs(300);

/// The result of a discovery.
#[derive(Debug)]
pub(crate) struct Discovered {
    pub stream_arn: Arc<str>,
    pub generation: Generation,
    /// Whether this worker listed the shards.
    pub listed: bool,
    /// A loss of continuity that the worker must record.
    pub gap: Option<Gap>,
    /// Why the stream will have nothing more, and what to do about it.
    pub ended: Option<String>,
}

/// The input of a discovery.
#[derive(Debug)]
pub(crate) struct Survey {
    pub source: Arc<str>,
    pub worker: WorkerId,
    pub mapper: Arc<Mapper>,
    /// The stream as known so far; `None` at the start, which always asks the source.
    pub stream_arn: Option<Arc<str>>,
    pub generation: Generation,
    /// Whether every shard is drained: the stream may have ended.
    pub drained: bool,
    /// List only if the last listing is older than this.
    pub every: Duration,
    /// How long this worker counts as alive from now.
    pub lease_ttl: Duration,
    pub on_gap: OnGap,
}

/// Describes the table, compares it with the ledger, and lists the shards if it is our turn.
pub(crate) async fn discover<P: Seams>(ports: &P, survey: Survey) -> Result<Discovered> {
    let Survey { source, worker, every, .. } = &survey;
    if let Some(stream_arn) = &survey.stream_arn
        && !ports.ledger().lead_discovery(source, worker, *every, LISTED_WITHIN).await?
    {
        // Whoever does not lead asks only whether there is anything to come.
        let ended = match survey.drained {
            true => ended(ports.source(), &ports.source().describe().await?),
            false => None,
        };
        let (stream_arn, generation) = (Arc::clone(stream_arn), survey.generation);
        return Ok(Discovered { stream_arn, generation, listed: false, gap: None, ended });
    }
    find(ports, survey).await
}

async fn find<P: Seams>(ports: &P, survey: Survey) -> Result<Discovered> {
    let Survey { source, worker, mapper, stream_arn: known, every, lease_ttl, on_gap, .. } = survey;
    let info = ports.source().describe().await?;
    let ended = ended(ports.source(), &info);
    let stream_arn: Arc<str> = usable(ports.source(), &info, &mapper)?.into();
    let identity = SourceIdentity {
        source: Arc::clone(&source),
        table_arn: info.table_arn,
        table_id: info.table_id,
        stream_arn: stream_arn.to_string(),
        tables: mapper.tables().to_vec(),
    };
    let enrolment = ports.ledger().enrol(&identity).await?;
    let generation = enrolment.generation;
    let broken = match &enrolment.continuity {
        Continuity::Same => None,
        Continuity::StreamChanged { .. } => Some(GapReason::StreamChanged),
        Continuity::TableChanged { .. } => Some(GapReason::TableChanged),
    };
    if broken.is_some() {
        still(ports.source(), &identity).await?;
    }
    if known.is_none() {
        // Only a living worker keeps its turn.
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
            let gap = Some(gap);
            return Ok(Discovered { stream_arn, generation, listed: false, gap, ended });
        }
        let (source_name, label) = (&*source, reason.label());
        events::GapFound { source: source_name, reason: label, partition: None, halts: false }
            .emit();
        ports.ledger().record_gap(&source, generation, &gap, false).await?;
    }
    if let Continuity::StreamChanged { was } = enrolment.continuity {
        // The backfill that repairs the gap registers the new stream's shards, in one transaction.
        let stream_arn = known.unwrap_or_else(|| was.into());
        return Ok(Discovered { stream_arn, generation, listed: false, gap: None, ended });
    }
    let mut gap = None;
    if lead {
        let listed = list(ports.source(), ports.clock(), &stream_arn).await;
        let known = ports.ledger().view(&source).await?.partitions;
        gap = forgotten(&known, &stream_arn);
        let known = known.into_iter().map(|row| row.id).collect();
        let listing = with_parents(ports, &stream_arn, known, listed?).await;
        ports.ledger().register(&source, &stream_arn, &listing).await?;
    }
    Ok(Discovered { stream_arn, generation, listed: lead, gap, ended })
}

/// Makes sure that the source is still as it was described: the ledger may know a newer stream because the
/// description took long, or the process stood still, and then there is no gap.
///
/// # Errors
/// `Conflict` when it is not: the next attempt asks anew.
async fn still<S: Source>(source: &S, described: &SourceIdentity) -> Result<()> {
    let now = source.describe().await?;
    let same = now.table_id == described.table_id
        && now.stream_arn.as_deref() == Some(&described.stream_arn);
    if same {
        return Ok(());
    }
    let what = "the stream was enabled again while it was asked about";
    Err(Error::new(ErrorKind::Conflict, what))
}

/// Why a disabled stream is a matter for somebody: nothing is lost of it, but it will have nothing more.
fn ended<S: Source>(source: &S, info: &StreamInfo) -> Option<String> {
    if info.enabled {
        return None;
    }
    let table = info.table_arn.rsplit('/').next().unwrap_or(&info.table_arn);
    let enable =
        source.stream_remedy(info).map_or_else(String::new, |enable| format!(": {enable}"));
    Some(format!(
        "the stream of table {table} is disabled: it is read to its end, and what is written \
         since then is in no stream; enable it again{enable}; then `dynaurora backfill` reads the \
         table"
    ))
}

/// A shard that stood at its horizon for so long that the service may have dropped unread records. Any other
/// position would report that; the horizon never does.
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

/// What follows when the source's stream is compared with the known one.
#[derive(Debug)]
pub(crate) enum Newest {
    /// The known stream is still the newest one.
    Known,
    /// Another one took its place.
    Another(NewStream),
    /// Another one did, and its shards cannot all be listed now.
    Unlisted,
}

/// Compares the source's newest stream with the known one; the shards of another are listed.
pub(crate) async fn newest_stream<P: Seams>(
    ports: &P,
    newest: Option<String>,
    known: &str,
) -> Result<Newest> {
    let Some(stream_arn) = newest.filter(|arn| *arn != *known) else { return Ok(Newest::Known) };
    let stream_arn: Arc<str> = stream_arn.into();
    let listed = list(ports.source(), ports.clock(), &stream_arn).await?;
    let Listing { shards, complete } =
        with_parents(ports, &stream_arn, HashSet::new(), listed).await;
    Ok(if complete { Newest::Another(NewStream { stream_arn, shards }) } else { Newest::Unlisted })
}

/// The stream's ARN, if this stream can feed this mapping.
///
/// # Errors
/// `Config`, with what mends it, when there is no stream or its records carry too little.
pub fn usable<S: Source>(source: &S, info: &StreamInfo, mapper: &Mapper) -> Result<String> {
    let table = info.table_arn.rsplit('/').next().unwrap_or(&info.table_arn);
    let refuse = |why: String| {
        let error = Error::new(ErrorKind::Config, why);
        Err(match source.stream_remedy(info) {
            Some(remedy) => error.with_hint(remedy),
            None => error,
        })
    };
    let need_old = mapper.needs_old_image();
    let wanted =
        if need_old.is_some() { "NEW_AND_OLD_IMAGES" } else { "NEW_IMAGE or NEW_AND_OLD_IMAGES" };
    let Some(stream_arn) = &info.stream_arn else {
        return refuse(format!("table {table} has no stream"));
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
