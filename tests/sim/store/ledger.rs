//! The ledger's contract in memory.

use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::ports::{
    BackfillView, Continuity, Enrolment, Gap, GapReason, Incarnation, Lease, LeaseRequest, Ledger,
    LedgerView, Listing, PartitionRow, PartitionState, Publication, Published, SourceIdentity,
};
use dynaurora::error::{Error, ErrorKind, Result};
use dynaurora::mapping::spec::TableSpec;
use dynaurora::model::{Epoch, Generation, PartitionId, Position, UNREAD_MAX, WorkerId};
use tokio::time::Instant;

use super::faults::{Call, Sabotage};
use super::state::{GapState, Partition, SourceState, State, StoredGap, Worker};
use super::{Event, Shared, Store};

impl Ledger for Store {
    async fn enrol(&self, identity: &SourceIdentity) -> Result<Enrolment> {
        let sabotage = self.faults().knobs.sabotage;
        self.call(Call::Ledger, |state| enrol(&self.shared, state, identity, sabotage)).await
    }

    async fn view(&self, source: &str) -> Result<LedgerView> {
        let sabotage = self.faults().knobs.sabotage;
        let mut view = self
            .call(Call::Ledger, |state| {
                let (now, incarnation) = (state.now(), incarnation(state, sabotage));
                Ok(LedgerView { incarnation, ..state.source(source)?.view(now) })
            })
            .await?;
        if sabotage == Some(Sabotage::ParentsDrained) {
            let parents: Vec<_> =
                view.partitions.iter().filter_map(|row| row.parent.clone()).collect();
            for row in view.partitions.iter_mut().filter(|row| parents.contains(&row.id)) {
                row.state = PartitionState::Drained;
            }
        }
        Ok(view)
    }

    async fn lead_discovery(
        &self,
        source: &str,
        worker: &WorkerId,
        every: Duration,
        within: Duration,
    ) -> Result<bool> {
        self.call(Call::Ledger, |state| {
            let now = state.now();
            let source = state.source(source)?;
            let due = source.listed_at.is_none_or(|at| at + every <= now);
            let lives = |who: &WorkerId| {
                source.workers.get(who.as_str()).is_some_and(|own| own.alive_until > now)
            };
            let free = |(who, at): &(WorkerId, Instant)| !lives(who) || *at + within <= now;
            let (own, free) = match &source.discovery {
                Some(turn) => (turn.0 == *worker, free(turn)),
                None => (false, true),
            };
            if due && free && !own {
                source.discovery = Some((worker.clone(), now));
            }
            Ok(due && (own || free))
        })
        .await
    }

    async fn register(&self, source: &str, stream_arn: &str, listing: &Listing) -> Result<()> {
        self.call(Call::Ledger, |state| {
            let now = state.now();
            let stream_arn: Arc<str> = stream_arn.into();
            let known = state.source(source)?;
            known.add_shards(&stream_arn, &listing.shards, now);
            if listing.complete {
                known.note_continued(&listing.shards);
                known.note_gone(&listing.shards, now);
                known.listed_at = Some(now);
                known.discovery = None;
            }
            let listing = Arc::new(listing.clone());
            state.record(Event::Registered { listing });
            Ok(())
        })
        .await
    }

    async fn acquire(&self, request: &LeaseRequest<'_>) -> Result<Vec<Lease>> {
        self.call(Call::Ledger, |state| acquire(state, request)).await
    }

    async fn renew(&self, source: &str, worker: &WorkerId, lease_ttl: Duration) -> Result<()> {
        self.call(Call::Renew, |state| {
            let until = state.now() + lease_ttl;
            state.source(source)?.show_alive(worker, until);
            Ok(())
        })
        .await
    }

    async fn publish(&self, publication: &Publication<'_>) -> Result<Published> {
        let clock = self.shared.clock;
        let sabotage = self.faults().knobs.sabotage;
        let forgets = sabotage == Some(Sabotage::NoUncover);
        let covers = publication.covers.filter(|_| !forgets);
        self.call(Call::Ledger, |state| {
            let now = clock.wall_at(state.now());
            if *publication.incarnation != incarnation(state, sabotage) {
                return Ok(Published { now, taken: false });
            }
            let source = state.source(publication.source)?;
            if forgets {
                cover_all(source, publication.worker);
            }
            let taken = publish(source, &Publication { covers, ..*publication });
            Ok(Published { now, taken })
        })
        .await
    }

    async fn release(
        &self,
        source: &str,
        worker: &WorkerId,
        held: &[(PartitionId, Epoch)],
        leaving: bool,
    ) -> Result<()> {
        self.call(Call::Ledger, |state| {
            let known = state.source(source)?;
            let mut released = Vec::new();
            for (id, epoch) in held {
                let held = known.partitions.get(id).filter(|own| own.held_by(worker, *epoch));
                if held.is_some() {
                    known.uncover(id);
                    known.partitions.get_mut(id).expect("it is held").owner = None;
                    let (worker, partition) = (worker.clone(), id.clone());
                    released.push(Event::Released { worker, partition, epoch: *epoch });
                }
            }
            if leaving {
                known.workers.remove(worker.as_str());
            }
            released.into_iter().for_each(|event| state.record(event));
            Ok(())
        })
        .await
    }

