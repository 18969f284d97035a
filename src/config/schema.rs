//! Tests that the JSON Schema and the reader know the same keys.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::tree::{self, Kind, Node};
use super::{Config, SCHEMA};

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

fn follow<'v>(root: &'v Value, at: &'v Value) -> &'v Value {
    match at.get("$ref").and_then(Value::as_str) {
        Some(path) => root.pointer(path.trim_start_matches('#')).unwrap(),
        None => at,
    }
}

/// Collects the config's keys that are not in the schema.
fn unknown(root: &Value, at: &Value, node: &Node, path: &str, found: &mut BTreeSet<String>) {
    let at = follow(root, at);
    let any = at.get("anyOf").and_then(Value::as_array);
    let object = any.and_then(|any| {
        any.iter()
            .map(|one| follow(root, one))
            .find(|one| one.get("type").and_then(Value::as_str) == Some("object"))
    });
    let at = object.unwrap_or(at);
    match &node.kind {
        Kind::Table(entries) => {
            for entry in entries {
                let name = &entry.key.value;
                let path = format!("{path}.{name}");
                let own = at.get("properties").and_then(|properties| properties.get(name));
                match own.or(at.get("additionalProperties")) {
                    Some(Value::Bool(false)) => {
                        found.insert(path);
                    }
                    Some(below) => unknown(root, below, &entry.value, &path, found),
                    None => {}
                }
            }
        }
        Kind::Array(items) => {
            for item in items {
                if let Some(below) = at.get("items") {
                    unknown(root, below, item, path, found);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_knows_every_key_of_the_samples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let schema = schema();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let mut found = BTreeSet::new();
        unknown(&schema, &schema, &tree::parse(&text, 0).0, "", &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Puts every key of the schema into its own config; the reader may reject its value, but not the key.
#[test]
fn the_reader_knows_every_key_of_the_schema() {
    let root = schema();
    let places = [
        ("/properties/target", "target"),
        ("/properties/aws", "aws"),
        ("/properties/worker", "worker"),
        ("/properties/telemetry", "telemetry"),
        ("/$defs/password", "target.password"),
        ("/$defs/source", "source.s"),
        ("/$defs/entity", "source.s.entity.e"),
        ("/$defs/child", "source.s.entity.e.children.c"),
        ("/$defs/column", "source.s.entity.e.columns.c"),
    ];
    for (pointer, place) in places {
        let at = root.pointer(pointer).unwrap();
        for key in at.get("properties").and_then(Value::as_object).unwrap().keys() {
            let text = format!("{place}.{key} = true");
            let problems = Config::parse(&text, "x", &[], std::iter::empty()).unwrap_err();
            let report = problems.render(false);
            assert!(!report.contains(&format!("no key `{key}`")), "{text}\n{report}");
        }
    }
}

#[test]
fn defaults_and_bounds_are_those_of_the_reader() {
    let root = schema();
    let minimal = r#"
        version = 1
        target.url = "postgres:///d"
        source.s = { table = "T", key = { id = "{id}" }, columns = { id = "{id}" } }
    "#;
    let parse = |set: String| Config::parse(minimal, "x", &[set], std::iter::empty());
    let at = |path: &str| root.pointer(path).and_then(Value::as_object).unwrap();
    for section in ["worker", "target"] {
        for (key, of) in at(&format!("/properties/{section}/properties")) {
            let bound = |name: &str| of.get(name).and_then(Value::as_i64);
            let (Some(low), Some(high)) = (bound("minimum"), bound("maximum")) else { continue };
            for (value, valid) in [(low, true), (high, true), (low - 1, false), (high + 1, false)] {
                let result = parse(format!("{section}.{key}={value}"));
                assert_eq!(result.is_ok(), valid, "{key} {value}");
            }
            let given = parse(format!("{section}.{key}={}", of["default"])).unwrap();
            let left_out = Config::parse(minimal, "x", &[], std::iter::empty()).unwrap();
            assert_eq!((given.worker, given.target), (left_out.worker, left_out.target), "{key}");
        }
    }
}
