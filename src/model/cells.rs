//! One row's cells in one allocation for the text and one for the ends.

use std::cmp::Ordering;
use std::fmt::{self, Write};

/// The top bit of an end marks a NULL cell, so a row's text is limited to 2 GiB, far above an item's 400 KB.
const NULL_BIT: u32 = 1 << 31;

/// A row's cells as Postgres text: exact, canonical, already checked by `mapping/convert/`.
///
/// Equal cells mean equal values, so keys are compared and sorted by their text.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Cells {
    text: String,
    ends: Vec<u32>,
}

impl Cells {
    /// No cells yet, with room for `cells` cells of `bytes` in total.
    #[must_use]
    pub fn with_capacity(cells: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(cells) }
    }

    /// Adds a NULL.
    pub fn push_null(&mut self) {
        self.ends.push(self.end() | NULL_BIT);
    }

    /// Adds a value.
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.end());
    }

    /// Adds a value's printed text.
    pub fn push_display(&mut self, value: impl fmt::Display) {
        self.push_with(|text| {
            write!(text, "{value}").expect("writing to a string cannot fail");
        });
    }

    /// Adds a value that `write` appends to the row's text, which it must not change otherwise.
    pub fn push_with<T>(&mut self, write: impl FnOnce(&mut String) -> T) -> T {
        let result = write(&mut self.text);
        self.ends.push(self.end());
        result
    }

    /// Removes every cell from the `cells`-th on.
    pub fn truncate(&mut self, cells: usize) {
        self.ends.truncate(cells);
        self.text.truncate(self.ends.last().map_or(0, |end| (end & !NULL_BIT) as usize));
    }

    /// The cell's value; `None` for NULL.
    ///
    /// # Panics
    /// If there is no such cell: the mapping decides how many cells a row has.
    #[must_use]
    pub fn cell(&self, index: usize) -> Option<&str> {
        let end = self.ends[index];
        if end & NULL_BIT != 0 {
            return None;
        }
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] & !NULL_BIT);
        Some(&self.text[start as usize..end as usize])
    }

    /// All cells in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        (0..self.ends.len()).map(|index| self.cell(index))
    }

    /// The first `cells` cells as a separate row: the primary key.
    #[must_use]
    pub fn prefix(&self, cells: usize) -> Self {
        let mut key = self.clone();
        key.truncate(cells);
        key
    }

    /// Compares the first `cells` cells of both, NULL before any value. A batch writes its keys in this
    /// order, which only has to be the same for every writer.
    #[must_use]
    pub fn cmp_prefix(&self, other: &Self, cells: usize) -> Ordering {
        (0..cells)
            .map(|index| self.cell(index).cmp(&other.cell(index)))
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// How many cells there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all values together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    fn end(&self) -> u32 {
        u32::try_from(self.text.len()).expect("a row's text stays below 2 GiB")
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<Option<&'a str>> for Cells {
    fn from_iter<I: IntoIterator<Item = Option<&'a str>>>(values: I) -> Self {
        let mut cells = Self::default();
        for value in values {
            match value {
                Some(value) => cells.push(value),
                None => cells.push_null(),
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_stay_apart_and_boundaries_count() {
        let cells: Cells = [Some("ab"), None, Some(""), Some("c")].into_iter().collect();
        let read: Vec<_> = cells.iter().collect();
        assert_eq!(read, [Some("ab"), None, Some(""), Some("c")]);
        let other: Cells = [Some("a"), None, Some(""), Some("bc")].into_iter().collect();
        assert_ne!(cells, other);
        assert_eq!(cells.prefix(2).iter().collect::<Vec<_>>(), [Some("ab"), None]);
    }
}
