//! Builds one row: its cells from an item, a key or a child's element.

use std::sync::Arc;

use super::compile::{Absent, Child, Column, Entity, Rows, Source};
use super::convert::number::Decimal;
use super::convert::{Loss, type_name};
use super::definition::OnError;
use super::rest;
use super::template::{Captured, Captures};
use crate::model::{AttributeValue, Cells, Item, Reject, RejectReason, TableIndex};

/// The input for the cells of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Material<'a> {
    /// The captures of the key's templates.
    pub(crate) captures: &'a Captures<'a>,
    /// The item's key attributes.
    pub(crate) keys: &'a Item,
    /// The item's image; for a removal the old one, if the stream carries it.
    pub(crate) image: Option<&'a Item>,
}

/// An element of a list, set or map that becomes a child row.
#[derive(Debug, Clone, Copy)]
struct Element<'a> {
    index: usize,
    key: Option<&'a str>,
    value: &'a AttributeValue,
}

/// The source value of a cell.
enum Found<'a> {
    Nothing,
    Attribute(&'a AttributeValue),
    Text(&'a str),
    Index(usize),
    Cell(&'a str),
}

/// The expected bytes per cell, so that most rows need one allocation.
const CELL_BYTES: usize = 16;

/// The whole row of an entity.
pub(crate) fn row(entity: &Entity, material: &Material<'_>) -> Result<Cells, Reject> {
    let rows = &entity.rows;
    let count = rows.columns.len() + usize::from(rows.rest.is_some());
    let mut cells = Cells::with_capacity(count + 1, count * CELL_BYTES);
    fill(entity, rows, &Place { material, element: None }, &mut cells)?;
    if entity.soft {
        // An existing item is not deleted, whatever its row said before.
        cells.push_null();
    }
    Ok(cells)
}

/// The primary key of an entity's row.
pub(crate) fn key(entity: &Entity, material: &Material<'_>) -> Result<Cells, Reject> {
    let count = entity.rows.key_columns;
    let mut cells = Cells::with_capacity(count, count * 2 * CELL_BYTES);
    let place = Place { material, element: None };
    for column in entity.rows.columns.iter().take(count) {
        cell(column, &place, &mut cells).map_err(|loss| reject(entity, &column.place, loss))?;
    }
    Ok(cells)
}

/// The rows of an entity's child tables, each before those of its own children.
pub(crate) fn children(
    entity: &Entity,
    material: &Material<'_>,
    parent: &Cells,
) -> Result<Vec<(TableIndex, Cells)>, Reject> {
    let mut family = Family { entity, material, rows: Vec::new(), counts: Vec::new() };
    for child in &entity.children {
        let image = material.image;
        let value = child.from.as_ref().and_then(|from| from.find(image?));
        family.add(child, parent, value)?;
        family.check_distinct(child)?;
    }
    Ok(family.rows)
}

/// The child rows of one item.
struct Family<'e> {
    entity: &'e Entity,
    material: &'e Material<'e>,
    rows: Vec<(TableIndex, Cells)>,
    /// The number of rows in each table.
    counts: Vec<(TableIndex, usize)>,
}

impl Family<'_> {
    /// Adds the child rows of one parent row, if any.
    fn add(
        &mut self,
        child: &Child,
        parent: &Cells,
        value: Option<&AttributeValue>,
    ) -> Result<(), Reject> {
        let value = match value {
            None | Some(AttributeValue::Null(_)) => return Ok(()),
            Some(value) => value,
        };
        let entity = self.entity;
        let before = self.count(child.table);
        let mut add = |element: Element<'_>| {
            let cells = child_row(entity, child, parent, self.material, element)?;
            if child.children.is_empty() {
                self.push(child.table, cells);
                return Ok(());
            }
            let key = cells.prefix(child.parent_keys + child.rows.key_columns);
            self.push(child.table, cells);
            for inner in &child.children {
                let held = held(entity, inner, element.value)?;
                self.add(inner, &key, held)?;
            }
            Ok(())
        };
        each_element(entity, child, before, value, &mut add)
    }

    fn push(&mut self, table: TableIndex, cells: Cells) {
        match self.counts.iter_mut().find(|(own, _)| *own == table) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((table, 1)),
        }
        self.rows.push((table, cells));
    }

    /// The number of rows in a table. Only a grandchild's table can have rows before its turn.
    fn count(&self, table: TableIndex) -> usize {
        self.counts.iter().find(|(own, _)| *own == table).map_or(0, |(_, count)| *count)
    }

    /// Refuses two rows with one key, in this table and its children.
    fn check_distinct(&self, child: &Child) -> Result<(), Reject> {
        if child.may_repeat {
            let key_cells = child.parent_keys + child.rows.key_columns;
            let own = self.rows.iter().filter(|(table, _)| *table == child.table);
            let mut keys: Vec<Vec<_>> =
                own.map(|(_, cells)| cells.iter().take(key_cells).collect()).collect();
            keys.sort_unstable();
            if keys.windows(2).any(|pair| pair.first() == pair.last()) {
                let loss = Loss::new(RejectReason::Format, "two elements have one primary key");
                return Err(reject(self.entity, &child.place, loss));
            }
        }
        child.children.iter().try_for_each(|inner| self.check_distinct(inner))
    }
}

