//! A rejected record as it is stored with its dead letter.

use super::{Change, Item};

/// What a dead letter keeps of its record: `{"op", "keys", "new_image", "old_image"}` as DynamoDB JSON.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct StoredRecord {
    /// What happened, by [`super::ChangeOp::label`].
    pub op: String,
    /// The item's key attributes.
    pub keys: Item,
    /// The item after the change.
    pub new_image: Option<Item>,
    /// The item before the change.
    pub old_image: Option<Item>,
}

impl StoredRecord {
    /// The text that is stored of a change.
    ///
    /// # Panics
    /// Never: items always have a JSON form.
    #[must_use]
    pub fn text_of(change: &Change) -> String {
        #[derive(serde::Serialize)]
        struct Borrowed<'a> {
            op: &'static str,
            keys: &'a Item,
            new_image: Option<&'a Item>,
            old_image: Option<&'a Item>,
        }
        let record = Borrowed {
            op: change.op.label(),
            keys: &change.keys,
            new_image: change.new_image.as_ref(),
            old_image: change.old_image.as_ref(),
        };
        serde_json::to_string(&record).expect("items always have a JSON form")
    }

    /// Reads what [`StoredRecord::text_of`] wrote; `None` when the text is something else.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The removal of the item, by the newest image that the record shows.
    #[must_use]
    pub fn removal(&self) -> Change {
        let newest = self.new_image.as_ref().or(self.old_image.as_ref());
        Change::removal(self.keys.clone(), newest.cloned())
    }

    /// The removals of both images: what its rows may be. Without an image the keys alone must tell.
    #[must_use]
    pub fn removals(&self) -> Vec<Change> {
        let removal = |image: Option<&Item>| Change::removal(self.keys.clone(), image.cloned());
        let images = [self.new_image.as_ref(), self.old_image.as_ref()];
        let known: Vec<_> =
            images.into_iter().flatten().map(|image| removal(Some(image))).collect();
        if known.is_empty() { vec![removal(None)] } else { known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ChangeOp;

    fn item(json: &str) -> Item {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let whole = item(r#"{"pk":{"S":"a"},"body":{"S":"x"}}"#);
        let change = Change::scanned(item(r#"{"pk":{"S":"a"}}"#), whole.clone());
        let text = StoredRecord::text_of(&change);
        let expected = concat!(
            r#"{"op":"scan","keys":{"pk":{"S":"a"}},"#,
            r#""new_image":{"body":{"S":"x"},"pk":{"S":"a"}},"old_image":null}"#
        );
        assert_eq!(text, expected);
        let record = StoredRecord::read(&text).unwrap();
        assert_eq!((record.op.as_str(), &record.new_image), ("scan", &Some(whole)));
        assert_eq!(StoredRecord::read("{}"), None);
    }

    #[test]
    fn a_removal_shows_the_newest_image_and_removals_show_each() {
        let [new, old] = ["new", "old"].map(|body| item(&format!(r#"{{"b":{{"S":"{body}"}}}}"#)));
        let keys = item(r#"{"pk":{"S":"a"}}"#);
        let record = |new_image: Option<&Item>, old_image: Option<&Item>| StoredRecord {
            op: "modify".to_owned(),
            keys: keys.clone(),
            new_image: new_image.cloned(),
            old_image: old_image.cloned(),
        };
        let both = record(Some(&new), Some(&old));
        assert_eq!(both.removal().old_image, Some(new.clone()));
        assert_eq!(record(None, Some(&old)).removal().old_image, Some(old.clone()));
        let images = |record: StoredRecord| -> Vec<Option<Item>> {
            record.removals().into_iter().map(|removal| removal.old_image).collect()
        };
        assert_eq!(images(both), [Some(new), Some(old)]);
        assert_eq!(images(record(None, None)), [None]);
        assert_eq!(record(None, None).removal().op, ChangeOp::Remove);
    }
}
