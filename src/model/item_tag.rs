//! Which item a row is of, where the row's key does not tell.

use std::fmt;

use sha2::{Digest, Sha256};

use super::Item;

/// A number of sixteen digits, made of an item's key, by which a row names its item.
///
/// Two items share one by a chance of 1 in 10^16, and that matters only if they want the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemTag(u64);

/// One more than the highest tag.
const END: u64 = 10_u64.pow(16);

impl ItemTag {
    /// The digits of every tag; none is zero.
    pub const DIGITS: usize = 16;

    /// The tag of the item with this key.
    ///
    /// # Panics
    /// Never: items always have a JSON form.
    #[must_use]
    pub fn of(keys: &Item) -> Self {
        let text = serde_json::to_string(keys).expect("items always have a JSON form");
        let digest = Sha256::digest(text.as_bytes());
        let number = digest.iter().take(8).fold(0, |all, byte| (all << 8) | u64::from(*byte));
        Self(number % (END - 1) + 1)
    }

    /// Reads the sixteen digits that `Display` prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten()?;
        (number > 0).then_some(Self(number))
    }

    /// The tag in a row's version as text; `None` where the row does not name its item.
    #[must_use]
    pub fn of_version(text: &str) -> Option<Self> {
        text.split_once('.').and_then(|(_, tag)| Self::parse(tag))
    }

    /// The tag as a number.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0.cast_signed()
    }

    /// The tag with this number.
    #[must_use]
    pub fn numbered(number: i64) -> Option<Self> {
        let number = u64::try_from(number).ok()?;
        (1..END).contains(&number).then_some(Self(number))
    }
}

impl fmt::Display for ItemTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(json: &str) -> ItemTag {
        ItemTag::of(&serde_json::from_str(json).unwrap())
    }

    /// It stands in tables: another tag for the same key would make every row somebody else's.
    #[test]
    fn the_tag_of_a_key_never_changes() {
        let one = tag(r#"{"pk":{"S":"a"},"sk":{"N":"1"}}"#);
        assert_eq!(one, tag(r#"{"sk":{"N":"1"},"pk":{"S":"a"}}"#));
        assert_ne!(one, tag(r#"{"pk":{"S":"a"},"sk":{"S":"1"}}"#));
        assert_eq!(one.to_string(), "4774992258598048");
    }

    #[test]
    fn a_tag_is_read_as_it_prints() {
        let one = tag(r#"{"pk":{"S":"a"}}"#);
        assert_eq!(ItemTag::parse(&one.to_string()), Some(one));
        assert_eq!(ItemTag::numbered(one.number()), Some(one));
        assert_eq!(ItemTag::of_version(&format!("17.{one}")), Some(one));
        for odd in ["17", "17.5", "17.0000000000000000", "17.+000000000000001"] {
            assert_eq!(ItemTag::of_version(odd), None, "{odd}");
        }
        assert_eq!((ItemTag::numbered(0), ItemTag::numbered(-1)), (None, None));
    }
}
