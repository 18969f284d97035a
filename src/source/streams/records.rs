//! Parses pages of records and items from the service's JSON straight into changes and items.
//!
//! Unknown fields are ignored, as in the SDK, so that the service may extend its answers. An unknown event or
//! type of value is an error, because ignoring it would lose data.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::Result;
use crate::model::{AttributeValue, Change, ChangeOp, EpochMillis, Item};
use crate::source::decode::{item_bytes, number, unknown};

/// The answer to GetRecords.
#[derive(Debug)]
pub(crate) struct Records {
    /// The changes in the order of the stream.
    pub(crate) changes: Vec<Change>,
    /// Where to continue; `None` at the end of a shard.
    pub(crate) next_iterator: Option<String>,
}

/// Parses the answer.
///
/// # Errors `Unknown` if it is not one, or if a record lacks a mandatory field or has something that this
/// version does not know.
pub(crate) fn read(answer: &[u8]) -> Result<Records> {
    let page: Page<'_> = serde_json::from_slice(answer).map_err(|error| {
        // The parser's message may quote a value.
        let (line, column) = (error.line(), error.column());
        unknown(format!("the answer to GetRecords is invalid at line {line}, column {column}"))
    })?;
    let changes = page.records.unwrap_or_default().into_iter().map(change);
    Ok(Records { changes: changes.collect::<Result<_>>()?, next_iterator: page.next_iterator })
}

/// The answer to Scan.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// The items in the order of the segment.
    pub(crate) items: Vec<Item>,
    /// The key after which to continue; `None` at the end of the segment.
    pub(crate) last: Option<Item>,
    /// The read units that it took.
    pub(crate) consumed_capacity: Option<f64>,
}

/// Parses the answer to a scan.
///
/// # Errors
/// `Unknown` if it is not one, or has a value that this version does not know.
pub(crate) fn read_scan(answer: &[u8]) -> Result<Scanned> {
    let page: ScanPage = serde_json::from_slice(answer).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unknown(format!("the answer to Scan is invalid at line {line}, column {column}"))
    })?;
    let items = page.items.unwrap_or_default().into_iter().map(|item| item.0).collect();
    let last = page.last.map(|key| key.0).filter(|key| key.iter().next().is_some());
    let consumed_capacity = page.consumed.and_then(|consumed| consumed.units);
    Ok(Scanned { items, last, consumed_capacity })
}

fn change(record: Record<'_>) -> Result<Change> {
    let body = record.body.ok_or_else(|| incomplete("body"))?;
    let sequence = body.sequence.ok_or_else(|| incomplete("sequence number"))?;
    let sequence = number(&sequence.0)?;
    let op = match &*record.event_name.ok_or_else(|| incomplete("event name"))?.0 {
        "INSERT" => ChangeOp::Insert,
        "MODIFY" => ChangeOp::Modify,
        "REMOVE" => ChangeOp::Remove,
        other => return Err(unknown(format!("record {sequence} has the event name {other}"))),
    };
    let Attributes(keys) = body.keys.ok_or_else(|| incomplete("keys"))?;
    let new_image = body.new_image.map(|image| image.0);
    let old_image = body.old_image.map(|image| image.0);
    let bytes = body.bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_else(|| {
        item_bytes(&keys)
            + [&new_image, &old_image].into_iter().flatten().map(item_bytes).sum::<usize>()
    });
    Ok(Change {
        op,
        sequence,
        keys,
        new_image,
        old_image,
        changed_at: body.changed_at_secs.map(millis),
        expired: op == ChangeOp::Remove && record.identity.is_some_and(|who| who.is_service()),
        bytes,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a cast of a float stops at the ends")]
fn millis(secs: f64) -> EpochMillis {
    EpochMillis((secs * 1000.0).round() as i64)
}

fn incomplete(what: &str) -> crate::error::Error {
    unknown(format!("stream record without {what}"))
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(rename = "Records", borrow)]
    records: Option<Vec<Record<'a>>>,
    #[serde(rename = "NextShardIterator")]
    next_iterator: Option<String>,
}

#[derive(Deserialize)]
struct ScanPage {
    #[serde(rename = "Items")]
    items: Option<Vec<Attributes>>,
    #[serde(rename = "LastEvaluatedKey")]
    last: Option<Attributes>,
    #[serde(rename = "ConsumedCapacity")]
    consumed: Option<Consumed>,
}

#[derive(Deserialize)]
struct Consumed {
    #[serde(rename = "CapacityUnits")]
    units: Option<f64>,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(rename = "eventName", borrow)]
    event_name: Option<Text<'a>>,
    #[serde(rename = "dynamodb", borrow)]
    body: Option<Body<'a>>,
    #[serde(rename = "userIdentity", borrow)]
    identity: Option<Identity<'a>>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "ApproximateCreationDateTime")]
    changed_at_secs: Option<f64>,
    #[serde(rename = "Keys")]
    keys: Option<Attributes>,
    #[serde(rename = "NewImage")]
    new_image: Option<Attributes>,
    #[serde(rename = "OldImage")]
    old_image: Option<Attributes>,
    #[serde(rename = "SequenceNumber", borrow)]
    sequence: Option<Text<'a>>,
    #[serde(rename = "SizeBytes")]
    bytes: Option<i64>,
}

#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(rename = "Type", borrow)]
    kind: Option<Text<'a>>,
    #[serde(rename = "PrincipalId", borrow)]
    principal: Option<Text<'a>>,
}

