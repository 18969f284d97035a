//! Dead letters, and the hash by which those of one item are found.

use sha2::{Digest, Sha256};

use super::ports::{DeadLetter, KeyHash};
use crate::model::{Change, Item, PartitionId, Reject, StoredRecord, Version};

pub(super) fn dead_letter(
    partition: &PartitionId,
    change: &Change,
    version: Version,
    reject: Reject,
) -> DeadLetter {
    let key = key_json(&change.keys);
    DeadLetter {
        partition: partition.clone(),
        version,
        key_hash: key_hash(&key),
        key,
        image: StoredRecord::text_of(change),
        reject,
    }
}

/// The key as DynamoDB JSON with sorted attributes. DynamoDB normalizes numbers, so equal keys give equal
/// text.
pub(super) fn key_json(keys: &Item) -> String {
    serde_json::to_string(keys).expect("items always have a JSON form")
}

pub(super) fn key_hash(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

/// The hash that identifies an item's dead letters.
#[must_use]
pub fn key_hash_of(keys: &Item) -> KeyHash {
    key_hash(&key_json(keys))
}
