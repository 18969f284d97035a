//! The vocabulary: the words that every room shares, and nothing that does I/O.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap;

/// A DynamoDB attribute value. `N` holds the exact text of the number as DynamoDB sent it.
pub use serde_dynamo::AttributeValue;

mod cells;
mod counts;
mod key_type;
mod rows;
mod segment;
pub use cells::Cells;
pub use counts::{RecordCounts, RecordOutcome};
pub use key_type::KeyType;
pub use rows::{RowAction, RowOp};
pub use segment::Segment;

/// Anything that is read in order from a [`Position`]: a stream shard, a segment of a backfill scan, or a
/// file of an export. The text is unique within its source and stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(Arc<str>);

/// What a partition is a part of; its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionKind {
    /// A shard of the stream.
    Shard,
    /// A segment of a backfill's scan: `scan/NNN-of-MMM`.
    Segment,
    /// A file of an export: `file/…`.
    File,
}

impl PartitionId {
    /// What it is a part of.
    #[must_use]
    pub fn kind(&self) -> PartitionKind {
        if self.0.starts_with("scan/") {
            PartitionKind::Segment
        } else if self.0.starts_with("file/") {
            PartitionKind::File
        } else {
            PartitionKind::Shard
        }
    }

    /// Wraps a shard id, or the name of a segment or file.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stream record's sequence number: 1 to 40 decimal digits (the service's model says 21 to 40), compared
/// as a number, printed with the width it came with, since the API wants its own text back.
#[derive(Debug, Clone, Copy)]
pub struct SequenceNumber {
    high: u128,
    low: u64,
    width: u8,
}

impl SequenceNumber {
    /// The longest sequence number that the service's model allows, in digits.
    pub const DIGITS_MAX: usize = 40;
    const LOW_DIGITS: usize = 19;

    /// The number below every sequence number: the sequence part of a scanned row's version.
    pub const ZERO: Self = Self { high: 0, low: 0, width: 1 };

    /// Reads decimal digits; `None` when the text is empty, too long or holds anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.is_empty()
            || digits.len() > Self::DIGITS_MAX
            || !digits.iter().all(u8::is_ascii_digit)
        {
            return None;
        }
        let split = digits.len().saturating_sub(Self::LOW_DIGITS);
        let (high, low) = text.split_at(split);
        let high = if high.is_empty() { 0 } else { high.parse().ok()? };
        let width = u8::try_from(digits.len()).ok()?;
        Some(Self { high, low: low.parse().ok()?, width })
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SequenceNumber {}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.high, self.low).cmp(&(other.high, other.low))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = usize::from(self.width);
        if width > Self::LOW_DIGITS {
            write!(f, "{:0w$}{:019}", self.high, self.low, w = width - Self::LOW_DIGITS)
        } else {
            write!(f, "{:0width$}", self.low)
        }
    }
}

/// The number that changes whenever continuity with the stream was lost and the table is read again.
/// The first generation of a source is 1.
pub type Generation = u32;

/// The number that changes at each change of a lease's owner.
pub type Epoch = i64;

/// The version of a row: generation first, then sequence number; a scan's row has the sequence number zero.
///
/// In the target it is one `numeric`: generation x 10^40 + sequence number, which is what `Display` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The generation in which the row was read.
    pub generation: Generation,
    /// The record's sequence number, or zero for a scan.
    pub sequence: SequenceNumber,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, sequence } = self;
        write!(f, "{generation}{:021}{:019}", sequence.high, sequence.low)
    }
}

/// How far a partition has been applied. Stored in the ledger as the text that `Display` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// The oldest record that the shard still holds. It never reports a loss, so it is used only where the
    /// listing gave no starting sequence number.
    Horizon,
    /// The record with this sequence number comes next.
    At(SequenceNumber),
    /// The record with this sequence number is applied.
    After(SequenceNumber),
    /// The beginning of a scan segment or of a file.
    Start,
    /// A scan segment up to and including this key (DynamoDB JSON of the last evaluated key).
    Key(Arc<str>),
    /// A file up to and including this many of its lines.
    Line(u64),
}

impl Position {
    /// Reads what `Display` printed; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "horizon" => Some(Self::Horizon),
            None if text == "start" => Some(Self::Start),
            Some(("at", number)) => SequenceNumber::parse(number).map(Self::At),
            Some(("after", number)) => SequenceNumber::parse(number).map(Self::After),
            Some(("key", key)) => Some(Self::Key(key.into())),
            Some(("line", line)) => line.parse().ok().map(Self::Line),
            _ => None,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Horizon => f.write_str("horizon"),
            Self::Start => f.write_str("start"),
            Self::At(number) => write!(f, "at:{number}"),
            Self::After(number) => write!(f, "after:{number}"),
            Self::Key(key) => write!(f, "key:{key}"),
            Self::Line(line) => write!(f, "line:{line}"),
        }
    }
}

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EpochMillis(pub i64);

impl EpochMillis {
    /// The time in seconds, as metrics carry it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

/// An item: its attributes in no particular order. A list beats a map here: items have few attributes, and
/// a list is filled without hashing.
#[derive(Debug, Clone, Default)]
pub struct Item(Vec<(String, AttributeValue)>);

impl Item {
    /// An empty item with room for `attributes`.
    #[must_use]
    pub fn with_capacity(attributes: usize) -> Self {
        Self(Vec::with_capacity(attributes))
    }

