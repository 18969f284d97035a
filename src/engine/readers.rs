//! The partitions that this worker reads, and which of them is read next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ports::{Lease, Page, ReadFrom, ShardIterator};
use super::tail::freshness::{self, CAUGHT_UP_POLLS, ShardProgress};
use crate::model::{Epoch, EpochMillis, PartitionId, PartitionKind, Position};

/// After a page with at least this many records the next read follows at once: the shard is behind.
const BEHIND_RECORDS: usize = 250;

/// How many reads may be in flight.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Of partitions whose last page held records.
    pub busy: usize,
    /// Of partitions whose last page was empty.
    pub idle: usize,
}

/// How often shards are polled.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The pause after a page with few records. The service allows about five reads a second per shard.
    pub poll_min: Duration,
    /// The longest pause of an empty shard.
    pub poll_idle_max: Duration,
    /// Polls of empty shards a second, all together: limits the cost of an idle daemon.
    pub idle_polls_per_sec_max: u32,
}

/// One moment on both clocks of this process.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The monotonic one.
    pub now: Instant,
    /// The time of day.
    pub wall: EpochMillis,
}

/// Matches an answer to its reader. A partition that was dropped and taken up again, perhaps at an earlier
/// position under the same lease, has a new ticket, so a late answer does not reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The partition.
    pub partition: PartitionId,
    number: u64,
}

/// One partition being read.
#[derive(Debug)]
struct Reader {
    ticket: u64,
    epoch: Epoch,
    /// Everything up to here was read, but perhaps not applied.
    position: Position,
    iterator: Option<ShardIterator>,
    reading: bool,
    /// When the current or last read was due.
    was_due: Instant,
    ended: bool,
    due: Option<Instant>,
    empty_polls: u32,
    failures: u32,
    last_event_at: Option<EpochMillis>,
    last_poll_at: Option<EpochMillis>,
    /// When the read in flight was sent, on the database's clock.
    asked_at: Option<EpochMillis>,
    /// The last time it was polled and found empty.
    empty_at: Option<EpochMillis>,
    synced_up_to: Option<EpochMillis>,
}

/// All readers with their schedule.
#[derive(Debug)]
pub struct Readers {
    limits: ReadLimits,
    readers: BTreeMap<PartitionId, Reader>,
    schedule: BTreeSet<(Instant, PartitionId)>,
    /// Those that are read no further.
    leaving: BTreeSet<PartitionId>,
    busy_reads: usize,
    idle_reads: usize,
    tickets: u64,
}

impl Readers {
    /// No readers yet.
    #[must_use]
    pub fn new(limits: ReadLimits) -> Self {
        Self {
            limits,
            readers: BTreeMap::new(),
            schedule: BTreeSet::new(),
            leaving: BTreeSet::new(),
            busy_reads: 0,
            idle_reads: 0,
            tickets: 0,
        }
    }

    /// Starts reading a leased partition.
    pub fn insert(&mut self, lease: Lease, last_event_at: Option<EpochMillis>, now: Instant) {
        let Lease { partition, epoch, position } = lease;
        self.tickets += 1;
        let reader = Reader {
            ticket: self.tickets,
            epoch,
            position,
            iterator: None,
            reading: false,
            was_due: now,
            ended: false,
            due: None,
            empty_polls: 0,
            failures: 0,
            last_event_at,
            last_poll_at: None,
            asked_at: None,
            empty_at: None,
            synced_up_to: None,
        };
        self.leaving.remove(&partition);
        self.readers.insert(partition.clone(), reader);
        self.schedule(&partition, now);
    }

    /// Whether this partition is being read.
    #[must_use]
    pub fn contains(&self, partition: &PartitionId) -> bool {
        self.readers.contains_key(partition)
    }

