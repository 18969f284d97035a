use super::*;
use crate::apply::bisect::Bisect;
use crate::apply::page::{Page, PageContext};
use crate::mapping::definition::{
    ColumnDefinition, EntityDefinition, RowsDefinition, SourceDefinition, Span, Spanned,
};
use crate::mapping::{Mapper, Unmatched};
use crate::model::{
    Cells, ChangeOp, EpochMillis, Item, ItemTag, Position, RowAction, RowOp, SequenceNumber,
};

fn unit(table: u16, key: &str, sequence: &str, record: u32) -> Unit {
    Unit {
        op: RowOp {
            table: TableIndex(table),
            action: RowAction::Upsert,
            cells: [Some(key), Some(sequence)].into_iter().collect::<Cells>(),
            children: Vec::new(),
            item: None,
        },
        version: Version { generation: 1, sequence: SequenceNumber::parse(sequence).unwrap() },
        record: RecordRef { page: 0, index: record },
    }
}

fn change(key: &str, sequence: &str) -> Change {
    let keys: Item =
        [("pk".to_owned(), crate::model::AttributeValue::S(key.to_owned()))].into_iter().collect();
    Change {
        op: ChangeOp::Insert,
        sequence: SequenceNumber::parse(sequence).unwrap(),
        keys: keys.clone(),
        new_image: Some(keys),
        old_image: None,
        changed_at: None,
        expired: false,
        bytes: 10,
    }
}

/// A mapping of one text attribute.
fn plain() -> Mapper {
    let said = |text: &str| Spanned::new(text.to_owned(), Span::default());
    let column = ColumnDefinition {
        column_type: Some(said("text")),
        ..ColumnDefinition::plain(said("pk"), said("pk"))
    };
    let rows = RowsDefinition {
        table: said("santa"),
        columns: vec![column],
        primary_key: Some(vec![said("pk")]),
        ..RowsDefinition::default()
    };
    let entity = EntityDefinition { name: said("santa"), rows, ..EntityDefinition::default() };
    let (name, unmatched) = (said("santa"), Unmatched::Count);
    Mapper::compile(&SourceDefinition { name, unmatched, entities: vec![entity] }).unwrap()
}

fn sealed(units: Vec<Unit>, changes: Vec<Change>) -> Sealed {
    let filling = Filling {
        units,
        pages: vec![HeldPage { partition: PartitionId::new("p"), changes }],
        ..Filling::default()
    };
    filling.seal(label(), &[1, 1])
}

fn label() -> Label {
    Label {
        source: "santa".into(),
        stream_arn: "arn".into(),
        generation: 1,
        worker: WorkerId::new("me"),
        backfilling: false,
    }
}

#[test]
fn sealing_keeps_the_last_change_per_key_sorted_by_table_and_key() {
    let units = vec![
        unit(1, "b", "7", 0),
        unit(0, "b", "3", 1),
        unit(0, "a", "9", 2),
        unit(0, "a", "10", 3),
        unit(0, "b", "2", 4),
    ];
    let sealed = sealed(units, Vec::new());
    let kept: Vec<_> = sealed
        .batch
        .rows
        .units
        .iter()
        .map(|unit| (unit.op.table.0, unit.op.cells.cell(0), unit.op.cells.cell(1)))
        .collect();
    let expected =
        [(0, Some("a"), Some("10")), (0, Some("b"), Some("3")), (1, Some("b"), Some("7"))];
    assert_eq!(kept, expected);
    assert_eq!(sealed.superseded, [2, 0]);
}

#[test]
fn a_batch_takes_no_page_once_its_rows_or_its_bytes_are_too_many() {
    let mapper = plain();
    let partition = &PartitionId::new("p");
    let context = || PageContext { mapper: &mapper, tables: &[1], generation: 1, partition };
    let lease = Lease { partition: partition.clone(), epoch: 4, position: Position::Horizon };
    let changes = vec![change("a", "1"), change("b", "2"), change("c", "3")];
    let (next, iterator, end) = (Position::Horizon, None, false);
    let page = Page { changes, next, iterator, end, consumed_capacity: None };
    let mut filling = Filling::default();
    filling.add(MappedPage::new(page, context()).unwrap(), Vec::new(), &lease, false);
    // Three rows of three records, each of ten bytes.
    for (rows_max, bytes_max, full) in [(4, 31, false), (3, 31, true), (4, 30, true)] {
        assert_eq!(filling.is_full(Limits { rows_max, bytes_max }), full, "{rows_max} {bytes_max}");
    }
}