    async fn note_halt(&self, source: &str, _worker: &WorkerId, _why: &str) -> Result<()> {
        // Only those who query the target learn it.
        self.call(Call::Ledger, |state| state.source(source).map(drop)).await
    }

    async fn record_gap(
        &self,
        source: &str,
        found_in: Generation,
        gap: &Gap,
        halt: bool,
    ) -> Result<()> {
        if self.faults().knobs.sabotage == Some(Sabotage::NoGaps) {
            return Ok(());
        }
        self.call(Call::Ledger, |state| {
            let known = state.source(source)?;
            if known.generation != found_in {
                return Ok(());
            }
            if halt {
                known.halted = Some(gap.reason.into());
            }
            if gap.reason == GapReason::Vanished {
                let id = gap.partition.as_ref();
                let partition = id.and_then(|id| known.partitions.get_mut(id));
                if let Some(partition) = partition {
                    partition.state = PartitionState::Lost;
                }
            }
            let same = |stored: &StoredGap| {
                let Gap { since: _, ref reason, ref stream_arn, ref partition, ref after } = *gap;
                let own = &stored.gap;
                stored.state != GapState::Repaired
                    && (&own.reason, &own.stream_arn, &own.partition, &own.after)
                        == (reason, stream_arn, partition, after)
            };
            let stored = known.gaps.iter_mut().find(|stored| same(stored));
            if stored.as_ref().is_none_or(|stored| stored.state == GapState::Repairing) {
                match stored {
                    Some(stored) => stored.state = GapState::Open,
                    None => known.gaps.push(StoredGap { gap: gap.clone(), state: GapState::Open }),
                }
                state.record(Event::Gap { gap: gap.clone(), halted: halt });
            }
            Ok(())
        })
        .await
    }
}

/// Which server answers.
fn incarnation(state: &State, sabotage: Option<Sabotage>) -> Incarnation {
    let hidden = sabotage == Some(Sabotage::NoIncarnation);
    Incarnation::new(if hidden { 0 } else { state.incarnation }.to_string())
}

fn enrol(
    shared: &Shared,
    state: &mut State,
    identity: &SourceIdentity,
    sabotage: Option<Sabotage>,
) -> Result<Enrolment> {
    let now = state.now();
    let others = state.sources.values().filter(|own| own.identity.source != identity.source);
    if others.flat_map(|own| &own.identity.tables).any(|table| meets(table, &identity.tables)) {
        return Err(Error::new(ErrorKind::Conflict, "another source keeps a table"));
    }
    let Some(known) = state.sources.get_mut(&identity.source) else {
        let found = match sabotage {
            Some(Sabotage::BeginsAtOne) => 0,
            _ => highest(shared, state, &identity.tables),
        };
        let mut source = SourceState::new(identity);
        let generation = found + 1;
        (source.generation, source.backfill.sweeps) = (generation, found > 0);
        state.sources.insert(Arc::clone(&identity.source), source);
        state.record(Event::Enrolled { generation });
        let continuity = Continuity::Same;
        return Ok(Enrolment { generation, continuity, listed_ago: None });
    };
    known.identity.tables.clone_from(&identity.tables);
    let was = &known.identity;
    let continuity = if was.table_id != identity.table_id {
        Continuity::TableChanged { was: was.table_id.clone() }
    } else if *known.stream_arn != *identity.stream_arn {
        Continuity::StreamChanged { was: known.stream_arn.to_string() }
    } else {
        Continuity::Same
    };
    let listed_ago = known.listed_at.map(|at| now.saturating_duration_since(at));
    Ok(Enrolment { generation: known.generation, continuity, listed_ago })
}

/// Whether rows of this table and of one of those could be the same.
fn meets(table: &TableSpec, own: &[TableSpec]) -> bool {
    let apart = |own: &TableSpec| {
        let theirs = |column: usize| table.constants.iter().find(move |one| one.column == column);
        let mut constants = own.constants.iter();
        constants.any(|own| theirs(own.column).is_some_and(|one| one.value != own.value))
    };
    own.iter().any(|own| own.name.is(&table.name) && !apart(own))
}

/// The highest generation in the rows of these tables; 0 without rows.
fn highest(shared: &Shared, state: &State, tables: &[TableSpec]) -> Generation {
    let own = |spec: &TableSpec| tables.iter().any(|own| own.name.is(&spec.name));
    let rows = shared.specs.iter().zip(&state.tables).filter(|(spec, _)| own(spec));
    let generations = rows.flat_map(|(_, rows)| rows.values()).map(|row| row.version.generation);
    generations.max().unwrap_or(0)
}

