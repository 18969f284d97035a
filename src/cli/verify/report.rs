//! The output of a verification: progress on a terminal, then counts, keys and columns; values on request.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Serialize, Serializer};

use crate::mapping::spec::TableSpec;
use crate::ops::ports::{Difference, Fault, Observer, Sides};
use crate::ops::verify::Verified;
use crate::ops::verify::context::Context;
use crate::ops::verify::settle::Drift;

/// Differences shown to people; the JSON has all.
const SHOWN_MAX: usize = 20;

/// The progress on stderr, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Meter(ProgressBar);

impl Meter {
    /// A meter for one source, silent without a terminal.
    pub(crate) fn new(source: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {prefix}: {pos} {msg} ({per_sec})");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(source.to_owned());
        bar.set_message("items");
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}

impl Observer for Meter {
    fn items(&self, items: u64, differing: usize) {
        self.0.set_position(items);
        if differing > 0 {
            self.0.set_message(format!("items, {differing} rows differ"));
        }
    }

    fn rows(&self, rows: u32) {
        self.0.set_message("rows");
        self.0.inc(u64::from(rows));
    }

    fn again(&self) {
        self.0.set_position(0);
        self.0.set_message("items, the second time");
    }
}

/// The findings of one source; the JSON only gains fields.
#[derive(Debug, Serialize)]
pub(crate) struct SourceReport {
    pub(crate) source: String,
    /// The share of the table that was read.
    pub(crate) share: f64,
    pub(crate) items: u64,
    pub(crate) rows: u64,
    /// Rows that are wrong.
    pub(crate) mismatched: u64,
    pub(crate) repaired: u64,
    /// Rows whose item has an open dead letter.
    pub(crate) dead_letters: u64,
    /// Items that cannot be mapped.
    pub(crate) unmappable: u64,
    /// Rows without an item that `on_delete` or `on_ttl` may have kept.
    pub(crate) kept: u64,
    /// Rows without an item that dynaurora never wrote; a repair leaves them alone.
    pub(crate) foreign: u64,
    /// Rows that kept changing.
    pub(crate) undecided: u64,
    pub(crate) unchecked: Vec<Unchecked>,
    pub(crate) stopped_early: bool,
    /// Daemons alive at the start.
    pub(crate) workers: usize,
    pub(crate) took_secs: f64,
    pub(crate) tables: Vec<TableReport>,
    pub(crate) differences: Vec<Printed>,
}

/// A table whose rows without an item could not be looked for.
#[derive(Debug, Serialize)]
pub(crate) struct Unchecked {
    table: String,
    rows: u64,
    why: &'static str,
}

/// One table's differences, counted in rows.
#[derive(Debug, Serialize)]
pub(crate) struct TableReport {
    table: String,
    missing: u64,
    unexpected: u64,
    differing: u64,
}

/// One wrong row.
#[derive(Debug, Serialize)]
pub(crate) struct Printed {
    table: String,
    fault: &'static str,
    #[serde(serialize_with = "as_map")]
    key: Vec<(String, String)>,
    columns: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<PrintedValue>>,
    repaired: bool,
}

#[derive(Debug, Serialize)]
struct PrintedValue {
    column: String,
    expected: Option<String>,
    found: Option<String>,
}

impl SourceReport {
    pub(crate) fn new<S: Sides>(
        context: &Context<S>,
        verified: &Verified,
        show_values: bool,
    ) -> Self {
        let Verified { found, share, took, .. } = verified;
        let specs = context.mapper().tables();
        let mut tables: Vec<TableReport> = Vec::new();
        let mut differences = Vec::new();
        for drift in &found.settled.drift {
            for difference in &drift.comparison.differences {
                let Some(spec) = specs.get(usize::from(difference.table.0)) else { continue };
                count(&mut tables, spec, &difference.fault);
                differences.push(printed(spec, difference, drift, show_values));
            }
        }
        let settled = &found.settled;
        let whole = *share >= 1.0;
        let why = if whole {
            "the key does not give the item's key; they may belong to an unread or unmappable item"
        } else {
            "the key does not give the item's key: only a verification without --sample can check"
        };
        let unchecked = found.unchecked.iter().filter_map(|(table, rows)| {
            let table = specs.get(usize::from(table.0))?.name.to_string();
            Some(Unchecked { table, rows: *rows, why })
        });
        Self {
            source: context.name().to_string(),
            share: *share,
            items: found.items,
            rows: found.rows,
            mismatched: differences.len() as u64,
            repaired: found.repaired(),
            dead_letters: settled.dead_letters,
            unmappable: found.rejected.max(settled.unmappable),
            kept: settled.kept,
            foreign: settled.foreign,
            undecided: settled.undecided,
            unchecked: unchecked.collect(),
            stopped_early: found.stopped_early,
            workers: context.workers(),
            took_secs: took.as_secs_f64(),
            tables,
            differences,
        }
    }

