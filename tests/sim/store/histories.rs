//! Histories in memory: for each row a chain of versions, kept to their promise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use dynaurora::apply::ports::Unit;
use dynaurora::mapping::spec::{HISTORY_ENDS, TableSpec};
use dynaurora::model::{Cells, Generation, RowAction, RowOp, TableIndex, Version};
use dynaurora::ops::ports::{Cell, Difference, Fault};

use super::faults::Sabotage;
use super::state::State;
use super::{Event, Key, Row, Shared, backfills, key_of};

/// The versions of one row; what a repair adds behind a version has a number of its own.
pub type Chain = BTreeMap<(Version, u32), Kept>;

/// The histories that a transaction may have changed, by table and row.
pub type Histories = Vec<((TableIndex, Key), Chain)>;

/// One version of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The cells that show the row.
    pub shown: Vec<Option<String>>,
    pub op: String,
    /// From when to when it was so, in milliseconds since 1970.
    pub from: i64,
    pub to: Option<i64>,
}

impl Kept {
    /// Whether the row ends here.
    pub fn is_end(&self) -> bool {
        HISTORY_ENDS.contains(&&*self.op)
    }

    fn of_now(shown: Vec<Option<String>>, op: &str, now: i64) -> Self {
        Self { shown, op: op.to_owned(), from: now, to: None }
    }
}

/// The history of a table, if it has one.
pub fn history_of(specs: &[TableSpec], of: TableIndex) -> Option<TableIndex> {
    let at = specs.iter().position(|spec| spec.history_of == Some(of))?;
    Some(TableIndex(u16::try_from(at).unwrap()))
}

/// What a row shows: its cells without the key and the mark of a deletion.
pub fn shown(spec: &TableSpec, cells: &Cells) -> Vec<Option<String>> {
    let own = cells.iter().enumerate().skip(spec.key_columns);
    own.filter(|(at, _)| spec.deleted_at != Some(*at))
        .map(|(_, cell)| cell.map(str::to_owned))
        .collect()
}

/// What is wrong with the times of a chain, if anything: the version, and what is wrong.
pub fn wrong_times(chain: &Chain) -> Option<((Version, u32), &'static str)> {
    let mut before = i64::MIN;
    let mut versions = chain.iter().peekable();
    while let Some((at, own)) = versions.next() {
        let next = versions.peek().map(|(_, next)| next.from);
        let due = if own.is_end() { Some(own.from) } else { next };
        if own.from < before {
            return Some((*at, "begins before the one before it"));
        }
        if own.to != due {
            return Some((*at, "does not end where the next begins"));
        }
        before = own.from;
    }
    None
}

/// Whether the row is there and not marked.
fn live<'s>(spec: &TableSpec, row: Option<&'s Row>) -> Option<&'s Row> {
    row.filter(|row| !backfills::is_marked(row, spec.deleted_at))
}

/// Adds a batch's versions once its rows are written; notes every history that it may have changed.
pub fn keep(shared: &Shared, state: &mut State, units: &[Unit], rows: &[(TableIndex, Key)]) {
    let sabotage = shared.knobs().sabotage;
    let mut touched: BTreeSet<(TableIndex, Key)> = BTreeSet::new();
    let mut added: BTreeMap<(TableIndex, Key), BTreeMap<Version, &Unit>> = BTreeMap::new();
    for (of, key) in rows {
        touched.extend(history_of(&shared.specs, *of).map(|table| (table, key.clone())));
    }
    for unit in units.iter().filter(|unit| unit.op.action == RowAction::Record) {
        let columns = shared.specs[usize::from(unit.op.table.0)].key_columns - 1;
        let at = (unit.op.table, key_of(&unit.op.cells, columns));
        added.entry(at).or_default().insert(unit.version, unit);
    }
    for (at, own) in added {
        add(shared, state, &at, &own);
        settle(state.histories.entry(at.clone()).or_default(), sabotage);
        touched.insert(at);
    }
    note(state, touched);
}

fn note(state: &mut State, touched: BTreeSet<(TableIndex, Key)>) {
    let chain = |at: &(TableIndex, Key)| state.histories.get(at).cloned().unwrap_or_default();
    let histories: Histories = touched.into_iter().map(|at| (at.clone(), chain(&at))).collect();
    if !histories.is_empty() {
        state.record(Event::Kept { histories });
    }
}

