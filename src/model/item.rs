//! Items and their attributes.

use std::collections::HashMap;

use serde::ser::SerializeMap;

use super::AttributeValue;

/// An item: its attributes in no particular order. A list is better than a map here: items have few
/// attributes, and a list is filled without hashing.
#[derive(Debug, Clone, Default)]
pub struct Item(Vec<(String, AttributeValue)>);

impl Item {
    /// An empty item with room for `attributes`.
    #[must_use]
    pub fn with_capacity(attributes: usize) -> Self {
        Self(Vec::with_capacity(attributes))
    }

    /// Adds an attribute; the caller ensures that the name is new.
    pub fn push(&mut self, name: String, value: AttributeValue) {
        self.0.push((name, value));
    }

    /// The attribute with this name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// All attributes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many attributes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no attributes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Item {
    /// Items are equal when they hold the same attributes, in any order.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|(name, value)| other.attribute(name) == Some(value))
    }
}

impl FromIterator<(String, AttributeValue)> for Item {
    fn from_iter<I: IntoIterator<Item = (String, AttributeValue)>>(attributes: I) -> Self {
        Self(attributes.into_iter().collect())
    }
}

impl From<HashMap<String, AttributeValue>> for Item {
    fn from(map: HashMap<String, AttributeValue>) -> Self {
        map.into_iter().collect()
    }
}

impl serde::Serialize for Item {
    /// Writes DynamoDB JSON, attributes sorted by name so that equal items give equal bytes.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<_> = self.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        let mut map = serializer.serialize_map(Some(sorted.len()))?;
        for (name, value) in sorted {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> serde::Deserialize<'de> for Item {
    /// Reads DynamoDB JSON: `{"pk": {"S": "CHILD#1"}}`.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        HashMap::<String, AttributeValue>::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_read_and_write_dynamodb_json_with_sorted_names() {
        let text = r#"{"b":{"N":"1.50"},"a":{"L":[{"S":"x"},{"NULL":true}]}}"#;
        let item: Item = serde_json::from_str(text).unwrap();
        assert_eq!(item.attribute("b"), Some(&AttributeValue::N("1.50".into())));
        let written = serde_json::to_string(&item).unwrap();
        assert_eq!(written, r#"{"a":{"L":[{"S":"x"},{"NULL":true}]},"b":{"N":"1.50"}}"#);
    }
}
