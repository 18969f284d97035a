//! Repairs beside a stream that goes on: nothing newer is lost, nothing deleted comes back.

use std::sync::Arc;
use std::time::Duration;

use dynaurora::apply::ports::Unit;
use dynaurora::engine::ports::Clock;
use dynaurora::error::{ErrorKind, Result};
use dynaurora::model::{Cells, Change, RowAction, RowOp};
use dynaurora::ops::ports::{Fate, Guard, Recorded, RowRepair};
use dynaurora::postgres::repair::repairer::Repairer;
use dynaurora::runtime::SystemClock;

use super::lifecycle::{FIRST, HISTORY, Play, put, remove, scan};
use super::rig::{Rig, burnt, letter, tables};
use crate::rig::{LETTERS, SOURCE, batch, cells, moved, version, wishing, worker};

fn repairer(rig: &Rig) -> Repairer {
    Repairer::new(Arc::clone(&rig.pools), SOURCE.into(), &tables())
}

fn key(child: &str) -> Cells {
    cells(&[Some(child), Some("1")])
}

fn wanted(child: &str, guard: Guard) -> RowRepair {
    RowRepair { key: key(child), guard, recorded: None }
}

/// The truth that a test knows beforehand.
fn known(units: Vec<Unit>) -> std::future::Ready<Result<Vec<Option<RowOp>>>> {
    std::future::ready(Ok(units.into_iter().map(|unit| Some(unit.op)).collect()))
}

const ROWS: &str = "select child || ' ' || coalesce(body, '-') || ' ' || dynaurora_version::text \
                    from letters order by 1";

fn row(child: &str, body: &str, version: &str) -> Option<String> {
    Some(format!("{child} {body} {version}"))
}

/// Waits until some transaction waits for a lock.
async fn somebody_waits(rig: &Rig) {
    let sql = "select count(*)::text from pg_stat_activity where datname = current_database() \
               and wait_event_type = 'Lock'";
    for _ in 0..2_000 {
        if rig.texts(sql).await != [Some("0".to_owned())] {
            return;
        }
        SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(5)).await;
    }
    panic!("nobody waits for a lock");
}

#[tokio::test]
async fn a_delete_that_comes_during_a_repair_finds_the_row() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let first = wishing(letter("ada", "kite", 5), &[(0, "kite")]);
    rig.apply(&batch(&ann, &lease, 5, vec![first.clone()])).await.unwrap();
    rig.run("delete from letters; delete from toys").await;

    let gone = batch(&ann, &moved(&lease, 5), 9, vec![burnt("ada", 9)]);
    let repairer = repairer(&rig);
    let (started, start) = tokio::sync::oneshot::channel();
    let repair = async {
        let wanted = [wanted("ada", Guard::Same(None))];
        let truth = async {
            // The item is there when it is read; it is deleted a moment later.
            started.send(()).unwrap();
            somebody_waits(&rig).await;
            known(vec![first.clone()]).await
        };
        repairer.repair(LETTERS, &wanted, truth).await.unwrap()
    };
    let delete = async {
        start.await.unwrap();
        rig.apply(&gone).await.unwrap()
    };
    let (fates, applied) = tokio::join!(repair, delete);
    assert_eq!(fates, [Fate::Written]);
    assert_eq!(applied.tables[0].deleted, 1, "the delete waited, and found the row");
    assert_eq!((rig.count("letters").await, rig.count("toys").await), (0, 0));
}

#[tokio::test]
async fn a_repair_waits_for_writers_before_it_asks_for_the_truth() {
    let rig = Rig::new().await;
    let mut other = rig.pool.begin().await.unwrap();
    let insert = "insert into letters values ('ada', 1, 'from elsewhere', 1)";
    sqlx::raw_sql(insert).execute(&mut *other).await.unwrap();
    let repairer = repairer(&rig);
    let asked = std::sync::atomic::AtomicBool::new(false);
    let repair = async {
        let wanted = [wanted("bo", Guard::Any)];
        let truth = async {
            asked.store(true, std::sync::atomic::Ordering::SeqCst);
            known(vec![letter("bo", "ball", 0)]).await
        };
        repairer.repair(LETTERS, &wanted, truth).await.unwrap()
    };
    let commit = async {
        somebody_waits(&rig).await;
        assert!(!asked.load(std::sync::atomic::Ordering::SeqCst));
        other.commit().await.unwrap();
    };
    let (fates, ()) = tokio::join!(repair, commit);
    assert_eq!(fates, [Fate::Written]);
    let scanned = format!("1{}", "0".repeat(40));
    assert!(rig.texts(ROWS).await.contains(&row("bo", "ball", &scanned)));
}

