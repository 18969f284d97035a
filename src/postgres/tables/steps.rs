//! The steps that bring the target closer to the mapping, and why some cannot be taken.

use crate::mapping::spec::TableSpec;

/// A statement that makes the target fit the mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its purpose, for people.
    pub what: String,
    /// The statement.
    pub sql: String,
    /// When it runs.
    pub kind: StepKind,
}

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// With the other changes of the schema, in one transaction.
    Schema,
    /// The same, but it may lose data: the operator has named the table.
    Destructive,
    /// Afterwards, repeated until it finds no more rows; the daemon may run meanwhile.
    Rows,
}

#[derive(Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Whether the operator has named the current table.
    pub(super) confirmed: bool,
    pub(super) problems: Vec<String>,
    pub(super) remedies: Vec<String>,
}

impl Plan {
    pub(super) fn step(&mut self, kind: StepKind, what: String, sql: String) {
        let step = Step { what, sql, kind };
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }

    pub(super) fn problem(&mut self, problem: String, remedy: String) {
        self.problems.push(problem);
        if !self.remedies.contains(&remedy) {
            self.remedies.push(remedy);
        }
    }

    /// A statement that may lose data: planned if the operator named the table, otherwise refused.
    pub(super) fn destructive(
        &mut self,
        table: &TableSpec,
        problem: String,
        done: String,
        sql: String,
    ) {
        if self.confirmed {
            self.step(StepKind::Destructive, done, sql);
        } else {
            let remedy = format!(
                "change the mapping, or {sql} (dynaurora apply --confirm {} does it)",
                table.name
            );
            self.problem(problem, remedy);
        }
    }
}
