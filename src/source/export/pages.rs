//! Pages of an export's data files.
//!
//! A gzip file can only be read from its beginning, so it stays open between two pages. After a restart the
//! applied part is unpacked again and skipped.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::increments;
use super::lines::Lines;
use super::manifest::{Checksum, from_hex, to_hex};
use super::store::{Pieces, Place, Store};
use crate::engine::ports::{Page, ReadFrom};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Change, Item, PartitionId, PartitionKind, Position};
use crate::source::scan;

/// Lines per page: as many as a scan's page has items of 500 bytes.
const PAGE_LINES_MAX: usize = 2_000;
/// Bytes of JSON per page, as in a page of the stream.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Files kept open between two pages. Two are read at a time; a few more may have lost their reader.
const OPEN_MAX: usize = 8;

/// A data file. Its partition's name has everything needed to read it: `file/ITEMS/MD5/PLACE`, with
/// `ITEMS.LAYER` for an incremental export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExportFile {
    pub(super) items: u64,
    /// The export's place in time order: 0 is the full one.
    pub(super) layer: u16,
    pub(super) md5: Option<Checksum>,
    pub(super) place: Place,
}

impl ExportFile {
    /// Parses the partition's name; `None` if it does not name a file.
    pub(super) fn of(partition: &PartitionId) -> Option<Self> {
        let mut words = partition.name_of(PartitionKind::File)?.splitn(3, '/');
        let word = words.next()?;
        let (items, layer) = word.split_once('.').unwrap_or((word, "0"));
        let (items, layer) = (items.parse().ok()?, layer.parse().ok()?);
        let md5 = match words.next()? {
            "-" => None,
            text => Some(from_hex(text)?),
        };
        Some(Self { items, layer, md5, place: Place::of(words.next()?).ok()? })
    }

    /// Its partition.
    pub(super) fn partition(&self) -> PartitionId {
        let md5 = self.md5.as_ref().map_or_else(|| "-".to_owned(), to_hex);
        let layer = if self.layer == 0 { String::new() } else { format!(".{}", self.layer) };
        let name = format_args!("{}{layer}/{md5}/{}", self.items, self.place);
        PartitionId::of_backfill(PartitionKind::File, name)
    }
}

/// The files being read.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<Vec<(PartitionId, DataFile)>>);

impl OpenFiles {
    /// The page after the position.
    ///
    /// # Errors `Data`, with file and line, if the file differs from the manifest or holds anything but
    /// items; `Config` if it does not exist; errors of its storage.
    pub(super) async fn read(
        &self,
        store: &Store,
        from: &ReadFrom,
        key_attributes: &[String],
    ) -> Result<Page> {
        let unknown = |what: String| Error::new(ErrorKind::Unknown, what);
        let file = ExportFile::of(&from.partition)
            .ok_or_else(|| unknown(format!("{} is not a file of an export", from.partition)))?;
        let read = match from.position {
            Position::Start => 0,
            Position::Line(line) => line,
            _ => return Err(unknown(format!("position {} is invalid for a file", from.position))),
        };
        let mut data = match self.take(&from.partition).filter(|open| open.lines.count() == read) {
            Some(open) => open,
            None => DataFile::open(store, file, read).await?,
        };
        let page = data.page(key_attributes).await?;
        if !page.end {
            self.keep(from.partition.clone(), data);
        }
        Ok(page)
    }

    fn take(&self, partition: &PartitionId) -> Option<DataFile> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|(id, _)| id == partition)?;
        Some(open.remove(at).1)
    }

    fn keep(&self, partition: PartitionId, data: DataFile) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.push((partition, data));
        if open.len() > OPEN_MAX {
            open.remove(0);
        }
    }
}

/// One file, read up to some line.
#[derive(Debug)]
struct DataFile {
    file: ExportFile,
    pieces: Pieces,
    /// Data that is not unpacked yet.
    packed: Vec<u8>,
    unpacked_to: usize,
    lines: Lines,
}

impl DataFile {
    /// Opens the file after this many of its lines.
    ///
    /// Its checksum is verified before any line is used, because a page is applied long before the end of the
    /// file is seen.
    async fn open(store: &Store, file: ExportFile, read: u64) -> Result<Self> {
        let place = &file.place;
        let open = async || {
            store.open(place).await?.ok_or_else(|| {
                Error::new(ErrorKind::Config, format!("{place} is not there")).with_hint(
                    "every daemon of the source must reach the export at the same place until \
                     the backfill is over; put it there, then restart",
                )
            })
        };
        let mut pieces = open().await?;
        if let Some(md5) = file.md5.filter(|md5| !pieces.vouched_for(md5)) {
            if pieces.md5(place).await? != md5 {
                return Err(file.damaged("is not the file of the manifest: its MD5 is another"));
            }
            pieces = open().await?;
        }
        let (packed, unpacked_to, lines) = (Vec::new(), 0, Lines::new());
        let mut data = Self { file, pieces, packed, unpacked_to, lines };
        while data.lines.count() < read {
            if data.lines.next_line().is_none() && !data.more().await? {
                let what = format!("ends before line {read}, although it was applied up to there");
                return Err(data.file.damaged(what));
            }
        }
        Ok(data)
    }