    /// Prints it for people.
    pub(crate) fn print(&self) {
        let part = if self.share < 1.0 {
            format!(", a sample of {:.2} %", self.share * 100.0)
        } else {
            String::new()
        };
        anstream::println!(
            "{}: {} items and {} rows compared in {:.1} s{part}",
            self.source,
            self.items,
            self.rows,
            self.took_secs
        );
        for table in &self.tables {
            let TableReport { table, missing, unexpected, differing } = table;
            anstream::println!(
                "  {table}: {missing} missing, {unexpected} unexpected, {differing} differing"
            );
        }
        for difference in self.differences.iter().take(SHOWN_MAX) {
            difference.print();
        }
        if self.differences.len() > SHOWN_MAX {
            let more = self.differences.len() - SHOWN_MAX;
            anstream::println!("  and {more} more: --output json shows all");
        }
        for (count, what) in [
            (self.repaired, "rows repaired"),
            (self.dead_letters, "rows skipped: their items have open dead letters"),
            (self.unmappable, "items cannot be mapped: they have no rows to compare"),
            (self.kept, "rows without an item that on_delete or on_ttl may have kept"),
            (self.foreign, "rows without an item that dynaurora never wrote: they stay"),
            (self.undecided, "rows undecided: they kept changing, or the source did not catch up"),
        ] {
            if count > 0 {
                anstream::println!("  {count} {what}");
            }
        }
        for Unchecked { table, rows, why } in &self.unchecked {
            anstream::println!("  {table}: {rows} rows not checked for their item: {why}");
        }
        if self.stopped_early {
            anstream::println!(
                "  ended early: too many rows differ; a backfill repairs them better"
            );
        }
        if self.workers == 0 && self.mismatched + self.undecided > 0 {
            anstream::println!("  no daemon is running: unapplied changes count as differences");
        }
        if self.mismatched == 0 && self.undecided == 0 {
            anstream::println!("  no difference");
        }
    }
}

impl Printed {
    fn print(&self) {
        let shown = |(name, text): &(String, String)| format!("{name}={text}");
        let key: Vec<String> = self.key.iter().map(shown).collect();
        let mut line = format!("  {} {} {}", self.fault, self.table, key.join(" "));
        if !self.columns.is_empty() {
            line.push_str(": ");
            line.push_str(&self.columns.join(", "));
        }
        anstream::println!("{line}");
        for PrintedValue { column, expected, found } in self.values.iter().flatten() {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
            anstream::println!("    {column}: {}, expected {}", text(found), text(expected));
        }
    }
}

fn count(tables: &mut Vec<TableReport>, spec: &TableSpec, fault: &Fault) {
    let table = spec.name.to_string();
    let at = tables.iter().position(|own| own.table == table).unwrap_or_else(|| {
        tables.push(TableReport { table, missing: 0, unexpected: 0, differing: 0 });
        tables.len() - 1
    });
    let Some(own) = tables.get_mut(at) else { return };
    match fault {
        Fault::Missing => own.missing += 1,
        Fault::Unexpected => own.unexpected += 1,
        Fault::Differs(_) => own.differing += 1,
    }
}

fn printed(spec: &TableSpec, difference: &Difference, drift: &Drift, values: bool) -> Printed {
    let names = spec.columns.iter().map(|column| column.name.clone());
    let key = names.zip(difference.key.iter().cloned()).collect();
    let (fault, cells) = match &difference.fault {
        Fault::Missing => ("missing", &[][..]),
        Fault::Unexpected => ("unexpected", &[][..]),
        Fault::Differs(cells) => ("differs", cells.as_slice()),
    };
    let name = |column: usize| spec.columns.get(column).map_or("", |own| own.name.as_str());
    let shown = cells.iter().map(|cell| PrintedValue {
        column: name(cell.column).to_owned(),
        expected: cell.expected.clone(),
        found: cell.found.clone(),
    });
    Printed {
        table: spec.name.to_string(),
        fault,
        key,
        columns: cells.iter().map(|cell| name(cell.column).to_owned()).collect(),
        values: values.then(|| shown.collect()),
        repaired: drift.repaired,
    }
}

fn as_map<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, text)| (name, text)))
}
