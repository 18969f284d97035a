//! A full export of the table, loaded in place of a scan, and incremental ones behind it
//! (`increments.rs`): they take no read capacity.
//!
//! Its data files are the partitions, their items the pages. What they show is the table as of the export's
//! time T, not of the moment at which they are read; so the rule that makes a scan safe beside the tail
//! (what is scanned is newer than everything applied in an older generation) does not hold by itself. What
//! must hold instead: **every change after T is applied in the generation of the load.** A change of an older
//! generation would lose to the export's older image, and for good.
//!
//! - The stream must hold T: it keeps 24 hours, so an older export is refused ([`UNREAD_MAX`]), and so is one
//!   of before the stream was enabled.
//! - Shards that were applied past T are rewound in the transaction that begins the load, to their first
//!   record, and their descendants with them (`engine/ports/rewind.rs`). Their records then come again in
//!   the order of the stream under the new generation; the last word on each key is the newest change again.
//! - Changes from before T that come again are no harm: whatever followed them comes again too.
//! - T is rounded and the stream's times are approximate, hence [`MARGIN`].
//! - Until a shard is back where it was, rows may be as old as T; so the load ends, and sweeps, only then.
//!
//! [`DynamoSource::export`](super::DynamoSource::export) opens one and
//! [`DynamoSource::check_export`](super::DynamoSource::check_export) says whether it may be loaded now.

mod increments;
mod lines;
mod manifest;
mod pages;
mod s3;
mod store;

use std::time::Duration;

use aws_config::SdkConfig;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::engine::ports::{Page, ReadFrom, StreamInfo};
use crate::error::{ErrorKind, Result};
use crate::model::{EpochMillis, PartitionId, RETENTION, UNREAD_MAX, hours};
use manifest::{Summary, refused};
use pages::{ExportFile, OpenFiles};
use s3::S3;
use store::{Place, Store};

/// How far the export's time and the record times may be apart.
const MARGIN: Duration = Duration::from_secs(300);
/// Parallel checks in S3 whether files exist.
const QUESTIONS: usize = 16;

/// An export with a valid manifest and all of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// A partition for each data file.
    pub partitions: Vec<PartitionId>,
    /// The number of items.
    pub items: u64,
    /// Changes after this moment must be applied in the generation of the backfill; some minutes before the
    /// export's time.
    pub as_of: EpochMillis,
    /// In time order; never empty.
    exports: Vec<(Place, Summary)>,
}

impl Export {
    /// Whether this export may be used for this table's target now; its stream was enabled at `enabled_at`.
    ///
    /// # Errors
    /// `Config` if it is of another table, of a recreated one, or of a time that the stream does not hold.
    pub(super) fn check(
        &self,
        table: &StreamInfo,
        enabled_at: EpochMillis,
        now: EpochMillis,
    ) -> Result<()> {
        let anew = "make a new export: aws dynamodb export-table-to-point-in-time";
        for (place, summary) in &self.exports {
            if summary.table_arn != table.table_arn {
                let what = format!("the export at {place} is of table {}", summary.table_arn);
                let hint = format!("the source reads {}; export that table", table.table_arn);
                return Err(refused(what).with_hint(hint));
            }
            if summary.table_id != table.table_id {
                let what = format!("the table was deleted and created since the export at {place}");
                return Err(refused(what).with_hint(anew));
            }
        }
        let Some((place, summary)) = self.exports.last() else { return Ok(()) };
        let age = now.0.saturating_sub(summary.exported_at.0);
        if age > millis(UNREAD_MAX) {
            let what = format!(
                "the export at {place} is {} hours old, and the stream holds {}: changes since \
                 then may be lost",
                age / 3_600_000,
                hours(RETENTION),
            );
            return Err(refused(what).with_hint(anew));
        }
        if self.as_of < enabled_at {
            let what = format!(
                "the export at {place} is from before the stream was enabled: changes between \
                 the two are lost"
            );
            return Err(refused(what).with_hint(format!("{anew}, at least five minutes later")));
        }
        Ok(())
    }
}

impl Export {
    /// The first incremental export of the chain, and the first without old images, as their places.
    #[must_use]
    pub fn increments(&self) -> Option<(String, Option<String>)> {
        let place = |(place, _): &(Place, Summary)| place.to_string();
        let mut incremental = self.exports.iter().filter(|(_, own)| own.since.is_some());
        let first = incremental.clone().next()?;
        Some((place(first), incremental.find(|(_, own)| !own.old_images).map(place)))
    }
}

/// The exports of a source.
#[derive(Debug)]
pub(super) struct Exports {
    store: Store,
    open: OpenFiles,
}

impl Exports {
    /// Makes no calls yet.
    pub(super) fn new(config: &SdkConfig, s3_endpoint: Option<String>) -> Self {
        Self { store: Store { s3: S3::new(config, s3_endpoint) }, open: OpenFiles::default() }
    }

