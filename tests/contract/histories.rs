//! What every sink and every target must do for the history of a table whose rows outlive their items.

use dynaurora::apply::ports::{Phase, Sink, Unit};
use dynaurora::engine::ports::Lease;
use dynaurora::mapping::spec::{ColumnSpec, ColumnType, TableSpec, VERSION_COLUMN};
use dynaurora::model::{Cells, RowAction, RowOp, SequenceNumber, TableIndex, Version};
use dynaurora::ops::ports::{Fate, Fault, Guard, Repairs, RowRepair, Rows, Truth};

use super::repair::RepairRig;
use super::{LETTERS, advance, batch, enrolled, leased, moved, sequence, shard, worker};
use crate::rig::tables::{Build, table};
use crate::rig::{changed, unit};

/// The history of [`LETTERS`].
const HISTORY: TableIndex = TableIndex(1);

/// The cases of histories.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { histories [
            a_history_is_open_where_the_row_is_and_shows_the_same
            what_a_load_brings_too_late_opens_nothing
            a_row_that_comes_after_its_soft_delete_is_marked
            a_page_through_a_history_tells_what_is_open_without_a_row
            a_repair_continues_a_history_from_what_the_row_is
        ] $($how)* }
    };
}
pub(crate) use cases;

/// `letters (child, body, gone_at)` and their history.
pub fn tables() -> Vec<TableSpec> {
    let letters = table("letters")
        .key("child", ColumnType::Text)
        .column("body", ColumnType::Text)
        .column("gone_at", ColumnType::Timestamptz);
    let letters = TableSpec { deleted_at: Some(2), ..letters };
    let mut history = table("letters_history")
        .key("child", ColumnType::Text)
        .key(VERSION_COLUMN, ColumnType::Numeric(None))
        .column("body", ColumnType::Text);
    let timestamp = ColumnType::Timestamptz;
    for (name, column_type, not_null) in [
        ("op", ColumnType::Text, true),
        ("valid_from", timestamp.clone(), true),
        ("valid_to", timestamp, false),
    ] {
        history.columns.push(ColumnSpec { name: name.to_owned(), column_type, not_null });
    }
    vec![letters, TableSpec { history_of: Some(LETTERS), ..history }]
}

/// A version of a record of the stream, of the first generation.
fn at(number: u64) -> Version {
    Version { generation: 1, sequence: sequence(u64::from(SequenceNumber::OF_LOADS_MAX) + number) }
}

/// A version of a row of an export, by its place in the chain.
fn of_load(place: u64) -> Version {
    Version { generation: 1, sequence: sequence(place) }
}

fn row(child: &str, body: &str) -> RowOp {
    let cells = [Some(child), Some(body), None].into_iter().collect();
    RowOp { table: LETTERS, action: RowAction::Upsert, cells, children: Vec::new(), item: None }
}

fn gone(child: &str) -> RowOp {
    let cells: Cells = [Some(child), None].into_iter().collect();
    RowOp { table: LETTERS, action: RowAction::SoftDelete, cells, children: Vec::new(), item: None }
}

/// A letter and its version in the history.
fn put(child: &str, body: &str, version: Version) -> Vec<Unit> {
    let of_row = unit(RowAction::Upsert, row(child, body).cells, version);
    vec![of_row, recorded(child, Some(body), "modify", version)]
}

fn remove(child: &str, version: Version) -> Vec<Unit> {
    let of_row = unit(RowAction::SoftDelete, gone(child).cells, version);
    vec![of_row, recorded(child, None, "remove", version)]
}

fn recorded(child: &str, body: Option<&str>, op: &str, version: Version) -> Unit {
    let mut cells: Cells = [Some(child)].into_iter().collect();
    cells.push_display(version.sequence);
    match body {
        Some(body) => cells.push(body),
        None => cells.push_null(),
    }
    cells.push(op);
    // A minute later with each number.
    let number: i64 = version.sequence.to_string().parse().unwrap();
    cells.push_display(jiff::Timestamp::from_second(number * 60).unwrap());
    cells.push_null();
    let mut own = unit(RowAction::Record, cells, version);
    own.op.table = HISTORY;
    own
}

/// A shard, leased, and a position that moves with each batch.
struct Play<'r, R> {
    rig: &'r R,
    lease: Lease,
    to: u64,
}

impl<'r, R: RepairRig> Play<'r, R> {
    async fn new(rig: &'r R) -> Self {
        enrolled(rig, &[shard("a", None, Some(1))]).await;
        Self { rig, lease: leased(rig, &worker("ann"), "a").await, to: 4 }
    }

    async fn apply(&mut self, phase: Phase, units: Vec<Vec<Unit>>) {
        self.to += 1;
        let mut units: Vec<Unit> = units.into_iter().flatten().collect();
        units.sort_by_key(|unit| unit.op.table);
        let batch = batch(&worker("ann"), &self.lease, self.to, units);
        let batch = changed(batch, |own| {
            own.phase = phase;
            own.fence.advances = vec![advance(&self.lease, self.to)];
        });
        self.rig.sink().apply(&batch).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        self.lease = moved(&self.lease, self.to);
    }