    async fn page(&mut self, key_attributes: &[String]) -> Result<Page> {
        let (mut changes, mut bytes, mut end) = (Vec::new(), 0, false);
        while changes.len() < PAGE_LINES_MAX && bytes < PAGE_BYTES_MAX {
            let number = self.lines.count() + 1;
            let Some(line) = self.lines.next_line() else {
                if self.more().await? {
                    continue;
                }
                end = true;
                break;
            };
            bytes += line.len();
            let change = match self.file.layer {
                0 => item(line, key_attributes),
                layer => increments::change(line, layer),
            };
            // The parser's message may quote a value.
            changes.push(
                change
                    .map_err(|what| self.file.damaged(format!("holds at line {number} {what}")))?,
            );
        }
        if end {
            self.check()?;
        }
        let next = Position::Line(self.lines.count());
        Ok(Page { changes, next, iterator: None, end, consumed_capacity: None })
    }

    /// Unpacks more of the file; false at the end.
    async fn more(&mut self) -> Result<bool> {
        if self.lines.ended() {
            return Ok(false);
        }
        if self.unpacked_to == self.packed.len() {
            let Some(piece) = self.pieces.next(&self.file.place).await? else {
                return match self.lines.end() {
                    Ok(()) => Ok(true),
                    Err(error) => Err(self.broken(error)),
                };
            };
            (self.packed, self.unpacked_to) = (piece, 0);
        }
        let rest = self.packed.get(self.unpacked_to..).unwrap_or_default();
        match self.lines.take(rest) {
            Ok(taken) => self.unpacked_to += taken,
            Err(error) => return Err(self.broken(error)),
        }
        Ok(true)
    }

    /// Checks at the end that the file matches the manifest.
    fn check(&self) -> Result<()> {
        let (read, items) = (self.lines.count(), self.file.items);
        if read != items {
            let what = format!("has {read} lines, but the manifest says {items}");
            return Err(self.file.damaged(what));
        }
        match self.file.md5 {
            Some(md5) if md5 != self.lines.md5() => {
                Err(self.file.damaged("is not the file of the manifest: its MD5 is another"))
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, error: std::io::Error) -> Error {
        let line = self.lines.count();
        self.file.damaged(format!("is not a valid gzip file after line {line}")).with_source(error)
    }
}

/// The item in a line of a full export; otherwise an error about the line.
fn item(line: &[u8], key_attributes: &[String]) -> Result<Change, String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "Item")]
        item: Item,
    }
    let parsed = serde_json::from_slice(line);
    let Line { item } = parsed.map_err(|error| format!("no item, column {}", error.column()))?;
    scan::change(item, key_attributes).map_err(|_| "no item of this table".to_owned())
}

impl ExportFile {
    fn damaged(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Data, format!("{} {what}", self.place)).with_hint(
            "copy the file from the export again, then restart: the backfill resumes there",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use aws_config::{BehaviorVersion, SdkConfig};
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::source::export::s3::S3;

    #[tokio::test]
    async fn a_file_stays_open_between_two_pages_and_is_skipped_after_a_restart() {
        const LINES: usize = 2 * PAGE_LINES_MAX + 7;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json.gz");
        let mut packing = GzEncoder::new(Vec::new(), Compression::fast());
        for number in 0..LINES {
            writeln!(packing, r#"{{"Item":{{"pk":{{"N":"{number}"}}}}}}"#).unwrap();
        }
        std::fs::write(&path, packing.finish().unwrap()).unwrap();
        let config = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
        let store = Store { s3: S3::new(&config, None) };
        let place = Place::Local(path.clone());
        let partition = ExportFile { items: LINES as u64, layer: 0, md5: None, place }.partition();
        let from = |position| ReadFrom {
            stream_arn: "".into(),
            partition: partition.clone(),
            position,
            iterator: None,
        };
        let keys = ["pk".to_owned()];
        let open = OpenFiles::default();
        let first = open.read(&store, &from(Position::Start), &keys).await.unwrap();
        assert_eq!((first.changes.len(), first.end), (PAGE_LINES_MAX, false));
        let restarted = OpenFiles::default();
        let second = restarted.read(&store, &from(first.next.clone()), &keys).await.unwrap();
        assert_eq!(second.next, Position::Line(2 * PAGE_LINES_MAX as u64));

        std::fs::remove_file(path).unwrap();
        let next = open.read(&store, &from(first.next), &keys).await.unwrap();
        assert_eq!(next.changes[0].keys, second.changes[0].keys, "it was open");
        let last = open.read(&store, &from(next.next.clone()), &keys).await.unwrap();
        assert_eq!((last.changes.len(), last.end), (7, true));
        let error = open.read(&store, &from(next.next), &keys).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "it is open no more");
    }

    #[test]
    fn a_partition_s_name_says_where_its_file_is_and_what_it_must_be() {
        let md5 = from_hex("b10312a4420b360a1099aaef0c5a2719");
        for place in ["/e/AWSDynamoDB/0169-a1/data/x.json.gz", "s3://b/p q/data/x.json.gz"] {
            for (md5, layer) in [(md5, 0), (None, 7)] {
                let file = ExportFile { items: 12, layer, md5, place: Place::of(place).unwrap() };
                assert_eq!(ExportFile::of(&file.partition()), Some(file));
            }
        }
        for other in ["file/x", "file/1/zz/s3://b/x", "scan/000-of-001", "file/1/-/s3:///x"] {
            assert_eq!(ExportFile::of(&PartitionId::new(other)), None, "{other}");
        }
    }
}
