//! An export is loaded beside the stream: written by the test as the service writes it, with kills, and with
//! files that are not what they should be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dynaurora::demo::compare::full_comparison;
use dynaurora::engine::ports::{Clock, Source};
use dynaurora::model::{AttributeValue, Item};
use dynaurora::runtime::SystemClock;
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::backfill::{DAMAGE, SLOW_PAGES};
use super::stage::{SOON_SECS, Stage, pause, within};
use super::writers::Writers;

/// Data files of an export.
const FILES: usize = 3;

/// An export in a folder of its own.
pub(super) struct Written {
    folder: TempDir,
    items: usize,
    /// Its time, and what each key had then.
    time: jiff::Timestamp,
    held: BTreeMap<String, Value>,
}

/// What the table holds now, by key.
async fn held(stage: &Stage) -> BTreeMap<String, Value> {
    let mut held = BTreeMap::new();
    let mut pages = stage.client.scan().table_name("NorthPole").into_paginator().items().send();
    while let Some(item) = pages.next().await {
        let item: Item = (item.unwrap().into_iter())
            .map(|(name, value)| (name, AttributeValue::from(value)))
            .collect();
        let item = serde_json::to_value(&item).unwrap();
        held.insert(keys(&item).to_string(), item);
    }
    held
}

fn keys(item: &Value) -> Value {
    json!({ "pk": item["pk"], "sk": item["sk"] })
}

impl Written {
    /// What the table holds now, as of the time at which its stream was enabled: everything in the stream
    /// came later.
    pub(super) async fn of(stage: &Stage) -> Self {
        Self::as_of(stage, 0).await
    }

    /// The same, as of so many seconds later.
    async fn as_of(stage: &Stage, later_secs: i64) -> Self {
        let held = held(stage).await;
        let lines = held.values().map(|item| json!({ "Item": item }).to_string()).collect();
        let created = created_secs(stage).await;
        // Five minutes are the margin.
        let time = jiff::Timestamp::from_second(created + 300 + later_secs).unwrap();
        let kind = json!({"exportTime": time.to_string(), "exportType": "FULL_EXPORT"});
        Self::with(stage, lines, kind, (time, held)).await
    }

    /// An incremental export of what changed since this one, up to now.
    async fn increment(&self, stage: &Stage) -> Self {
        let held = held(stage).await;
        let mut lines = Vec::new();
        for key in self.held.keys().chain(held.keys().filter(|key| !self.held.contains_key(*key))) {
            let (old, new) = (self.held.get(key), held.get(key));
            if old == new {
                continue;
            }
            let keys = keys(old.or(new).unwrap());
            let mut line = json!({"Metadata": {"WriteTimestampMicros": {"N": "1680109764000000"}},
                "Keys": keys});
            for (name, image) in [("OldImage", old), ("NewImage", new)] {
                if let Some(image) = image {
                    line[name] = image.clone();
                }
            }
            lines.push(line.to_string());
        }
        let time = self.time + jiff::SignedDuration::from_mins(15);
        let kind = json!({"exportFromTime": self.time.to_string(), "exportToTime": time.to_string(),
            "exportType": "INCREMENTAL_EXPORT", "outputView": "NEW_AND_OLD_IMAGES"});
        Self::with(stage, lines, kind, (time, held)).await
    }

    async fn with(
        stage: &Stage,
        lines: Vec<String>,
        kind: Value,
        (time, held): (jiff::Timestamp, BTreeMap<String, Value>),
    ) -> Self {
        let info = stage.source().await.describe().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let (mut list, mut rest) = (String::new(), lines.as_slice());
        for number in 0..FILES {
            let (own, others) = rest.split_at(rest.len() / (FILES - number));
            rest = others;
            let text: String = own.iter().map(|line| format!("{line}\n")).collect();
            let mut packing = GzEncoder::new(Vec::new(), Compression::default());
            packing.write_all(text.as_bytes()).unwrap();
            let file = packing.finish().unwrap();
            let name = format!("data/file{number}.json.gz");
            let sum = BASE64.encode(Md5::digest(&file));
            std::fs::write(folder.path().join(&name), file).unwrap();
            let line = json!({"itemCount": own.len(), "md5Checksum": sum, "etag": "x-1",
                "dataFileS3Key": format!("AWSDynamoDB/0169-a1/{name}")});
            writeln!(list, "{line}").unwrap();
        }
        let mut summary = json!({"version": "2020-06-30", "tableArn": info.table_arn,
            "tableId": info.table_id, "itemCount": lines.len(), "outputFormat": "DYNAMODB_JSON"});
        summary.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
        for (name, text) in [("summary", summary.to_string()), ("files", list)] {
            let path = folder.path().join(format!("manifest-{name}"));
            std::fs::write(path.with_extension("md5"), BASE64.encode(Md5::digest(&text))).unwrap();
            std::fs::write(path.with_extension("json"), text).unwrap();
        }
        Self { folder, items: lines.len(), time, held }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self, number: usize) -> PathBuf {
        self.path().join(format!("data/file{number}.json.gz"))
    }

