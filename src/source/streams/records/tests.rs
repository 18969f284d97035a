use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::ErrorKind;

fn body() -> serde_json::Value {
    json!({
        "SequenceNumber": "100000000003498069978",
        "Keys": { "pk": { "S": "CHILD#1" } },
        "ApproximateCreationDateTime": 1_700_000_000,
    })
}

fn page(record: &serde_json::Value) -> Result<Records> {
    read(json!({ "Records": [record], "NextShardIterator": "next" }).to_string().as_bytes())
}

fn one(record: &serde_json::Value) -> Change {
    let mut records = page(record).unwrap();
    assert_eq!(records.changes.len(), 1);
    records.changes.remove(0)
}

#[test]
fn every_attribute_type_arrives() {
    let image = json!({
        "pk": { "S": "CHILD#1 \"\u{e9}\\ \u{1f385}" }, "n": { "N": "1.50E+125" }, "b": { "B": "AP8=" },
        "ss": { "SS": ["a"] }, "ns": { "NS": ["1"] }, "bs": { "BS": ["AQ=="] },
        "l": { "L": [{ "NULL": true }, { "M": { "deep": { "BOOL": false } } }] },
    });
    let mut body = body();
    body["NewImage"] = image.clone();
    let change = one(&json!({ "eventName": "INSERT", "dynamodb": body, "awsRegion": "x" }));
    assert_eq!(change.new_image, Some(serde_json::from_value(image).unwrap()));
    assert_eq!(change.op, ChangeOp::Insert);
    assert_eq!(change.sequence.to_string(), "100000000003498069978");
    assert_eq!(change.changed_at, Some(EpochMillis(1_700_000_000_000)));
    assert!(change.bytes > 0);
}

#[test]
fn escapes_may_stand_anywhere() {
    let text = r#"{"Records":[{"eventNam\u0065":"\u0049NSERT","dynamodb":{"SequenceNumber":"\u0031",
        "Keys":{"p\u006b":{"\u0053":"\ud83c\udf85\n"}},"SizeBytes":7}}]}"#;
    let records = read(text.as_bytes()).unwrap();
    assert_eq!(records.next_iterator, None);
    let keys = &records.changes[0].keys;
    assert_eq!(keys.attribute("pk"), Some(&AttributeValue::S("\u{1f385}\n".into())));
    assert_eq!(records.changes[0].bytes, 7);
}

#[test]
fn half_a_character_is_an_error_and_never_another_text() {
    for half in [r"\ud83c", r"\udf85", r"\ud83cx", r"\udf85\ud83c"] {
        let text = format!(
            r#"{{"Records":[{{"eventName":"INSERT","dynamodb":{{"SequenceNumber":"1",
            "Keys":{{"pk":{{"S":"a{half}"}}}},"SizeBytes":7}}}}]}}"#
        );
        let error = read(text.as_bytes()).err().unwrap_or_else(|| panic!("{half} was taken"));
        assert_eq!(error.kind(), ErrorKind::Unknown, "{half}");
    }
}

