//! Tests that inferred configs parse unchanged.

use proptest::prelude::*;

use super::{Config, Diagnostics};
use crate::mapping::{InferPlace, InferRequest, infer_items, infer_model};
use crate::model::{AttributeValue, Item};

fn parse(text: &str) -> Result<Config, Diagnostics> {
    Config::parse(text, "inferred.toml", &[], std::iter::empty())
}

fn infer(keys: &[&str], items: &[&str]) -> String {
    let items: Vec<Item> = items.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
    let key_attributes: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    let request = InferRequest {
        source: "santa",
        table: "NorthPole",
        key_attributes: &key_attributes,
        place: InferPlace::default(),
    };
    infer_items(request, &items)
}

#[test]
fn a_single_table_falls_into_its_entities() {
    let text = infer(
        &["pk", "sk"],
        &[
            r#"{"pk":{"S":"CHILD#42"},"sk":{"S":"PROFILE"},"name":{"S":"Ada"},"upd":{"N":"1796112000000"}}"#,
            r#"{"pk":{"S":"CHILD#x7"},"sk":{"S":"PROFILE"},"name":{"N":"7"},"aliases":{"SS":["a"]}}"#,
            r#"{"pk":{"S":"CHILD#42"},"sk":{"S":"LETTER#2026#a1"},"sentAt":{"S":"2026-12-01T08:00:00Z"},
                "toys":{"L":[{"M":{"sku":{"S":"x"},"parts":{"L":[{"M":{"nr":{"N":"1"}}}]}}}]}}"#,
        ],
    );
    for expected in [
        r#"key   = { pk = "CHILD#{child_id}", sk = "PROFILE" }"#,
        r#"key   = { pk = "CHILD#{child_id}", sk = "LETTER#{letter_id:int}#{sk}" }"#,
        "[source.santa.entity.child]   # 2 of 3 items",
        r#"upd = { from = "upd", type = "bigint" }   # 50 % of items; a time? type = "timestamptz", epoch = "ms""#,
        r#"name = { from = "name", type = "jsonb" }   # 100 % of items; several types: 1 number (N), as in CHILD#x7 / PROFILE; 1 string (S), as in CHILD#42 / PROFILE"#,
        r#"aliases = { from = "aliases", type = "text[]" }"#,
        r#"sent_at = { from = "sentAt", type = "timestamptz" }"#,
        "a list of maps: rows of its own? see children; and children of those for parts",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    parse(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
}

#[test]
fn a_plain_table_is_one_entity() {
    let text = infer(&["id"], &[r#"{"id":{"N":"1"},"x":{"BOOL":true}}"#, r#"{"id":{"N":"2"}}"#]);
    assert!(text.contains(r#"key   = { id = "{id}" }"#), "{text}");
    parse(&text).unwrap();
    parse(&infer(&["id", "range"], &[])).unwrap();
}

#[test]
fn where_aws_is_stands_in_the_proposal_as_it_was_said() {
    let place = InferPlace {
        region: Some("eu-north-1"),
        profile: Some("north"),
        endpoint: Some("http://127.0.0.1:8000"),
    };
    let keys = ["id".to_owned()];
    let said = |place| {
        let request = InferRequest { source: "s", table: "T", key_attributes: &keys, place };
        parse(&infer_items(request, &[])).unwrap().aws
    };
    let aws = said(place);
    let aws = (aws.region.as_deref(), aws.profile.as_deref(), aws.endpoint.as_deref());
    assert_eq!(aws, (place.region, place.profile, place.endpoint));
    assert_eq!(said(InferPlace::default()), crate::config::AwsConfig::default());
}

#[test]
fn overlapping_groups_are_told_apart_or_left_as_comments() {
    let order = |key: &str, kind: &str| format!(r#"{{"pk":{{"S":"{key}"}}{kind}}}"#);
    let items = [order("ORDER#a", ""), order("ORDER#a#ITEM#b", "")];
    let text = infer(&["pk"], &items.each_ref().map(String::as_str));
    assert!(text.contains("# [source.santa.entity."), "{text}");
    parse(&text).unwrap();
    let kind = |kind: &str| format!(r#","type":{{"S":"{kind}"}}"#);
    let items = [order("ORDER#a", &kind("it's")), order("ORDER#a#ITEM#b", &kind("Item"))];
    let text = infer(&["pk"], &items.each_ref().map(String::as_str));
    assert!(text.contains(r#"where = "\"type\" = 'it''s'""#), "{text}");
    parse(&text).unwrap();
}

const WORKBENCH: &str = include_str!("../../tests/samples/workbench.json");
const ONETABLE: &str = include_str!("../../tests/samples/onetable.json");

#[test]
fn a_workbench_model_becomes_a_source_for_each_table() {
    let text = infer_model(WORKBENCH, None).unwrap();
    for expected in [
        r#"key   = { PK = "CHILD#{child_id:int}", SK = "PROFILE" }"#,
        r#"score = { from = "Score", type = "numeric" }"#,
        r#"sent_at = { from = "SentAt", type = "timestamptz" }"#,
        "# Declared, but in no sample item, so kept in the rest: Photo",
        "[source.reindeer.entity.reindeer]   # as declared",
        r#"speed = { from = "Speed", type = "numeric" }"#,
        r#"likes = { from = "Likes", type = "text[]" }"#,
        r#"harness = { from = "Harness", type = "jsonb" }"#,
        r#"colour = "Colour""#,
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let config = parse(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    assert_eq!(config.sources.len(), 3);
    let one = parse(&infer_model(WORKBENCH, Some("Sleighs")).unwrap()).unwrap();
    assert_eq!(one.sources.len(), 1);
    assert!(infer_model(WORKBENCH, Some("Elves")).is_err());
}

#[test]
fn a_onetable_schema_becomes_an_entity_for_each_model() {
    let text = infer_model(ONETABLE, Some("Accounts")).unwrap();
    for expected in [
        r#"key   = { pk = "account#{id}", sk = "account#" }"#,
        r#"name = "name"   # required"#,
        r#"balance = { from = "balance", type = "numeric" }"#,
        r#"plan = "plan"   # one of "free", "pro""#,
        r#"updated = { from = "updated", type = "timestamptz", epoch = "ms" }"#,
        r#"key   = { pk = "account#{account_id}", sk = "user#{email}" }"#,
        r#"first_name = "fn""#,
        r#"zip = "data.zip""#,
        r#"tags = { from = "tags", type = "text[]" }"#,
        r#"expires = { from = "expires", type = "timestamptz", epoch = "s" }"#,
        r#"last_seen = { from = "lastSeen", type = "timestamptz" }"#,
        r#"key   = { pk = "{pk}", sk = "Event#{id}#{{x}}" }"#,
        r#"key   = { pk = "settings", sk = "settings" }"#,
        "unmatched = \"count\"",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("gs1pk") && !text.contains("initials"), "{text}");
    let config = parse(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    assert_eq!(config.sources[0].mapper.tables().len(), 4);
    parse(&infer_model(ONETABLE, None).unwrap()).unwrap();
    for wrong in ["", "[]", "{}", r#"{"models":{}}"#, r#"{"DataModel":[]}"#] {
        assert!(infer_model(wrong, None).is_err(), "{wrong}");
    }
}

fn value() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        ".{0,8}".prop_map(AttributeValue::S),
        "-?[0-9]{1,12}(\\.[0-9]{1,3})?".prop_map(AttributeValue::N),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null(true)),
        Just(AttributeValue::L(vec![AttributeValue::M(Default::default())])),
        proptest::collection::vec("[a-z]{1,3}", 1..3).prop_map(AttributeValue::Ss),
    ]
}

/// A design with hostile names: no part of it may end a line, a string or a table of the proposal.
fn design(name: &str, field: &str, value: &str) -> [serde_json::Value; 2] {
    use serde_json::json;
    let field = if field == "pk" { "other" } else { field };
    let model = json!({ "pk": { "value": format!("{name}#${{{field}}}{value}") },
        field: { "type": value, "enum": [value], "map": name, "required": true } });
    let onetable = json!({ "models": { name: model.clone(), "B": model },
        "indexes": { "primary": { "hash": "pk" } }, "params": { "typeField": field } });
    let key = json!({ "AttributeName": field, "AttributeType": "S" });
    let workbench = json!({ "DataModel": [
        { "TableName": name, "KeyAttributes": { "PartitionKey": key },
          "NonKeyAttributes": [{ "AttributeName": value, "AttributeType": "S" }] },
        { "TableName": value, "KeyAttributes": { "PartitionKey": key },
          "NonKeyAttributes": [{ "AttributeName": name, "AttributeType": "S" }],
          "TableData": [{ field: { "S": value } }] },
    ] });
    [onetable, workbench]
}

proptest! {
    #[test]
    fn every_proposed_design_parses_unchanged(
        name in "(A|_|[a-z]{1,3}|.{1,8})", field in "(_type|a|.{1,6})", value in ".{1,8}",
    ) {
        for design in design(&name, &field, &value) {
            let text = infer_model(&design.to_string(), None).unwrap();
            if let Err(problems) = parse(&text) {
                prop_assert!(false, "{}\n{}\n{}", design, text, problems);
            }
        }
    }

    #[test]
    fn every_proposal_parses_unchanged(
        items in proptest::collection::vec(
            ("(A|ORDER|user)?[#:]?.{1,6}", "(X#)?[a-zA-Z0-9#-]{1,6}",
             proptest::collection::hash_map("(type|ctid|extra|.{1,5})", value(), 0..5)), 0..12)
    ) {
        let items: Vec<Item> = items.into_iter().map(|(pk, sk, mut map)| {
            map.insert("pk".into(), AttributeValue::S(pk));
            map.insert("s k".into(), AttributeValue::S(sk));
            Item::from(map)
        }).collect();
        let key_attributes = ["pk".to_owned(), "s k".to_owned()];
        let place = InferPlace { region: Some("eu-\"1"), ..InferPlace::default() };
        let request =
            InferRequest { source: "s", table: "T\"", key_attributes: &key_attributes, place };
        let text = infer_items(request, &items);
        if let Err(problems) = parse(&text) {
            prop_assert!(false, "{}\n{}", text, problems);
        }
    }
}