    /// Changes a manifest, and its checksum with it.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.path().join(format!("manifest-{name}.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        let text = text.replace(from, to);
        std::fs::write(path.with_extension("md5"), BASE64.encode(Md5::digest(&text))).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// A stage with a table that is applied, was exported, and was written to since; the writers go on.
async fn exported(later_secs: i64) -> (Stage, Written) {
    let stage = Stage::start().await;
    // The stream's times are whole seconds: what is written now is later than the table.
    let created = created_secs(&stage).await;
    within(SOON_SECS, "a later second", async || {
        (SystemClock.wall().0 / 1000 > created).then_some(())
    })
    .await;
    let mut writers = Writers::start(&stage, 2, 7, f64::INFINITY);
    writers.bring_many(&stage, 7);
    let mut daemon = stage.daemon();
    let rows = async |least| {
        within(SOON_SECS, "there are rows", async || {
            (stage.number("select count(*) from children").await > least).then_some(())
        })
        .await;
    };
    rows(200).await;
    let export = Written::as_of(&stage, later_secs).await;
    rows(stage.number("select count(*) from children").await + 100).await;
    daemon.still_runs();
    writers.stop().await;
    stage.converge().await;
    daemon.stop().await;
    (stage, export)
}

async fn created_secs(stage: &Stage) -> i64 {
    let table = stage.client.describe_table().table_name("NorthPole").send().await.unwrap();
    table.table.unwrap().creation_date_time.unwrap().secs()
}

async fn backfilling_state(stage: &Stage) -> bool {
    stage.number("select count(*) from dynaurora.sources where backfilling").await > 0
}

/// I7, I8: rows that were changed and deleted since the export are as they are now, though daemons were
/// killed in the middle of the load; what the target had lost is back.
#[tokio::test]
async fn an_export_is_loaded_beside_its_stream() {
    let (stage, export) = exported(0).await;
    for sql in DAMAGE {
        sqlx::query(sql).execute(&stage.pool).await.unwrap();
    }
    // Each page waits a little, so that kills strike within the load.
    sqlx::raw_sql(SLOW_PAGES).execute(&stage.pool).await.unwrap();
    let mut daemon = stage.daemon();
    within(SOON_SECS, "a daemon is alive", async || {
        daemon.still_runs();
        (stage.number("select count(*) from dynaurora.workers where alive_until > now()").await > 0)
            .then_some(())
    })
    .await;
    let place = export.path().display().to_string();
    let ended = stage.command(&["backfill", "--from-export", &place, "--detach"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for millis in [0, 300, 600] {
        pause(Duration::from_millis(millis)).await;
        daemon.kill().await;
        daemon = stage.daemon();
        let files = "select count(*) from dynaurora.partitions where kind = 'file'";
        assert_eq!(stage.number(files).await, i64::try_from(FILES).unwrap());
    }
    within(SOON_SECS, "the load ends", async || (!backfilling_state(&stage).await).then_some(()))
        .await;
    stage.converge().await;
    let read = "select sum(records)::bigint from dynaurora.partitions where kind = 'file'";
    assert_eq!(stage.number(read).await, i64::try_from(export.items).unwrap());
    assert_eq!(stage.number("select count(*) from dynaurora.claims").await, 0);
    let again = "select count(*) from (select from letters_history \
                 where mod(dynaurora_version, 1e40) > 1000 \
                 group by child_id, year, letter_id, mod(dynaurora_version, 1e40) \
                 having count(*) > 1) twice";
    assert!(stage.number("select count(*) from letters_history").await > 0);
    assert_eq!(stage.number(again).await, 0, "a record that comes again is the same version");
    daemon.stop().await;
}

/// The test above can fail: without reading the stream again, the export's older images win.
#[tokio::test]
async fn without_a_rewind_older_images_would_win() {
    let (stage, export) = exported(7200).await;
    let place = export.path().display().to_string();
    let ended = stage.command(&["backfill", "--from-export", &place]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (source, mapper) = (stage.source().await, &stage.plan().mapper);
    let found = full_comparison(&source, mapper, &stage.pool).await.unwrap();
    assert!(found.mismatches > 0, "what changed since the export is as it was then");
}

/// An incremental export behind it holds the changes and the deletes that the full one lacks, in whichever
/// order the files of the two are read.
#[tokio::test]
async fn an_incremental_export_follows_a_full_one() {
    let (stage, full) = exported(7200).await;
    let increment = full.increment(&stage).await;
    let gone = full.held.keys().filter(|key| !increment.held.contains_key(*key)).count();
    assert!(gone > 0 && increment.items > gone, "there are deletes and other changes");
    for sql in DAMAGE {
        sqlx::query(sql).execute(&stage.pool).await.unwrap();
    }
    let (full, increment) =
        (full.path().display().to_string(), increment.path().display().to_string());
    let alone = stage.command(&["backfill", "--from-export", &increment]).await;
    assert_eq!(alone.code, Some(78), "{}", alone.stderr);
    assert!(alone.stderr.contains("0 of the exports are full ones"), "{}", alone.stderr);
    let places = ["backfill", "--from-export", &increment, "--from-export", &full];
    let blind = stage.command(&places).await;
    assert_eq!(blind.code, Some(78), "{}", blind.stderr);
    assert!(blind.stderr.contains("does not tell expiries from deletes"), "{}", blind.stderr);
    let config = std::fs::read_to_string(stage.config_file()).unwrap();
    let lines = config.lines().filter(|line| !line.starts_with("on_ttl"));
    let config: String = lines.map(|line| format!("{line}\n")).collect();
    std::fs::write(stage.config_file(), config).unwrap();
    let ended = stage.command(&places).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (source, mapper) = (stage.source().await, &stage.plan().mapper);
    let found = full_comparison(&source, mapper, &stage.pool).await.unwrap();
    assert_eq!(found.mismatches, 0, "{:#?}", found.examples);
}

/// A damaged file halts the load before any of its lines counts; with the right one in its place it goes on.
#[tokio::test]
async fn a_damaged_file_halts_the_load_until_it_is_mended() {
    let (stage, export) = exported(0).await;
    let place = export.path().display().to_string();
    let sound = std::fs::read(export.data(1)).unwrap();
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    for damaged in [flipped, sound[..sound.len() / 2].to_vec()] {
        std::fs::write(export.data(1), damaged).unwrap();
        let ended = stage.command(&["backfill", "--from-export", &place]).await;
        assert_ne!(ended.code, Some(0));
        assert!(ended.stderr.contains("file1.json.gz"), "{}", ended.stderr);
        assert!(ended.stderr.contains("MD5"), "{}", ended.stderr);
        let read = "select sum(records)::bigint from dynaurora.partitions \
                    where kind = 'file' and partition like '%file1%'";
        assert_eq!(stage.number(read).await, 0);
    }
    std::fs::write(export.data(1), sound).unwrap();
    let ended = stage.command(&["backfill", "--from-export", &place]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    stage.converge().await;
}

/// A stage with some dozens of items that nobody changes.
pub(super) async fn with_items(seed: u64) -> Stage {
    let stage = Stage::start().await;
    let mut writers = Writers::start(&stage, 1, seed, f64::INFINITY);
    writers.bring_many(&stage, seed);
    within(SOON_SECS, "there are items", async || {
        let scan = stage.client.scan().table_name("NorthPole").send().await.unwrap();
        (scan.count() > 30).then_some(())
    })
    .await;
    writers.stop().await;
    stage
}

/// The manifest's own checksums hold, and a line is named, where the MD5 says nothing.
#[tokio::test]
async fn a_line_too_few_or_none_at_all_is_named() {
    let stage = with_items(3).await;
    for (text, told) in [("", "0 lines"), ("{\"Item\":{\"x\":{\"S\":\"a\"}}}\n", "at line 1")] {
        let export = Written::of(&stage).await;
        let place = export.path().display().to_string();
        let mut packing = GzEncoder::new(Vec::new(), Compression::default());
        packing.write_all(text.as_bytes()).unwrap();
        std::fs::write(export.data(0), packing.finish().unwrap()).unwrap();
        export.edit("files", "md5Checksum", "md5");
        let ended = stage.command(&["backfill", "--from-export", &place, "--restart"]).await;
        assert_ne!(ended.code, Some(0));
        assert!(ended.stderr.contains(told), "{told} in {}", ended.stderr);
    }
}

/// What is refused before anything begins.
#[tokio::test]
async fn what_cannot_be_loaded_is_refused_at_once() {
    let stage = Stage::start().await;
    type Spoil = fn(&Written);
    let spoilt: [(Spoil, &str); 7] = [
        (|export| export.edit("summary", "table/NorthPole", "table/SouthPole"), "SouthPole"),
        (|export| export.edit("summary", "\"exportTime\":\"2", "\"exportTime\":\"1"), "hours old"),
        (|export| export.edit("summary", "FULL_", "INCREMENTAL_"), "has no time at which"),
        (|export| export.edit("files", "file1", "file9"), "file9.json.gz, which is not there"),
        (|export| std::fs::remove_file(export.path().join("manifest-files.json")).unwrap(), "no "),
        (
            |export| std::fs::write(export.path().join("manifest-files.json"), "").unwrap(),
            "checksum",
        ),
        (|export| export.edit("summary", "\"itemCount\":0", "\"itemCount\":5"), "hold 0 items"),
    ];
    for (spoil, told) in spoilt {
        let export = Written::of(&stage).await;
        spoil(&export);
        let place = export.path().display().to_string();
        let ended = stage.command(&["backfill", "--from-export", &place]).await;
        assert_eq!(ended.code, Some(78), "{told}: {}", ended.stderr);
        assert!(ended.stderr.contains(told), "{told} in {}", ended.stderr);
        assert!(!backfilling_state(&stage).await);
    }
}
