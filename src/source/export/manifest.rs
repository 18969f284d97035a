//! An export's manifests: `manifest-summary.json` and `manifest-files.json`.
//!
//! The formats are the service's: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html>.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use md5::{Digest, Md5};
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::model::EpochMillis;

/// The MD5 of a file as it is stored.
pub(super) type Checksum = [u8; 16];

/// The relevant part of `manifest-summary.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) table_arn: String,
    pub(super) table_id: String,
    /// The time of the items' state.
    pub(super) exported_at: EpochMillis,
    /// For an incremental export: it holds the changes from this time on.
    pub(super) since: Option<EpochMillis>,
    /// Whether an incremental export has its items' old images.
    pub(super) old_images: bool,
    pub(super) items: u64,
}

/// A line of `manifest-files.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The file's own name: an export may be copied anywhere, with its data files in `data`.
    pub(super) name: String,
    pub(super) items: u64,
    /// Of the compressed bytes; `None` if the manifest has none.
    pub(super) md5: Option<Checksum>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryText {
    table_arn: String,
    table_id: String,
    export_time: Option<String>,
    export_from_time: Option<String>,
    export_to_time: Option<String>,
    output_view: Option<String>,
    item_count: u64,
    output_format: String,
    /// Missing in manifests from before incremental exports existed.
    export_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryText {
    item_count: u64,
    md5_checksum: Option<String>,
    data_file_s3_key: String,
}

/// Reads the summary.
///
/// # Errors
/// `Config` if it is not the summary of an export in `DYNAMODB_JSON`.
pub(super) fn summary(bytes: &[u8], place: &str) -> Result<Summary> {
    let text: SummaryText = serde_json::from_slice(bytes).map_err(|error| {
        refused(format!("{place} is not a summary of an export")).with_source(error)
    })?;
    let kind = text.export_type.as_deref().unwrap_or("FULL_EXPORT");
    let full = kind == "FULL_EXPORT";
    if !full && kind != "INCREMENTAL_EXPORT" {
        return Err(refused(format!("{place} belongs to an export of type {kind}"))
            .with_hint("give a full export, and optionally incremental ones after it"));
    }
    if text.output_format != "DYNAMODB_JSON" {
        let what = format!("{place} belongs to an export in the format {}", text.output_format);
        return Err(refused(what).with_hint(
            "only DYNAMODB_JSON is supported: aws dynamodb export-table-to-point-in-time \
             --export-format DYNAMODB_JSON",
        ));
    }
    let time = |given: Option<String>, what: &str| {
        let time = given.unwrap_or_default().parse();
        time.map(|time: Timestamp| EpochMillis(time.as_millisecond()))
            .map_err(|error| refused(format!("{place} has no {what}")).with_source(error))
    };
    let (since, exported_at) = if full {
        (None, time(text.export_time, "export time")?)
    } else {
        let since = time(text.export_from_time, "time at which the export begins")?;
        (Some(since), time(text.export_to_time, "time at which the export ends")?)
    };
    Ok(Summary {
        table_arn: text.table_arn,
        table_id: text.table_id,
        exported_at,
        since,
        old_images: text.output_view.as_deref() == Some("NEW_AND_OLD_IMAGES"),
        items: text.item_count,
    })
}

/// Reads the list of data files, one JSON document per line.
///
/// # Errors
/// `Config` if a line is invalid, a file is listed twice, or the files' items do not add up to the summary's
/// count.
pub(super) fn files(bytes: &[u8], place: &str, summary: &Summary) -> Result<Vec<Entry>> {
    let (mut entries, mut names) = (Vec::new(), HashSet::new());
    let lines = bytes.split(|byte| *byte == b'\n').zip(1_u64..);
    for (line, number) in lines.filter(|(line, _)| !line.trim_ascii().is_empty()) {
        let at = || format!("line {number} of {place}");
        let text: EntryText = serde_json::from_slice(line)
            .map_err(|error| refused(format!("{} names no data file", at())).with_source(error))?;
        let name = text.data_file_s3_key.rsplit('/').next().unwrap_or_default().to_owned();
        if !name.ends_with(".json.gz") || name.starts_with('.') {
            let what = format!("{} names {name:?}, which is not a gzip file of JSON", at());
            return Err(refused(what));
        }
        let md5 = match text.md5_checksum.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(
                checksum(text)
                    .ok_or_else(|| refused(format!("{} has an unreadable checksum", at())))?,
            ),
        };
        if !names.insert(name.clone()) {
            return Err(refused(format!("{} names {name} a second time", at())));
        }
        entries.push(Entry { name, items: text.item_count, md5 });
    }
    let counted = entries.iter().try_fold(0_u64, |sum, entry| sum.checked_add(entry.items));
    if counted != Some(summary.items) {
        return Err(refused(format!(
            "the files of {place} hold {} items, and the summary says {}",
            counted.unwrap_or(u64::MAX),
            summary.items
        ))
        .with_hint("the manifest is incomplete: copy it again from the export"));
    }
    Ok(entries)
}

/// Compares a manifest with its checksum file, if that holds a checksum.
///
/// # Errors
/// `Config` when they differ.
pub(super) fn compare(manifest: &[u8], stored: &[u8], place: &str) -> Result<()> {
    let stored = std::str::from_utf8(stored).ok();
    // In the format of `md5sum` the file's name follows.
    let word = stored.and_then(|text| text.split_whitespace().next());
    match word.and_then(checksum) {
        Some(expected) if expected != <Checksum>::from(Md5::digest(manifest)) => {
            Err(refused(format!("{place} does not match its checksum file"))
                .with_hint("copy it again from the export"))
        }
        _ => Ok(()),
    }
}