    /// How many partitions are being read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.readers.len()
    }

    /// Whether nothing is being read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// Stops reading a partition; a read in flight is discarded when it ends.
    pub fn remove(&mut self, partition: &PartitionId) -> Option<Epoch> {
        let reader = self.readers.remove(partition)?;
        if let Some(due) = reader.due {
            self.schedule.remove(&(due, partition.clone()));
        }
        if reader.reading {
            self.read_ended(reader.empty_polls);
        }
        self.leaving.remove(partition);
        Some(reader.epoch)
    }

    /// Stops reading everything.
    pub fn clear(&mut self) {
        *self = Self { tickets: self.tickets, ..Self::new(self.limits) };
    }

    /// The next read to start, if one is due and there is room; the reader counts as reading from then on.
    /// `asked_at` is now on the database's clock, if known.
    pub fn next_read(
        &mut self,
        stream_arn: &Arc<str>,
        now: Instant,
        asked_at: Option<EpochMillis>,
    ) -> Option<(ReadFrom, Ticket)> {
        let (due, partition) = self.schedule.first()?;
        let reader = self.readers.get_mut(partition)?;
        let (in_flight, limit) = if reader.empty_polls > 0 {
            (&mut self.idle_reads, self.limits.idle)
        } else {
            (&mut self.busy_reads, self.limits.busy)
        };
        if *due > now || *in_flight >= limit {
            return None;
        }
        *in_flight += 1;
        reader.reading = true;
        reader.asked_at = asked_at;
        reader.due = None;
        reader.was_due = *due;
        let from = ReadFrom {
            stream_arn: Arc::clone(stream_arn),
            partition: partition.clone(),
            position: reader.position.clone(),
            iterator: reader.iterator.take(),
        };
        let ticket = Ticket { partition: partition.clone(), number: reader.ticket };
        self.schedule.pop_first();
        Some((from, ticket))
    }

    /// When the next read is due; `None` when none is scheduled or none may start before another ends.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let (due, partition) = self.schedule.first()?;
        let idle = self.readers.get(partition).is_some_and(|reader| reader.empty_polls > 0);
        let room = if idle {
            self.idle_reads < self.limits.idle
        } else {
            self.busy_reads < self.limits.busy
        };
        room.then_some(*due)
    }

    /// Records a page and schedules the next read. Returns the lease with the position from which the page
    /// was read, or `None` if no reader waits for this page any more.
    pub fn page_read(
        &mut self,
        ticket: &Ticket,
        page: &Page,
        at: Moment,
        pace: Pace,
    ) -> Option<Lease> {
        let readers = self.readers.len();
        let partition = &ticket.partition;
        let reader = self.reading(ticket)?;
        let (was_empty, epoch) = (reader.empty_polls, reader.epoch);
        reader.failures = 0;
        reader.last_poll_at = Some(at.wall);
        reader.iterator.clone_from(&page.iterator);
        let from = std::mem::replace(&mut reader.position, page.next.clone());
        reader.empty_polls = if page.changes.is_empty() { was_empty.saturating_add(1) } else { 0 };
        let caught_up = reader.empty_polls >= CAUGHT_UP_POLLS;
        reader.empty_at = reader.asked_at.filter(|_| caught_up);
        reader.ended = page.end;
        let next_due = match partition.kind() {
            PartitionKind::Shard => {
                at.now + pace.pause(page.changes.len(), reader.empty_polls, readers)
            }
            PartitionKind::Segment => at.now,
            // A begun file continues before files that were not begun.
            PartitionKind::File => reader.was_due,
        };
        let rest = reader.ended || self.leaving.contains(partition);
        self.read_ended(was_empty);
        if !rest {
            self.schedule(partition, next_due);
        }
        Some(Lease { partition: partition.clone(), epoch, position: from })
    }

    /// Records a failed read. Returns how many failed in a row, or `None` if no reader waits for the answer
    /// any more. The caller schedules the next read.
    pub fn read_failed(&mut self, ticket: &Ticket) -> Option<u32> {
        let reader = self.reading(ticket)?;
        reader.iterator = None;
        reader.failures = reader.failures.saturating_add(1);
        let (failures, was_empty) = (reader.failures, reader.empty_polls);
        self.read_ended(was_empty);
        Some(failures)
    }

    /// Plans the next read of a partition.
    pub fn schedule(&mut self, partition: &PartitionId, at: Instant) {
        let Some(reader) = self.readers.get_mut(partition) else { return };
        if let Some(due) = reader.due.replace(at) {
            self.schedule.remove(&(due, partition.clone()));
        }
        self.schedule.insert((at, partition.clone()));
    }

    /// Records an applied step.
    pub fn applied(&mut self, partition: &PartitionId, last_event_at: Option<EpochMillis>) {
        if let Some(reader) = self.readers.get_mut(partition) {
            reader.last_event_at = reader.last_event_at.max(last_event_at);
        }
    }

    /// Stops reading a partition, so that its lease can be released.
    pub fn leave(&mut self, partition: &PartitionId) {
        if let Some(reader) = self.readers.get_mut(partition) {
            self.leaving.insert(partition.clone());
            if let Some(due) = reader.due.take() {
                self.schedule.remove(&(due, partition.clone()));
            }
        }
    }

    /// The stopped partitions without a read in flight.
    pub fn left(&self) -> impl Iterator<Item = &PartitionId> {
        let reading = |partition: &PartitionId| {
            self.readers.get(partition).is_some_and(|reader| reader.reading)
        };
        self.leaving.iter().filter(move |partition| !reading(partition))
    }

    /// The leases.
    #[must_use]
    pub fn leases(&self) -> Vec<(PartitionId, Epoch)> {
        let leases = self.readers.iter();
        leases.map(|(partition, reader)| (partition.clone(), reader.epoch)).collect()
    }

    /// The progress of each shard, with its lease; `waiting` tells whether its pages wait to be applied.
    pub fn progress(
        &mut self,
        waiting: impl Fn(&PartitionId) -> bool,
    ) -> Vec<((PartitionId, Epoch), ShardProgress)> {
        let progress = self.readers.iter_mut().map(|(partition, reader)| {
            let empty_at = reader.empty_at.filter(|_| !waiting(partition));
            let reached = reader.last_event_at.max(empty_at.map(freshness::caught_up));
            reader.synced_up_to = reader.synced_up_to.max(reached);
            let progress = ShardProgress {
                last_event_at: reader.last_event_at,
                last_poll_at: reader.last_poll_at,
                synced_up_to: reader.synced_up_to,
            };
            ((partition.clone(), reader.epoch), progress)
        });
        progress.collect()
    }

    fn reading(&mut self, ticket: &Ticket) -> Option<&mut Reader> {
        let reader = self.readers.get_mut(&ticket.partition)?;
        if reader.ticket != ticket.number {
            return None;
        }
        reader.reading = false;
        Some(reader)
    }

    fn read_ended(&mut self, empty_polls: u32) {
        let in_flight = if empty_polls > 0 { &mut self.idle_reads } else { &mut self.busy_reads };
        *in_flight = in_flight.saturating_sub(1);
    }
}

