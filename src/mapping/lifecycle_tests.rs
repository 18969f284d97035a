//! Rows that outlive an item: soft deletes, histories, and automatic columns.

use super::definition::*;
use super::spec::{AutoColumn, ColumnType, HISTORY_ENDS};
use super::tests::{ORDER_KEY, change, column, item, map, order, put, word};
use super::*;
use crate::model::{ChangeOp, EpochMillis, ItemTag, RowAction, TableIndex};

fn compile(entity: EntityDefinition) -> Mapper {
    try_compile(entity).unwrap()
}

fn try_compile(entity: EntityDefinition) -> Result<Mapper, Vec<Problem>> {
    let (name, unmatched) = (word("source"), Unmatched::DeadLetter);
    Mapper::compile(&SourceDefinition { name, unmatched, entities: vec![entity] })
}

fn soft() -> EntityDefinition {
    let mut definition = order(&["id = {id}", "city = city"]);
    definition.on_delete = OnDelete::Soft;
    definition
}

fn at(mut change: Change, millis: i64) -> Change {
    change.changed_at = Some(EpochMillis(millis));
    change
}

fn removal() -> Change {
    at(change(ChangeOp::Remove, ORDER_KEY, None, None), 1_796_083_200_000)
}

const OULU: &str = r#"{"city":{"S":"Oulu"}}"#;

#[test]
fn a_soft_delete_keeps_the_row_and_names_the_time() {
    let mapper = compile(soft());
    let table = &mapper.tables()[0];
    assert_eq!(table.deleted_at, Some(2));
    assert_eq!(table.columns[2].name, "deleted_at");
    assert_eq!(table.columns[2].column_type, ColumnType::Timestamptz);
    assert_eq!(map(&mapper, &removal()).1, ["SoftDelete orders(7,2026-12-01T00:00:00Z)"]);
    // A later change clears the mark.
    assert_eq!(map(&mapper, &put(OULU, ORDER_KEY)).1, ["Upsert orders(7,Oulu,NULL)"]);
    let mut unknown = removal();
    unknown.changed_at = None;
    assert_eq!(map(&mapper, &unknown).1, ["SoftDelete orders(7,NULL)"]);
}

#[test]
fn an_expiry_has_a_policy_of_its_own() {
    let mut definition = soft();
    definition.on_delete = OnDelete::Delete;
    definition.on_ttl = Some(OnDelete::Soft);
    definition.deleted_at = Some(word("gone_at"));
    let mapper = compile(definition);
    assert_eq!(mapper.tables()[0].columns[2].name, "gone_at");
    assert_eq!(map(&mapper, &removal()).1, ["Delete orders(7)"]);
    let expired = Change { expired: true, ..removal() };
    assert_eq!(map(&mapper, &expired).1, ["SoftDelete orders(7,2026-12-01T00:00:00Z)"]);
}

/// A sweep cannot tell rows kept by a removal from rows that never had an item.
#[test]
fn no_sweep_takes_what_a_removal_would_have_left() {
    use OnDelete::{Delete, Keep, Soft};
    let swept = |on_delete, on_ttl| {
        let definition = EntityDefinition { on_delete, on_ttl: Some(on_ttl), ..soft() };
        compile(definition).swept_tables()
    };
    for (on_delete, on_ttl) in [(Delete, Delete), (Delete, Soft), (Soft, Delete), (Soft, Soft)] {
        assert_eq!(swept(on_delete, on_ttl), [TableIndex(0)], "{on_delete:?} {on_ttl:?}");
    }
    for (on_delete, on_ttl) in [(Keep, Delete), (Delete, Keep), (Soft, Keep), (Keep, Keep)] {
        assert_eq!(swept(on_delete, on_ttl), [], "{on_delete:?} {on_ttl:?}");
    }
}

#[test]
fn leaving_the_filter_follows_on_delete() {
    for (policy, expected) in [
        (OnDelete::Delete, vec!["Delete orders(7)"]),
        (OnDelete::Soft, vec!["SoftDelete orders(7,NULL)"]),
        (OnDelete::Keep, vec![]),
    ] {
        let mut definition = soft();
        definition.on_delete = policy;
        definition.filter = Some(word("city <> 'Oulu'"));
        let (outcome, rows) = map(&compile(definition), &put(OULU, ORDER_KEY));
        assert_eq!(
            (outcome, rows),
            (Outcome::Filtered, expected.into_iter().map(String::from).collect())
        );
    }
}

