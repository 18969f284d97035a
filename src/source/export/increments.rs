//! Incremental exports after a full one: their order, and the meaning of their lines.
//!
//! An incremental export holds the last state of each item that changed within its window `[from, to)`, but
//! nothing about items that were created and removed within it. So each must begin exactly where the one
//! before ends: a gap would lose changes, and an overlap would lose such removals.
//!
//! Its rows have the export's place in the chain, from 1, as sequence number: they beat the full export's,
//! but lose to later exports and to all changes of the stream, whose numbers have at least 21 digits. So the
//! files of all exports may be read in parallel, and removals leave tombstones like any others.

use serde::Deserialize;

use super::manifest::{Summary, refused};
use super::store::Place;
use crate::error::Result;
use crate::model::{Change, ChangeOp, EpochMillis, Item, SequenceNumber};
use crate::source::decode;

/// The most exports in one backfill: one a day would be more than the service can go back.
const EXPORTS_MAX: usize = SequenceNumber::OF_LOADS_MAX as usize;

/// Puts one full export and its incremental ones in order.
///
/// # Errors
/// `Config`, with the missing part, if they are not a chain.
pub(super) fn chain<T>(mut exports: Vec<(Place, Summary, T)>) -> Result<Vec<(Place, Summary, T)>> {
    exports.sort_by_key(|(_, summary, _)| (summary.since, summary.exported_at));
    if exports.len() > EXPORTS_MAX {
        let what = format!("{} exports are more than {EXPORTS_MAX}", exports.len());
        return Err(refused(what));
    }
    let full = exports.iter().filter(|(_, summary, _)| summary.since.is_none()).count();
    if full != 1 {
        return Err(refused(format!("{full} of the exports are full ones"))
            .with_hint("give one full export, and optionally incremental ones after it"));
    }
    for (before, next) in exports.iter().zip(exports.iter().skip(1)) {
        let ((before, ends, _), (place, begins, _)) = (before, next);
        let since = begins.since.unwrap_or(EpochMillis(i64::MIN));
        if since == ends.exported_at {
            continue;
        }
        let (place, before) = (place.to_string(), before.to_string());
        let how = if since > ends.exported_at { "later than" } else { "before" };
        let what = format!("the export at {place} begins {how} the one at {before} ends");
        return Err(refused(what).with_hint(format!(
            "each must begin where the one before ends: aws dynamodb export-table-to-point-in-time \
             --export-type INCREMENTAL_EXPORT \
             --incremental-export-specification ExportFromTime={}",
            ends.exported_at.as_secs_f64()
        )));
    }
    Ok(exports)
}

/// The change in a line of the export at this place of the chain; otherwise an error about the line.
pub(super) fn change(line: &[u8], layer: u16) -> Result<Change, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        metadata: Metadata,
        keys: Item,
        new_image: Option<Item>,
        old_image: Option<Item>,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "WriteTimestampMicros")]
        micros: Micros,
    }
    /// The service writes it as an attribute; its documentation has also shown other forms.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Micros {
        Number(i64),
        Text(String),
        Attribute {
            #[serde(rename = "N")]
            number: String,
        },
    }
    let parsed = serde_json::from_slice(line);
    let Line { metadata, keys, new_image, old_image } =
        parsed.map_err(|error| format!("no change, column {}", error.column()))?;
    let micros = match metadata.micros {
        Micros::Number(micros) => Some(micros),
        Micros::Text(text) | Micros::Attribute { number: text } => text.parse().ok(),
    };
    let micros = micros.ok_or_else(|| "no time of a change".to_owned())?;
    let sequence = SequenceNumber::parse(&layer.to_string()).ok_or("no change of a chain")?;
    let bytes = [&new_image, &old_image].into_iter().flatten().map(decode::item_bytes).sum();
    Ok(Change {
        op: if new_image.is_some() { ChangeOp::Modify } else { ChangeOp::Remove },
        sequence,
        keys,
        new_image,
        old_image,
        changed_at: Some(EpochMillis(micros / 1_000)),
        expired: false,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn export(since: Option<i64>, to: i64) -> (Place, Summary, ()) {
        let summary = Summary {
            table_arn: "arn".to_owned(),
            table_id: "id".to_owned(),
            exported_at: EpochMillis(to),
            since: since.map(EpochMillis),
            old_images: true,
            items: 0,
        };
        (Place::of(&format!("/e/{to}")).unwrap(), summary, ())
    }

    #[test]
    fn each_export_begins_where_the_one_before_ends() {
        let given = vec![export(Some(20), 30), export(None, 10), export(Some(10), 20)];
        let order = chain(given).unwrap();
        let times: Vec<i64> = order.iter().map(|(_, own, ())| own.exported_at.0).collect();
        assert_eq!(times, [10, 20, 30]);
        let why = |given| {
            let error = chain(given).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            error.to_string()
        };
        let gap = why(vec![export(None, 10), export(Some(11), 20)]);
        assert_eq!(gap, "the export at /e/20 begins later than the one at /e/10 ends");
        assert!(why(vec![export(None, 10), export(Some(9), 20)]).contains("begins before"));
        assert!(why(vec![export(Some(10), 20)]).contains("0 of the exports are full"));
        assert!(why(vec![export(None, 10), export(None, 10)]).contains("2 of the exports"));
    }

    #[test]
    fn a_line_is_the_last_change_of_an_item() {
        let line = |rest: &str| {
            let text = format!(
                r#"{{"Metadata":{{"WriteTimestampMicros":{{"N":"1680109764000000"}}}},
                    "Keys":{{"pk":{{"S":"a"}}}}{rest}}}"#
            );
            change(text.as_bytes(), 3)
        };
        let put = line(r#","NewImage":{"pk":{"S":"a"},"n":{"N":"1"}}"#).unwrap();
        assert_eq!((put.op, put.sequence.to_string()), (ChangeOp::Modify, "3".to_owned()));
        assert_eq!(put.changed_at, Some(EpochMillis(1_680_109_764_000)));
        let gone = line(r#","OldImage":{"pk":{"S":"a"}}"#).unwrap();
        assert_eq!((gone.op, gone.old_image.is_some()), (ChangeOp::Remove, true));
        assert_eq!(line("").unwrap().op, ChangeOp::Remove);
        assert!(change(br#"{"Item":{"pk":{"S":"a"}}}"#, 1).unwrap_err().contains("no change"));
    }
}
