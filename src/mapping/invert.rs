//! Turns a row's primary key back into its item's key, if the mapping allows it.
//!
//! This direction serves to check whether a row's item still exists. The answer is never a guess: the
//! rendered key is routed and mapped again, and unless that gives the very same row, there is no answer.

use super::compile::{Column, Entity, Source};
use super::definition::OnDelete;
use super::row::{self, Material};
use super::template::{Captures, Template};
use super::{Mapper, convert};
use crate::model::{AttributeValue, Cells, Item, KeyType, TableIndex};

impl Mapper {
    /// Whether rows of this table can outlive their items: `on_delete` or `on_ttl` keeps them.
    #[must_use]
    pub fn keeps_rows(&self, table: TableIndex) -> bool {
        let keeps = |entity: &Entity| [entity.on_delete, entity.on_ttl].contains(&OnDelete::Keep);
        self.entity_of(table).is_some_and(keeps)
    }

    /// Whether rows of this table identify their items: every key attribute of the DynamoDB table can be
    /// rendered from the row's primary key.
    #[must_use]
    pub fn names_items(&self, table: TableIndex, schema: &[(String, KeyType)]) -> bool {
        self.entity_of(table).is_some_and(|entity| {
            entity.needs_image_for.is_none()
                && schema.iter().all(|(name, _)| entity.origin_of(name).is_some())
        })
    }

    /// The key of the item of the row with this primary key; `None` if the row's key does not give it, or no
    /// item of this mapping can have it.
    #[must_use]
    pub fn item_key(
        &self,
        table: TableIndex,
        key: &Cells,
        schema: &[(String, KeyType)],
    ) -> Option<Item> {
        let entity = self.entity_of(table)?;
        if !self.names_items(table, schema) {
            return None;
        }
        let mut item = Item::with_capacity(schema.len());
        for (name, key_type) in schema {
            let text = match entity.origin_of(name)? {
                Origin::Template(template) => template.render(|slot| {
                    let at = entity.key_column(&Source::Capture(slot))?;
                    key.cell(at)
                })?,
                Origin::Column(at) => key.cell(at)?.to_owned(),
            };
            item.push(name.clone(), attribute(text, *key_type)?);
        }
        let mut captures = Captures::default();
        if !entity.takes(&item, &mut captures) {
            return None;
        }
        let material = Material { captures: &captures, keys: &item, image: None };
        let again = row::key(entity, &material).ok()?;
        again.iter().eq(key.iter()).then_some(item)
    }

    fn entity_of(&self, table: TableIndex) -> Option<&Entity> {
        self.entities.iter().find(|entity| entity.table == table)
    }
}

/// The source of a key attribute's value.
enum Origin<'a> {
    Template(&'a Template),
    /// The column of the primary key that holds the whole attribute.
    Column(usize),
}

impl Entity {
    fn origin_of(&self, attribute: &str) -> Option<Origin<'_>> {
        let whole = |source: &Source| match source {
            Source::Path(path) => path.root == attribute && path.steps.is_empty(),
            _ => false,
        };
        let mut columns = self.key_sources();
        if let Some(at) = columns.position(|column| whole(&column.source)) {
            return Some(Origin::Column(at));
        }
        let (_, template) = self.keys.iter().find(|(name, _)| name == attribute)?;
        let known = |slot: usize| self.key_column(&Source::Capture(slot)).is_some();
        template.slots_all(known).then_some(Origin::Template(template))
    }

    fn key_column(&self, source: &Source) -> Option<usize> {
        self.key_sources().position(|column| column.source == *source)
    }

    fn key_sources(&self) -> impl Iterator<Item = &Column> {
        self.rows.columns.iter().take(self.rows.key_columns)
    }
}

fn attribute(text: String, key_type: KeyType) -> Option<AttributeValue> {
    Some(match key_type {
        KeyType::S => AttributeValue::S(text),
        KeyType::N => {
            convert::decimal(&text).ok()?;
            AttributeValue::N(text)
        }
        KeyType::B => AttributeValue::B(bytes(text.strip_prefix("\\x")?)?),
    })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = hex.chars().map(|char| char.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| u8::try_from(pair.iter().fold(0, |sum, digit| sum * 16 + digit)).ok())
        .collect()
}
