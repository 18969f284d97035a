//! The contract of loads in memory.

use std::sync::Arc;

use dynaurora::engine::ports::{
    BackfillView, Backfills, Gap, GapReason, Listing, NewBackfill, NewStream, OpenLetter,
    PartitionState, Settling, Stale, Sweep, Swept,
};
use dynaurora::error::Result;
use dynaurora::model::{
    Cells, Generation, Halt, PartitionId, PartitionKind, Position, SequenceNumber, TableIndex,
    Version,
};

use tokio::time::Instant;

use super::faults::{Call, Sabotage};
use super::state::{GapState, Partition, SourceState, State, StoredGap};
use super::{Event, Key, Row, Shared, Store, histories, key_of, letters, marked};

impl Store {
    fn sabotage(&self) -> Option<Sabotage> {
        self.faults().knobs.sabotage
    }

    /// What an operator's command does: the next load, if it is the time for one.
    pub fn begin_by_hand(&self, source: &str, partitions: Vec<PartitionId>) -> bool {
        let mut state = self.state();
        let Ok(known) = state.source(source) else { return false };
        let (source, replaces) = (Arc::from(source), known.generation);
        let backfill = NewBackfill {
            source,
            replaces,
            stream: None,
            partitions,
            items: None,
            rcu_max: None,
            mapping: None,
            rewind: None,
        };
        begin(&mut state, &backfill, self.sabotage()).unwrap_or(false)
    }
}

impl Backfills for Store {
    async fn begin_backfill(&self, backfill: &NewBackfill) -> Result<bool> {
        let sabotage = self.sabotage();
        self.call(Call::Ledger, |state| begin(state, backfill, sabotage)).await
    }

    async fn end_backfill(&self, source: &str, generation: Generation) -> Result<bool> {
        self.call(Call::Ledger, |state| end(state, source, generation)).await
    }

    async fn settle_letters(&self, source: &str, generation: Generation) -> Result<Settling> {
        let settle = |state: &mut State| letters::settle(&self.shared, state, source, generation);
        self.call(Call::Ledger, settle).await
    }

    async fn open_letters(&self, source: &str, limit: u32) -> Result<Vec<OpenLetter>> {
        self.call(Call::Ledger, |state| {
            let letters = (1..).zip(&state.source(source)?.dead_letters);
            let open = letters.filter(|(_, letter)| letter.open);
            let told =
                open.map(|(id, letter)| OpenLetter { id, image: letter.letter.image.clone() });
            Ok(told.take(limit as usize).collect())
        })
        .await
    }
}

fn begin(state: &mut State, backfill: &NewBackfill, sabotage: Option<Sabotage>) -> Result<bool> {
    let now = state.now();
    let source = state.source(&backfill.source)?;
    let open_gaps = source.gaps.iter().filter(|gap| gap.state == GapState::Open);
    let open = |reason| open_gaps.clone().any(|gap| gap.gap.reason == reason);
    let halted = source.halted.as_ref();
    let halted = halted.is_some_and(|halt| !matches!(halt, Halt::Gap(of) if open(*of)));
    let refused = source.generation != backfill.replaces
        || (source.listed_at.is_none() && backfill.stream.is_none())
        || halted
        || open(GapReason::TableChanged)
        || (is_stale(source, backfill) && sabotage != Some(Sabotage::TakesAnyStream));
    if refused {
        return Ok(false);
    }
    let Some(rewound) = rewound(source, backfill, now) else { return Ok(false) };
    let unrepaired = |gap: &StoredGap| gap.state != GapState::Repaired;
    source.backfill = BackfillView {
        active: true,
        loaded: source.backfill.loaded,
        sweeps: source.backfill.sweeps
            || source.backfill.loaded
            || backfill.stream.is_some()
            || source.gaps.iter().any(unrepaired),
        replaying: 0,
        sweep_confirmed: false,
        items: backfill.items,
        rcu_max: backfill.rcu_max,
        mapping: backfill.mapping,
    };
    source.generation += 1;
    source.halted = None;
    let mut found = None;
    if let Some(NewStream { stream_arn, shards }) = &backfill.stream {
        source.listed_at = Some(now);
        source.add_shards(stream_arn, shards, now);
        let changed = Gap {
            reason: GapReason::StreamChanged,
            stream_arn: stream_arn.to_string(),
            partition: None,
            after: None,
            since: None,
        };
        if !source.gaps.iter().any(|known| unrepaired(known) && known.gap == changed) {
            source.gaps.push(StoredGap { gap: changed.clone(), state: GapState::Open });
            found = Some(Event::Gap { gap: changed, halted: false });
        }
    }
    unlease(source, now);
    for (id, start) in &rewound {
        if let Some(shard) = source.partitions.get_mut(id) {
            rewind(shard, start.clone());
        }
    }
    for id in &backfill.partitions {
        let epoch = source.partitions.get(id).map_or(0, |known| known.epoch);
        source.partitions.insert(id.clone(), Partition::fresh(source.generation, epoch, now));
    }
    for gap in source.gaps.iter_mut().filter(|gap| gap.state == GapState::Open) {
        gap.state = GapState::Repairing;
    }
    let generation = source.generation;
    let partitions = backfill.partitions.clone();
    state.tombstones.clear();
    found.into_iter().for_each(|gap| state.record(gap));
    if let Some(NewStream { shards, .. }) = &backfill.stream {
        let listing = Arc::new(Listing { shards: shards.clone(), complete: true });
        state.record(Event::Registered { listing });
    }
    state.record(Event::BackfillBegun { generation, partitions, rewound });
    Ok(true)
}

