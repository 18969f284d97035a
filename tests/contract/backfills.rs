//! What every ledger and sink must do of loads.

use dynaurora::apply::ports::{Batch, DeadLetter, Phase, Sink, Unit};
use dynaurora::engine::ports::{
    Backfills, Gap, GapReason, Lease, LeaseRequest, Ledger, NewBackfill, NewStream, PartitionState,
    Settling, Stale, Sweep, Swept, Target,
};
use dynaurora::error::ErrorKind;
use dynaurora::model::{
    Generation, Position, Reject, RejectReason, SequenceNumber, Version, WorkerId,
};

use super::{
    LETTERS, LONG, Rig, SOURCE, STREAM, batch, enrolled, identity, leased, letter, listing,
    partition, row, sequence, shard, version, view, worker,
};

/// The two segments of every load here.
const SEGMENTS: [&str; 2] = ["scan/000-of-002", "scan/001-of-002"];

/// Every sentence of the docs of loads, each over a fresh ledger and fresh tables.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { backfills [
            a_load_begins_at_its_time_only
            a_load_fences_what_is_in_flight
            a_later_load_has_its_own_segments
            a_load_repairs_gaps_and_ends_their_halt
            a_new_stream_comes_with_its_load
            a_new_stream_that_nobody_noticed_comes_with_its_load
            a_new_stream_that_is_not_the_newest_begins_nothing
            a_recreated_table_is_never_loaded_unasked
            a_load_ends_when_it_is_read
            a_sweep_deletes_what_was_not_found
            of_one_item_only_the_newest_reject_is_open
            what_a_change_has_overtaken_is_settled_before_the_load_ends
            a_letter_of_an_older_load_is_settled_with_the_next
        ] $($how)* }
    };
}
pub(crate) use cases;

fn ann() -> WorkerId {
    worker("ann")
}

pub fn new_load(replaces: Generation) -> NewBackfill {
    NewBackfill {
        source: SOURCE.into(),
        replaces,
        stream: None,
        partitions: SEGMENTS.map(partition).to_vec(),
        items: Some(12),
        rcu_max: Some(50.0),
        mapping: Some(-7),
        rewind: None,
    }
}

async fn begun(rig: &impl Rig, replaces: Generation) {
    assert!(rig.ledger().begin_backfill(&new_load(replaces)).await.unwrap());
}

fn gap(reason: GapReason, of: Option<&str>, stream_arn: &str) -> Gap {
    let after = of.map(|_| Position::After(sequence(4)));
    let (partition, stream_arn) = (of.map(partition), stream_arn.to_owned());
    Gap { reason, stream_arn, partition, after, since: None }
}

/// Leases a partition in a generation of its own.
async fn leased_in(rig: &impl Rig, generation: Generation, name: &str) -> Lease {
    let wanted = [partition(name)];
    let worker = ann();
    let request = LeaseRequest {
        source: SOURCE,
        worker: &worker,
        generation,
        wanted: &wanted,
        lease_ttl: LONG,
    };
    let mut leases = rig.ledger().acquire(&request).await.unwrap();
    assert_eq!(leases.len(), 1, "{name} is free");
    leases.remove(0)
}

/// A batch of the load.
fn page(generation: Generation, lease: &Lease, key: &str, units: Vec<Unit>) -> Batch {
    let mut batch = batch(&ann(), lease, 1, units);
    batch.fence.generation = generation;
    batch.fence.advances[0].to = Position::Key(key.into());
    batch.phase = Phase::OfBackfill;
    batch
}

fn scanned(generation: Generation) -> Version {
    Version { generation, sequence: SequenceNumber::ZERO }
}

/// Reads both segments to their ends.
async fn read_through(rig: &impl Rig, generation: Generation, mut units: Vec<Unit>) {
    for name in SEGMENTS {
        let lease = leased_in(rig, generation, name).await;
        let mut last = page(generation, &lease, "{}", std::mem::take(&mut units));
        last.fence.advances[0].drained = true;
        rig.sink().apply(&last).await.unwrap();
    }
}