#[test]
fn a_row_that_moves_leaves_a_mark_or_nothing() {
    let moved = change(ChangeOp::Modify, ORDER_KEY, Some(OULU), Some(r#"{"city":{"S":"Nuuk"}}"#));
    for (policy, expected) in [
        (OnDelete::Soft, "SoftDelete orders(Nuuk,7,NULL)"),
        (OnDelete::Keep, "Delete orders(Nuuk,7)"),
    ] {
        let mut definition = soft();
        definition.on_delete = policy;
        definition.rows.primary_key = Some(vec![word("city"), word("id")]);
        assert_eq!(map(&compile(definition), &moved).1[0], expected);
    }
}

/// No later change would name the row that the item has left.
#[test]
fn a_rejected_change_appends_the_end_of_the_row_that_its_item_left() {
    let mut definition = soft();
    definition.rows.primary_key = Some(vec![word("city"), word("id")]);
    definition
        .rows
        .columns
        .push(ColumnDefinition { column_type: Some(word("smallint")), ..column("size = size") });
    let mapper = compile(definition);
    let [nuuk, oulu] = ["Nuuk", "Oulu"].map(|city| format!(r#"{{"city":{{"S":"{city}"}}}}"#));
    let big = |city: &str| format!(r#"{{"city":{{"S":"{city}"}},"size":{{"N":"99999"}}}}"#);
    let no_key = r#"{"size":{"N":"1"}}"#;
    let ended = ["SoftDelete orders(Nuuk,7,NULL)"];
    for (new, old, expected) in [
        (big("Oulu"), Some(&nuuk), &ended[..]),
        (no_key.to_owned(), Some(&nuuk), &ended[..]),
        (big("Nuuk"), Some(&nuuk), &[]),
        (big("Oulu"), None, &[]),
    ] {
        let change = change(ChangeOp::Modify, ORDER_KEY, Some(&new), old.map(String::as_str));
        let mut rows = Vec::new();
        let outcome = mapper.map(&change, &mut rows);
        assert!(matches!(outcome, Outcome::Rejected(_)), "{new}: {outcome:?}");
        assert!(rows.iter().all(|row| row.item == Some(ItemTag::of(&change.keys))));
        assert_eq!(map(&mapper, &change).1, expected, "{new}");
    }
    // What has no key has no row, and its removal settles what was rejected.
    let gone = change(ChangeOp::Remove, ORDER_KEY, None, Some(no_key));
    assert_eq!(map(&mapper, &gone), (Outcome::Filtered, Vec::new()));
    let gone = change(ChangeOp::Remove, ORDER_KEY, None, Some(&oulu));
    assert_eq!(map(&mapper, &gone).1, ["SoftDelete orders(Oulu,7,NULL)"]);
    // A table whose key is the item's is as it was: its rows name no item.
    let plain = compile(soft());
    let mut rows = Vec::new();
    plain.map(&put(OULU, ORDER_KEY), &mut rows);
    assert!(rows.iter().all(|row| row.item.is_none()) && !plain.tables()[0].names_items);
}

#[test]
fn a_history_has_a_row_for_every_version() {
    let mut definition = soft();
    definition.history = Some(word("orders_history"));
    definition.rows.rest = Some(word("extra"));
    let mapper = compile(definition);
    let history = &mapper.tables()[1];
    let names: Vec<_> = history.columns.iter().map(|column| column.name.as_str()).collect();
    let expected = ["id", "dynaurora_version", "city", "extra", "op", "valid_from", "valid_to"];
    assert_eq!(names, expected);
    assert_eq!((history.key_columns, history.history_of), (2, Some(TableIndex(0))));
    assert!(!history.columns[3].not_null, "the end of a row has no rest");
    let time = 1_796_083_200_000;
    let (_, rows) = map(&mapper, &at(put(OULU, ORDER_KEY), time));
    let live = "Record orders_history(7,0,Oulu,{},modify,2026-12-01T00:00:00Z,NULL)";
    assert_eq!(rows, [live, "Upsert orders(7,Oulu,{},NULL)"]);
    let gone =
        |op: &str| format!("Record orders_history(7,0,NULL,NULL,{op},2026-12-01T00:00:00Z,NULL)");
    assert_eq!(map(&mapper, &removal()).1[0], gone("remove"));
    let expired = Change { expired: true, ..removal() };
    assert_eq!(map(&mapper, &expired).1[0], gone("expire"));
}

#[test]
fn a_history_follows_its_row() {
    let mut definition = soft();
    definition.on_delete = OnDelete::Keep;
    definition.history = Some(word("orders_history"));
    definition.filter = Some(word("city <> 'Oulu'"));
    let mapper = compile(definition);
    // The row stays unchanged, so its history has no end.
    assert!(map(&mapper, &removal()).1.is_empty());
    assert!(map(&mapper, &put(OULU, ORDER_KEY)).1.is_empty());
    for op in ["remove", "expire", "filter", "move"] {
        assert!(HISTORY_ENDS.contains(&op));
    }
    for op in [ChangeOp::Insert, ChangeOp::Modify, ChangeOp::Scan] {
        assert!(!HISTORY_ENDS.contains(&op.label()));
    }
}

#[test]
fn names_of_our_own_meet_no_column_of_the_mapping() {
    let clash = |name: &str| {
        let mut definition = soft();
        definition.history = Some(word("orders_history"));
        definition.rows.columns.push(column(&format!("{name} = x")));
        try_compile(definition).is_err()
    };
    for name in ["deleted_at", "op", "valid_from", "valid_to", "dynaurora_version"] {
        assert!(clash(name), "{name}");
    }
    assert!(!clash("valid"));
}

fn auto() -> SourceDefinition {
    let mut entity = EntityDefinition { name: word("reindeer"), ..EntityDefinition::default() };
    entity.rows.table = word("reindeer");
    entity.rows.auto = Some(Span::default());
    let (name, unmatched) = (word("reindeer"), Unmatched::DeadLetter);
    SourceDefinition { name, unmatched, entities: vec![entity] }
}

fn known(columns: &[(&str, &str, ColumnType)]) -> Known {
    let made = columns.iter().map(|(name, attribute, column_type)| AutoColumn {
        name: (*name).to_owned(),
        attribute: (*attribute).to_owned(),
        column_type: column_type.clone(),
    });
    Known {
        keys: vec![
            ("herdId".to_owned(), ColumnType::Text),
            ("nr".to_owned(), ColumnType::Numeric(None)),
        ],
        auto: [("reindeer".to_owned(), made.collect())].into(),
        ..Known::default()
    }
}

const REINDEER: &str = r#"{"herdId":{"S":"h"},"nr":{"N":"7"},"name":{"S":"Rudolf"},
    "noseColour":{"S":"red"},"speed":{"N":"1.50"},"tricks":{"L":[{"S":"fly"}]}}"#;
const REINDEER_KEY: &str = r#"{"herdId":{"S":"h"},"nr":{"N":"7"}}"#;

#[test]
fn columns_auto_keeps_what_has_no_column_in_the_rest() {
    let columns = known(&[("name", "name", ColumnType::Text)]);
    let mapper = Mapper::compile_onto(&auto(), &columns).unwrap();
    assert_eq!(mapper.key_attributes(), ["herdId", "nr"]);
    assert_eq!(mapper.tables()[0].key_columns, 2);
    let rest = r#"{"noseColour":"red","speed":1.5,"tricks":["fly"]}"#;
    let (_, rows) = map(&mapper, &put(REINDEER, REINDEER_KEY));
    assert_eq!(rows, [format!("Upsert reindeer(h,7,Rudolf,{rest})")]);
}

#[test]
fn columns_auto_finds_what_lacks_a_column() {
    let mapper =
        Mapper::compile_onto(&auto(), &known(&[("name", "name", ColumnType::Text)])).unwrap();
    let other = r#"{"herdId":{"S":"h"},"nr":{"N":"8"},"speed":{"S":"fast"},"age":{"NULL":true}}"#;
    let waits = AutoColumn {
        name: String::new(),
        attribute: "lead".to_owned(),
        column_type: ColumnType::Boolean,
    };
    let in_rest = [(TableIndex(0), vec![waits])].into();
    let missing = mapper.missing_columns(&[item(REINDEER), item(other)], &in_rest);
    let shown: Vec<_> = missing["reindeer"]
        .iter()
        .map(|own| format!("{}={}:{}", own.name, own.attribute, own.column_type))
        .collect();
    // An attribute with two types is a document; NULL says nothing about a type.
    let expected = [
        "lead=lead:boolean",
        "nose_colour=noseColour:text",
        "speed=speed:jsonb",
        "tricks=tricks:jsonb",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn columns_auto_never_rejects_what_does_not_fit() {
    let columns = known(&[("speed", "speed", ColumnType::Boolean)]);
    let mapper = Mapper::compile_onto(&auto(), &columns).unwrap();
    let slow = r#"{"speed":{"S":"slow"}}"#;
    let (_, rows) = map(&mapper, &put(slow, REINDEER_KEY));
    assert_eq!(rows, [r#"Upsert reindeer(h,7,NULL,{"speed":"slow"})"#]);
}

#[test]
fn columns_auto_takes_a_key_template_too() {
    let mut definition = auto();
    definition.entities[0].key =
        vec![KeyDefinition { attribute: word("pk"), template: word("ORDER#{id:int}") }];
    assert!(!definition.needs_keys());
    let mapper = Mapper::compile(&definition).unwrap();
    let (_, rows) = map(&mapper, &put(OULU, ORDER_KEY));
    assert_eq!(rows, [r#"Upsert reindeer(7,{"city":"Oulu"})"#]);
    let missing =
        mapper.missing_columns(&[item(r#"{"pk":{"S":"ORDER#7"},"city":{"S":"x"}}"#)], &[].into());
    assert_eq!(missing["reindeer"].len(), 1);
    let missing =
        mapper.missing_columns(&[item(r#"{"pk":{"S":"CHILD#7"},"city":{"S":"x"}}"#)], &[].into());
    assert!(missing["reindeer"].is_empty(), "an item of another entity says nothing");
    assert!(RowAction::SoftDelete.ends_row());
}
