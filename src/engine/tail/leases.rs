//! The recurring conversation with the ledger about leases: renew, look, plan, acquire.
//!
//! A plain future that takes what it needs and returns what it learnt; the worker's loop owns all state and
//! decides what follows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lease;
use crate::engine::ports::{Clock, Lease, LeaseRequest, Ledger, LedgerView, PartitionState, Seams};
use crate::error::Result;
use crate::model::{PartitionId, WorkerId};

/// The input of a round of upkeep.
#[derive(Debug)]
pub(crate) struct Ask {
    pub source: Arc<str>,
    pub worker: WorkerId,
    pub lease_ttl: Duration,
    pub partitions_max: usize,
    /// Whether to take new leases; not while draining.
    pub acquire: bool,
}

/// The result of a round of upkeep.
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
    let view = ports.ledger().view(&source).await?;
    let mine: Vec<PartitionId> = view
        .partitions
        .iter()
        .filter(|row| row.state == PartitionState::Open && row.owner.as_ref() == Some(&worker))
        .map(|row| row.id.clone())
        .collect();
    let plan = lease::plan(&view, &mine, partitions_max);
    let mut leases = Vec::new();
    if acquire && view.halted.is_none() && !plan.acquire.is_empty() {
        let request = LeaseRequest {
            source: &source,
            worker: &worker,
            generation: view.generation,
            wanted: &plan.acquire,
            lease_ttl,
        };
        leases = ports.ledger().acquire(&request).await?;
    }
    Ok(Upkept { sent_at, view, leases, give_up: plan.give_up })
}