/// Whether the load would begin with another stream than the newest that an open gap names, or than the one
/// that holds the moment of its items.
fn is_stale(source: &SourceState, backfill: &NewBackfill) -> bool {
    let new = backfill.stream.as_ref().map(|stream| &stream.stream_arn);
    let chosen = new.unwrap_or(&source.stream_arn);
    let changed = |gap: &&StoredGap| gap.gap.reason == GapReason::StreamChanged;
    let known = source.gaps.iter().filter(changed);
    let own = known.clone().position(|gap| *gap.gap.stream_arn == **chosen);
    let newer = known.enumerate().any(|(at, gap)| {
        let later = new.is_none() || own.is_some_and(|own| own < at);
        gap.state == GapState::Open && *gap.gap.stream_arn != **chosen && later
    });
    newer || backfill.rewind.as_ref().is_some_and(|rewind| rewind.stream_arn != *chosen)
}

/// The shards that the load rewinds; none of a new stream, of which nothing was applied yet.
fn rewound(
    source: &SourceState,
    backfill: &NewBackfill,
    now: Instant,
) -> Option<Vec<(PartitionId, Position)>> {
    let Some(rewind) = backfill.rewind.as_ref().filter(|_| backfill.stream.is_none()) else {
        return Some(Vec::new());
    };
    let rows = source.partitions.iter().filter(|(_, row)| row.stream_arn == source.stream_arn);
    rewind.shards(&rows.map(|(id, row)| source.row(id, row, now)).collect::<Vec<_>>())
}

/// Ends every lease; what was trimmed goes on at its horizon.
fn unlease(source: &mut SourceState, now: Instant) {
    for (id, partition) in &mut source.partitions {
        partition.epoch += 1;
        partition.owner = None;
        partition.records = 0;
        let trimmed = source.gaps.iter().any(|gap| {
            gap.state == GapState::Open
                && gap.gap.reason == GapReason::Trimmed
                && gap.gap.partition.as_ref() == Some(id)
                && *gap.gap.stream_arn == *partition.stream_arn
        });
        if trimmed {
            partition.position = Position::Horizon;
        }
        if partition.position == Position::Horizon {
            partition.entered_at = now;
        }
        let at_end = partition.replays_to == Some(None);
        if !partition.is_replaying() || (trimmed && !at_end) {
            partition.replays_to = None;
        }
    }
}

fn rewind(shard: &mut Partition, start: Position) {
    shard.replays_to = match (shard.state, &shard.position, shard.replays_to) {
        (PartitionState::Drained, _, _) | (_, _, Some(None)) => Some(None),
        (_, Position::After(at), to) => Some(Some(to.flatten().map_or(*at, |to| to.max(*at)))),
        (_, _, to) => to,
    };
    shard.state = PartitionState::Open;
    shard.position = start;
    shard.last_event_at = None;
}