    /// Adds an attribute; the caller sees to it that the name is new.
    pub fn push(&mut self, name: String, value: AttributeValue) {
        self.0.push((name, value));
    }

    /// The attribute of this name.
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

    /// Whether there is no attribute.
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

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeOp {
    /// The item is new.
    Insert,
    /// The item changed.
    Modify,
    /// The item is gone.
    Remove,
    /// The item was read by a backfill.
    Scan,
}

impl ChangeOp {
    /// The label that logs and metrics carry.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Modify => "modify",
            Self::Remove => "remove",
            Self::Scan => "scan",
        }
    }
}

/// One stream record or one scanned item, free of any AWS type.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub op: ChangeOp,
    /// The record's sequence number; zero for a scanned item.
    pub sequence: SequenceNumber,
    /// The item's key attributes.
    pub keys: Item,
    /// The item after the change; absent after a removal.
    pub new_image: Option<Item>,
    /// The item before the change, where the stream's view type carries it.
    pub old_image: Option<Item>,
    /// When the change was made, in whole seconds rounded down; a measure of lag, never an order.
    pub changed_at: Option<EpochMillis>,
    /// Whether the service removed the item because its time to live had passed.
    pub expired: bool,
    /// The record's size as the service counts it, in bytes.
    pub bytes: usize,
}

/// The number of a target table within its source's mapping (see `Mapper::tables`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableIndex(pub u16);

/// Why a record was rejected: the bounded label of metrics and of the dead letters' `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// No entity's key template matches, and the source says `unmatched = "dead_letter"`.
    Unmatched,
    /// A required attribute, or one of the target's primary key, is absent or NULL.
    Missing,
    /// The attribute's type cannot become the column's type.
    Type,
    /// The value has the right type but not a valid form (a date that is none, say).
    Format,
    /// The value does not fit the column's range, precision or length.
    Range,
    /// The text holds U+0000, which Postgres cannot store.
    Nul,
    /// More child rows than the mapping's limit, or nesting too deep.
    Limit,
    /// Postgres refused the row.
    Refused,
}

impl RejectReason {
    /// The label that metrics and the `dead_letters` table carry.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unmatched => "unmatched",
            Self::Missing => "missing",
            Self::Type => "type",
            Self::Format => "format",
            Self::Range => "range",
            Self::Nul => "nul",
            Self::Limit => "limit",
            Self::Refused => "refused",
        }
    }
}

/// Why a record could not be mapped or stored. It becomes a dead letter with the record's whole image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The bounded reason.
    pub reason: RejectReason,
    /// The entity that the record was routed to, where it was.
    pub entity: Option<Arc<str>>,
    /// The column or path, where one is to blame.
    pub place: Option<Arc<str>>,
    /// What a person needs to know, without the value itself.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(text: &str) -> SequenceNumber {
        SequenceNumber::parse(text).unwrap()
    }

    #[test]
    fn sequence_numbers_compare_as_numbers_whatever_their_width() {
        assert!(seq("9900000000002513012315") < seq("10000000000002513012315"));
        assert!(seq("9".repeat(40).as_str()) > seq("9".repeat(39).as_str()));
        assert_eq!(seq("000000000000000000000000000042"), seq("42"));
        assert!(SequenceNumber::ZERO < seq("000000000000000000001"));
    }

    #[test]
    fn sequence_numbers_keep_their_text() {
        for text in ["7", "0042", "100000000003498069978", &"8".repeat(40), &"0".repeat(30)] {
            assert_eq!(seq(text).to_string(), text);
        }
        for text in ["", "12a", "-1", &"1".repeat(41)] {
            assert!(SequenceNumber::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn versions_print_generation_times_ten_to_the_forty_plus_sequence() {
        let version = Version { generation: 3, sequence: seq("42") };
        assert_eq!(version.to_string(), format!("3{:040}", 42));
        let scan = Version { generation: 4, sequence: SequenceNumber::ZERO };
        assert!(version < scan);
        assert!(scan < Version { generation: 4, sequence: seq("1") });
    }

    #[test]
    fn positions_survive_the_ledger() {
        let positions = [
            Position::Horizon,
            Position::Start,
            Position::At(seq("100000000003498069978")),
            Position::After(seq("000100000000003498069978")),
            Position::Key(r#"{"pk":{"S":"a:b"}}"#.into()),
            Position::Line(12),
        ];
        for position in positions {
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        assert_eq!(Position::parse("after:"), None);
        assert_eq!(Position::parse("latest"), None);
    }

    #[test]
    fn items_read_and_write_dynamodb_json_with_sorted_names() {
        let text = r#"{"b":{"N":"1.50"},"a":{"L":[{"S":"x"},{"NULL":true}]}}"#;
        let item: Item = serde_json::from_str(text).unwrap();
        assert_eq!(item.attribute("b"), Some(&AttributeValue::N("1.50".into())));
        let written = serde_json::to_string(&item).unwrap();
        assert_eq!(written, r#"{"a":{"L":[{"S":"x"},{"NULL":true}]},"b":{"N":"1.50"}}"#);
    }
}
