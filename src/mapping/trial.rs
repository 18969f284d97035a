//! Mapping tests: one item, its expected rows, and the differences.

use std::fmt;

use super::convert::Conversion;
use super::definition::{Problem, Spanned};
use super::{Mapper, Outcome, toml_text};
use crate::model::{
    AttributeValue, Cells, Change, ChangeOp, Item, Reject, RowAction, RowOp, SequenceNumber,
    TableIndex,
};

/// One test of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Its description.
    pub name: String,
    /// The source whose mapping it tests.
    pub source: String,
    /// What happens to the item.
    pub op: TrialOp,
    /// The item; for a removal, the removed item.
    pub item: Item,
    /// The item before a change, if the mapping needs it.
    pub old_item: Option<Item>,
    /// The expected rows by table. Other tables are not compared.
    pub expect: Vec<ExpectedTable>,
    /// The expected reason for a rejection.
    pub rejected: Option<String>,
}

/// What happens to a trial's item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialOp {
    /// It is new.
    Insert,
    /// It changed.
    Modify,
    /// It is removed; the expected rows are the removed ones.
    Remove,
}

/// The expected rows of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedTable {
    /// The table.
    pub table: Spanned<String>,
    /// Its rows; only the named columns are compared.
    pub rows: Vec<ExpectedRow>,
}

/// An expected row.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedRow {
    /// Column names and values.
    pub cells: Vec<(Spanned<String>, Spanned<AttributeValue>)>,
}

