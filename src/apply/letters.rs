//! Dead letters, and the hash by which those of one item are found.

use sha2::{Digest, Sha256};

use super::ports::{DeadLetter, KeyHash};
use crate::model::{Change, Item, PartitionId, Reject, Version};

pub(super) fn dead_letter(
    partition: &PartitionId,
    change: &Change,
    version: Version,
    reject: Reject,
) -> DeadLetter {
    #[derive(serde::Serialize)]
    struct Image<'a> {
        op: &'static str,
        keys: &'a Item,
        new_image: Option<&'a Item>,
        old_image: Option<&'a Item>,
    }
    let image = Image {
        op: change.op.label(),
        keys: &change.keys,
        new_image: change.new_image.as_ref(),
        old_image: change.old_image.as_ref(),
    };
    let key = key_json(&change.keys);
    DeadLetter {
        partition: partition.clone(),
        version,
        key_hash: key_hash(&key),
        key,
        image: serde_json::to_string(&image).expect("items always have a JSON form"),
        reject,
    }
}

/// The key as DynamoDB JSON with its attributes sorted. DynamoDB itself brings numbers into one form, so
/// equal keys give equal text.
pub(super) fn key_json(keys: &Item) -> String {
    serde_json::to_string(keys).expect("items always have a JSON form")
}

pub(super) fn key_hash(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

/// The hash by which an item's dead letters are found.
#[must_use]
pub fn key_hash_of(keys: &Item) -> KeyHash {
    key_hash(&key_json(keys))
}
