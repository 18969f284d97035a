//! The `rest` column: every unmapped attribute in one document, so that nothing is lost unnoticed.
//!
//! If only a part of a map is mapped (`address.city`), the rest keeps the other part.

use std::collections::HashMap;

use super::convert::{Loss, json, json_string};
use super::definition::NulPolicy;
use super::path::{Path, Step};
use crate::model::{AttributeValue, Item};

/// The attributes mapped elsewhere, as a tree of names.
#[derive(Debug, Default)]
pub(crate) struct Mapped(Vec<(String, Node)>);

#[derive(Debug)]
enum Node {
    /// All of it; by this column, or permanently.
    Whole(Option<usize>),
    /// Parts of a map.
    Below(Mapped),
}

impl Mapped {
    /// Takes a whole attribute permanently.
    pub(crate) fn take_name(&mut self, name: &str) {
        self.enter(name, &mut std::iter::empty(), None);
    }

    /// Takes the path of a column or a child table. A list's element takes nothing out of the rest, because
    /// the other elements would move.
    pub(crate) fn take(&mut self, path: &Path, column: Option<usize>) {
        let names = path.steps.iter().map(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Index(_) => None,
        });
        if names.clone().all(|name| name.is_some()) {
            self.enter(&path.root, &mut names.flatten(), column);
        }
    }

    fn enter(&mut self, name: &str, below: &mut dyn Iterator<Item = &str>, column: Option<usize>) {
        let at = self.0.iter().position(|(own, _)| own == name);
        let next = below.next();
        match (at.and_then(|at| self.0.get_mut(at)), next) {
            (Some((_, Node::Below(mapped))), Some(next)) => mapped.enter(next, below, column),
            (Some((_, Node::Whole(_))), Some(_)) => {}
            (Some((_, node)), None) => *node = Node::Whole(column),
            (None, None) => self.0.push((name.to_owned(), Node::Whole(column))),
            (None, Some(next)) => {
                let mut mapped = Self::default();
                mapped.enter(next, below, column);
                self.0.push((name.to_owned(), Node::Below(mapped)));
            }
        }
    }

    fn node(&self, name: &str) -> Option<&Node> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, node)| node)
    }
}

/// Appends the rest of an item, including what the columns in `failed` could not take.
pub(crate) fn of_item(
    item: &Item,
    mapped: &Mapped,
    failed: &[usize],
    out: &mut String,
) -> Result<(), Loss> {
    let mut left: Vec<_> =
        item.iter().filter(|(name, value)| mapped.leaves(name, value, failed)).collect();
    left.sort_unstable_by_key(|(name, _)| *name);
    mapped.document(left, failed, out)
}

/// Appends the rest of a child's element.
pub(crate) fn of_map(
    map: &HashMap<String, AttributeValue>,
    mapped: &Mapped,
    failed: &[usize],
    out: &mut String,
) -> Result<(), Loss> {
    let mut left: Vec<_> = map
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, value)| mapped.leaves(name, value, failed))
        .collect();
    left.sort_unstable_by_key(|(name, _)| *name);
    mapped.document(left, failed, out)
}

impl Mapped {
    /// Whether any part of this attribute remains.
    fn leaves(&self, name: &str, value: &AttributeValue, failed: &[usize]) -> bool {
        match (self.node(name), value) {
            (None, _) => true,
            (Some(Node::Whole(column)), _) => column.is_some_and(|column| failed.contains(&column)),
            (Some(Node::Below(mapped)), AttributeValue::M(map)) => {
                map.is_empty() || map.iter().any(|(name, value)| mapped.leaves(name, value, failed))
            }
            // The paths lead through something that is not a map, so no column took it.
            (Some(Node::Below(_)), _) => true,
        }
    }

    fn document(
        &self,
        left: Vec<(&str, &AttributeValue)>,
        failed: &[usize],
        out: &mut String,
    ) -> Result<(), Loss> {
        out.push('{');
        for (index, (name, value)) in left.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            json_string(name, NulPolicy::Reject, out)?;
            out.push(':');
            match (self.node(name), value) {
                (Some(Node::Below(mapped)), AttributeValue::M(map)) => {
                    of_map(map, mapped, failed, out)?;
                }
                _ => json(value, NulPolicy::Reject, out)?,
            }
        }
        out.push('}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_left_out_and_nothing_else() {
        let item: Item = serde_json::from_str(
            r#"{"pk":{"S":"k"},"a":{"M":{"city":{"S":"Oulu"},"zip":{"S":"90100"}}},
                "b":{"M":{"only":{"N":"1"}}},"c":{"S":"no map"},"d":{"N":"1.0"},
                "l":{"L":[{"N":"1"}]}}"#,
        )
        .unwrap();
        let mut mapped = Mapped::default();
        mapped.take_name("pk");
        for (index, path) in ["a.city", "b.only", "c.x.y", "d", "l[0]"].into_iter().enumerate() {
            mapped.take(&Path::parse(path).unwrap(), Some(index));
        }
        let left = |failed: &[usize]| {
            let mut out = String::new();
            of_item(&item, &mapped, failed, &mut out).unwrap();
            out
        };
        assert_eq!(left(&[]), r#"{"a":{"zip":"90100"},"c":"no map","l":[1]}"#);
        assert_eq!(
            left(&[1, 3]),
            r#"{"a":{"zip":"90100"},"b":{"only":1},"c":"no map","d":1,"l":[1]}"#
        );
    }

    #[test]
    fn a_whole_attribute_beats_its_parts() {
        let item: Item = serde_json::from_str(r#"{"a":{"M":{"x":{"N":"1"}}}}"#).unwrap();
        for order in [["a", "a.x"], ["a.x", "a"]] {
            let mut mapped = Mapped::default();
            for path in order {
                mapped.take(&Path::parse(path).unwrap(), None);
            }
            let mut out = String::new();
            of_item(&item, &mapped, &[], &mut out).unwrap();
            assert_eq!(out, "{}");
        }
    }
}