    /// Reads and checks the manifests of a full export and its incremental ones, and checks that all files
    /// exist.
    pub(super) async fn open(&self, locations: &[String]) -> Result<Export> {
        let mut opened = Vec::new();
        for location in locations {
            opened.push(self.open_one(location).await?);
        }
        let (mut partitions, mut items, mut exports) = (Vec::new(), 0, Vec::new());
        for (layer, (place, summary, files)) in (0_u16..).zip(increments::chain(opened)?) {
            let file = |file| ExportFile { layer, ..file };
            partitions.extend(files.into_iter().map(|own| file(own).partition()));
            items += summary.items;
            exports.push((place, summary));
        }
        let newest = exports.last().map_or(EpochMillis(0), |(_, summary)| summary.exported_at);
        let as_of = EpochMillis(newest.0.saturating_sub(millis(MARGIN)));
        Ok(Export { partitions, items, as_of, exports })
    }

    async fn open_one(&self, location: &str) -> Result<(Place, Summary, Vec<ExportFile>)> {
        let given = location.strip_suffix("manifest-summary.json").unwrap_or(location);
        let place = Place::of(if given.is_empty() { "." } else { given })?;
        let bytes = self.manifest(&place, "manifest-summary").await?;
        let summary = manifest::summary(&bytes, &place.join("manifest-summary.json").to_string())?;
        let bytes = self.manifest(&place, "manifest-files").await?;
        let list = place.join("manifest-files.json").to_string();
        let entries = manifest::files(&bytes, &list, &summary)?;
        let folder = place.join("data");
        let files: Vec<ExportFile> = (entries.into_iter())
            .map(|entry| {
                let place = folder.join(&entry.name);
                ExportFile { items: entry.items, layer: 0, md5: entry.md5, place }
            })
            .collect();
        let list = &list;
        let questions = files.iter().map(|file| async move {
            if self.store.exists(&file.place).await? {
                return Ok(());
            }
            Err(refused(format!("{list} names {}, which is not there", file.place))
                .with_hint("copy the whole export, with its folder `data`"))
        });
        // Collected first, since a stream over borrowed futures is not general enough for a task.
        let questions: Vec<_> = questions.collect();
        stream::iter(questions).buffer_unordered(QUESTIONS).try_collect::<Vec<()>>().await?;
        Ok((place, summary, files))
    }

    /// The page of a data file after the position.
    pub(super) async fn read(&self, from: &ReadFrom, key_attributes: &[String]) -> Result<Page> {
        self.open.read(&self.store, from, key_attributes).await
    }

    /// A manifest, compared with its checksum file if there is one.
    async fn manifest(&self, place: &Place, name: &str) -> Result<Vec<u8>> {
        let file = place.join(&format!("{name}.json"));
        let Some(bytes) = self.store.small(&file).await? else {
            return Err(refused(format!("there is no {file}")).with_hint(
                "give the folder of one export, PREFIX/AWSDynamoDB/EXPORT-ID; \
                 `aws dynamodb describe-export` names its manifest",
            ));
        };
        for suffix in ["md5", "checksum"] {
            let stored = match self.store.small(&place.join(&format!("{name}.{suffix}"))).await {
                // Without the right to list a bucket, missing objects are denied.
                Err(error) if error.kind() == ErrorKind::Denied => None,
                stored => stored?,
            };
            if let Some(stored) = stored {
                manifest::compare(&bytes, &stored, &file.to_string())?;
            }
        }
        Ok(bytes)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ports::StreamView;

    const ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/T";
    const HOUR: i64 = 3_600_000;

    fn table() -> StreamInfo {
        StreamInfo {
            table_arn: ARN.to_owned(),
            table_id: "id".to_owned(),
            stream_arn: None,
            enabled: true,
            view: StreamView::NewImage,
            key_attributes: vec!["pk".to_owned()],
            items: None,
        }
    }

    fn export(exported_at: i64) -> Export {
        let exported_at = EpochMillis(exported_at);
        let (table_arn, table_id) = (ARN.to_owned(), "id".to_owned());
        Export {
            partitions: Vec::new(),
            items: 0,
            as_of: EpochMillis(exported_at.0 - millis(MARGIN)),
            exports: vec![(
                Place::of("/e").unwrap(),
                Summary {
                    table_arn,
                    table_id,
                    exported_at,
                    since: None,
                    old_images: false,
                    items: 0,
                },
            )],
        }
    }

    #[test]
    fn an_export_must_be_of_this_table_and_of_a_time_that_the_stream_holds() {
        let enabled = EpochMillis(1_704_103_200_000);
        let exported = enabled.0 + HOUR;
        let after = |hours: i64| EpochMillis(exported + hours * HOUR);
        export(exported).check(&table(), enabled, after(1)).unwrap();
        export(exported).check(&table(), enabled, after(23)).unwrap();
        let why = |export: Export, table: &StreamInfo, now| {
            let error = export.check(table, enabled, now).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.hint().is_some());
            error.to_string()
        };
        assert!(why(export(exported), &table(), after(24)).contains("24 hours old"));
        let early = export(enabled.0 + HOUR / 60);
        assert!(why(early, &table(), after(1)).contains("before the stream was enabled"));
        let other = StreamInfo { table_arn: format!("{ARN}2"), ..table() };
        assert!(why(export(exported), &other, after(1)).contains("is of table"));
        let again = StreamInfo { table_id: "new".to_owned(), ..table() };
        assert!(why(export(exported), &again, after(1)).contains("deleted and created"));
    }
}
