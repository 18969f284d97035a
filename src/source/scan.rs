//! Reads segments of a table's scan for a backfill.
//!
//! A segment is a partition; its position is the last applied key.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue as SdkValue, ReturnConsumedCapacity};

use crate::engine::ports::{Page, ReadFrom};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AttributeValue, Change, Item, Position, Segment};

use super::decode;
use super::errors::Rim;
use super::streams::answer::Answer;
use super::streams::records::{self, Scanned};

/// The parameters of a scan, except its position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanner<'a> {
    pub(super) client: &'a Client,
    pub(super) rim: &'a Rim,
    pub(super) key_attributes: &'a [String],
    pub(super) limit: Option<i32>,
}

/// The page of the segment after the position. The read is consistent: an eventually consistent one may show
/// an item before a change that the stream has already delivered.
pub(super) async fn read(scanner: Scanner<'_>, segment: Segment, from: &ReadFrom) -> Result<Page> {
    let Scanner { client, rim, key_attributes, limit } = scanner;
    let answer = Answer::default();
    client
        .scan()
        .table_name(rim.table())
        .segment(as_parameter(segment.index)?)
        .total_segments(as_parameter(segment.total)?)
        .set_exclusive_start_key(start_key(&from.position)?)
        .set_limit(limit)
        .consistent_read(true)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .customize()
        .interceptor(answer.clone())
        .send()
        .await
        .map_err(|error| rim.error("Scan", error))?;
    let bytes = answer.bytes(rim, "Scan").await?.into_bytes();
    let Scanned { items, last, consumed_capacity } = records::read_scan(&bytes)?;

    let mut changes = Vec::with_capacity(items.len());
    for item in items {
        changes.push(change(item, key_attributes)?);
    }
    let end = last.is_none();
    let next = match last.as_ref().or(changes.last().map(|change| &change.keys)) {
        Some(key) => position(key)?,
        None => from.position.clone(),
    };
    Ok(Page { changes, next, iterator: None, end, consumed_capacity })
}

/// A complete item as a change.
///
/// # Errors
/// `Unknown` if it lacks a key attribute.
pub(super) fn change(item: Item, key_attributes: &[String]) -> Result<Change> {
    let mut keys = Item::with_capacity(key_attributes.len());
    for name in key_attributes {
        let value = item.attribute(name).ok_or_else(|| {
            Error::new(ErrorKind::Unknown, format!("scanned item has no key attribute {name}"))
        })?;
        keys.push(name.clone(), value.clone());
    }
    Ok(Change { bytes: decode::item_bytes(&item), ..Change::scanned(keys, item) })
}

fn position(key: &Item) -> Result<Position> {
    let text = serde_json::to_string(key)
        .map_err(|error| Error::new(ErrorKind::Unknown, "write a scan's key").with_source(error))?;
    Ok(Position::Key(Arc::from(text)))
}

fn start_key(position: &Position) -> Result<Option<HashMap<String, SdkValue>>> {
    match position {
        Position::Start => Ok(None),
        Position::Key(text) => {
            // Without the cause, which could quote the key.
            let key: HashMap<String, AttributeValue> = serde_json::from_str(text)
                .map_err(|_| Error::new(ErrorKind::Unknown, "read a scan's stored key"))?;
            Ok(Some(key.into_iter().map(|(name, value)| (name, value.into())).collect()))
        }
        other => Err(Error::new(
            ErrorKind::Unknown,
            format!("position {other} is invalid for a scan segment"),
        )),
    }
}

fn as_parameter(number: u32) -> Result<i32> {
    i32::try_from(number)
        .map_err(|error| Error::new(ErrorKind::Config, "too many segments").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_becomes_the_start_of_the_next_page() {
        let key = Position::Key(r#"{"n":{"N":"1.50"},"pk":{"S":"A"}}"#.into());
        let start = start_key(&key).unwrap().unwrap();
        assert_eq!(start["n"], SdkValue::N("1.50".into()));
        assert_eq!(start["pk"], SdkValue::S("A".into()));
        assert!(start_key(&Position::Start).unwrap().is_none());
        assert!(start_key(&Position::Horizon).is_err());
    }
}