/// Times have whole seconds, and those of one key may run backwards; its sequence numbers never do.
#[test]
fn the_order_is_that_of_sequence_numbers_whatever_the_times() {
    let mapper = plain();
    let partition = &PartitionId::new("p");
    let context = PageContext { mapper: &mapper, tables: &[1], generation: 1, partition };
    let at =
        |sequence, time| Change { changed_at: Some(EpochMillis(time)), ..change("a", sequence) };
    let changes = vec![at("9", 7_000), at("10", 7_000), at("11", 2_000)];
    let (next, iterator, end) = (Position::Horizon, None, false);
    let page = Page { changes, next, iterator, end, consumed_capacity: None };
    let lease = Lease { partition: partition.clone(), epoch: 4, position: Position::Horizon };
    let mut filling = Filling::default();
    filling.add(MappedPage::new(page, context).unwrap(), Vec::new(), &lease, false);
    let sealed = filling.seal(label(), &[1]);
    let kept: Vec<_> =
        sealed.batch.rows.units.iter().map(|unit| unit.version.sequence.to_string()).collect();
    assert_eq!(kept, ["11"]);
}

#[test]
fn two_pages_of_one_partition_make_one_step() {
    let mapper = plain();
    let mut filling = Filling::default();
    let mut lease =
        Lease { partition: PartitionId::new("p"), epoch: 4, position: Position::Horizon };
    for (sequence, end) in [("5", false), ("8", true)] {
        let next = Position::After(SequenceNumber::parse(sequence).unwrap());
        let page = Page {
            changes: Vec::new(),
            next: next.clone(),
            iterator: None,
            end,
            consumed_capacity: None,
        };
        let partition = &lease.partition;
        let context = PageContext { mapper: &mapper, tables: &[1], generation: 1, partition };
        let mapped = MappedPage::new(page, context).unwrap();
        filling.add(mapped, Vec::new(), &lease, false);
        lease.position = next;
    }
    assert_eq!(filling.advances.len(), 1);
    let advance = &filling.advances[0];
    assert_eq!((&advance.from, advance.drained), (&Position::Horizon, true));
    assert_eq!(advance.to, lease.position);
}