fn add(
    shared: &Shared,
    state: &mut State,
    at: &(TableIndex, Key),
    units: &BTreeMap<Version, &Unit>,
) {
    let all = shared.knobs().sabotage == Some(Sabotage::KeepsAll);
    let history = &shared.specs[usize::from(at.0.0)];
    let of = history.history_of.unwrap();
    let spec = &shared.specs[usize::from(of.0)];
    let row = state.tables[usize::from(of.0)].get(&at.1);
    let newest = units.keys().next_back();
    if row.is_some_and(|row| Some(&row.version) > newest) {
        return;
    }
    let taken = live(spec, row).map(|row| row.version);
    let now = shared.clock.wall_at(state.now()).0;
    let mut faults = shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
    let tally = &mut faults.tally;
    let chain = state.histories.entry(at.clone()).or_default();
    let mut units = units.iter().peekable();
    while let Some((version, unit)) = units.next() {
        let kept = told(history, unit, now);
        let before = chain.range(..(*version, 0)).next_back().map(|(_, before)| before);
        let ended = before.is_none_or(Kept::is_end);
        let is_end = |unit: &Unit| told(history, unit, now).is_end();
        let read = version.sequence.is_of_load() && !all;
        let next_ends = units.peek().is_some_and(|(_, next)| is_end(next));
        let is_version = if kept.is_end() {
            !ended
        } else {
            let same = before.is_some_and(|before| !before.is_end() && before.shown == kept.shown);
            !read || (taken == Some(*version) || next_ends) && !same
        };
        if read && !is_version {
            *tally.entry("rows of loads that histories leave out").or_insert(0) += 1;
        }
        let behind = chain.range((*version, 0)..).next().is_none();
        let late = before.is_some_and(|before| before.from > kept.from && before.op == "scan");
        if is_version && behind && late {
            *tally.entry("records older than a scan before them").or_insert(0) += 1;
        }
        if is_version {
            chain.entry((*version, 0)).or_insert(kept);
        }
    }
}

/// A unit as it tells of itself: key, number, what it shows, the word, and since when.
fn told(history: &TableSpec, unit: &Unit, now: i64) -> Kept {
    let cells: Vec<Option<String>> =
        unit.op.cells.iter().map(|cell| cell.map(str::to_owned)).collect();
    let last = cells.len() - 3;
    let from = cells[last + 1].as_ref().map(|text| text.parse::<jiff::Timestamp>().unwrap());
    let shown = cells[history.key_columns..last].to_vec();
    let op = cells[last].clone().unwrap();
    Kept { from: from.map_or(now, |from| from.as_millisecond()), ..Kept::of_now(shown, &op, now) }
}

/// Sets the times of a chain: none begins before the one before it, each ends where the next begins, and what
/// was only read begins with the record behind it where that is earlier.
fn settle(chain: &mut Chain, sabotage: Option<Sabotage>) {
    let mut earliest = i64::MAX;
    let told = sabotage == Some(Sabotage::TimesAsTold);
    for ((version, _), own) in chain.iter_mut().rev().filter(|_| !told) {
        if own.op == "scan" || version.sequence.is_of_load() {
            own.from = own.from.min(earliest);
        } else {
            earliest = earliest.min(own.from);
        }
    }
    let mut start = i64::MIN;
    for own in chain.values_mut().filter(|_| !told) {
        start = start.max(own.from);
        own.from = start;
    }
    let mut next = None;
    for own in chain.values_mut().rev() {
        own.to = if own.is_end() { Some(own.from) } else { next };
        next = Some(own.from);
    }
}

/// Ends the history of a swept row.
pub fn sweep(shared: &Shared, state: &mut State, row: (TableIndex, Key), version: Version) {
    let Some(table) = history_of(&shared.specs, row.0) else { return };
    let now = shared.clock.wall_at(state.now()).0;
    let at = (table, row.1);
    if let Some(chain) = state.histories.get_mut(&at) {
        let shown = chain.values().next_back().filter(|own| !own.is_end());
        if let Some(shown) = shown.map(|own| vec![None; own.shown.len()]) {
            chain.insert((version, 0), Kept::of_now(shown, "remove", now));
            settle(chain, None);
        }
    }
    note(state, BTreeSet::from([at]));
}

