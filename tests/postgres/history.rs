//! What a history promises beside loads, whatever the order in which things are read: one row per key and
//! instant, open exactly where the table has the row, and nothing for what is read again unchanged.

use dynaurora::model::{Change, ChangeOp};

use super::lifecycle::{HISTORY, LETTERS, MAPPING, Play, put, remove, scan};
use crate::rig::sequence;

/// A change as the incremental export of this place in its chain tells it.
fn layer(place: u64, change: Change) -> Change {
    Change { sequence: sequence(place), ..change }
}

/// The item of a put as a scan, or a full export, reads it.
fn read(change: Change) -> Change {
    Change { changed_at: None, op: ChangeOp::Scan, ..layer(0, change) }
}

/// Some letters' records, the first and the last of them removed.
fn records() -> Vec<Change> {
    vec![
        put("1", 5, "a"),
        put("1", 6, "b"),
        put("2", 6, "x"),
        put("3", 6, "same"),
        put("1", 7, "c"),
        remove("2", 8),
        put("4", 8, "y"),
        remove("4", 9),
        put("4", 10, "z"),
    ]
}

/// The table as an export shows it as of the time 6.
fn export() -> Vec<Change> {
    ["1b", "2x", "3same"].map(|own| read(put(&own[..1], 0, &own[1..]))).to_vec()
}

#[tokio::test]
async fn records_that_come_again_after_an_export_are_no_other_versions() {
    for sizes in [vec![9], vec![1; 9], vec![2, 3, 4]] {
        let mut play = Play::new().await;
        play.apply(records()).await;
        let before = play.texts(HISTORY).await;
        for generation in 2..4 {
            play.begin().await;
            play.replaying = true;
            play.load(export()).await;
            let mut again = records();
            for size in &sizes {
                play.apply(again.drain(..*size).collect()).await;
            }
            play.end().await;
            assert_eq!(play.texts(HISTORY).await, before, "{sizes:?}, generation {generation}");
        }
    }
}

#[tokio::test]
async fn pages_of_an_export_may_come_amid_records_that_come_again() {
    for place in [0, 2, 5, 9] {
        let mut play = Play::new().await;
        play.apply(records()).await;
        let before = play.texts(HISTORY).await;
        play.begin().await;
        play.replaying = true;
        for (at, change) in records().into_iter().enumerate() {
            if at == place {
                play.load(export()).await;
            }
            play.apply(vec![change]).await;
        }
        if place == 9 {
            play.load(export()).await;
        }
        play.end().await;
        assert_eq!(play.texts(HISTORY).await, before, "the export before record {place}");
    }
}

/// The stream may begin only with what followed the export's time; what a load alone can know is kept.
#[tokio::test]
async fn what_only_an_export_knows_is_a_version() {
    let mut play = Play::new().await;
    play.apply(vec![put("1", 5, "a")]).await;
    play.begin().await;
    play.replaying = true;
    // The record of b was lost.
    play.load(vec![read(put("1", 0, "b"))]).await;
    play.apply(vec![put("1", 7, "c")]).await;
    play.end().await;
    let expected = ["1#5 modify a 5-7", "1#0 scan b 7-7", "1#7 modify c 7-"];
    assert_eq!(play.texts(HISTORY).await, expected);
}

#[tokio::test]
async fn a_scan_beside_a_tail_that_is_behind_leaves_one_row_for_each_instant() {
    let mut play = Play::new().await;
    play.apply(vec![put("1", 5, "a"), put("2", 5, "a")]).await;
    play.begin().await;
    // Both letters and a new one are as the stream will tell.
    play.load(vec![read(put("1", 0, "c")), read(put("2", 0, "a")), read(put("3", 0, "n"))]).await;
    play.apply(vec![put("1", 6, "b")]).await;
    play.apply(vec![put("2", 6, "b"), put("3", 6, "m")]).await;
    play.apply(vec![put("1", 7, "c"), put("2", 7, "a"), put("3", 7, "n"), remove("3", 8)]).await;
    play.end().await;
    let expected = [
        "1#5 modify a 5-6",
        "1#0 scan c 6-6",
        "1#6 modify b 6-7",
        "1#7 modify c 7-",
        "2#5 modify a 5-6",
        "2#6 modify b 6-7",
        "2#7 modify a 7-",
        "3#0 scan n 6-6",
        "3#6 modify m 6-7",
        "3#7 modify n 7-8",
        "3#8 remove - 8-8",
    ];
    assert_eq!(play.texts(HISTORY).await, expected);
}