#[test]
fn a_refused_record_leaves_with_all_its_rows_and_becomes_a_dead_letter() {
    let units = vec![unit(0, "a", "1", 0), unit(0, "b", "2", 1), unit(1, "b", "2", 1)];
    let mut sealed = sealed(units, vec![change("a", "1"), change("b", "2")]);
    sealed.records.count(ChangeOp::Insert, RecordOutcome::Mapped);
    sealed.records.count(ChangeOp::Insert, RecordOutcome::Mapped);
    sealed.refuse(&[(1, "23514 children_score_check".to_owned())]);
    assert_eq!(sealed.batch.rows.units.len(), 1);
    let [letter] = sealed.batch.rows.rejects.as_slice() else { panic!("one dead letter") };
    assert_eq!(letter.key, r#"{"pk":{"S":"b"}}"#);
    assert_eq!(letter.reject.detail, "23514 children_score_check");
    assert_eq!(sealed.rejected(), [("refused", 1)]);
    assert_eq!(sealed.records.of(RecordOutcome::Rejected), 1);
    assert_eq!(sealed.records.total(), 2);
}

/// Runs a bisect against a database that refuses `bad` units, and pairs of units that clash.
fn refused(units: usize, bad: &[usize], clash: &[(usize, usize)]) -> (Vec<usize>, usize) {
    let mut bisect = Bisect::new(units);
    let mut probes = 0;
    while let Some(probe) = bisect.probe() {
        probes += 1;
        let refuses = probe.iter().any(|unit| bad.contains(unit))
            || clash.iter().any(|(a, b)| probe.contains(a) && probe.contains(b));
        bisect.answer(if refuses { Err("no".to_owned()) } else { Ok(()) });
    }
    (bisect.into_refused().into_iter().map(|(unit, _)| unit).collect(), probes)
}

#[test]
fn bisect_finds_exactly_the_refused_units() {
    assert_eq!(refused(1, &[0], &[]).0, [0]);
    assert_eq!(refused(7, &[0, 3, 6], &[]).0, [0, 3, 6]);
    assert_eq!(refused(4, &[0, 1, 2, 3], &[]).0, [0, 1, 2, 3]);
    assert_eq!(refused(5, &[], &[]).0, Vec::<usize>::new());
    let (found, probes) = refused(1000, &[617], &[]);
    assert_eq!(found, [617]);
    assert!(probes <= 20, "{probes}");
}

#[test]
fn bisect_refuses_the_later_of_two_that_clash_only_together() {
    assert_eq!(refused(8, &[], &[(1, 6)]).0, [6]);
}

#[test]
fn i8_the_change_before_a_refused_one_of_the_same_key_takes_effect() {
    let units = vec![
        unit(0, "a", "1", 0),
        unit(0, "b", "2", 1),
        unit(0, "a", "3", 2),
        unit(0, "a", "4", 3),
    ];
    let changes = vec![change("a", "1"), change("b", "2"), change("a", "3"), change("a", "4")];
    let mut sealed = sealed(units, changes);
    let hash = |key: &str| key_hash(&key_json(&change(key, "1").keys));
    let version = |sequence: &str| unit(0, "a", sequence, 0).version;
    sealed.batch.rows.touched = vec![(hash("a"), version("4"))];
    let rows = |sealed: &Sealed| -> Vec<u32> {
        sealed.batch.rows.units.iter().map(|unit| unit.record.index).collect()
    };
    assert_eq!((rows(&sealed), sealed.superseded[0]), (vec![3, 1], 2));
    for (before, superseded) in [(2, 1), (0, 0)] {
        sealed.records.count(ChangeOp::Insert, RecordOutcome::Mapped);
        sealed.refuse(&[(0, "no".to_owned())]);
        assert_eq!((rows(&sealed), sealed.superseded[0]), (vec![before, 1], superseded));
    }
    assert_eq!(
        sealed.batch.rows.touched,
        [(hash("a"), version("1"))],
        "it supersedes nothing newer"
    );
}

#[test]
fn behind_a_soft_delete_stands_the_change_before_it() {
    let soft = |sequence, record| {
        let mut unit = unit(0, "a", sequence, record);
        unit.op.action = RowAction::SoftDelete;
        unit
    };
    let units = || {
        vec![
            unit(0, "a", "1", 0),
            soft("2", 1),
            unit(0, "a", "3", 2),
            unit(0, "a", "4", 3),
            soft("5", 4),
            soft("6", 5),
        ]
    };
    let changes = || (1..=6).map(|number| change("a", &number.to_string())).collect();
    let rows = |sealed: &Sealed| -> Vec<u32> {
        sealed.batch.rows.units.iter().map(|unit| unit.record.index).collect()
    };
    let first = sealed(units(), changes());
    assert_eq!((rows(&first), first.superseded[0]), (vec![5, 3], 4));
    // Each refused one is replaced by the change that would stand there without it.
    for (refused, left) in [(0, vec![4, 3]), (1, vec![5, 2])] {
        let mut sealed = sealed(units(), changes());
        sealed.records.count(ChangeOp::Insert, RecordOutcome::Mapped);
        sealed.refuse(&[(refused, "no".to_owned())]);
        assert_eq!((rows(&sealed), sealed.superseded[0]), (left, 3));
        let newer = sealed.batch.rows.touched.len();
        assert_eq!(newer, usize::from(refused == 1), "the soft delete supersedes the refused row");
    }
}

/// Two items change keys: each has a last change of its own, and the end of one undoes nothing of the other.
#[test]
fn where_rows_name_their_items_each_item_has_a_last_change_of_a_key() {
    let of = |item, action, key: &str, sequence: &str, record| {
        let mut unit = unit(0, key, sequence, record);
        unit.op.action = action;
        unit.op.item = ItemTag::numbered(item);
        unit
    };
    use RowAction::{Delete, Upsert};
    let units = vec![
        of(1, Upsert, "y", "3", 0),
        of(1, Delete, "x", "3", 0),
        of(2, Upsert, "x", "4", 1),
        of(2, Delete, "y", "4", 1),
        of(2, Upsert, "x", "5", 2),
    ];
    let changes = || vec![change("a", "3"), change("b", "4"), change("b", "5")];
    let kept = |sealed: &Sealed| -> Vec<String> {
        let units = sealed.batch.rows.units.iter();
        let key = |unit: &Unit| unit.op.cells.cell(0).unwrap_or_default().to_owned();
        units
            .map(|unit| format!("{} {} {}", key(unit), unit.op.action.label(), unit.record.index))
            .collect()
    };
    let mut own = sealed(units, changes());
    assert_eq!(kept(&own), ["x delete 0", "x upsert 2", "y upsert 0", "y delete 1"]);
    assert_eq!(own.superseded, [1, 0]);
    // The row of `a` is refused: what it has left stays ended.
    own.records.count(ChangeOp::Insert, RecordOutcome::Mapped);
    own.refuse(&[(2, "no".to_owned())]);
    assert_eq!(kept(&own), ["x delete 0", "x upsert 2", "y delete 1"]);
    assert_eq!(own.rejected(), [("refused", 1)]);
    // That end is refused too: it goes, and the record is a dead letter already.
    own.refuse(&[(0, "no".to_owned())]);
    assert_eq!(kept(&own), ["x upsert 2", "y delete 1"]);
    assert_eq!(own.rejected(), [("refused", 1)]);
}