impl Identity<'_> {
    /// Whether the service itself made the change, because an item's time to live had passed.
    fn is_service(&self) -> bool {
        let text = |text: &Option<Text<'_>>, wanted| text.as_ref().is_some_and(|t| t.0 == wanted);
        text(&self.kind, "Service") && text(&self.principal, "dynamodb.amazonaws.com")
    }
}

/// A text that is copied only if it has an escape.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The attributes of an item.
struct Attributes(Item);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        /// Most items have no more; a longer list grows.
        const ATTRIBUTES: usize = 12;
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("attributes by name")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Attributes, A::Error> {
                let mut item = Item::with_capacity(ATTRIBUTES);
                while let Some((name, Value(value))) = map.next_entry()? {
                    item.push(name, value);
                }
                Ok(Attributes(item))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// One attribute's value: an object whose only member's name is the type.
struct Value(AttributeValue);

#[derive(Deserialize)]
enum Tag {
    S,
    N,
    B,
    #[serde(rename = "SS")]
    Ss,
    #[serde(rename = "NS")]
    Ns,
    #[serde(rename = "BS")]
    Bs,
    M,
    L,
    #[serde(rename = "NULL")]
    Null,
    #[serde(rename = "BOOL")]
    Bool,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an attribute value")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Value, A::Error> {
                let tag =
                    map.next_key()?.ok_or_else(|| A::Error::custom("a value without type"))?;
                let value = match tag {
                    Tag::S => AttributeValue::S(map.next_value()?),
                    Tag::N => AttributeValue::N(map.next_value()?),
                    Tag::B => AttributeValue::B(map.next_value::<Blob>()?.0),
                    Tag::Ss => AttributeValue::Ss(map.next_value()?),
                    Tag::Ns => AttributeValue::Ns(map.next_value()?),
                    Tag::Bs => {
                        let blobs: Vec<Blob> = map.next_value()?;
                        AttributeValue::Bs(blobs.into_iter().map(|blob| blob.0).collect())
                    }
                    Tag::M => AttributeValue::M(map.next_value::<Members>()?.0),
                    Tag::L => {
                        let list: Vec<Value> = map.next_value()?;
                        AttributeValue::L(list.into_iter().map(|value| value.0).collect())
                    }
                    Tag::Null => AttributeValue::Null(map.next_value()?),
                    Tag::Bool => AttributeValue::Bool(map.next_value()?),
                };
                if map.next_key::<IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom("a value of two types"));
                }
                Ok(Value(value))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The members of a map.
struct Members(HashMap<String, AttributeValue>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let members = HashMap::<String, Value>::deserialize(deserializer)?;
        Ok(Self(members.into_iter().map(|(name, value)| (name, value.0)).collect()))
    }
}

/// Bytes, encoded as base64.
struct Blob(Vec<u8>);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        BASE64.decode(&*text.0).map(Self).map_err(|_| D::Error::custom("bytes that are no base64"))
    }
}

#[cfg(test)]
mod tests;