/// The value of an element for its row's children.
fn held<'v>(
    entity: &Entity,
    inner: &Child,
    element: &'v AttributeValue,
) -> Result<Option<&'v AttributeValue>, Reject> {
    match (&inner.from, element) {
        (None, element) => Ok(Some(element)),
        (Some(from), AttributeValue::M(map)) => Ok(from.find_in(map)),
        (Some(_), other) => {
            let detail = format!("a {} has no attributes", type_name(other));
            Err(reject(entity, &inner.place, Loss::new(RejectReason::Type, detail)))
        }
    }
}

fn each_element(
    entity: &Entity,
    child: &Child,
    before: usize,
    value: &AttributeValue,
    add: &mut dyn FnMut(Element<'_>) -> Result<(), Reject>,
) -> Result<(), Reject> {
    let bounded = |count: usize| {
        let count = before + count;
        if count <= child.limit {
            return Ok(());
        }
        let detail = format!("{count} child rows exceed the limit of {}", child.limit);
        Err(reject(entity, &child.place, Loss::new(RejectReason::Limit, detail)))
    };
    let mut members = |members: Vec<AttributeValue>| {
        bounded(members.len())?;
        let mut numbered = members.iter().enumerate();
        numbered.try_for_each(|(index, value)| add(Element { index, key: None, value }))
    };
    match value {
        AttributeValue::L(list) => {
            bounded(list.len())?;
            let mut numbered = list.iter().enumerate();
            numbered.try_for_each(|(index, value)| add(Element { index, key: None, value }))
        }
        AttributeValue::M(map) => {
            bounded(map.len())?;
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            let mut numbered = entries.into_iter().enumerate();
            numbered
                .try_for_each(|(index, (key, value))| add(Element { index, key: Some(key), value }))
        }
        AttributeValue::Ss(set) => {
            let mut sorted = set.clone();
            sorted.sort_unstable();
            members(sorted.into_iter().map(AttributeValue::S).collect())
        }
        AttributeValue::Bs(set) => {
            let mut sorted = set.clone();
            sorted.sort_unstable();
            members(sorted.into_iter().map(AttributeValue::B).collect())
        }
        AttributeValue::Ns(set) => {
            let mut sorted = set.clone();
            sorted.sort_by(|left, right| Decimal::parse(left).cmp(&Decimal::parse(right)));
            members(sorted.into_iter().map(AttributeValue::N).collect())
        }
        other => {
            let detail = format!("a {} cannot become child rows", type_name(other));
            Err(reject(entity, &child.place, Loss::new(RejectReason::Type, detail)))
        }
    }
}

fn child_row(
    entity: &Entity,
    child: &Child,
    parent: &Cells,
    material: &Material<'_>,
    element: Element<'_>,
) -> Result<Cells, Reject> {
    let by_name = |column: &Column| matches!(column.source, Source::Path(_));
    if !matches!(element.value, AttributeValue::M(_)) && child.rows.columns.iter().any(by_name) {
        let detail = format!("a {} has no attributes", type_name(element.value));
        return Err(reject(entity, &child.place, Loss::new(RejectReason::Type, detail)));
    }
    let own = child.rows.columns.len() + usize::from(child.rows.rest.is_some());
    let count = child.parent_keys + own;
    let mut cells = Cells::with_capacity(count, count * CELL_BYTES);
    for cell in parent.iter().take(child.parent_keys) {
        match cell {
            Some(text) => cells.push(text),
            None => cells.push_null(),
        }
    }
    fill(entity, &child.rows, &Place { material, element: Some(element) }, &mut cells)?;
    Ok(cells)
}

/// Where to look for a cell's value.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    material: &'a Material<'a>,
    element: Option<Element<'a>>,
}

