//! The SDK's records and items become ours by moving: no string is copied.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue as TableValue;
use aws_sdk_dynamodbstreams::types::{
    AttributeValue as StreamValue, Identity, OperationType, Record, StreamRecord,
};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{AttributeValue, Change, ChangeOp, EpochMillis, Item, SequenceNumber};

/// A stream record as a change.
///
/// # Errors
/// `Unknown` when the record lacks what every record has, or holds what this version does not know.
pub(super) fn change(record: Record) -> Result<Change> {
    let body = record.dynamodb.ok_or_else(|| incomplete("body"))?;
    let sequence = sequence(&body)?;
    let op = match record.event_name.as_ref().ok_or_else(|| incomplete("event name"))? {
        OperationType::Insert => ChangeOp::Insert,
        OperationType::Modify => ChangeOp::Modify,
        OperationType::Remove => ChangeOp::Remove,
        other => return Err(unknown(format!("record {sequence} has the event name {other}"))),
    };
    let expired = op == ChangeOp::Remove && record.user_identity.as_ref().is_some_and(is_service);
    let keys = stream_item(body.keys.ok_or_else(|| incomplete("keys"))?)?;
    let new_image = body.new_image.map(stream_item).transpose()?;
    let old_image = body.old_image.map(stream_item).transpose()?;
    let images = [&new_image, &old_image];
    let bytes =
        body.size_bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_else(|| {
            item_bytes(&keys) + images.into_iter().flatten().map(item_bytes).sum::<usize>()
        });
    let changed_at = body.approximate_creation_date_time.and_then(|at| at.to_millis().ok());
    let changed_at = changed_at.map(EpochMillis);
    Ok(Change { op, sequence, keys, new_image, old_image, changed_at, expired, bytes })
}

/// Reads a sequence number.
///
/// # Errors
/// `Unknown`, naming the text, when it is none.
pub(super) fn number(text: &str) -> Result<SequenceNumber> {
    SequenceNumber::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        unknown(format!("{shown:?} is no sequence number of 1 to 40 digits"))
    })
}

/// An item's size as the service counts it, nearly: names and values.
pub(super) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn sequence(body: &StreamRecord) -> Result<SequenceNumber> {
    number(body.sequence_number().ok_or_else(|| incomplete("sequence number"))?)
}

/// Whether the service itself made the change, as it does when an item's time to live has passed.
fn is_service(identity: &Identity) -> bool {
    identity.r#type.as_deref() == Some("Service")
        && identity.principal_id.as_deref() == Some("dynamodb.amazonaws.com")
}

fn incomplete(what: &str) -> Error {
    unknown(format!("stream record without {what}"))
}

fn unknown(what: String) -> Error {
    Error::new(ErrorKind::Unknown, what)
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(bytes) => bytes.len(),
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, value)| 1 + name.len() + value_bytes(value)).sum::<usize>()
        }
        AttributeValue::L(list) => {
            3 + list.iter().map(|value| 1 + value_bytes(value)).sum::<usize>()
        }
        AttributeValue::Ss(set) | AttributeValue::Ns(set) => set.iter().map(String::len).sum(),
        AttributeValue::Bs(set) => set.iter().map(Vec::len).sum(),
    }
}

/// The two services have two types of the same shape, in two crates.
macro_rules! moving {
    ($item:ident, $value:ident, $sdk:ident) => {
        pub(super) fn $item(attributes: HashMap<String, $sdk>) -> Result<Item> {
            let mut item = Item::with_capacity(attributes.len());
            for (name, value) in attributes {
                let value = $value(value)?;
                item.push(name, value);
            }
            Ok(item)
        }

        fn $value(value: $sdk) -> Result<AttributeValue> {
            Ok(match value {
                $sdk::S(text) => AttributeValue::S(text),
                $sdk::N(text) => AttributeValue::N(text),
                $sdk::B(blob) => AttributeValue::B(blob.into_inner()),
                $sdk::Bool(flag) => AttributeValue::Bool(flag),
                $sdk::Null(flag) => AttributeValue::Null(flag),
                $sdk::Ss(set) => AttributeValue::Ss(set),
                $sdk::Ns(set) => AttributeValue::Ns(set),
                $sdk::Bs(set) => {
                    AttributeValue::Bs(set.into_iter().map(|blob| blob.into_inner()).collect())
                }
                $sdk::L(list) => {
                    AttributeValue::L(list.into_iter().map($value).collect::<Result<_>>()?)
                }
                $sdk::M(map) => {
                    let pair = |(name, value)| Ok((name, $value(value)?));
                    AttributeValue::M(map.into_iter().map(pair).collect::<Result<_>>()?)
                }
                _ => return Err(unknown("attribute value of an unknown type".to_owned())),
            })
        }
    };
}