/// One difference between the outcome and the expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table, if it concerns one.
    pub table: Option<String>,
    /// The expected and the actual result.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.table {
            Some(table) => write!(f, "{table}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Writes a test with a rejected item, to be pasted into the config and fixed there.
///
/// # Errors
/// When the item cannot be written as DynamoDB JSON.
pub fn rejected_text(
    source: &str,
    op: TrialOp,
    item: &Item,
    reject: &Reject,
) -> Result<String, serde_json::Error> {
    let place = reject.place.as_deref().unwrap_or("the item");
    let name = format!("{} at {place}: {}", reject.reason.label(), reject.detail);
    let op = match op {
        TrialOp::Insert => "insert",
        TrialOp::Modify => "modify",
        TrialOp::Remove => "remove",
    };
    Ok(format!(
        "[[test]]\nname = {}\nsource = {}\nop = \"{op}\"\nitem_json = {}\nexpect_reject = \"{}\"\n",
        toml_text::string(&name),
        toml_text::string(source),
        toml_text::string(&serde_json::to_string(item)?),
        reject.reason.label(),
    ))
}

impl Trial {
    /// The change that the test maps.
    #[must_use]
    pub fn change(&self, mapper: &Mapper) -> Change {
        let keys = mapper.keys_of(&self.item);
        let (op, new_image, old_image) = match self.op {
            TrialOp::Insert => (ChangeOp::Insert, Some(self.item.clone()), None),
            TrialOp::Modify => (ChangeOp::Modify, Some(self.item.clone()), self.old_item.clone()),
            TrialOp::Remove => (ChangeOp::Remove, None, Some(self.item.clone())),
        };
        Change {
            op,
            sequence: SequenceNumber::ZERO,
            keys,
            new_image,
            old_image,
            changed_at: None,
            expired: false,
            bytes: 0,
        }
    }

    /// Finds the tables and columns that the mapping does not have.
    #[must_use]
    pub fn check(&self, mapper: &Mapper) -> Vec<Problem> {
        let mut problems = Vec::new();
        for expected in &self.expect {
            let table = mapper.tables().iter().find(|t| t.name.to_string() == expected.table.value);
            let Some(table) = table else {
                let message = format!("the mapping fills no table `{}`", expected.table.value);
                problems.push(Problem::at(expected.table.span, message));
                continue;
            };
            for (name, value) in expected.rows.iter().flat_map(|row| &row.cells) {
                let column = table.columns.iter().find(|column| column.name == name.value);
                let Some(column) = column else {
                    let message = format!("`{}` has no column `{}`", table.name, name.value);
                    problems.push(Problem::at(name.span, message));
                    continue;
                };
                let conversion = Conversion::to(column.column_type.clone());
                if let Err(loss) = conversion.attribute(&value.value, &mut String::new()) {
                    let message = format!(
                        "`{}` is {}, and this does not fit: {}",
                        name.value, column.column_type, loss.detail
                    );
                    problems.push(Problem::at(value.span, message));
                }
            }
        }
        problems
    }

    /// Runs the test: no difference means that it passed.
    #[must_use]
    pub fn run(&self, mapper: &Mapper) -> Vec<Difference> {
        let mut rows = Vec::new();
        let outcome = mapper.map(&self.change(mapper), &mut rows);
        let mut differences: Vec<_> = self.outcome_difference(&outcome).into_iter().collect();
        if matches!(outcome, Outcome::Rejected(_)) {
            return differences;
        }
        for expected in &self.expect {
            let position =
                mapper.tables().iter().position(|t| t.name.to_string() == expected.table.value);
            if let Some(index) = position.and_then(|at| u16::try_from(at).ok()) {
                let came = self.rows_of(TableIndex(index), &rows);
                compare(mapper, TableIndex(index), expected, &came, &mut differences);
            }
        }
        differences
    }

    fn outcome_difference(&self, outcome: &Outcome) -> Option<Difference> {
        let text = match (outcome, &self.rejected) {
            (Outcome::Rejected(reject), Some(expected)) if reject.reason.label() == expected => {
                return None;
            }
            (Outcome::Rejected(reject), expected) => {
                let entity = reject.entity.as_deref().unwrap_or("no entity");
                let place = reject.place.as_deref().unwrap_or("the item");
                let came = format!(
                    "rejected as `{}` at {entity}, {place}: {}",
                    reject.reason.label(),
                    reject.detail
                );
                match expected {
                    Some(expected) => {
                        format!("expected to be rejected as `{expected}`, but {came}")
                    }
                    None => came,
                }
            }
            (_, Some(expected)) => {
                format!("expected to be rejected as `{expected}`, but it was mapped")
            }
            (Outcome::Unmatched, None)
                if self.expect.iter().any(|table| !table.rows.is_empty()) =>
            {
                "no entity's key matches".to_owned()
            }
            _ => return None,
        };
        Some(Difference { table: None, text })
    }

    /// The rows of the table; for a removal, the removed ones.
    fn rows_of<'r>(&self, table: TableIndex, rows: &'r [RowOp]) -> Vec<&'r Cells> {
        let ends = self.op == TrialOp::Remove;
        rows.iter()
            .filter(|row| row.action == RowAction::Record || row.action.ends_row() == ends)
            .flat_map(|row| {
                let own = (row.table == table).then_some(&row.cells);
                let children = row.children.iter().filter(move |(child, _)| *child == table);
                own.into_iter().chain(children.map(|(_, cells)| cells))
            })
            .collect()
    }
}

fn compare(
    mapper: &Mapper,
    index: TableIndex,
    expected: &ExpectedTable,
    came: &[&Cells],
    differences: &mut Vec<Difference>,
) {
    let Some(table) = mapper.tables().get(usize::from(index.0)) else { return };
    let mut differ = |text| {
        differences.push(Difference { table: Some(table.name.to_string()), text });
    };
    if expected.rows.len() != came.len() {
        differ(format!("expected {} rows, but got {}", expected.rows.len(), came.len()));
    }
    for (number, (row, cells)) in expected.rows.iter().zip(came).enumerate() {
        for (name, value) in &row.cells {
            let Some(at) = table.columns.iter().position(|own| own.name == name.value) else {
                continue;
            };
            let Some(column) = table.columns.get(at) else { continue };
            let mut wanted = String::new();
            let conversion = Conversion::to(column.column_type.clone());
            let fits = conversion.attribute(&value.value, &mut wanted).is_ok();
            let cell = cells.iter().nth(at).flatten();
            if !fits || cell != Some(wanted.as_str()) {
                let cell = cell.unwrap_or("NULL");
                let name = &name.value;
                differ(format!("row {}: `{name}` is {cell}, expected {wanted}", number + 1));
            }
        }
    }
}