#[test]
fn absent_and_null_are_the_same_and_the_rest_is_passed_over() {
    let mut body = body();
    body["NewImage"] = json!(null);
    body["Novelty"] = json!({ "a": [1, { "b": null }] });
    let record = json!({ "eventName": "MODIFY", "dynamodb": body, "userIdentity": null });
    assert_eq!(one(&record).new_image, None);
    let empty = read(br#"{"Records":[],"NextShardIterator":null}"#).unwrap();
    assert!(empty.changes.is_empty() && empty.next_iterator.is_none());
}

#[test]
fn only_a_removal_by_the_service_is_an_expiry() {
    let cases = [
        (json!({ "Type": "Service", "PrincipalId": "dynamodb.amazonaws.com" }), true),
        (json!({ "Type": "Service", "PrincipalId": "replication.dynamodb.amazonaws.com" }), false),
        (json!({ "Type": "AWSAccount", "PrincipalId": "dynamodb.amazonaws.com" }), false),
        (json!(null), false),
    ];
    for (who, expired) in cases {
        let record = json!({ "eventName": "REMOVE", "dynamodb": body(), "userIdentity": who });
        assert_eq!(one(&record).expired, expired, "{who}");
    }
}

#[test]
fn a_bad_sequence_number_is_an_error_that_names_it() {
    let mut body = body();
    body["SequenceNumber"] = json!("12x");
    let error = page(&json!({ "eventName": "MODIFY", "dynamodb": body })).unwrap_err();
    assert_eq!(error.to_string(), r#""12x" is not a sequence number of 1 to 40 digits"#);
}

#[test]
fn what_this_version_does_not_know_is_an_error_without_values() {
    let odd = page(&json!({ "eventName": "TRUNCATE", "dynamodb": body() })).unwrap_err();
    assert!(odd.to_string().contains("TRUNCATE"));
    assert!(page(&json!({ "dynamodb": body() })).is_err());
    for value in [
        json!({ "S": { "secret": 1 } }),
        json!({ "X": "secret" }),
        json!({ "S": "secret", "N": "1" }),
        json!({ "B": "?secret?" }),
        json!("secret"),
        json!({}),
    ] {
        let mut body = body();
        body["NewImage"] = json!({ "a": value });
        let error = page(&json!({ "eventName": "INSERT", "dynamodb": body })).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert!(!error.chain().contains("secret"), "{}", error.chain());
    }
    assert!(read(b"").is_err());
    assert!(read(br#"{"Records":[{"dynam"#).is_err());
}

#[test]
fn values_nest_as_deep_as_the_service_lets_them() {
    let mut value = json!({ "S": "deep" });
    for _ in 0..32 {
        value = json!({ "M": { "m": value } });
    }
    let mut body = body();
    body["NewImage"] = json!({ "a": value });
    one(&json!({ "eventName": "INSERT", "dynamodb": body }));
}

#[test]
fn nesting_without_end_is_an_error() {
    for piece in ["[", r#"{"M":"#, r#"{"Records":"#, r#"{"L":["#] {
        let value = piece.repeat(100_000);
        assert!(read(value.as_bytes()).is_err());
        let page =
            format!(r#"{{"Records":[{{"eventName":"INSERT","dynamodb":{{"Keys":{{"pk":{value}"#);
        assert!(read(page.as_bytes()).is_err());
    }
}

/// A page with every type of value, as bytes to be damaged.
fn whole() -> Vec<u8> {
    let image = json!({
        "pk": { "S": "CHILD#1 \"\u{e9}" }, "n": { "N": "1E-130" }, "b": { "B": "AP8=" },
        "ss": { "SS": ["a"] }, "ns": { "NS": ["1"] }, "bs": { "BS": ["AQ=="] },
        "l": { "L": [{ "NULL": true }, { "M": { "deep": { "BOOL": false } } }] },
    });
    let mut body = body();
    body["NewImage"] = image.clone();
    body["OldImage"] = image;
    let who = json!({ "Type": "Service", "PrincipalId": "dynamodb.amazonaws.com" });
    let record = json!({ "eventName": "REMOVE", "dynamodb": body, "userIdentity": who });
    json!({ "Records": [record], "NextShardIterator": "next" }).to_string().into_bytes()
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn no_spoilt_page_makes_the_reader_panic(
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..6, "([\\[\\]{}\":,a0SNBML]{0,6}|.{0,3})"),
            1..5,
        ),
    ) {
        let mut page = whole();
        for (at, gone, new) in edits {
            let start = at.index(page.len());
            let end = (start + gone).min(page.len());
            page.splice(start..end, new.into_bytes());
        }
        if let Err(error) = read(&page) {
            prop_assert_eq!(error.kind(), ErrorKind::Unknown);
        }
    }
}
