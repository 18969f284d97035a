//! The checker finds nothing wrong with a right run, and each broken contract for what it is.

use std::collections::BTreeMap;

use dynaurora::apply::ports::{
    Advance, Batch, DeadLetter, Fence, Lineage, Phase, RecordRef, Rows, Sink, Unit,
};
use dynaurora::engine::ports::{Lease, Ledger};
use dynaurora::mapping::Outcome;
use dynaurora::model::{
    AttributeValue, Cells, Change, ChangeOp, Item, PartitionId, Position, Reject, RejectReason,
    RowAction, RowOp, Version, WorkerId,
};

use super::{Invariant, Run, ShardTruth, Truth, check};
use crate::contract::{
    LETTERS, SOURCE, STREAM, identity, listing, partition, sequence, shard, tables,
};
use crate::sim::clock::SimClock;
use crate::sim::store::{Knobs, Sabotage, Store};

/// A child's wish: `key` and `body`; a body of `bad` cannot be mapped.
fn change(number: u64, key: &str, body: Option<&str>) -> Change {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let keys: Item = [("pk".to_owned(), text(key))].into_iter().collect();
    let image = |body: &str| {
        [("pk".to_owned(), text(key)), ("body".to_owned(), text(body))].into_iter().collect()
    };
    Change {
        op: if body.is_some() { ChangeOp::Modify } else { ChangeOp::Remove },
        sequence: sequence(number),
        keys,
        new_image: body.map(image),
        old_image: None,
        changed_at: None,
        expired: false,
        bytes: 10,
    }
}

