//! An operator accepts that the stream is another one, and that the changes between the two are lost.

use std::sync::Arc;

use dynaurora::engine::ports::GapReason;
use dynaurora::model::Halt;

use super::faults::Sabotage;
use super::state::GapState;
use super::{Event, Store};

impl Store {
    /// Accepts the gaps of a changed stream, if there are any and no load is active: the source goes on with
    /// the newest stream, in a generation of its own. Whether it did.
    pub fn accept(&self, source: &str) -> bool {
        let sabotage = self.faults().knobs.sabotage;
        let mut state = self.state();
        let Ok(known) = state.source(source) else { return false };
        if known.backfill.active {
            return false;
        }
        let mut newest = None;
        for own in &mut known.gaps {
            if own.state == GapState::Open && own.gap.reason == GapReason::StreamChanged {
                own.state = GapState::Accepted;
                newest = Some(Arc::from(own.gap.stream_arn.as_str()));
            }
        }
        let Some(newest) = newest else { return false };
        known.stream_arn = newest;
        if known.halted == Some(Halt::Gap(GapReason::StreamChanged)) {
            known.halted = None;
        }
        for partition in known.partitions.values_mut() {
            partition.epoch += 1;
            (partition.owner, partition.covered_epoch) = (None, None);
        }
        if sabotage != Some(Sabotage::AcceptsInPlace) {
            known.generation += 1;
            let generation = known.generation;
            state.record(Event::Accepted { generation });
        }
        true
    }
}
