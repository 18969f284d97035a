//! What a worker has published in the ledger, and the database's clock as the answers show it.

use std::sync::Arc;

use tokio::time::Instant;

use super::ports::Published;
use super::tail::freshness::{ShardProgress, spoken_for};
use crate::model::{Epoch, EpochMillis, Incarnation, PartitionId};

/// Leases, as a publication names them.
pub(super) type Leases = Arc<[(PartitionId, Epoch)]>;

/// What was published, and what is known of the database's clock.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    number: u64,
    synced_up_to: Option<EpochMillis>,
    /// The leases that the ledger is known to have from us; `None` until an answer says that it took them.
    covers: Option<Leases>,
    /// The run of the server to which all that was committed which is in hand; `None` before the first view.
    incarnation: Option<Incarnation>,
    /// A time of the database, and a local moment at which it was at least that.
    clock: Option<(Instant, EpochMillis)>,
}

/// The next publication.
#[derive(Debug)]
pub(super) struct NextPublication {
    pub(super) number: u64,
    pub(super) synced_up_to: Option<EpochMillis>,
    pub(super) last_poll_at: Option<EpochMillis>,
    pub(super) covers: Leases,
    /// Whether these leases are others than the ledger has.
    pub(super) changed: bool,
    pub(super) incarnation: Incarnation,
}

/// What a publication came to.
#[derive(Debug)]
pub(super) struct PublicationEnded {
    pub(super) covers: Leases,
    pub(super) at: Instant,
    pub(super) published: Published,
}

impl Publishing {
    /// What to publish next. Until its answer comes the ledger is not known to have any of it.
    pub(super) fn next(
        &mut self,
        progress: Vec<((PartitionId, Epoch), ShardProgress)>,
    ) -> NextPublication {
        let last_poll_at = progress.iter().filter_map(|(_, shard)| shard.last_poll_at).min();
        let (covers, synced_up_to) = spoken_for(progress, self.synced_up_to);
        let covers: Leases = covers.into();
        let changed = self.covers.take().as_ref() != Some(&covers);
        self.number += 1;
        self.synced_up_to = synced_up_to;
        let (number, incarnation) = (self.number, self.incarnation.clone().unwrap_or_default());
        NextPublication { number, synced_up_to, last_poll_at, covers, changed, incarnation }
    }

    /// Takes note of an answer. Whether the ledger took what was said.
    pub(super) fn answered(&mut self, ended: PublicationEnded) -> bool {
        let PublicationEnded { covers, at, published } = ended;
        self.clock = Some((at, published.now));
        self.covers = published.taken.then_some(covers);
        published.taken
    }

    /// Takes note of the server that showed a view. True if it took over from the one before: then nothing
    /// that is believed to be committed need be there, what was published least of all.
    pub(super) fn seen(&mut self, incarnation: &Incarnation) -> bool {
        let before = self.incarnation.replace(incarnation.clone());
        let took_over = before.is_some_and(|before| before != *incarnation);
        if took_over {
            self.covers = None;
            self.synced_up_to = None;
        }
        took_over
    }

    /// The database's time now, or a little less; `None` before its first answer. The local time of day plays
    /// no part: if it is wrong or is set, nothing looks fresher than it is.
    pub(super) fn database_time(&self, now: Instant) -> Option<EpochMillis> {
        let (moment, time) = self.clock?;
        let since = now.saturating_duration_since(moment).as_millis();
        Some(EpochMillis(time.0.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))))
    }
}