    /// How the rows and their histories differ from what they should be.
    async fn faults(&self, rows: &[RowOp]) -> Vec<String> {
        let told = self.rig.target().compare(LETTERS, rows).await.unwrap();
        let differences = told.into_iter().flat_map(|told| told.differences);
        let line = |own: dynaurora::ops::ports::Difference| {
            let table = if own.table == HISTORY { "history" } else { "row" };
            let fault = match own.fault {
                Fault::Missing => "missing".to_owned(),
                Fault::Unexpected => "unexpected".to_owned(),
                Fault::Differs(cells) => format!("differs in {}", cells[0].column),
            };
            format!("{table} {} {fault}", own.key[0])
        };
        differences.map(line).collect()
    }
}

pub async fn a_history_is_open_where_the_row_is_and_shows_the_same(rig: &impl RepairRig) {
    let mut play = Play::new(rig).await;
    play.apply(Phase::Steady, vec![put("a", "old", at(1)), put("b", "old", at(1))]).await;
    play.apply(Phase::Steady, vec![put("a", "new", at(2)), remove("b", at(2))]).await;
    let right = [row("a", "new"), gone("b")];
    assert!(play.faults(&right).await.is_empty());
    let other = [row("a", "other"), row("b", "old"), row("c", "none")];
    let faults = play.faults(&other).await;
    let expected = [
        "row a differs in 1",
        "history a differs in 2",
        "row b differs in 2",
        "history b missing",
        "row c missing",
        "history c missing",
    ];
    assert_eq!(faults, expected);
    assert_eq!(play.faults(&[gone("a")]).await, ["row a unexpected", "history a unexpected"]);
}

pub async fn what_a_load_brings_too_late_opens_nothing(rig: &impl RepairRig) {
    let mut play = Play::new(rig).await;
    play.apply(Phase::BesideBackfill, vec![put("a", "new", at(2)), remove("b", at(2))]).await;
    let page = vec![put("a", "old", of_load(0)), put("c", "read", of_load(0))];
    play.apply(Phase::OfBackfill, page).await;
    let now = [row("a", "new"), gone("b"), row("c", "read")];
    assert!(play.faults(&now).await.is_empty());
    // The tail was behind: what it brings now is older than the page, and counts from its own time.
    play.apply(Phase::BesideBackfill, vec![put("c", "older", at(3))]).await;
    play.apply(Phase::BesideBackfill, vec![put("c", "read", at(4))]).await;
    assert!(play.faults(&now).await.is_empty());
}

pub async fn a_row_that_comes_after_its_soft_delete_is_marked(rig: &impl RepairRig) {
    let mut play = Play::new(rig).await;
    play.apply(Phase::BesideBackfill, vec![remove("a", at(2))]).await;
    play.apply(Phase::OfBackfill, vec![put("a", "late", of_load(0))]).await;
    let told = rig.target().compare(LETTERS, &[gone("a")]).await.unwrap();
    assert_eq!(told[0].version, Some(at(2).to_string()), "it is there with the delete's version");
    assert!(told[0].marked && told[0].differences.is_empty(), "{told:?}");
}

pub async fn a_page_through_a_history_tells_what_is_open_without_a_row(rig: &impl RepairRig) {
    let mut play = Play::new(rig).await;
    play.apply(Phase::Steady, vec![put("a", "x", at(1)), put("b", "x", at(1))]).await;
    let page = rig.target().page(HISTORY, None, 10).await.unwrap();
    assert_eq!((page.rows.len(), page.next), (0, None));
    // A batch whose history knows of a row that the table never had.
    let alone = recorded("c", Some("x"), "modify", at(1));
    play.apply(Phase::Steady, vec![vec![alone]]).await;
    let page = rig.target().page(HISTORY, None, 10).await.unwrap();
    let [met] = page.rows.as_slice() else { panic!("{page:?}") };
    assert_eq!((met.key[0].as_str(), &met.version), ("c", &None));
    let told = rig.target().compare(LETTERS, &[gone("c")]).await.unwrap();
    assert_eq!(told[0].differences.len(), 1, "and a comparison tells the same: {told:?}");
}

pub async fn a_repair_continues_a_history_from_what_the_row_is(rig: &impl RepairRig) {
    let mut play = Play::new(rig).await;
    let alone = recorded("c", Some("x"), "modify", at(1));
    let ended = recorded("b", None, "remove", at(2));
    let units = vec![put("a", "bad", at(1)), put("b", "x", at(1)), vec![alone], vec![ended]];
    play.apply(Phase::Steady, units).await;
    let right = [row("a", "good"), row("b", "x"), gone("c")];
    let faults = play.faults(&right).await;
    let expected = [
        "row a differs in 1",
        "history a differs in 2",
        "history b missing",
        "history c unexpected",
    ];
    assert_eq!(faults, expected);
    let same = |version: Option<Version>| Guard::Same(version.map(|own| own.to_string()));
    let wanted = [("a", same(Some(at(1)))), ("b", same(Some(at(1)))), ("c", same(None))];
    let wanted = wanted.map(|(child, guard)| {
        let key = [Some(child)].into_iter().collect();
        RowRepair { key, guard, recorded: None }
    });
    let truth: Truth = Ok(right.iter().cloned().map(Some).collect());
    let fates = rig.target().repair(LETTERS, &wanted, async { truth }).await.unwrap();
    assert_eq!(fates, [Fate::Written, Fate::Written, Fate::Deleted]);
    assert!(play.faults(&right).await.is_empty());
    // The stream goes on from there.
    play.apply(Phase::Steady, vec![put("a", "next", at(3)), put("c", "next", at(3))]).await;
    let next = [row("a", "next"), row("b", "x"), row("c", "next")];
    assert!(play.faults(&next).await.is_empty());
}