pub async fn a_load_begins_at_its_time_only(rig: &impl Rig) {
    let ledger = rig.ledger();
    ledger.enrol(&identity()).await.unwrap();
    let mut partial = listing(&[shard("a", None, Some(1))]);
    partial.complete = false;
    ledger.register(SOURCE, STREAM, &partial).await.unwrap();
    assert!(!ledger.begin_backfill(&new_load(1)).await.unwrap(), "the shards are not all known");
    ledger.register(SOURCE, STREAM, &listing(&[])).await.unwrap();
    assert!(!ledger.begin_backfill(&new_load(2)).await.unwrap(), "another generation was expected");
    let before = view(rig).await;
    assert_eq!((before.generation, before.backfill.active), (1, false));

    begun(rig, 1).await;
    let after = view(rig).await;
    assert_eq!((after.generation, after.backfill.active), (2, true));
    assert_eq!((after.backfill.items, after.backfill.rcu_max), (Some(12), Some(50.0)));
    assert_eq!(after.backfill.mapping, Some(-7));
    assert!(!after.backfill.sweeps, "nothing was ever loaded, and nothing lost");
    let segment = row(rig, SEGMENTS[0]).await;
    assert_eq!((segment.state, segment.position), (PartitionState::Open, Position::Start));
    assert!(!ledger.begin_backfill(&new_load(1)).await.unwrap(), "it was begun already");
}

pub async fn a_load_fences_what_is_in_flight(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let lease = leased(rig, &ann(), "a").await;
    let in_flight = batch(&ann(), &lease, 5, vec![letter("42", 1, None, version(5))]);
    begun(rig, 1).await;
    let refused = rig.sink().apply(&in_flight).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    assert!(rig.rows(LETTERS).await.is_empty());
    let again = leased_in(rig, 2, "a").await;
    assert!(again.epoch > lease.epoch + 1, "the load itself counts as an owner");
    assert_eq!(again.position, lease.position, "the tail goes on where it was");
    let mut anew = batch(&ann(), &again, 5, Vec::new());
    anew.fence.generation = 2;
    anew.fence.advances[0].records = 7;
    rig.sink().apply(&anew).await.unwrap();
    assert_eq!(row(rig, "a").await.records, 7);
}

pub async fn a_later_load_has_its_own_segments(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    begun(rig, 1).await;
    let whole = NewBackfill { partitions: vec![partition("scan/000-of-001")], ..new_load(2) };
    assert!(rig.ledger().begin_backfill(&whole).await.unwrap());
    let wanted = [partition(SEGMENTS[0]), partition("scan/000-of-001")];
    let worker = &ann();
    for (generation, expected) in [(2, None), (3, Some("scan/000-of-001"))] {
        let request =
            LeaseRequest { source: SOURCE, worker, generation, wanted: &wanted, lease_ttl: LONG };
        let leases = rig.ledger().acquire(&request).await.unwrap();
        let names: Vec<_> = leases.iter().map(|lease| lease.partition.as_str()).collect();
        assert_eq!(names, Vec::from_iter(expected), "generation {generation}");
    }
}

pub async fn a_load_repairs_gaps_and_ends_their_halt(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1)), shard("b", None, Some(2))]).await;
    let ledger = rig.ledger();
    let trimmed = gap(GapReason::Trimmed, Some("a"), STREAM);
    ledger.record_gap(SOURCE, 1, &trimmed, true).await.unwrap();
    let halted = view(rig).await;
    assert_eq!((halted.gaps, halted.gaps_open), (1, 1));
    assert_eq!(halted.halted, Some(GapReason::Trimmed.into()));

    begun(rig, 1).await;
    let repairing = view(rig).await;
    assert_eq!((repairing.gaps, repairing.gaps_open, repairing.halted), (1, 0, None));
    assert!(repairing.backfill.sweeps, "what was deleted meanwhile is still there");
    assert_eq!(row(rig, "a").await.position, Position::Horizon);
    assert_eq!(row(rig, "b").await.position, Position::At(sequence(2)), "only what was trimmed");
    ledger.record_gap(SOURCE, 1, &trimmed, true).await.unwrap();
    let other = gap(GapReason::Trimmed, Some("b"), STREAM);
    ledger.record_gap(SOURCE, 1, &other, true).await.unwrap();
    let late = view(rig).await;
    let seen = (late.gaps_open, late.halted);
    assert_eq!(seen, (0, None), "what was lost before the load began is read by it");
    ledger.record_gap(SOURCE, 2, &trimmed, false).await.unwrap();
    assert_eq!(view(rig).await.gaps_open, 1, "found again, it needs a load that begins later");
    ledger.record_gap(SOURCE, 2, &other, false).await.unwrap();
    assert_eq!(view(rig).await.gaps_open, 2, "the load began before this one");
    begun(rig, 2).await;
    read_through(rig, 3, Vec::new()).await;
    assert!(ledger.end_backfill(SOURCE, 3).await.unwrap());
    assert_eq!(view(rig).await.gaps, 0);
}

