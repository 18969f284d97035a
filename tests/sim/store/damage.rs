//! Damage to the tables on purpose: what somebody does by hand, or a bug of another program.

use dynaurora::model::{Cells, SequenceNumber, TableIndex, Version};

use super::state::State;
use super::{Event, Store, histories, key_of};

impl Store {
    /// Loses the ledger: what is known of the sources, and with it what belongs to their loads. The rows
    /// stay.
    pub fn forget(&self) {
        let mut state = self.state();
        if state.locked {
            // Nor does a schema go while a repair holds its locks.
            return;
        }
        state.sources.clear();
        state.tombstones.clear();
        state.hidden.clear();
        state.record(Event::Forgotten);
    }

    /// Damages a row of an entity's table; does nothing where there is none. With `nameless` a row may be
    /// added whose key tells of no item.
    pub fn damage(&self, rng: &mut fastrand::Rng, nameless: bool) {
        let specs = &self.shared.specs;
        let own = |at: &usize| specs[*at].parent.is_none() && specs[*at].history_of.is_none();
        let tables: Vec<usize> = (0..specs.len()).filter(own).collect();
        let at = tables[rng.usize(..tables.len())];
        let mut state = self.state();
        if state.locked {
            // Whoever writes by hand waits for a repair too.
            return;
        }
        let kept = histories::history_of(specs, TableIndex(u16::try_from(at).unwrap()));
        if let Some(kept) = kept.filter(|_| rng.u8(..3) == 0) {
            let damaged = damage_history(&mut state, kept, rng);
            *self.faults().tally.entry("histories damaged by hand").or_insert(0) += damaged;
            return;
        }
        let rows = &mut state.tables[at];
        if rows.is_empty() {
            return;
        }
        let chosen = rows.iter().nth(rng.usize(..rows.len()));
        let (mut key, mut row) = chosen.map(|(key, row)| (key.clone(), row.clone())).unwrap();
        let keys = specs[at].key_columns;
        let mut gone = false;
        // What no item's key tells of is found only where every item can be mapped.
        let doubtful = specs[at].names_items && !nameless;
        match rng.u8(..6) {
            2 | 4 if doubtful => {
                row.version = set_back(row.version, rng);
            }
            0 => gone = true,
            1 => {
                let column = rng.usize(keys..row.cells.len());
                row.cells = with_cell(&row.cells, column, "damaged");
            }
            2 => {
                let column = if nameless { keys - 1 } else { 0 };
                let nobody = format!("nobody {}", rng.u8(..9));
                row.cells = with_cell(&row.cells, column, &nobody);
                row.children = row
                    .children
                    .iter()
                    .map(|(table, cells)| (*table, with_cell(cells, column, &nobody)))
                    .collect();
                key = key_of(&row.cells, keys);
            }
            3 => row.version = set_back(row.version, rng),
            4 => row.version.generation += 1,
            _ => drop(row.children.pop()),
        }
        if gone {
            rows.remove(&key);
        } else {
            rows.insert(key.clone(), row.clone());
        }
        let row = (!gone).then_some(row);
        state.record(Event::Damaged { table: TableIndex(u16::try_from(at).unwrap()), key, row });
    }
}

/// Damages the history of some row, or adds one without a row; tells how many.
fn damage_history(state: &mut State, table: TableIndex, rng: &mut fastrand::Rng) -> u64 {
    let chains: Vec<_> = state.histories.keys().filter(|(at, _)| *at == table).cloned().collect();
    if chains.is_empty() {
        return 0;
    }
    let mut at = chains[rng.usize(..chains.len())].clone();
    let mut chain = state.histories[&at].clone();
    if rng.u8(..5) == 0 {
        at.1[0] = Some(format!("nobody {}", rng.u8(..9)));
    } else if histories::damaged(&mut chain, rng).is_none() {
        return 0;
    }
    state.histories.insert(at.clone(), chain.clone());
    state.record(Event::HistoryDamaged { histories: vec![(at, chain)] });
    1
}

fn set_back(version: Version, rng: &mut fastrand::Rng) -> Version {
    match rng.u8(..3) {
        0 => Version { sequence: SequenceNumber::ZERO, ..version },
        1 => {
            let text = version.sequence.to_string();
            let tenth = SequenceNumber::parse(&text[..text.len() - 1]);
            Version { sequence: tenth.unwrap_or(SequenceNumber::ZERO), ..version }
        }
        _ => Version { generation: version.generation.max(2) - 1, ..version },
    }
}

fn with_cell(cells: &Cells, column: usize, value: &str) -> Cells {
    let own = cells.iter().enumerate();
    own.map(|(at, cell)| if at == column { Some(value) } else { cell }).collect()
}