/// A checksum in base64, as in the manifest, or in hexadecimal digits.
fn checksum(text: &str) -> Option<Checksum> {
    from_hex(text).or_else(|| BASE64.decode(text.trim()).ok()?.try_into().ok())
}

/// Reads hexadecimal digits.
pub(super) fn from_hex(text: &str) -> Option<Checksum> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |sum, digit| sum * 16 + digit)).collect();
    (text.len() == 32).then_some(bytes)?.try_into().ok()
}

/// Writes hexadecimal digits.
pub(super) fn to_hex(checksum: &Checksum) -> String {
    checksum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why an export is refused.
pub(super) fn refused(what: String) -> Error {
    Error::new(ErrorKind::Config, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = r#"{"version":"2023-08-01",
        "exportArn":"arn:aws:dynamodb:us-east-1:123456789012:table/T/export/0169-a1",
        "startTime":"2020-11-04T07:28:34.028Z","endTime":"2020-11-04T07:33:43.897Z",
        "tableArn":"arn:aws:dynamodb:us-east-1:123456789012:table/T","tableId":"12345a12-abcd",
        "exportTime":"2020-11-04T07:28:34.028Z","s3Bucket":"b","s3Prefix":null,
        "s3SseAlgorithm":"AES256","s3SseKmsKeyId":null,
        "manifestFilesS3Key":"AWSDynamoDB/0169-a1/manifest-files.json","billedSizeBytes":0,
        "itemCount":8,"outputFormat":"DYNAMODB_JSON","exportType":"FULL_EXPORT"}"#;
    /// The example of the service's own documentation.
    const FILES: &str = concat!(
        r#"{"itemCount": 8,"md5Checksum": "sQMSpEILNgoQmarvDFonGQ==","#,
        r#""etag": "af83d6f217c19b8b0fff8023d8ca4716-1","#,
        r#""dataFileS3Key": "AWSDynamoDB/0169-a1/data/asdl123dasas.json.gz"}"#,
        "\n"
    );

    fn why(outcome: Result<impl std::fmt::Debug>) -> String {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn a_full_export_is_understood() {
        let found = summary(SUMMARY.as_bytes(), "summary").unwrap();
        assert_eq!(found.exported_at, EpochMillis(1_604_474_914_028));
        assert_eq!((found.items, &*found.table_id), (8, "12345a12-abcd"));
        let old = SUMMARY.replace(r#","exportType":"FULL_EXPORT""#, "");
        assert_eq!(summary(old.as_bytes(), "summary").unwrap(), found);
        let entries = files(FILES.as_bytes(), "files", &found).unwrap();
        assert_eq!(entries[0].name, "asdl123dasas.json.gz");
        assert_eq!(to_hex(&entries[0].md5.unwrap()), "b10312a4420b360a1099aaef0c5a2719");
    }

    #[test]
    fn an_incremental_export_is_understood() {
        let text = SUMMARY.replace("FULL_EXPORT", "INCREMENTAL_EXPORT").replace(
            r#""exportTime":"2020-11-04T07:28:34.028Z""#,
            r#""exportFromTime":"2020-11-04T07:28:34.028Z",
            "exportToTime":"2020-11-04T08:28:34.028Z","outputView":"NEW_AND_OLD_IMAGES""#,
        );
        let found = summary(text.as_bytes(), "summary").unwrap();
        assert_eq!(found.since, Some(EpochMillis(1_604_474_914_028)));
        assert_eq!((found.exported_at, found.old_images), (EpochMillis(1_604_478_514_028), true));
        let new = text.replace("NEW_AND_OLD_IMAGES", "NEW_IMAGE");
        assert!(!summary(new.as_bytes(), "summary").unwrap().old_images);
    }

    #[test]
    fn what_is_no_full_export_in_json_is_refused() {
        let with = |from: &str, to: &str| {
            why(summary(SUMMARY.replace(from, to).as_bytes(), "manifest-summary.json"))
        };
        assert!(with("FULL_EXPORT", "HALF_EXPORT").contains("type HALF_EXPORT"));
        assert!(with("FULL_EXPORT", "INCREMENTAL_EXPORT").contains("at which the export begins"));
        assert!(with("DYNAMODB_JSON", "ION").contains("format ION"));
        assert!(with("exportTime", "time").contains("no export time"));
        assert!(why(summary(b"{\"tableArn\":", "x")).contains("not a summary"));
    }

    #[test]
    fn a_list_that_contradicts_itself_is_refused() {
        let found = summary(SUMMARY.as_bytes(), "summary").unwrap();
        let list = |text: String| why(files(text.as_bytes(), "files", &found));
        assert!(
            list(FILES.repeat(2)).contains("line 2 of files names asdl123dasas.json.gz a second")
        );
        assert!(list(FILES.replace(": 8", ": 7")).contains("hold 7 items"));
        assert!(list(String::new()).contains("hold 0 items"));
        assert!(list(FILES.replace(".json.gz", ".ion.gz")).contains("not a gzip file of JSON"));
        assert!(list(FILES.replace("sQMS", "-")).contains("unreadable checksum"));
        assert!(list(FILES.replace('}', "")).contains("line 1 of files names no data file"));
    }

    #[test]
    fn a_manifest_is_compared_with_its_checksum_file() {
        for stored in ["XUFAKrxLKna5cZ2REBfFkg==", "5d41402abc4b2a76b9719d911017c592  manifest"] {
            compare(b"hello", stored.as_bytes(), "m").unwrap();
            assert!(why(compare(b"hell0", stored.as_bytes(), "m")).contains("checksum file"));
        }
        compare(b"hello", b"something else", "m").unwrap();
    }
}