pub async fn a_new_stream_comes_with_its_load(rig: &impl Rig) {
    begins_with_a_new_stream(rig, true).await;
}

pub async fn a_new_stream_that_nobody_noticed_comes_with_its_load(rig: &impl Rig) {
    begins_with_a_new_stream(rig, false).await;
}

async fn begins_with_a_new_stream(rig: &impl Rig, known: bool) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let stream_arn = format!("{STREAM}2");
    let changed = gap(GapReason::StreamChanged, None, &stream_arn);
    if known {
        rig.ledger().record_gap(SOURCE, 1, &changed, false).await.unwrap();
    }
    let stream = NewStream {
        stream_arn: stream_arn.as_str().into(),
        shards: vec![shard("n", None, Some(3))],
    };
    let backfill = NewBackfill { stream: Some(stream), ..new_load(1) };
    assert!(rig.ledger().begin_backfill(&backfill).await.unwrap());
    let after = view(rig).await;
    assert_eq!(&*after.stream_arn, stream_arn);
    assert_eq!((after.gaps, after.gaps_open), (1, 0), "what was unread is lost, and repaired");
    assert!(after.backfill.sweeps, "deletes are among what was unread");
    let names: Vec<_> = after.partitions.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(names, ["n", SEGMENTS[0], SEGMENTS[1]], "the old stream's shards are history");
    assert_eq!(leased_in(rig, 2, "n").await.position, Position::At(sequence(3)));
}

/// Whoever asks for a load has described the source a moment ago; meanwhile the stream may be another one.
pub async fn a_new_stream_that_is_not_the_newest_begins_nothing(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let ledger = rig.ledger();
    let found = async |number: u8| {
        let changed = gap(GapReason::StreamChanged, None, &format!("{STREAM}{number}"));
        ledger.record_gap(SOURCE, 1, &changed, true).await.unwrap();
    };
    let with = |number: u8| NewBackfill {
        stream: Some(NewStream {
            stream_arn: format!("{STREAM}{number}").into(),
            shards: vec![shard("b", None, Some(1))],
        }),
        ..new_load(1)
    };
    found(2).await;
    assert!(!ledger.begin_backfill(&new_load(1)).await.unwrap(), "the gap names a newer stream");
    found(3).await;
    assert!(!ledger.begin_backfill(&with(2)).await.unwrap(), "there is a newer one by now");
    let view = view(rig).await;
    assert_eq!((view.gaps_open, view.generation), (2, 1), "nothing happened");
    assert!(view.halted.is_some() && *view.stream_arn == *STREAM);
    assert!(ledger.begin_backfill(&with(4)).await.unwrap(), "nobody has found the newest one yet");
}

pub async fn a_recreated_table_is_never_loaded_unasked(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let changed = gap(GapReason::TableChanged, None, STREAM);
    rig.ledger().record_gap(SOURCE, 1, &changed, true).await.unwrap();
    assert!(!rig.ledger().begin_backfill(&new_load(1)).await.unwrap());
    assert_eq!(view(rig).await.halted, Some(GapReason::TableChanged.into()));
}

pub async fn a_load_ends_when_it_is_read(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let ledger = rig.ledger();
    assert!(!ledger.end_backfill(SOURCE, 1).await.unwrap(), "there is none");
    begun(rig, 1).await;
    assert!(!ledger.end_backfill(SOURCE, 2).await.unwrap(), "it is not read");
    read_through(rig, 2, Vec::new()).await;
    assert!(!ledger.end_backfill(SOURCE, 1).await.unwrap(), "it is not that load's end");
    assert!(ledger.end_backfill(SOURCE, 2).await.unwrap());
    let ended = view(rig).await.backfill;
    assert_eq!((ended.active, ended.loaded), (false, true));
    assert!(!ledger.end_backfill(SOURCE, 2).await.unwrap(), "it ends once");
    begun(rig, 2).await;
    assert!(view(rig).await.backfill.sweeps, "what was loaded once may hold what is gone since");
}

