//! Decides what is read, mapped and applied when.
//!
//! One [`run`] per source: a single loop owns all state (`worker/turn.rs`), starts reads, applies and upkeep
//! as tasks that own nothing but their request, and takes their answers one at a time. The decisions are pure
//! leaves: `agenda.rs` says what is due and when, `jobs.rs` what comes again and again, `phase.rs` where the
//! worker is in its life; `tail/lineage.rs` what may be read, `tail/lease.rs` who should read it,
//! [`readers`] what is read next, `apply/batch.rs` what is applied together, [`retry`] what follows from a
//! failure, `tail/freshness.rs` what is synced.

mod agenda;
pub mod backfill;
mod backfilling;
mod hand;
mod jobs;
mod lane;
mod options;
mod phase;
pub mod ports;
mod publishing;
pub mod readers;
pub mod rejects;
pub mod retry;
pub mod tail;
mod timers;
mod told;
mod worker;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::error::Result;

pub use options::{OnGap, Options, SourceRun};
pub use ports::{Ports, Seams};
pub use tail::discovery::usable;

/// Keeps the target in step with one source until `stop` is cancelled, then applies what it holds, releases
/// the leases and returns.
///
/// Dropping the future at any point is safe, like a crash.
///
/// # Errors
/// A failure that may not be retried (see [`retry::directive`]): the source has halted, its leases are free.
pub async fn run<P: Seams>(ports: Arc<P>, run: SourceRun, stop: CancellationToken) -> Result<()> {
    worker::Worker::new(ports, run).drive(stop).await
}