/// Makes the histories of repaired rows what the rows are now.
pub fn mend(shared: &Shared, state: &mut State, of: TableIndex, keys: &[Key], own: Generation) {
    let Some(table) = history_of(&shared.specs, of) else { return };
    let spec = &shared.specs[usize::from(of.0)];
    let now = shared.clock.wall_at(state.now()).0;
    for key in keys {
        let row = live(spec, state.tables[usize::from(of.0)].get(key));
        let (cells, version) = (row.map(|row| row.cells.clone()), row.map(|row| row.version));
        let chain = state.histories.entry((table, key.clone())).or_default();
        chain.retain(|(version, _), _| version.generation <= own);
        let newest = chain.last_key_value();
        let open = newest.filter(|(_, newest)| !newest.is_end());
        let add = match (&cells, open) {
            (None, None) => None,
            (None, Some((_, open))) => {
                Some(Kept::of_now(vec![None; open.shown.len()], "remove", now))
            }
            (Some(cells), open) => {
                let shown = shown(spec, cells);
                let differs = open.is_none_or(|(_, open)| open.shown != shown);
                differs.then(|| Kept::of_now(shown, "scan", now))
            }
        };
        if let Some(add) = add {
            let least = (version.unwrap_or(Version::scanned(own)).max(Version::scanned(own)), 0);
            let behind = newest.map_or(least, |((version, number), _)| (*version, number + 1));
            chain.insert(least.max(behind), add);
        }
        settle(chain, None);
    }
    note(state, keys.iter().map(|key| (table, key.clone())).collect());
}

/// How the history of a row differs from what it should be.
pub fn compared(
    specs: &[TableSpec],
    state: &State,
    of: TableIndex,
    op: &RowOp,
) -> Option<Difference> {
    let table = history_of(specs, of)?;
    let (spec, history) = (&specs[usize::from(of.0)], &specs[usize::from(table.0)]);
    let row = key_of(&op.cells, spec.key_columns);
    let nothing = Chain::new();
    let chain = state.histories.get(&(table, row.clone())).unwrap_or(&nothing);
    let open = chain.iter().rev().find(|(_, own)| own.to.is_none());
    let key = |at: Option<&(Version, u32)>| {
        let mut texts: Vec<String> =
            row.iter().map(|cell| cell.clone().unwrap_or_default()).collect();
        texts.extend(at.map(|(version, number)| format!("{version}.{number}")));
        texts
    };
    let (key, fault) = match (op.action == RowAction::Upsert, open) {
        (false, Some((at, _))) => (key(Some(at)), Fault::Unexpected),
        (true, None) => (key(None), Fault::Missing),
        (true, Some((at, open))) if open.shown != shown(spec, &op.cells) => {
            let wanted = shown(spec, &op.cells);
            let cells = open.shown.iter().zip(wanted).enumerate();
            let cells = cells.filter(|(_, (found, expected))| *found != expected);
            let cells = cells.map(|(column, (found, expected))| Cell {
                column: history.key_columns + column,
                expected,
                found: found.clone(),
            });
            (key(Some(at)), Fault::Differs(cells.collect()))
        }
        _ => {
            let (at, what) = wrong_times(chain)?;
            let column = history.columns.len() - 1;
            let cell = Cell { column, expected: None, found: Some(what.to_owned()) };
            (key(Some(&at)), Fault::Differs(vec![cell]))
        }
    };
    Some(Difference { table, key, fault })
}

/// The keys of a history's versions that are open though their row is missing or marked, or whose times are
/// wrong, with the row's version.
pub fn without_row(
    specs: &[TableSpec],
    state: &State,
    table: TableIndex,
) -> BTreeMap<Key, Option<Version>> {
    let of = specs[usize::from(table.0)].history_of.unwrap();
    let spec = &specs[usize::from(of.0)];
    let own = state.histories.iter().filter(|((at, _), _)| *at == table);
    let suspicious = own.filter_map(|((_, key), chain)| {
        let row = state.tables[usize::from(of.0)].get(key);
        let open = chain.values().any(|own| own.to.is_none()) && live(spec, row).is_none();
        let told = (key.clone(), row.map(|row| row.version));
        (open || wrong_times(chain).is_some()).then_some(told)
    });
    suspicious.collect()
}

/// Damages a history; `None` where there is nothing to damage.
pub fn damaged(chain: &mut Chain, rng: &mut fastrand::Rng) -> Option<()> {
    let places: Vec<(Version, u32)> = chain.keys().copied().collect();
    let last = *places.last()?;
    let any = places[rng.usize(..places.len())];
    match rng.u8(..4) {
        0 => drop(chain.remove(&last)),
        1 => chain.get_mut(&any)?.to = None,
        2 => chain.get_mut(&any)?.from += 9 * 3_600_000,
        _ => *chain.get_mut(&last)?.shown.first_mut()? = Some("damaged".to_owned()),
    }
    Some(())
}
