//! The server crashes, or a replica that lags takes over: what was committed last is lost.

use std::time::Duration;

use super::state::State;
use super::{Event, Store};

/// A replica that lags longer than this does not take over: an operator would not let it.
const LAG_MAX: Duration = Duration::from_secs(10);

impl Store {
    /// From now on a replica lags: it has nothing of what is committed later.
    pub fn lag(&self) {
        let mut state = self.state();
        let replica = Box::new(state.kept());
        state.replica = Some((state.now(), replica));
    }

    /// The replica is in step again.
    pub fn catch_up(&self) {
        self.state().replica = None;
    }

    /// The replica takes over. How many batches were lost; `None` if there is no replica that lags.
    pub fn crash(&self) -> Option<u64> {
        let mut state = self.state();
        let (since, replica) = state.replica.take()?;
        let now = state.now();
        if now.saturating_duration_since(since) > LAG_MAX {
            return None;
        }
        let committed = |state: &State| {
            let batches = |event: &Event| matches!(event, Event::Committed(_));
            state.journal.iter().filter(|entry| batches(&entry.event)).count() as u64
        };
        let lost = committed(&state) - committed(&replica);
        let incarnation = state.incarnation + 1;
        let (now, elapsed, locked) = (state.now, state.elapsed, state.locked);
        *state = State { now, elapsed, locked, incarnation, ..*replica };
        Some(lost)
    }
}

impl State {
    /// What is on the disk. What the server had in flight is not.
    fn kept(&self) -> Self {
        Self {
            sources: self.sources.clone(),
            tables: self.tables.clone(),
            tombstones: self.tombstones.clone(),
            hidden: self.hidden.clone(),
            histories: self.histories.clone(),
            journal: self.journal.clone(),
            ..Self::default()
        }
    }
}