#[tokio::test]
async fn what_a_load_reads_again_unchanged_adds_nothing() {
    let mut play = Play::new().await;
    play.apply(vec![put("1", 5, "a"), put("2", 5, "b"), put("3", 5, "c"), remove("3", 6)]).await;
    let before = play.texts(HISTORY).await;
    for _ in 0..3 {
        play.begin().await;
        play.load(vec![read(put("1", 0, "a")), read(put("2", 0, "b"))]).await;
        play.end().await;
        assert_eq!(play.texts(HISTORY).await, before);
    }
    // What was lost between is a version, and so is what is there again.
    play.begin().await;
    play.load(vec![read(put("1", 0, "a")), read(put("2", 0, "lost")), read(put("3", 0, "c"))])
        .await;
    play.end().await;
    let after: Vec<String> = play.texts(HISTORY).await;
    let scans = after.iter().filter(|own| own.contains(" scan ")).count();
    assert_eq!((after.len(), scans), (before.len() + 2, 2), "{after:#?}");
}

#[tokio::test]
async fn the_order_of_an_exports_files_changes_no_row_and_opens_no_history() {
    let files = || {
        let full = vec![read(put("1", 0, "old")), read(put("3", 0, "full"))];
        let first = ["1", "2"].map(|id| layer(1, put(id, 7, "put"))).to_vec();
        let second = ["1", "2", "3"].map(|id| layer(2, remove(id, 9))).to_vec();
        [full, first, second]
    };
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let hard = MAPPING.replace("\"soft\"", "\"delete\"");
    for order in orders {
        let mut play = Play::new().await;
        // It has been there before, and is marked or open.
        play.apply(vec![put("1", 3, "before"), put("3", 3, "before"), remove("3", 4)]).await;
        play.begin().await;
        for file in order {
            play.load(files()[file].clone()).await;
        }
        play.end().await;
        let rows = play.texts(LETTERS).await;
        let gone = rows.iter().map(|row| row.split(['=', ' ']).collect::<Vec<_>>());
        let gone: Vec<_> = gone.map(|row| format!("{} {}", row[0], row[2])).collect();
        assert_eq!(gone, ["1 9", "2 9", "3 9"], "{order:?}: each stays, marked: {rows:?}");
        assert!(rows[1].starts_with("2=put "), "{order:?}: {rows:?}");

        let mut play = Play::with(&hard).await;
        play.apply_unmarked(vec![put("1", 3, "before")]).await;
        play.begin().await;
        for file in order {
            play.loading = true;
            play.apply_unmarked(files()[file].clone()).await;
            play.loading = false;
        }
        let open = "select id from letters_history where valid_to is null";
        assert_eq!(play.texts(open).await, Vec::<String>::new(), "{order:?}");
        assert_eq!(play.rig.count("letters").await, 0);
    }
    let mut play = Play::new().await;
    play.begin().await;
    play.load(files().concat()).await;
    play.end().await;
    let whole = play.texts(LETTERS).await;
    assert_eq!(whole, ["1=put 9", "2=put 9", "3=full 9"], "all in one page");
}

#[tokio::test]
async fn a_row_that_comes_after_its_soft_delete_is_marked_as_the_delete_said() {
    let mut play = Play::new().await;
    play.begin().await;
    play.apply(vec![remove("1", 9)]).await;
    play.load(vec![scan("1", "late")]).await;
    assert_eq!(play.texts(LETTERS).await, ["1=late 9"]);
    // A newer delete for good leaves nothing to mark.
    play.apply(vec![put("1", 10, "again")]).await;
    play.end().await;
    assert_eq!(play.texts(LETTERS).await, ["1=again live"]);
}
