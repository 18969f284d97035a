//! Which rows does the database refuse? Asked by halves, purely.

/// Finds the units that the database refuses, by halves, never by savepoints.
///
/// It asks for ever smaller ranges, left to right, each together with all that was accepted before it, so
/// that rows which only clash with one another are found too. `k` bad ones among `n` cost about
/// `2 k log2(n/k)` probes.
#[derive(Debug)]
pub struct Bisect {
    open: Vec<std::ops::Range<usize>>,
    refused: Vec<(usize, String)>,
}

impl Bisect {
    /// Among `units`, of which some are known to be bad.
    #[must_use]
    pub fn new(units: usize) -> Self {
        let mut bisect = Self { open: Vec::new(), refused: Vec::new() };
        bisect.split(0..units);
        bisect
    }

    /// The units to probe next: those below the end of the range in question that are not refused already.
    /// `None` when all is known.
    #[must_use]
    pub fn probe(&self) -> Option<Vec<usize>> {
        let end = self.open.last()?.end;
        let refused = |unit: &usize| self.refused.iter().any(|(bad, _)| bad == unit);
        Some((0..end).filter(|unit| !refused(unit)).collect())
    }

    /// Takes the database's answer to the last probe: what it said where it refused.
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
