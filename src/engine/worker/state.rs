//! What a worker owns, and what its tasks answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::apply::batch::Sealed;
use crate::apply::page::MappedPage;
use crate::apply::ports::Applied;
use crate::engine::backfill::Finished;
use crate::engine::backfilling::Backfilling;
use crate::engine::hand::Hand;
use crate::engine::jobs::{Job, Jobs, Rhythm};
use crate::engine::lane::LaneId;
use crate::engine::options::SourceRun;
use crate::engine::phase::Phase;
use crate::engine::ports::{Clock, LedgerView, Seams};
use crate::engine::publishing::{PublicationEnded, Publishing};
use crate::engine::readers::Ticket;
use crate::engine::rejects::Rejects;
use crate::engine::tail::children::Children;
use crate::engine::tail::discovery::Discovered;
use crate::engine::tail::leases::Upkept;
use crate::engine::told::Told;
use crate::error::Result;
use crate::model::ShardListing;

/// One source's worker.
pub(crate) struct Worker<P: Seams> {
    pub(super) ports: Arc<P>,
    pub(super) run: SourceRun,
    pub(super) tables: Tables,
    pub(super) tasks: JoinSet<Done>,
    pub(super) random: fastrand::Rng,

    pub(super) phase: Phase,
    /// The source in the ledger at the last round of upkeep.
    pub(super) view: Arc<LedgerView>,
    pub(super) jobs: Jobs,
    /// Until when the leases hold without another renewal.
    pub(super) lease_deadline: Instant,
    pub(super) hand: Hand,
    pub(super) children: Children,
    pub(super) backfilling: Backfilling,
    pub(super) publishing: Publishing,
    pub(super) rejects: Rejects,
    pub(super) told: Told,
}

/// The target's tables, as the mapping has them.
pub(super) struct Tables {
    pub(super) names: Vec<String>,
    pub(super) key_columns: Arc<[usize]>,
    /// The fingerprint of this worker's mapping.
    pub(super) mapping: i64,
}

/// The answer of a task.
pub(super) enum Done {
    /// A recurring job has ended.
    Job(Job, Result<News>),
    /// A page was read and mapped, and where it is a shard's last one its children were looked up.
    Read { ticket: Ticket, result: Result<(Box<MappedPage>, Vec<ShardListing>)> },
    /// A lane's batch was applied.
    Applied(LaneId, ApplyEnded),
    /// A gap was recorded.
    GapRecorded(Result<()>),
    /// Leases were given back.
    Released(Result<()>),
}

/// What a recurring job answers.
pub(super) enum News {
    Discovered(Discovered),
    /// The era is that in which the round began.
    Upkept {
        era: u64,
        upkept: Box<Upkept>,
    },
    Published(PublicationEnded),
    BackfillBegun(bool),
    BackfillFinished(Finished),
}

/// The result of applying a batch.
pub(super) struct ApplyEnded {
    pub(super) sealed: Box<Sealed>,
    pub(super) took: Duration,
    pub(super) result: Result<Applied>,
}

impl<P: Seams> Worker<P> {
    /// A worker that has not begun.
    pub(crate) fn new(ports: Arc<P>, run: SourceRun) -> Self {
        let now = ports.clock().now();
        let (tables, options) = (run.mapper.tables(), &run.options);
        Self {
            tables: Tables {
                names: tables.iter().map(|table| table.name.to_string()).collect(),
                key_columns: tables.iter().map(|table| table.key_columns).collect(),
                mapping: run.mapper.fingerprint(),
            },
            tasks: JoinSet::new(),
            random: fastrand::Rng::with_seed(run.seed),
            phase: Phase::Starting,
            view: Arc::default(),
            jobs: Jobs::new(now),
            lease_deadline: now,
            hand: Hand::new(now),
            children: Children::default(),
            backfilling: Backfilling::new(options.backfill, options.on_gap, now),
            publishing: Publishing::default(),
            rejects: Rejects::new(options.reject_share_max),
            told: Told::default(),
            ports,
            run,
        }
    }

    /// What the rhythms of the jobs depend on.
    pub(super) fn rhythm(&self) -> Rhythm {
        Rhythm {
            lease_ttl: self.run.options.lease_ttl,
            discovery_interval: self.run.options.discovery_interval,
            childless: self.children.are_missing(),
        }
    }

    /// Has a task do a recurring job.
    pub(super) fn spawn(
        &mut self,
        job: Job,
        work: impl Future<Output = Result<News>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { Done::Job(job, work.await) });
    }

    /// Discards everything in hand; after `resume_at` it continues from the ledger's positions.
    pub(super) fn reload(&mut self, resume_at: Instant) {
        self.hand.forget(resume_at);
        self.jobs.due_at(Job::Upkeep, resume_at);
    }
}
