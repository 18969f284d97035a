//! A verification: is the target what the source says? Both are read, consistently and typed, in both
//! directions; what is merely on its way is told from what is wrong, and repaired where that is asked for.

pub mod context;
pub mod passes;
mod repair;
mod scan;
pub mod settle;

#[cfg(test)]
mod keys_tests;

pub(super) use repair::{Asked, truth};

use std::sync::Arc;
use std::time::Duration;

use crate::engine::ports::Clock;
use crate::error::Result;
use crate::ops::ports::{Observer, Sides, Verification, Verifications};
use context::Context;
use passes::{Found, Passes, Plan};
use scan::Share;

/// How a verification is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only this target table, with its child tables or its parent table.
    pub table: Option<String>,
    /// The part of the source to read, from 0 to 1.
    pub sample: Option<f64>,
    /// Whether what differs is repaired.
    pub repair: bool,
    /// How many segments of the source to read at a time.
    pub segments: u32,
    /// How long a change may take from the source to the target.
    pub lag: Duration,
}

/// What came of a verification.
#[derive(Debug)]
pub struct Verified {
    /// What both directions found.
    pub found: Found,
    /// The share of the source that was read, from 0 to 1.
    pub share: f64,
    /// How long it took.
    pub took: Duration,
    /// Why rows were not repaired: refused, or not to be locked in time.
    pub not_repaired: Vec<String>,
}

/// Verifies one source and, where asked, repairs it. What was found is recorded, unless only a part of the
/// target was looked at or a question is open: neither is an answer that a metric may show.
///
/// # Errors
/// When one of the sides does not answer.
pub async fn verify<S: Sides>(
    context: &Arc<Context<S>>,
    options: &Options,
    observer: &impl Observer,
) -> Result<Verified> {
    let clock = context.sides.clock();
    let started = clock.now();
    let share = match options.sample {
        Some(part) if part < 1.0 => Share::sample(part, options.segments, &mut context.random()),
        _ => Share::whole(options.segments),
    };
    let part = share.part;
    let plan = Plan {
        tables: context.own_tables(options.table.as_deref()),
        share,
        readers: options.segments,
        lag: options.lag,
    };
    let mut found = Passes::new(context, plan, observer).run().await?;
    let mut not_repaired = Vec::new();
    if options.repair {
        not_repaired = repair::repair(context, &mut found.settled.drift).await?;
    }
    let took = clock.now() - started;
    if options.table.is_none() && found.settled.undecided == 0 {
        let verification = Verification {
            took,
            share: part,
            items: found.items,
            mismatched: found.mismatched(),
            repaired: found.repaired(),
        };
        context.sides.target().record(&context.name, verification).await?;
    }
    Ok(Verified { found, share: part, took, not_repaired })
}