pub async fn a_sweep_deletes_what_was_not_found(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let lease = leased(rig, &ann(), "a").await;
    let old = ["41", "42", "43", "44"];
    let units = old.map(|child| letter(child, 1, Some("old"), version(5))).to_vec();
    rig.sink().apply(&batch(&ann(), &lease, 5, units)).await.unwrap();
    begun(rig, 1).await;
    read_through(rig, 2, vec![letter("42", 1, Some("found"), scanned(2))]).await;
    let tail = leased_in(rig, 2, "a").await;
    let at = Version { generation: 2, sequence: sequence(6) };
    let mut change = batch(&ann(), &tail, 6, vec![letter("43", 1, Some("changed"), at)]);
    change.fence.generation = 2;
    change.phase = Phase::BesideBackfill;
    change.rows.rejects = vec![reject(2, 6, 44)];
    rig.sink().apply(&change).await.unwrap();

    let spared = letter("44", 1, None, at).op.cells.prefix(2);
    let sweep = Sweep {
        source: SOURCE.into(),
        generation: 2,
        tables: vec![LETTERS],
        spared: vec![(LETTERS, spared)],
        letters: vec![],
    };
    assert_eq!(rig.sink().stale(&sweep).await.unwrap(), Stale { rows: 2, of: 4 });
    let swept = rig.sink().sweep(&sweep).await.unwrap();
    assert_eq!(swept, Swept::Over, "a dead letter came after the open ones were read");
    let open = rig.ledger().open_letters(SOURCE, 9).await.unwrap();
    let sweep = Sweep { letters: open.iter().map(|letter| letter.id).collect(), ..sweep };
    assert_eq!(rig.sink().sweep(&sweep).await.unwrap(), Swept::Rows(1));
    assert_eq!(rig.sink().sweep(&sweep).await.unwrap(), Swept::Done);
    let left: Vec<_> =
        rig.rows(LETTERS).await.iter().map(|row| row.cells.cell(0).map(str::to_owned)).collect();
    let expected = ["42", "43", "44"].map(|child| Some(child.to_owned()));
    assert_eq!(left, expected, "found, changed since, and held by a dead letter");

    assert!(rig.ledger().end_backfill(SOURCE, 2).await.unwrap());
    let everything = Sweep { spared: Vec::new(), ..sweep };
    assert_eq!(rig.sink().sweep(&everything).await.unwrap(), Swept::Over);
    assert_eq!(rig.rows(LETTERS).await.len(), 3, "a sweep of a load that is over deletes nothing");
}

fn reject(generation: Generation, number: u64, key: u8) -> DeadLetter {
    DeadLetter {
        partition: partition("a"),
        version: Version { generation, sequence: sequence(number) },
        key: format!("{{\"pk\":{{\"S\":\"{key}\"}}}}"),
        key_hash: [key; 32],
        image: format!("{{\"keys\":{{\"pk\":{{\"S\":\"{key}\"}}}},\"seen\":{number}}}"),
        reject: Reject {
            reason: RejectReason::Format,
            entity: None,
            place: None,
            detail: "it is bad".to_owned(),
        },
    }
}

pub async fn of_one_item_only_the_newest_reject_is_open(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    begun(rig, 1).await;
    let lease = leased_in(rig, 2, SEGMENTS[0]).await;
    let mut first = page(2, &lease, "{}", Vec::new());
    first.rows.rejects = vec![reject(2, 0, 1), reject(2, 0, 2)];
    rig.sink().apply(&first).await.unwrap();
    let tail = leased_in(rig, 2, "a").await;
    let mut change = batch(&ann(), &tail, 5, Vec::new());
    change.fence.generation = 2;
    change.rows.rejects = vec![reject(2, 4, 1), reject(2, 5, 1)];
    rig.sink().apply(&change).await.unwrap();
    assert_eq!(view(rig).await.dead_letters, 2, "of the first key only the newest is open");
    let seen = |letters: Vec<dynaurora::engine::ports::OpenLetter>| -> Vec<String> {
        letters.into_iter().map(|letter| letter.image).collect()
    };
    let open = seen(rig.ledger().open_letters(SOURCE, 10).await.unwrap());
    assert_eq!(open, [reject(2, 0, 2).image, reject(2, 5, 1).image]);
    assert_eq!(rig.ledger().open_letters(SOURCE, 1).await.unwrap().len(), 1);
    let late = leased_in(rig, 2, SEGMENTS[1]).await;
    let mut page_of_other = page(2, &late, "{}", Vec::new());
    page_of_other.rows.rejects = vec![reject(2, 0, 1)];
    rig.sink().apply(&page_of_other).await.unwrap();
    assert_eq!(view(rig).await.dead_letters, 2, "an older one does not open beside a newer");

    begun(rig, 2).await;
    let lease = leased_in(rig, 3, SEGMENTS[0]).await;
    let mut again = page(3, &lease, "{}", Vec::new());
    again.rows.rejects = vec![reject(3, 0, 1), reject(3, 0, 2)];
    rig.sink().apply(&again).await.unwrap();
    let open = seen(rig.ledger().open_letters(SOURCE, 10).await.unwrap());
    assert_eq!(open, [reject(3, 0, 1).image, reject(3, 0, 2).image], "a later scan is newer");
}

