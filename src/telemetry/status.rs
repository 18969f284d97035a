//! The daemon's status: `/status`, `status --output json` and the page for people.
//!
//! The JSON is a contract: fields may be added, never renamed or removed. For the same reason unknown fields
//! are ignored, so that an older command understands a newer daemon.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::EpochMillis;

/// The daemon as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Whether every source is up to date, as `/readyz` answers.
    pub ready: bool,
    /// Whether the daemon's loops run, as `/livez` answers.
    pub live: bool,
    /// Why it is not ready or not alive, one sentence each; otherwise empty.
    pub reasons: Vec<String>,
    /// The program's version.
    pub version: String,
    /// One entry per source of the config.
    pub sources: Vec<SourceStatus>,
}

impl Status {
    /// A started daemon without any state yet: alive, not ready.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            live: true,
            reasons: vec!["starting".into()],
            version: env!("CARGO_PKG_VERSION").into(),
            ..Self::default()
        }
    }
}

/// One source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// Its name in the config.
    pub source: String,
    /// The DynamoDB table.
    pub table: String,
    /// One word, as in the view `dynaurora.freshness`: `live`, `idle`, `behind`, `stuck`, `backfilling`,
    /// `gapped`, `halted`; and `starting` until this daemon knows.
    pub state: String,
    /// The generation; it changes when the table is read again.
    pub generation: u32,
    /// Every change up to this time is in the target; `None` while unknown.
    #[serde(with = "rfc3339")]
    pub synced_up_to: Option<EpochMillis>,
    /// The time of the newest applied change.
    #[serde(with = "rfc3339")]
    pub last_event_at: Option<EpochMillis>,
    /// The oldest of the shards' last polls.
    #[serde(with = "rfc3339")]
    pub last_poll_at: Option<EpochMillis>,
    /// Now minus `synced_up_to`, in seconds.
    pub lag_secs: Option<f64>,
    /// 24 hours minus the age of the oldest unread change, in seconds.
    pub retention_headroom_secs: Option<f64>,
    /// Whether a backfill runs beside the tail.
    pub backfilling: bool,
    /// The backfill's progress, from 0 to 1; `None` without one.
    pub backfill_progress_ratio: Option<f64>,
    /// The number of partitions in each state.
    pub partitions: PartitionCounts,
    /// The stream's shards and the segments of an active backfill.
    pub shards: Vec<ShardStatus>,
    /// Open dead letters.
    pub dead_letters: u64,
    /// Open gaps.
    pub gaps: u64,
    /// Why it is halted, if it is.
    pub halted: Option<String>,
    /// Problems that do not keep the source from being up to date, one sentence each.
    pub warnings: Vec<String>,
}

/// The number of partitions in each state; each partition counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionCounts {
    /// Readable, without an owner.
    pub open: u64,
    /// Being read by some worker.
    pub owned: u64,
    /// Waiting for their parents.
    pub waiting: u64,
    /// Read to their end.
    pub drained: u64,
    /// Vanished before they were drained.
    pub lost: u64,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardStatus {
    /// The shard or segment.
    pub id: String,
    /// Its parent shard.
    pub parent: Option<String>,
    /// One word, as in [`PartitionCounts`].
    pub state: String,
    /// The worker with its lease.
    pub owner: Option<String>,
    /// How far it was applied: a sequence number, or only the word `key` for a scan, because item keys must
    /// not be shown here.
    pub position: String,
}

/// A time for people and machines: `2026-12-01T08:00:00Z`. Empty outside jiff's range.
#[must_use]
pub fn timestamp(at: EpochMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| String::new(), |at| at.to_string())
}

/// Seconds for people: `1.5 s`, `4 min 10 s`, `23 h 59 min`.
#[must_use]
pub fn duration(secs: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a fraction of a second does not matter")]
    let whole = secs as i64;
    match whole {
        ..60 => format!("{secs:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

mod rfc3339 {
    use super::{Deserialize, Deserializer, EpochMillis, Serializer, timestamp};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(
        at: &Option<EpochMillis>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at.map(timestamp) {
            Some(text) if !text.is_empty() => serializer.serialize_some(&text),
            _ => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<EpochMillis>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| {
            let at: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
            Ok(EpochMillis(at.as_millisecond()))
        })
        .transpose()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A source with a value in every field.
    pub(crate) fn sample() -> Status {
        Status {
            ready: true,
            live: true,
            version: "0.1.0".into(),
            sources: vec![SourceStatus {
                source: "santa".into(),
                table: "NorthPole".into(),
                state: "live".into(),
                generation: 1,
                synced_up_to: Some(EpochMillis(1_764_576_000_000)),
                lag_secs: Some(1.5),
                retention_headroom_secs: Some(86_398.0),
                partitions: PartitionCounts { owned: 1, drained: 1, ..Default::default() },
                shards: vec![ShardStatus {
                    id: "shardId-2".into(),
                    parent: Some("shardId-1".into()),
                    state: "owned".into(),
                    owner: Some("<pole>-7".into()),
                    position: "after:100000000003498069978".into(),
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn times_are_rfc_3339_or_null_and_survive_reading() {
        let json = serde_json::to_value(sample()).unwrap();
        let source = &json["sources"][0];
        assert_eq!(source["synced_up_to"], "2025-12-01T08:00:00Z");
        assert_eq!(source["last_event_at"], serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), sample());
    }

    #[test]
    fn an_older_reader_takes_unknown_and_absent_fields() {
        let text = r#"{"ready":true,"novel":1,"sources":[{"source":"santa"}]}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert!(status.ready);
        assert_eq!(status.sources[0].source, "santa");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(1.46), "1.5 s");
        assert_eq!(duration(250.0), "4 min 10 s");
        assert_eq!(duration(86_398.0), "23 h 59 min");
    }
}
