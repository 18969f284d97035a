//! Keys and sizes of items, as the service sees them.

use dynaurora::model::{AttributeValue, Item};

/// An item's key in canonical form: first the hash of the partition key, which decides about shard, scan
/// segment and scan order, then the text of all key attributes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// The place on the ring of hashes.
    pub hash: u64,
    /// The canonical text: equal numbers give equal texts, however they are written.
    pub text: String,
}

impl ItemKey {
    /// The key of an item, which must hold all key attributes.
    pub fn of(item: &Item, key_attributes: &[String]) -> Self {
        let mut parts = key_attributes.iter().map(|name| {
            let value = item.attribute(name).unwrap_or_else(|| panic!("no key attribute {name}"));
            canonical(value)
        });
        let partition = parts.next().expect("a partition key");
        let hash = hash(partition.as_bytes());
        let text = parts.fold(partition, |text, part| text + "\u{1}" + &part);
        Self { hash, text }
    }
}

/// The attributes of these names.
pub fn project(item: &Item, names: &[String]) -> Item {
    let pair = |name: &String| item.attribute(name).map(|value| (name.clone(), value.clone()));
    names.iter().filter_map(pair).collect()
}

/// The item's size as the service counts it, roughly: names and values.
pub fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(text) => text.len() / 2 + 1,
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

fn canonical(value: &AttributeValue) -> String {
    match value {
        AttributeValue::S(text) => format!("S:{text}"),
        AttributeValue::N(text) => format!("N:{}", canonical_number(text)),
        AttributeValue::B(bytes) => format!("B:{bytes:02x?}"),
        other => panic!("{other:?} cannot be a key"),
    }
}

/// Digits without zeros at either end, and the power of ten: `-120` and `-1.20E2` are both `-12e1`.
fn canonical_number(text: &str) -> String {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().expect("an exponent")),
        None => (text, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.trim_start_matches('+')),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let short = digits.trim_end_matches('0');
    let shift = i64::try_from(digits.len() - short.len()).expect("a short number")
        - i64::try_from(fraction.len()).expect("a short number");
    match short.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => format!("{sign}{digits}e{}", exponent + shift),
    }
}

/// FNV-1a, then a finish that spreads neighbouring texts over the whole ring.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

#[test]
fn equal_numbers_are_equal_keys() {
    for (one, other) in [("1", "1.0"), ("120", "1.2E2"), ("-0.50", "-5e-1"), ("0", "0.00")] {
        assert_eq!(canonical_number(one), canonical_number(other));
    }
    assert_ne!(canonical_number("1"), canonical_number("-1"));
    assert_ne!(canonical_number("1"), canonical_number("10"));
}
