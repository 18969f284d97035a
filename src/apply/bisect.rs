//! Finds the rows that the database refuses, purely.

/// Finds the units that the database refuses, by halving, without savepoints.
///
/// It probes ever smaller ranges, left to right, each together with everything accepted before it, so it
/// also finds rows that only clash with one another. `k` bad units among `n` cost about `2 k log2(n/k)`
/// probes.
#[derive(Debug)]
pub struct Bisect {
    open: Vec<std::ops::Range<usize>>,
    refused: Vec<(usize, String)>,
}

impl Bisect {
    /// Searches `units`, some of which are known to be bad.
    #[must_use]
    pub fn new(units: usize) -> Self {
        let mut bisect = Self { open: Vec::new(), refused: Vec::new() };
        bisect.split(0..units);
        bisect
    }

    /// The units to probe next: those before the end of the current range, without refused ones. `None` when
    /// the search is over.
    #[must_use]
    pub fn probe(&self) -> Option<Vec<usize>> {
        let end = self.open.last()?.end;
        let refused = |unit: &usize| self.refused.iter().any(|(bad, _)| bad == unit);
        Some((0..end).filter(|unit| !refused(unit)).collect())
    }

    /// Takes the database's answer to the last probe, with its message if it refused.
    pub fn answer(&mut self, answer: Result<(), String>) {
        let Some(range) = self.open.pop() else { return };
        if let Err(said) = answer {
            if range.len() == 1 {
                self.refused.push((range.start, said));
            } else {
                self.split(range);
            }
        }
    }

    /// The refused units, in ascending order.
    #[must_use]
    pub fn into_refused(self) -> Vec<(usize, String)> {
        self.refused
    }

    fn split(&mut self, range: std::ops::Range<usize>) {
        let middle = range.start + range.len() / 2;
        for half in [middle..range.end, range.start..middle] {
            if !half.is_empty() {
                self.open.push(half);
            }
        }
    }
}