fn fill(entity: &Entity, rows: &Rows, place: &Place<'_>, cells: &mut Cells) -> Result<(), Reject> {
    let mut failed = Vec::new();
    for (index, column) in rows.columns.iter().enumerate() {
        let before = cells.len();
        let Err(loss) = cell(column, place, cells) else { continue };
        cells.truncate(before);
        match (column.on_error, &column.absent) {
            (OnError::Null, _) => cells.push_null(),
            (OnError::Default, Absent::Default(text)) => cells.push(text),
            (OnError::Rest, _) => {
                cells.push_null();
                failed.push(index);
            }
            _ => return Err(reject(entity, &column.place, loss)),
        }
    }
    let Some((name, mapped)) = &rows.rest else { return Ok(()) };
    let written = cells.push_with(|out| match (place.element, place.material.image) {
        (Some(Element { value: AttributeValue::M(map), .. }), _) => {
            rest::of_map(map, mapped, &failed, out)
        }
        (None, Some(image)) => rest::of_item(image, mapped, &failed, out),
        _ => {
            out.push_str("{}");
            Ok(())
        }
    });
    written.map_err(|loss| reject(entity, name, loss))
}

/// Adds one cell; on a loss the cells may hold a part of it.
fn cell(column: &Column, place: &Place<'_>, cells: &mut Cells) -> Result<(), Loss> {
    let conversion = &column.conversion;
    match place.find(&column.source) {
        Found::Attribute(value) if !conversion.is_null(value) => {
            cells.push_with(|out| conversion.attribute(value, out))
        }
        Found::Text(text) => cells.push_with(|out| conversion.text(text, out)),
        Found::Cell(text) => {
            cells.push(text);
            Ok(())
        }
        Found::Index(index) if conversion.value_map.is_none() => {
            cells.push_display(index);
            Ok(())
        }
        Found::Index(index) => cells.push_with(|out| conversion.text(&index.to_string(), out)),
        Found::Attribute(_) | Found::Nothing => match &column.absent {
            Absent::Null => {
                cells.push_null();
                Ok(())
            }
            Absent::Default(text) => {
                cells.push(text);
                Ok(())
            }
            Absent::Reject => Err(Loss::new(RejectReason::Missing, "absent or null")),
        },
    }
}

impl<'a> Place<'a> {
    fn find(&self, source: &'a Source) -> Found<'a> {
        let attribute =
            |value: Option<&'a AttributeValue>| value.map_or(Found::Nothing, Found::Attribute);
        match (source, self.element) {
            (Source::Capture(slot), _) => match self.material.captures.get(*slot) {
                Some(Captured::Text(text)) => Found::Text(text),
                Some(Captured::Whole(value)) => Found::Attribute(value),
                _ => Found::Nothing,
            },
            (Source::Path(path), None) => {
                // Keys first: a removal may have nothing else.
                let own = self.material.keys;
                let image = || self.material.image.and_then(|image| path.find(image));
                attribute(path.find(own).or_else(image))
            }
            (Source::Path(path), Some(element)) => match element.value {
                AttributeValue::M(map) => attribute(path.find_in(map)),
                _ => Found::Nothing,
            },
            (Source::Index, Some(element)) => Found::Index(element.index),
            (Source::Key, Some(element)) => element.key.map_or(Found::Nothing, Found::Text),
            (Source::Value, Some(element)) => Found::Attribute(element.value),
            (Source::Constant(text), _) => Found::Cell(text),
            (Source::Index | Source::Key | Source::Value, None) => Found::Nothing,
        }
    }
}

/// A loss in a column of an entity.
pub(crate) fn reject(entity: &Entity, place: &Arc<str>, loss: Loss) -> Reject {
    Reject {
        reason: loss.reason,
        entity: Some(Arc::clone(&entity.name)),
        place: Some(Arc::clone(place)),
        detail: loss.detail.into_owned(),
    }
}