#[tokio::test]
async fn rows_keep_their_versions_and_what_moved_is_left_alone() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let units = ["a", "b", "c", "d"].map(|child| letter(child, "old", 5)).to_vec();
    rig.apply(&batch(&ann, &lease, 5, units)).await.unwrap();
    let five = version(5).to_string();
    rig.run(
        "alter table letters add column own text; update letters set own = 'mine', body = 'bad'; \
         update letters set dynaurora_version = 9e50 where child = 'b'; \
         insert into toys values ('gone', 1, 0, 'orphan')",
    )
    .await;
    let same = || Guard::Same(Some(five.clone()));
    let future = Guard::Same(Some(format!("9{}", "0".repeat(50))));
    let wanted = [
        wanted("a", same()),
        wanted("b", future),
        wanted("c", Guard::Same(Some(version(4).to_string()))),
        wanted("d", same()),
        wanted("gone", Guard::Same(None)),
    ];
    let truth = vec![
        wishing(letter("a", "good", 0), &[(0, "kite")]),
        letter("b", "good", 0),
        letter("c", "good", 0),
        burnt("d", 0),
        burnt("gone", 0),
    ];
    let fates = repairer(&rig).repair(LETTERS, &wanted, known(truth)).await.unwrap();
    let expected = [Fate::Written, Fate::Written, Fate::Moved, Fate::Deleted, Fate::Deleted];
    assert_eq!(fates, expected);
    let scanned = format!("1{}", "0".repeat(40));
    let left = [row("a", "good", &five), row("b", "good", &scanned), row("c", "bad", &five)];
    assert_eq!(rig.texts(ROWS).await, left);
    assert_eq!(rig.texts("select sku from toys").await, [Some("kite".to_owned())]);
    assert_eq!(rig.texts("select own from letters").await, vec![Some("mine".to_owned()); 3]);

    let later = ["a", "b"].map(|child| letter(child, "new", 6)).to_vec();
    let applied = rig.apply(&batch(&ann, &moved(&lease, 5), 6, later)).await.unwrap();
    assert_eq!(applied.tables[0].upserted, 2, "a newer change wins over a repair");
}

#[tokio::test]
async fn what_cannot_be_repaired_stays_as_it_is() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    rig.apply(&batch(&ann, &lease, 5, vec![letter("a", "good", 5)])).await.unwrap();
    rig.run("alter table letters add check (body <> 'bad')").await;
    let repairer = repairer(&rig);
    let both = [wanted("a", Guard::Any), wanted("b", Guard::Any)];
    let truth = known(vec![letter("a", "bad", 0), letter("b", "good", 0)]);
    let refused = repairer.repair(LETTERS, &both, truth).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Data);
    let silent = async { Ok(vec![None, None]) };
    let fates = repairer.repair(LETTERS, &both, silent).await.unwrap();
    assert_eq!(fates, [Fate::LeftAlone; 2]);
    rig.run("update dynaurora.sources set backfilling = true").await;
    let truth = known(vec![letter("a", "x", 0), letter("b", "y", 0)]);
    let busy = repairer.repair(LETTERS, &both, truth).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    assert_eq!(rig.texts(ROWS).await, [row("a", "good", &version(5).to_string())]);
}

/// Makes the letter `1` what a change says, in the place of change number `at`, which was rejected.
async fn settle(play: &Play, change: &Change, at: u64) {
    let tables = play.mapper.tables();
    let repairer = Repairer::new(Arc::clone(&play.rig.pools), SOURCE.into(), tables);
    let mut rows = Vec::new();
    play.mapper.map(change, &mut rows);
    rows.retain(|op| op.action != RowAction::Record);
    let recorded = Recorded { version: version(FIRST + at).to_string(), end: "remove".to_owned() };
    let wanted =
        RowRepair { key: cells(&[Some("1")]), guard: Guard::Any, recorded: Some(recorded) };
    let truth = std::future::ready(Ok(rows.into_iter().map(Some).collect()));
    repairer.repair(LETTERS, &[wanted], truth).await.unwrap();
}

/// The history without its times; those of a repair are those of the test.
async fn told(play: &Play) -> Vec<String> {
    let short = |text: String| {
        let (row, times) = text.rsplit_once(' ').unwrap();
        format!("{row}{}", if times.ends_with('-') { " now" } else { "" })
    };
    play.texts(HISTORY).await.into_iter().map(short).collect()
}

#[tokio::test]
async fn a_history_keeps_what_a_retry_applied_once_and_in_its_place() {
    let mut play = Play::new().await;
    play.apply(vec![put("1", 5, "a")]).await;
    // Change 6 was rejected; twice, as after a crash between the repair and the settling.
    for _ in 0..2 {
        settle(&play, &scan("1", "b"), 6).await;
        assert_eq!(told(&play).await, ["1#5 modify a", "1#6 scan b now"]);
    }
    play.apply(vec![put("1", 7, "c")]).await;
    let expected = ["1#5 modify a", "1#6 scan b", "1#7 modify c now"];
    assert_eq!(told(&play).await, expected);
    // The row is as new already: what is said of it stands.
    settle(&play, &scan("1", "c"), 6).await;
    assert_eq!(told(&play).await, expected);
    settle(&play, &remove("1", 8), 8).await;
    assert_eq!(told(&play).await[2..], ["1#7 modify c", "1#8 remove -"]);
    // The stream brings the removal later, which is the same end.
    play.apply(vec![remove("1", 9)]).await;
    assert_eq!(told(&play).await.len(), 4);
    // An item of a load was rejected, and its row is of an older generation: the load's version is newer.
    play.apply(vec![put("1", 10, "d")]).await;
    play.rig.run("update dynaurora.sources set generation = 2").await;
    let scanned = format!("2{}", "0".repeat(40));
    let recorded = Recorded { version: scanned.clone(), end: "remove".to_owned() };
    let repairer = Repairer::new(Arc::clone(&play.rig.pools), SOURCE.into(), play.mapper.tables());
    let mut rows = Vec::new();
    play.mapper.map(&scan("1", "e"), &mut rows);
    rows.retain(|op| op.action != RowAction::Record);
    let wanted =
        RowRepair { key: cells(&[Some("1")]), guard: Guard::Any, recorded: Some(recorded) };
    let truth = std::future::ready(Ok(rows.into_iter().map(Some).collect()));
    repairer.repair(LETTERS, &[wanted], truth).await.unwrap();
    let newest = "select dynaurora_version::text || op || body from letters_history \
                  where valid_to is null";
    assert_eq!(play.texts(newest).await, [format!("{scanned}scane")]);
}
