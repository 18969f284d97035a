//! The steps that bring the target closer to the mapping, and why some cannot be taken.

use crate::mapping::spec::TableSpec;

/// A statement that brings the target closer to the mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does, for people.
    pub what: String,
    /// The statement.
    pub sql: String,
    /// When it is run.
    pub kind: StepKind,
}

/// When a step is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// With the other changes of the schema, in one transaction.
    Schema,
    /// The same, and it may lose what is there: the operator has named the table.
    Destructive,
    /// After them, again and again until it finds no row any more; the daemon may run meanwhile.
    Rows,
}

#[derive(Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Whether the operator has named the table at hand.
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

    /// A statement that may lose something: planned where the operator named the table, refused
    /// otherwise.
    pub(super) fn destructive(&mut self, table: &TableSpec, what: (String, String), sql: String) {
        let (problem, done) = what;
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
