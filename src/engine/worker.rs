//! One source's worker: a single loop owns all of its state, starts tasks, and takes their answers one at a
//! time.
//!
//! `state.rs` is what it owns, `turn.rs` the loop, `recurring.rs` how a recurring job starts and ends. The
//! other files have one subject each: what is started for it, and what its answer means.

mod applies;
mod backfills;
mod discovery;
mod gaps;
mod publication;
mod reads;
mod recurring;
mod report;
mod state;
mod turn;
mod upkeep;

pub(super) use state::Worker;