fn map(change: &Change, rows: &mut Vec<RowOp>) -> Outcome {
    let text = |item: &Item, name: &str| match item.attribute(name) {
        Some(AttributeValue::S(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    };
    let key = text(&change.keys, "pk");
    let mut cells: Cells = [Some(key.as_str()), Some("1")].into_iter().collect();
    let action = match &change.new_image {
        Some(image) => {
            let body = text(image, "body");
            if body == "bad" {
                return Outcome::Rejected(reject());
            }
            cells.push(&body);
            cells.push_null();
            RowAction::Upsert
        }
        None => RowAction::Delete,
    };
    rows.push(RowOp { table: LETTERS, action, cells, children: Vec::new(), item: None });
    Outcome::Mapped
}

fn reject() -> Reject {
    let detail = "it is bad".to_owned();
    Reject { reason: RejectReason::Format, entity: None, place: None, detail }
}

/// Two records, a rollover, and three more; one of them bad, and its key mended later.
fn truth() -> Truth {
    let mother = ShardTruth {
        records: vec![change(11, "a", Some("1")), change(12, "b", Some("bad"))],
        closed: true,
        ..ShardTruth::default()
    };
    let daughter = ShardTruth {
        parent: Some(partition("mother")),
        records: vec![
            change(21, "a", Some("2")),
            change(22, "b", Some("3")),
            change(23, "c", None),
            change(24, "a", Some("bad")),
        ],
        ..ShardTruth::default()
    };
    let items = [change(24, "a", Some("bad")), change(22, "b", Some("3"))];
    Truth {
        shards: BTreeMap::from([(partition("mother"), mother), (partition("daughter"), daughter)]),
        items: items.into_iter().filter_map(|change| change.new_image).collect(),
    }
}

struct Hand {
    store: Store,
    truth: Truth,
    worker: WorkerId,
}

impl Hand {
    async fn new(sabotage: Option<Sabotage>) -> Self {
        let store = Store::new(tables(), SimClock::start());
        store.set_faults(Knobs { sabotage, ..Knobs::default() }, 0);
        store.enrol(&identity()).await.unwrap();
        let shards = [shard("mother", None, Some(10)), shard("daughter", Some("mother"), Some(20))];
        store.register(SOURCE, STREAM, &listing(&shards)).await.unwrap();
        Self { store, truth: truth(), worker: WorkerId::new("ann") }
    }

    async fn lease(&self, name: &str) -> Lease {
        let leases = crate::contract::LONG;
        let request = dynaurora::engine::ports::LeaseRequest {
            source: SOURCE,
            worker: &self.worker,
            generation: 1,
            wanted: &[partition(name)],
            lease_ttl: leases,
        };
        self.store.acquire(&request).await.unwrap().remove(0)
    }

    /// A batch of the first `count` unread records, as the engine would make it.
    fn batch(&self, lease: &Lease, numbers: &[u64], drained: bool) -> Batch {
        let all = &self.truth.shards[&lease.partition].records;
        let wanted = |change: &&Change| numbers.iter().any(|own| sequence(*own) == change.sequence);
        let mut units: BTreeMap<String, Unit> = BTreeMap::new();
        let (mut rejects, mut touched) = (Vec::new(), Vec::new());
        for change in all.iter().filter(wanted) {
            let mut rows = Vec::new();
            let version = Version { generation: 1, sequence: change.sequence };
            let key = super::fold::item_key(&change.keys);
            let mut key_hash = [0; 32];
            key_hash.iter_mut().zip(key.bytes()).for_each(|(own, byte)| *own = byte);
            match map(change, &mut rows) {
                Outcome::Mapped => {
                    touched.push((key_hash, version));
                    let record = RecordRef { page: 0, index: 0 };
                    let unit = |op| Unit { op, version, record };
                    units.extend(rows.into_iter().map(|op| (key.clone(), unit(op))));
                }
                _ => rejects.push(DeadLetter {
                    partition: lease.partition.clone(),
                    version,
                    key,
                    key_hash,
                    image: String::new(),
                    reject: reject(),
                }),
            }
        }
        let last = numbers.last().map(|number| Position::After(sequence(*number)));
        Batch {
            source: SOURCE.into(),
            phase: Phase::Steady,
            rows: Rows { units: units.into_values().collect(), rejects, touched },
            lineage: Lineage { stream_arn: STREAM.into(), ..Lineage::default() },
            fence: Fence {
                worker: self.worker.clone(),
                generation: 1,
                advances: vec![Advance {
                    partition: lease.partition.clone(),
                    epoch: lease.epoch,
                    from: lease.position.clone(),
                    to: last.unwrap_or_else(|| lease.position.clone()),
                    drained,
                    records: 0,
                    last_event_at: None,
                }],
            },
        }
    }

    async fn apply(&self, lease: &mut Lease, numbers: &[u64], drained: bool) {
        let batch = self.batch(lease, numbers, drained);
        self.store.apply(&batch).await.unwrap();
        lease.position = batch.fence.advances[0].to.clone();
    }

    /// The whole run as it should be.
    async fn run(&self) {
        let mut mother = self.lease("mother").await;
        self.apply(&mut mother, &[11], false).await;
        self.apply(&mut mother, &[12], true).await;
        let mut daughter = self.lease("daughter").await;
        self.apply(&mut daughter, &[21, 22], false).await;
        self.apply(&mut daughter, &[23, 24], false).await;
    }

    fn verdict(&self) -> Vec<Invariant> {
        let run = Run {
            truth: &self.truth,
            journal: &self.store.journal(),
            contents: &self.store.contents(),
            gaps: &self.store.gaps(SOURCE),
            dead_letters: &self.store.dead_letters(SOURCE),
            specs: &tables(),
            map: &map,
            refuses: |_| false,
            quiet: true,
            prompt: true,
        };
        let violations = check(&run);
        violations.iter().map(|violation| violation.invariant).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_run_breaks_nothing() {
    let hand = Hand::new(None).await;
    hand.run().await;
    assert_eq!(hand.verdict(), []);
    assert_eq!(hand.store.dead_letters(SOURCE).len(), 1, "b was mended, a is still bad");
}

#[tokio::test(start_paused = true)]
async fn i2_positions_without_rows_are_seen() {
    let hand = Hand::new(Some(Sabotage::PositionsOnly)).await;
    hand.run().await;
    assert!(hand.verdict().contains(&Invariant::Together));
}

#[tokio::test(start_paused = true)]
async fn i2_a_skipped_record_is_seen() {
    let hand = Hand::new(None).await;
    let mut mother = hand.lease("mother").await;
    hand.apply(&mut mother, &[12], true).await;
    assert!(hand.verdict().contains(&Invariant::Together));
}

#[tokio::test(start_paused = true)]
async fn i2_a_replay_without_fence_is_seen() {
    let hand = Hand::new(Some(Sabotage::NoFence)).await;
    let mother = hand.lease("mother").await;
    hand.apply(&mut mother.clone(), &[11], false).await;
    hand.apply(&mut mother.clone(), &[11], false).await;
    assert!(hand.verdict().contains(&Invariant::Together));
}

#[tokio::test(start_paused = true)]
async fn i3_a_child_before_its_parent_is_seen() {
    let hand = Hand::new(None).await;
    let mut daughter = hand.lease("daughter").await;
    hand.apply(&mut daughter, &[21], false).await;
    assert_eq!(hand.verdict(), [Invariant::Lineage]);
}

#[tokio::test(start_paused = true)]
async fn i3_an_end_that_is_none_is_seen() {
    let hand = Hand::new(None).await;
    let mut mother = hand.lease("mother").await;
    hand.apply(&mut mother, &[11], true).await;
    assert_eq!(hand.verdict(), [Invariant::Lineage]);
}

#[tokio::test(start_paused = true)]
async fn i4_a_commit_of_a_stale_epoch_is_seen() {
    let hand = Hand::new(Some(Sabotage::NoFence)).await;
    let mut mother = hand.lease("mother").await;
    mother.epoch -= 1;
    hand.apply(&mut mother, &[11], false).await;
    assert_eq!(hand.verdict(), [Invariant::Fence]);
}

#[tokio::test(start_paused = true)]
async fn i5_a_forgotten_dead_letter_is_seen() {
    let hand = Hand::new(Some(Sabotage::NoDeadLetters)).await;
    hand.run().await;
    assert_eq!(hand.verdict(), [Invariant::Books]);
}

#[tokio::test(start_paused = true)]
async fn i6_a_silent_loss_is_seen() {
    let mut hand = Hand::new(None).await;
    let mut mother = hand.lease("mother").await;
    hand.apply(&mut mother, &[11], false).await;
    let dropped = hand.truth.shards.get_mut(&PartitionId::new("mother")).unwrap();
    dropped.dropped_at = Some(std::time::Duration::ZERO);
    assert!(hand.verdict().contains(&Invariant::Gaps));
}

#[tokio::test(start_paused = true)]
async fn i7_a_target_that_lags_for_ever_is_seen() {
    let hand = Hand::new(None).await;
    let mut mother = hand.lease("mother").await;
    hand.apply(&mut mother, &[11, 12], true).await;
    assert!(hand.verdict().contains(&Invariant::Convergence));
}

#[tokio::test(start_paused = true)]
async fn i1_a_row_that_falls_back_is_seen() {
    let mut hand = Hand::new(Some(Sabotage::NoGuard)).await;
    // Were the two shards no kin, nothing but the order of one key's records would tell.
    hand.truth.shards.get_mut(&PartitionId::new("daughter")).unwrap().parent = None;
    let mut daughter = hand.lease("daughter").await;
    hand.apply(&mut daughter, &[21], false).await;
    let mut mother = hand.lease("mother").await;
    hand.apply(&mut mother, &[11], false).await;
    let verdict = hand.verdict();
    assert!(!verdict.is_empty() && verdict.iter().all(|broken| *broken == Invariant::Order));
}
