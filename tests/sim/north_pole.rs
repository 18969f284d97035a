//! What is written in the simulated runs: children, their letters and elves in one table, and how they are
//! mapped. An elf has a seat, which is its row's key: it moves, and two change places in one transaction.

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
/// How many elves there are, and how many seats for them.
const ELVES: u64 = 4;
const SEATS: u64 = 6;
/// A body that the database refuses.
const CURSED: &str = "cursed";

/// Two entities under one key, a filter, child rows, and types that not every value fits; with `moves` an
/// entity whose rows move.
pub fn mapper(moves: bool) -> Mapper {
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
        entities: [child, letter].into_iter().chain(moves.then(elf)).collect(),
    };
    Mapper::compile(&definition).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Its row's key is no key of its item.
fn elf() -> EntityDefinition {
    let columns = [
        ("seat", "seat", "text"),
        ("elf", "{elf}", "text"),
        ("weight", "weight", "numeric(5,2)"),
        ("body", "body", "text"),
    ];
    let key = |attribute: &str, template: &str| KeyDefinition {
        attribute: said(attribute),
        template: said(template),
    };
    let mut rows = rows("seats", &columns);
    rows.primary_key = Some(vec![said("seat")]);
    EntityDefinition {
        name: said("elf"),
        key: vec![key("pk", "ELF#{elf}"), key("sk", "SEAT")],
        rows,
        ..EntityDefinition::default()
    }
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

/// One write of an elf, or of two that change places. No two have one seat, as the application sees to.
pub fn write_elf(world: &mut World, rng: &mut fastrand::Rng, oddities: Oddities) {
    let name = format!("ELF#{}", rng.u64(..ELVES));
    let seated: Vec<(Item, String)> = (world.table(TABLE).items.values())
        .filter_map(|item| Some((item.clone(), word(item, "seat")?)))
        .collect();
    let seat_of = |name: &str| {
        let own = seated.iter().find(|(item, _)| word(item, "pk").as_deref() == Some(name));
        own.map(|(_, seat)| seat.clone())
    };
    let free: Vec<String> = (0..SEATS)
        .map(|number| format!("seat {number}"))
        .filter(|seat| !seated.iter().any(|(_, taken)| taken == seat))
        .collect();
    match rng.u8(..10) {
        0..=3 if seated.len() > 1 => {
            let one = rng.usize(..seated.len());
            let other = (one + rng.usize(1..seated.len())) % seated.len();
            let mut both = [(one, other), (other, one)];
            rng.shuffle(&mut both);
            for (own, theirs) in both {
                let pk = word(&seated[own].0, "pk").unwrap_or_default();
                put_elf(world, rng, (&pk, Some(&seated[theirs].1)), oddities);
            }
            *world.tally.entry("keys exchanged in one transaction").or_insert(0) += 1;
        }
        4 => drop(world.delete(TABLE, &key(&name, "SEAT"))),
        5 if oddities.rejects => {
            put_elf(world, rng, (&name, None), oddities);
            *world.tally.entry("items that lose their row's key").or_insert(0) += 1;
        }
        6..=7 => {
            let seat = seat_of(&name).or_else(|| free.first().cloned());
            put_elf(world, rng, (&name, seat.as_deref()), oddities);
        }
        _ => {
            let seat = rng.choice(&free).cloned();
            put_elf(world, rng, (&name, seat.as_deref()), oddities);
            *world.tally.entry("items that move to another key").or_insert(0) += 1;
        }
    }
}

fn put_elf(
    world: &mut World,
    rng: &mut fastrand::Rng,
    (name, seat): (&str, Option<&str>),
    oddities: Oddities,
) {
    let mut item = key(name, "SEAT");
    if let Some(seat) = seat {
        item.push("seat".to_owned(), text(seat));
    } else if !oddities.rejects {
        return;
    }
    let bad = oddities.rejects && rng.u8(..5) == 0;
    let weight = if bad { "123456.5".to_owned() } else { format!("{}.50", rng.u8(..100)) };
    item.push("weight".to_owned(), AttributeValue::N(weight));
    let cursed = oddities.refusals && rng.u8(..5) == 0;
    let body = if cursed { CURSED.to_owned() } else { format!("body {}", rng.u32(..1000)) };
    item.push("body".to_owned(), text(&body));
    if bad || cursed {
        *world.tally.entry("rejects of items that move").or_insert(0) += 1;
    }
    drop(world.put(TABLE, item));
}

fn word(item: &Item, name: &str) -> Option<String> {
    match item.attribute(name) {
        Some(AttributeValue::S(text)) => Some(text.clone()),
        _ => None,
    }
}

/// Which records out of the ordinary are written.
#[derive(Debug, Clone, Copy)]
pub struct Oddities {
    /// Records that cannot be mapped.
    pub rejects: bool,
    /// Rows that the database refuses.
    pub refusals: bool,
    /// Items whose rows move, for which the stream must carry old images.
    pub moves: bool,
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
