//! What is written in the simulated runs: children and their letters in one table, and how they are mapped.

use dynaurora::mapping::definition::{
    ChildDefinition, ColumnDefinition, EntityDefinition, KeyDefinition, OnDelete, RowsDefinition,
    SourceDefinition, Span, Spanned,
};
use dynaurora::mapping::{Mapper, Unmatched};
use dynaurora::model::{AttributeValue, Item, RowOp};

use crate::world::World;

/// The table.
pub const TABLE: &str = "NorthPole";
/// Its key attributes.
pub const KEYS: [&str; 2] = ["pk", "sk"];
/// How many children there are; few, so that changes of one key meet in one batch.
const CHILDREN: u64 = 5;
/// How many letters each child writes.
const LETTERS: u64 = 3;
/// A body that the database refuses.
const CURSED: &str = "cursed";

/// Two entities under one key, a filter, child rows, and types that not every value fits.
pub fn mapper() -> Mapper {
    let child = entity(
        "child",
        "PROFILE",
        "children",
        &[
            ("child_id", "{child_id}", "text"),
            ("name", "name", "text"),
            ("weight", "weight", "numeric(5,2)"),
        ],
    );
    let mut letter = entity(
        "letter",
        "LETTER#{number:int}",
        "letters",
        &[
            ("child_id", "{child_id}", "text"),
            ("number", "{number}", "bigint"),
            ("body", "body", "text"),
            ("meta", "meta", "jsonb"),
        ],
    );
    letter.filter = Some(said("attribute_not_exists(draft)"));
    letter.on_delete = OnDelete::Soft;
    letter.on_ttl = Some(OnDelete::Delete);
    letter.history = Some(said("letters_history"));
    let toys = [("position", "@index", "int"), ("sku", "@value", "text")];
    letter.children = vec![ChildDefinition {
        name: said("toys"),
        from: said("toys"),
        limit: Some(3),
        rows: rows("letter_toys", &toys),
        children: Vec::new(),
    }];
    let definition = SourceDefinition {
        name: said("santa"),
        unmatched: Unmatched::DeadLetter,
        entities: vec![child, letter],
    };
    Mapper::compile(&definition).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Whether the database refuses a row.
pub fn refuses(op: &RowOp) -> bool {
    op.cells.iter().any(|cell| cell == Some(CURSED))
}

/// One write of somebody: mostly letters, sometimes what cannot be mapped or stored.
pub fn write(world: &mut World, rng: &mut fastrand::Rng, oddities: Oddities) {
    let child = format!("CHILD#{}", rng.u64(..CHILDREN));
    let letter = format!("LETTER#{}", rng.u64(..LETTERS));
    let profile = rng.u8(..4) == 0;
    let sort = if profile { "PROFILE" } else { letter.as_str() };
    let mut item = key(&child, sort);
    match rng.u8(..10) {
        0..=1 => drop(world.delete(TABLE, &item)),
        2 if rng.u8(..2) == 0 => drop(world.expire(TABLE, &item)),
        _ => {
            if profile {
                fill_profile(&mut item, rng, oddities);
            } else {
                fill_letter(&mut item, rng, oddities);
            }
            drop(world.put(TABLE, item));
        }
    }
    if oddities.rejects && rng.u8(..25) == 0 {
        drop(world.put(TABLE, key(&child, "SLEIGH")));
    }
}

/// Which records out of the ordinary are written.
#[derive(Debug, Clone, Copy)]
pub struct Oddities {
    /// Records that cannot be mapped.
    pub rejects: bool,
    /// Rows that the database refuses.
    pub refusals: bool,
}

fn fill_profile(item: &mut Item, rng: &mut fastrand::Rng, oddities: Oddities) {
    item.push("name".to_owned(), text(&format!("name {}", rng.u32(..100))));
    let weight = if oddities.rejects && rng.u8(..6) == 0 { "123456.5" } else { "12.50" };
    item.push("weight".to_owned(), AttributeValue::N(weight.to_owned()));
}

fn fill_letter(item: &mut Item, rng: &mut fastrand::Rng, oddities: Oddities) {
    let body = match rng.u8(..8) {
        0 if oddities.refusals => CURSED.to_owned(),
        1 if oddities.rejects => "no\u{0}l".to_owned(),
        _ => format!("body {}", rng.u32(..1000)),
    };
    item.push("body".to_owned(), text(&body));
    if rng.u8(..6) == 0 {
        item.push("draft".to_owned(), AttributeValue::Bool(true));
    }
    let most = if oddities.rejects { 5 } else { 4 };
    let toys = (0..rng.usize(..most)).map(|_| text(&format!("sku {}", rng.u8(..9)))).collect();
    item.push("toys".to_owned(), AttributeValue::L(toys));
}

fn key(child: &str, sort: &str) -> Item {
    [("pk".to_owned(), text(child)), ("sk".to_owned(), text(sort))].into_iter().collect()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn entity(name: &str, sort: &str, table: &str, columns: &[(&str, &str, &str)]) -> EntityDefinition {
    let key = |attribute: &str, template: &str| KeyDefinition {
        attribute: said(attribute),
        template: said(template),
    };
    EntityDefinition {
        name: said(name),
        key: vec![key("pk", "CHILD#{child_id}"), key("sk", sort)],
        rows: rows(table, columns),
        ..EntityDefinition::default()
    }
}

fn rows(table: &str, columns: &[(&str, &str, &str)]) -> RowsDefinition {
    let column = |(name, from, column_type): &(&str, &str, &str)| ColumnDefinition {
        column_type: Some(said(column_type)),
        ..ColumnDefinition::plain(said(name), said(from))
    };
    let columns = columns.iter().map(column).collect();
    RowsDefinition { table: said(table), columns, ..RowsDefinition::default() }
}

fn said(text: &str) -> Spanned<String> {
    Spanned::new(text.to_owned(), Span::default())
}