fn end(state: &mut State, source: &str, generation: Generation) -> Result<bool> {
    let source = state.source(source)?;
    if !source.is_at_end(generation) {
        return Ok(false);
    }
    source.backfill.active = false;
    source.backfill.loaded = true;
    for gap in source.gaps.iter_mut().filter(|gap| gap.state == GapState::Repairing) {
        gap.state = GapState::Repaired;
    }
    state.tombstones.clear();
    state.record(Event::BackfillEnded { generation });
    Ok(true)
}

impl SourceState {
    /// Whether the load of this generation is active and has read all that it has to.
    pub fn is_at_end(&self, generation: Generation) -> bool {
        let unread = |(id, row): (&PartitionId, &Partition)| {
            !id.is_shard() && row.generation == generation && row.state == PartitionState::Open
        };
        self.generation == generation
            && self.backfill.active
            && !self.partitions.iter().any(unread)
            && self.replaying() == 0
    }

    /// Whether a partition belongs to the newest stream, or to the newest load.
    pub fn is_current(&self, id: &PartitionId, row: &Partition) -> bool {
        match id.kind() {
            PartitionKind::Shard => row.stream_arn == self.stream_arn,
            PartitionKind::Segment | PartitionKind::File => row.generation == self.generation,
        }
    }
}

/// How many rows are of an older generation.
pub fn stale(shared: &Shared, state: &State, sweep: &Sweep) -> Stale {
    let mut stale = Stale::default();
    for table in &sweep.tables {
        let deleted_at = shared.specs[usize::from(table.0)].deleted_at;
        let rows = state.tables[usize::from(table.0)].values();
        for row in rows.filter(|row| !is_marked(row, deleted_at)) {
            stale.of += 1;
            stale.rows += u64::from(row.version < first_of(sweep));
        }
    }
    stale
}

/// Deletes one of them at a time, so that other things happen in between.
pub fn step(shared: &Shared, state: &mut State, sweep: &Sweep) -> Result<Swept> {
    let sabotage = shared.knobs().sabotage;
    let source = state.source(&sweep.source)?;
    if !source.is_at_end(sweep.generation) {
        return Ok(Swept::Over);
    }
    let mut letters = (1..).zip(&source.dead_letters).filter(|(_, letter)| letter.open);
    if letters.any(|(id, _)| !sweep.letters.contains(&id)) {
        return Ok(Swept::Over);
    }
    let spared: Vec<(TableIndex, Key)> = (sweep.spared.iter())
        .map(|(table, cells)| {
            let columns = shared.specs[usize::from(table.0)].key_columns;
            (*table, key_of(cells, columns))
        })
        .collect();
    state.hidden.retain(|(table, key), rows| {
        if !spared.contains(&(*table, key.clone())) {
            rows.retain(|_, row| row.version >= first_of(sweep));
        }
        !rows.is_empty()
    });
    for table in &sweep.tables {
        let deleted_at = shared.specs[usize::from(table.0)].deleted_at;
        let rows = &mut state.tables[usize::from(table.0)];
        let stale = rows.iter().find(|(key, row)| {
            row.version < first_of(sweep)
                && !is_marked(row, deleted_at)
                && (sabotage == Some(Sabotage::SparesNothing)
                    || !spared.contains(&(*table, (*key).clone())))
        });
        if let Some(key) = stale.map(|(key, _)| key.clone()) {
            if deleted_at.is_none() {
                rows.remove(&key);
            } else if let Some(row) = rows.get_mut(&key) {
                row.version = first_of(sweep);
                row.cells = marked(&row.cells, &Cells::from_iter([None]));
            }
            let row = rows.get(&key).cloned();
            state.record(Event::Swept { table: *table, key: key.clone(), row });
            histories::sweep(shared, state, (*table, key), first_of(sweep));
            return Ok(Swept::Rows(1));
        }
    }
    Ok(Swept::Done)
}

/// Whether the row's item is known to be deleted.
pub fn is_marked(row: &Row, deleted_at: Option<usize>) -> bool {
    deleted_at.is_some_and(|at| row.cells.cell(at).is_some())
}

fn first_of(sweep: &Sweep) -> Version {
    Version { generation: sweep.generation, sequence: SequenceNumber::ZERO }
}