pub async fn what_a_change_has_overtaken_is_settled_before_the_load_ends(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    begun(rig, 1).await;
    let tail = leased_in(rig, 2, "a").await;
    let mut change = batch(&ann(), &tail, 5, Vec::new());
    change.fence.generation = 2;
    change.phase = Phase::BesideBackfill;
    change.rows.touched = vec![([1; 32], Version { generation: 2, sequence: sequence(5) })];
    rig.sink().apply(&change).await.unwrap();
    let lease = leased_in(rig, 2, SEGMENTS[0]).await;
    let mut late = page(2, &lease, "{}", Vec::new());
    late.rows.rejects = vec![reject(2, 0, 1), reject(2, 0, 2)];
    late.fence.advances[0].drained = true;
    rig.sink().apply(&late).await.unwrap();
    let lease = leased_in(rig, 2, SEGMENTS[1]).await;
    let mut last = page(2, &lease, "{}", Vec::new());
    last.fence.advances[0].drained = true;
    rig.sink().apply(&last).await.unwrap();
    settled(rig, 2).await;
    let open = rig.ledger().open_letters(SOURCE, 9).await.unwrap();
    let open: Vec<_> = open.into_iter().map(|letter| letter.image).collect();
    assert_eq!(open, [reject(2, 0, 2).image], "the first item was corrected already");
    let settling = rig.ledger().settle_letters(SOURCE, 1).await.unwrap();
    assert_eq!(settling, Settling::Over, "of another load");
    assert!(rig.ledger().end_backfill(SOURCE, 2).await.unwrap());
    assert_eq!(rig.ledger().settle_letters(SOURCE, 2).await.unwrap(), Settling::Over);
}

/// Settles what is to be settled at the end of a load.
async fn settled(rig: &impl Rig, generation: Generation) {
    loop {
        match rig.ledger().settle_letters(SOURCE, generation).await.unwrap() {
            Settling::More => {}
            Settling::Done => break,
            Settling::Over => panic!("the load is at its end"),
        }
    }
}

pub async fn a_letter_of_an_older_load_is_settled_with_the_next(rig: &impl Rig) {
    enrolled(rig, &[shard("a", None, Some(1))]).await;
    let lease = leased(rig, &ann(), "a").await;
    let mut bad = batch(&ann(), &lease, 5, Vec::new());
    bad.rows.rejects = vec![reject(1, 4, 1), reject(1, 5, 2)];
    rig.sink().apply(&bad).await.unwrap();
    begun(rig, 1).await;
    let segment = leased_in(rig, 2, SEGMENTS[0]).await;
    let mut page = page(2, &segment, "{}", Vec::new());
    page.rows.rejects = vec![reject(2, 0, 2)];
    page.fence.advances[0].drained = true;
    rig.sink().apply(&page).await.unwrap();
    assert_eq!(view(rig).await.dead_letters, 2, "the first item may still be read");
    let early = rig.ledger().settle_letters(SOURCE, 2).await.unwrap();
    assert_eq!(early, Settling::Over, "a segment is open");
    let segment = leased_in(rig, 2, SEGMENTS[1]).await;
    let mut last = self::page(2, &segment, "{}", Vec::new());
    last.fence.advances[0].drained = true;
    rig.sink().apply(&last).await.unwrap();
    settled(rig, 2).await;
    let open = rig.ledger().open_letters(SOURCE, 9).await.unwrap();
    let open: Vec<_> = open.into_iter().map(|letter| letter.image).collect();
    assert_eq!(open, [reject(2, 0, 2).image], "the first item was not there any more");
}
