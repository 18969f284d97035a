//! What the daemon says about itself: `/status`, `status --output json` and the page for people.
//!
//! The JSON is a contract that only grows: fields may be added, never renamed or removed. Reading is
//! lenient for the same reason, so that an older command understands a newer daemon.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::EpochMillis;

/// The daemon as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Whether every source is being kept in step: what `/readyz` answers.
    pub ready: bool,
    /// Whether the daemon's loops turn: what `/livez` answers.
    pub live: bool,
    /// Why it is not ready or not alive, one sentence each; empty when all is well.
    pub reasons: Vec<String>,
    /// The program's version.
    pub version: String,
    /// One entry per source of the config.
    pub sources: Vec<SourceStatus>,
}

impl Status {
    /// A daemon that has started and knows nothing yet: alive, not ready.
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
    /// Every change up to this time is in the target; `None` while that is unknown.
    #[serde(with = "rfc3339")]
    pub synced_up_to: Option<EpochMillis>,
    /// The time of the newest applied change.
    #[serde(with = "rfc3339")]
    pub last_event_at: Option<EpochMillis>,
    /// The oldest of the shards' last polls.
    #[serde(with = "rfc3339")]
    pub last_poll_at: Option<EpochMillis>,
    /// Now less `synced_up_to`, in seconds.
    pub lag_secs: Option<f64>,
    /// 24 hours less the age of the oldest unread change, in seconds.
    pub retention_headroom_secs: Option<f64>,
    /// Whether a backfill runs beside the tail.
    pub backfilling: bool,
    /// How far it is, from 0 to 1; `None` while there is none.
    pub backfill_progress_ratio: Option<f64>,
    /// How many partitions there are of each state.
    pub partitions: PartitionCounts,
    /// The stream's shards and the segments of an active backfill.
    pub shards: Vec<ShardStatus>,
    /// Open dead letters.
    pub dead_letters: u64,
    /// Open gaps.
    pub gaps: u64,
    /// Why it is halted, where it is.
    pub halted: Option<String>,
    /// What is not as it should be though the source is kept in step, one sentence each.
    pub warnings: Vec<String>,
}

/// How many partitions there are of each state; each partition counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionCounts {
    /// Readable, and nobody's yet.
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
    /// The shard that it continues.
    pub parent: Option<String>,
    /// One word, as in [`PartitionCounts`].
    pub state: String,
    /// The worker that holds its lease.
    pub owner: Option<String>,
    /// How far it is applied: a sequence number, or the bare word `key` for a scan, because an item's key
    /// is nobody's business here.
    pub position: String,
}

/// A time as people and machines read it: `2026-12-01T08:00:00Z`. Out of jiff's range it is empty.
#[must_use]
pub fn timestamp(at: EpochMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| String::new(), |at| at.to_string())
}

/// Seconds as people say them: `1.5 s`, `4 min 10 s`, `23 h 59 min`.
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

    /// A source with something in every field.
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
