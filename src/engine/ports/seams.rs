//! The four seams that a source runs over, as one.

use super::{Clock, Ledger, Source, Target};

/// The four ports of a source's worker.
#[derive(Debug)]
pub struct Ports<S, L, K, C> {
    /// Where changes come from.
    pub source: S,
    /// Where positions and leases are kept.
    pub ledger: L,
    /// Where rows go.
    pub sink: K,
    /// Time.
    pub clock: C,
}

/// The four seams under one name, so that what needs them has one bound.
pub trait Seams: Send + Sync + 'static {
    /// Where changes come from.
    type Source: Source;
    /// Where positions and leases are kept.
    type Ledger: Ledger;
    /// Where rows go.
    type Target: Target;
    /// Time.
    type Clock: Clock;

    /// Where changes come from.
    fn source(&self) -> &Self::Source;

    /// Where positions and leases are kept.
    fn ledger(&self) -> &Self::Ledger;

    /// Where rows go.
    fn sink(&self) -> &Self::Target;

    /// Time.
    fn clock(&self) -> &Self::Clock;
}

impl<S: Source, L: Ledger, K: Target, C: Clock> Seams for Ports<S, L, K, C> {
    type Source = S;
    type Ledger = L;
    type Target = K;
    type Clock = C;

    fn source(&self) -> &S {
        &self.source
    }

    fn ledger(&self) -> &L {
        &self.ledger
    }

    fn sink(&self) -> &K {
        &self.sink
    }

    fn clock(&self) -> &C {
        &self.clock
    }
}
