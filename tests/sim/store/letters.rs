//! Dead letters in memory: of one item at most one is open, and only while it is newer than what was applied.

use dynaurora::apply::ports::{Batch, DeadLetter, Phase};
use dynaurora::engine::ports::Settling;
use dynaurora::error::Result;
use dynaurora::model::{Generation, SequenceNumber, Version};

use super::faults::Sabotage;
use super::state::{SourceState, State, StoredLetter};
use super::{Event, Shared};

/// An open dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLetter {
    /// Where it was read.
    pub partition: String,
    /// Its version.
    pub version: Version,
    /// The item's key as DynamoDB JSON.
    pub key: String,
}

impl OpenLetter {
    pub fn of(letter: &DeadLetter) -> Self {
        let (partition, key) = (letter.partition.to_string(), letter.key.clone());
        Self { partition, version: letter.version, key }
    }
}

/// Stores the rejects of a batch. One that is older than another letter of its item is never open. Returns
/// how many are older than what was applied of their items.
pub fn store(source: &mut SourceState, rejects: &[DeadLetter]) -> u64 {
    let mut late = 0;
    for letter in rejects {
        let applied = source.touched.get(&letter.key_hash);
        late += u64::from(applied.is_some_and(|applied| letter.version < *applied));
        let mut open = true;
        for other in &mut source.dead_letters {
            if other.letter.key_hash == letter.key_hash {
                let older = other.letter.version < letter.version;
                open &= older;
                other.open &= !older;
            }
        }
        source.dead_letters.push(StoredLetter { letter: letter.clone(), open });
    }
    late
}

/// Supersedes what is older than a batch's records, and while a load is active leaves their keys to its end.
pub fn supersede(source: &mut SourceState, batch: &Batch) -> u64 {
    let mut superseded = 0;
    for (hash, version) in &batch.rows.touched {
        let own = source.dead_letters.iter_mut().filter(|own| own.letter.key_hash == *hash);
        for letter in own.filter(|own| own.open && own.letter.version < *version) {
            letter.open = false;
            superseded += 1;
        }
        if batch.phase != Phase::Steady && version.sequence != SequenceNumber::ZERO {
            let newest = source.touched.entry(*hash).or_insert(*version);
            *newest = (*newest).max(*version);
        }
    }
    superseded
}

/// What the end of a load settles: letters of older generations, and those that a change has overtaken.
pub fn settle(
    shared: &Shared,
    state: &mut State,
    source: &str,
    generation: Generation,
) -> Result<Settling> {
    let sabotage = shared.knobs().sabotage;
    let source = state.source(source)?;
    if !source.is_at_end(generation) {
        return Ok(Settling::Over);
    }
    let touched = std::mem::take(&mut source.touched);
    if sabotage == Some(Sabotage::SettlesNothing) {
        return Ok(Settling::Done);
    }
    let mut settled = Vec::new();
    for own in source.dead_letters.iter_mut().filter(|own| own.open) {
        let (hash, version) = (own.letter.key_hash, own.letter.version);
        let newer = touched.get(&hash).is_some_and(|touched| version < *touched);
        if newer || version < Version::scanned(generation) {
            own.open = false;
            settled.push(OpenLetter::of(&own.letter));
        }
    }
    if settled.is_empty() {
        return Ok(Settling::Done);
    }
    shared.count("letters settled at the end of a load", settled.len() as u64);
    state.record(Event::Settled { letters: settled });
    Ok(Settling::More)
}