moving!(stream_item, stream_value, StreamValue);
moving!(table_item, table_value, TableValue);

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::primitives::{Blob, DateTime};

    use super::*;

    fn body() -> aws_sdk_dynamodbstreams::types::builders::StreamRecordBuilder {
        StreamRecord::builder()
            .sequence_number("100000000003498069978")
            .keys("pk", StreamValue::S("CHILD#1".into()))
            .approximate_creation_date_time(DateTime::from_secs(1_700_000_000))
    }

    fn record(body: StreamRecord, op: OperationType) -> Record {
        Record::builder().event_name(op).dynamodb(body).build()
    }

    #[test]
    fn every_attribute_type_arrives() {
        let nested = StreamValue::L(vec![
            StreamValue::Null(true),
            StreamValue::M(HashMap::from([("deep".into(), StreamValue::Bool(false))])),
        ]);
        let body = body()
            .new_image("pk", StreamValue::S("CHILD#1".into()))
            .new_image("n", StreamValue::N("1.50E+125".into()))
            .new_image("b", StreamValue::B(Blob::new([0, 255])))
            .new_image("ss", StreamValue::Ss(vec!["a".into()]))
            .new_image("ns", StreamValue::Ns(vec!["1".into()]))
            .new_image("bs", StreamValue::Bs(vec![Blob::new([1])]))
            .new_image("l", nested)
            .build();
        let change = change(record(body, OperationType::Insert)).unwrap();
        let expected: Item = serde_json::from_str(
            r#"{"pk":{"S":"CHILD#1"},"n":{"N":"1.50E+125"},"b":{"B":"AP8="},"ss":{"SS":["a"]},
                "ns":{"NS":["1"]},"bs":{"BS":["AQ=="]},
                "l":{"L":[{"NULL":true},{"M":{"deep":{"BOOL":false}}}]}}"#,
        )
        .unwrap();
        assert_eq!(change.new_image, Some(expected));
        assert_eq!(change.op, ChangeOp::Insert);
        assert_eq!(change.sequence.to_string(), "100000000003498069978");
        assert_eq!(change.changed_at, Some(EpochMillis(1_700_000_000_000)));
        assert!(change.bytes > 0);
    }

    #[test]
    fn only_a_removal_by_the_service_is_an_expiry() {
        let identity = |kind: &str, principal: &str| {
            Identity::builder().r#type(kind).principal_id(principal).build()
        };
        let cases = [
            (Some(identity("Service", "dynamodb.amazonaws.com")), true),
            (Some(identity("Service", "replication.dynamodb.amazonaws.com")), false),
            (Some(identity("AWSAccount", "dynamodb.amazonaws.com")), false),
            (None, false),
        ];
        for (who, expired) in cases {
            let mut record = record(body().build(), OperationType::Remove);
            record.user_identity = who;
            assert_eq!(change(record).unwrap().expired, expired);
        }
    }

    #[test]
    fn a_bad_sequence_number_is_an_error_that_names_it() {
        let body = body().sequence_number("12x").build();
        let error = change(record(body, OperationType::Modify)).unwrap_err();
        assert_eq!(error.to_string(), r#""12x" is no sequence number of 1 to 40 digits"#);
    }

    #[test]
    fn what_this_version_does_not_know_is_an_error() {
        let odd = record(body().build(), OperationType::from("TRUNCATE"));
        assert!(change(odd).unwrap_err().to_string().contains("TRUNCATE"));
        let nameless = Record::builder().dynamodb(body().build()).build();
        assert!(change(nameless).is_err());
    }
}