impl Pace {
    /// The pause after a page: none if the shard is behind, short if it has few records, growing while it is
    /// empty.
    fn pause(&self, records: usize, empty_polls: u32, readers: usize) -> Duration {
        if records >= BEHIND_RECORDS {
            return Duration::ZERO;
        }
        if records > 0 || empty_polls <= CAUGHT_UP_POLLS {
            return self.poll_min;
        }
        let doublings = (empty_polls - CAUGHT_UP_POLLS).min(10);
        let backed_off = (self.poll_min * 2_u32.pow(doublings)).min(self.poll_idle_max);
        let readers = u32::try_from(readers).unwrap_or(u32::MAX);
        let shared = Duration::from_secs(1) * readers / self.idle_polls_per_sec_max.max(1);
        backed_off.max(shared)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a schedule needs some instant to start from")]
mod tests {
    use super::*;

    const LIMITS: ReadLimits = ReadLimits { busy: 4, idle: 32 };
    const PACE: Pace = Pace {
        poll_min: Duration::from_millis(250),
        poll_idle_max: Duration::from_secs(2),
        idle_polls_per_sec_max: 50,
    };

    fn moment(now: Instant) -> Moment {
        Moment { now, wall: EpochMillis(5) }
    }

    fn page(records: usize) -> Page {
        let change = || crate::model::Change {
            op: crate::model::ChangeOp::Insert,
            sequence: crate::model::SequenceNumber::ZERO,
            keys: crate::model::Item::default(),
            new_image: None,
            old_image: None,
            changed_at: None,
            expired: false,
            bytes: 0,
        };
        Page {
            changes: (0..records).map(|_| change()).collect(),
            next: Position::Horizon,
            iterator: Some(ShardIterator("i".to_owned())),
            end: false,
            consumed_capacity: None,
        }
    }

    #[test]
    fn an_empty_shard_is_polled_ever_more_rarely_and_a_busy_one_at_once() {
        assert_eq!(PACE.pause(1000, 0, 1), Duration::ZERO);
        assert_eq!(PACE.pause(3, 0, 1), Duration::from_millis(250));
        assert_eq!(PACE.pause(0, 1, 1), Duration::from_millis(250));
        assert_eq!(PACE.pause(0, 4, 1), Duration::from_millis(500));
        assert_eq!(PACE.pause(0, 50, 1), Duration::from_secs(2));
        assert_eq!(PACE.pause(0, 50, 1000), Duration::from_secs(20));
    }

    #[test]
    fn a_late_answer_to_an_earlier_reader_of_the_same_lease_is_dropped() {
        let now = Instant::now();
        let partition = PartitionId::new("p");
        let lease = Lease { partition: partition.clone(), epoch: 1, position: Position::Horizon };
        let mut readers = Readers::new(LIMITS);
        readers.insert(lease.clone(), None, now);
        let (_, early) = readers.next_read(&"arn".into(), now, None).unwrap();
        readers.clear();
        readers.insert(lease.clone(), None, now);
        let (_, late) = readers.next_read(&"arn".into(), now, None).unwrap();
        let at = moment(now);
        assert_eq!(readers.page_read(&early, &page(1), at, PACE), None);
        assert_eq!(readers.read_failed(&early), None);
        assert_eq!(readers.page_read(&late, &page(1), at, PACE), Some(lease));
    }

    #[test]
    fn a_file_that_was_begun_goes_before_the_others() {
        let now = Instant::now();
        let mut readers = Readers::new(ReadLimits { busy: 2, idle: 2 });
        for number in 0..5 {
            let partition = PartitionId::new(format!("file/9/-/{number}"));
            readers.insert(Lease { partition, epoch: 1, position: Position::Start }, None, now);
        }
        let mut next = |later: u64, ticket: Option<&Ticket>| {
            let at = moment(now + Duration::from_secs(later));
            if let Some(ticket) = ticket {
                readers.page_read(ticket, &page(1000), at, PACE).unwrap();
            }
            readers.next_read(&"arn".into(), at.now, None).unwrap().1
        };
        let (first, second) = (next(0, None), next(0, None));
        assert_eq!(next(1, Some(&first)).partition, first.partition);
        assert_eq!(next(2, Some(&second)).partition, second.partition);
    }

    #[test]
    fn every_shard_gets_its_turn_though_all_are_behind() {
        let start = Instant::now();
        let mut readers = Readers::new(ReadLimits { busy: 2, idle: 2 });
        for number in 0..10 {
            let partition = PartitionId::new(format!("p{number}"));
            readers.insert(Lease { partition, epoch: 1, position: Position::Horizon }, None, start);
        }
        let mut turns = BTreeMap::new();
        for round in 0..50 {
            let now = start + Duration::from_millis(round);
            let next = || readers.next_read(&"arn".into(), now, None);
            for (_, ticket) in std::iter::from_fn(next).collect::<Vec<_>>() {
                *turns.entry(ticket.partition.to_string()).or_insert(0) += 1;
                readers.page_read(&ticket, &page(1000), moment(now), PACE).unwrap();
            }
        }
        assert_eq!(turns.len(), 10);
        assert!(turns.values().all(|turns| (9..=11).contains(turns)), "{turns:?}");
    }

    #[test]
    fn reads_in_flight_are_bounded_and_freed() {
        let now = Instant::now();
        let mut readers = Readers::new(LIMITS);
        for number in 0..10 {
            let partition = PartitionId::new(format!("p{number}"));
            readers.insert(Lease { partition, epoch: 1, position: Position::Horizon }, None, now);
        }
        let mut started = Vec::new();
        while let Some((_, ticket)) = readers.next_read(&"arn".into(), now, None) {
            started.push(ticket);
        }
        assert_eq!(started.len(), LIMITS.busy);
        assert_eq!(readers.next_due(), None);
        let lease = readers.page_read(&started[0], &page(0), moment(now), PACE);
        assert_eq!(lease.unwrap().position, Position::Horizon);
        assert_eq!(readers.next_due(), Some(now));
        assert!(readers.next_read(&"arn".into(), now, None).is_some());
    }
}
