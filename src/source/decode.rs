//! Numbers, sizes, and a table's items: moves the SDK's values into ours without copying strings.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue as TableValue;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{AttributeValue, Item, SequenceNumber};

/// Reads a sequence number.
///
/// # Errors
/// `Unknown`, with the text, if it is not one.
pub(super) fn number(text: &str) -> Result<SequenceNumber> {
    SequenceNumber::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        unknown(format!("{shown:?} is not a sequence number of 1 to 40 digits"))
    })
}

/// An item's size roughly as the service counts it: names and values.
pub(super) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

/// An error for an answer that this version does not understand.
pub(super) fn unknown(what: String) -> Error {
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

/// An item of a table.
///
/// # Errors
/// `Unknown` if it has a value of a type that this version does not know.
pub(super) fn table_item(attributes: HashMap<String, TableValue>) -> Result<Item> {
    let mut item = Item::with_capacity(attributes.len());
    for (name, value) in attributes {
        item.push(name, table_value(value)?);
    }
    Ok(item)
}

fn table_value(value: TableValue) -> Result<AttributeValue> {
    Ok(match value {
        TableValue::S(text) => AttributeValue::S(text),
        TableValue::N(text) => AttributeValue::N(text),
        TableValue::B(blob) => AttributeValue::B(blob.into_inner()),
        TableValue::Bool(flag) => AttributeValue::Bool(flag),
        TableValue::Null(flag) => AttributeValue::Null(flag),
        TableValue::Ss(set) => AttributeValue::Ss(set),
        TableValue::Ns(set) => AttributeValue::Ns(set),
        TableValue::Bs(set) => {
            AttributeValue::Bs(set.into_iter().map(|blob| blob.into_inner()).collect())
        }
        TableValue::L(list) => {
            AttributeValue::L(list.into_iter().map(table_value).collect::<Result<_>>()?)
        }
        TableValue::M(map) => {
            let pair = |(name, value)| Ok((name, table_value(value)?));
            AttributeValue::M(map.into_iter().map(pair).collect::<Result<_>>()?)
        }
        _ => return Err(unknown("attribute value of an unknown type".to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;

    use super::*;

    #[test]
    fn every_attribute_type_of_an_item_arrives() {
        let nested = TableValue::L(vec![
            TableValue::Null(true),
            TableValue::M(HashMap::from([("deep".into(), TableValue::Bool(false))])),
        ]);
        let item = table_item(HashMap::from([
            ("pk".into(), TableValue::S("CHILD#1".into())),
            ("n".into(), TableValue::N("1.50E+125".into())),
            ("b".into(), TableValue::B(Blob::new([0, 255]))),
            ("ss".into(), TableValue::Ss(vec!["a".into()])),
            ("ns".into(), TableValue::Ns(vec!["1".into()])),
            ("bs".into(), TableValue::Bs(vec![Blob::new([1])])),
            ("l".into(), nested),
        ]))
        .unwrap();
        let expected: Item = serde_json::from_str(
            r#"{"pk":{"S":"CHILD#1"},"n":{"N":"1.50E+125"},"b":{"B":"AP8="},"ss":{"SS":["a"]},
                "ns":{"NS":["1"]},"bs":{"BS":["AQ=="]},
                "l":{"L":[{"NULL":true},{"M":{"deep":{"BOOL":false}}}]}}"#,
        )
        .unwrap();
        assert_eq!(item, expected);
    }
}