fn acquire(state: &mut State, request: &LeaseRequest<'_>) -> Result<Vec<Lease>> {
    let now = state.now();
    let source = state.source(request.source)?;
    if source.generation != request.generation {
        return Ok(Vec::new());
    }
    source.show_alive(request.worker, now + request.lease_ttl);
    let mut leases = Vec::new();
    for id in request.wanted {
        let free = |row: &Partition| {
            source.is_current(id, row)
                && row.state == PartitionState::Open
                && source.living_owner(row, now).is_none()
        };
        if !source.partitions.get(id).is_some_and(free) {
            continue;
        }
        source.uncover(id);
        source.follow_parent(id);
        let Some(partition) = source.partitions.get_mut(id) else { continue };
        partition.epoch += 1;
        partition.owner = Some(request.worker.clone());
        let position = partition.position.clone();
        leases.push(Lease { partition: id.clone(), epoch: partition.epoch, position });
    }
    for lease in &leases {
        let (partition, epoch) = (lease.partition.clone(), lease.epoch);
        let worker = request.worker.clone();
        state.record(Event::Leased { worker, partition, epoch });
    }
    Ok(leases)
}

fn cover_all(source: &mut SourceState, worker: &WorkerId) {
    for shard in source.partitions.values_mut() {
        if shard.owner.as_ref() == Some(worker) {
            shard.covered_epoch = Some(shard.epoch);
        }
    }
}

fn publish(source: &mut SourceState, publication: &Publication<'_>) -> bool {
    let Publication { worker, number, covers, .. } = *publication;
    let row = source.workers.get(worker.as_str());
    if row.is_none_or(|row| row.publication >= number) {
        return false;
    }
    let own = |(_, shard): &(&PartitionId, &Partition)| shard.owner.as_ref() == Some(worker);
    let owned = source.partitions.iter().filter(own);
    let owned: Vec<_> = owned.map(|(id, shard)| (id.clone(), shard.epoch)).collect();
    for lease in owned.iter().filter(|_| covers.is_some()) {
        let covered = covers.is_some_and(|covers| covers.contains(lease));
        if !covered {
            source.uncover(&lease.0);
        } else if let Some(shard) = source.partitions.get_mut(&lease.0) {
            shard.covered_epoch = Some(lease.1);
        }
    }
    if let Some(row) = source.workers.get_mut(worker.as_str()) {
        row.publication = number;
        row.synced_up_to = publication.synced_up_to;
        row.mapping = Some(publication.mapping);
    }
    true
}

impl SourceState {
    pub fn view(&self, now: Instant) -> LedgerView {
        let newest = |(id, row): &(&PartitionId, &Partition)| self.is_current(id, row);
        let in_state =
            |state| self.gaps.iter().filter(move |gap| gap.state == state).count() as u64;
        let rows = self.partitions.iter().filter(newest);
        LedgerView {
            incarnation: Incarnation::default(),
            generation: self.generation,
            halted: self.halted.clone(),
            stream_arn: Arc::clone(&self.stream_arn),
            listed: self.listed_at.is_some(),
            backfill: BackfillView { replaying: self.replaying(), ..self.backfill },
            partitions: rows.map(|(id, row)| self.row(id, row, now)).collect(),
            workers: self.workers.values().filter(|own| own.alive_until > now).count(),
            mappings: self
                .workers
                .values()
                .filter(|own| own.alive_until > now)
                .filter_map(|own| own.mapping)
                .collect(),
            dead_letters: self.dead_letters.iter().filter(|letter| letter.open).count() as u64,
            gaps: in_state(GapState::Open) + in_state(GapState::Repairing),
            gaps_open: in_state(GapState::Open),
            verified: None,
            synced_up_to: self.synced_up_to(),
        }
    }
}

impl SourceState {
    /// How many shards of the newest stream are not back where a load found them.
    pub fn replaying(&self) -> u64 {
        let newest = self.partitions.values().filter(|row| row.stream_arn == self.stream_arn);
        newest.filter(|row| row.is_replaying()).count() as u64
    }

    /// A partition as a view shows it.
    pub fn row(&self, id: &PartitionId, row: &Partition, now: Instant) -> PartitionRow {
        let at_horizon = row.position == Position::Horizon;
        let entered_ago = now.saturating_duration_since(row.entered_at);
        PartitionRow {
            id: id.clone(),
            parent: row.parent.clone(),
            state: row.state,
            position: row.position.clone(),
            records: row.records,
            epoch: row.epoch,
            owner: self.living_owner(row, now).cloned(),
            last_event_at: row.last_event_at,
            overdue: at_horizon && entered_ago > UNREAD_MAX,
        }
    }

    fn show_alive(&mut self, worker: &WorkerId, until: Instant) {
        let fresh =
            Worker { alive_until: until, publication: 0, synced_up_to: None, mapping: None };
        self.workers.entry(worker.as_str().to_owned()).or_insert(fresh).alive_until = until;
    }

    /// Who holds the lease; nobody whose time is over.
    fn living_owner<'a>(&self, row: &'a Partition, now: Instant) -> Option<&'a WorkerId> {
        let lives = |owner: &&WorkerId| {
            self.workers.get(owner.as_str()).is_some_and(|worker| worker.alive_until > now)
        };
        row.owner.as_ref().filter(lives)
    }
}
