//! Backfills that take long, and sweeps that would take too much.

use dynaurora::demo::santa::TABLE;
use dynaurora::engine::ports::Clock;
use dynaurora::model::AttributeValue;
use dynaurora::runtime::SystemClock;

use super::gaps::{Scene, is_halted, profile};
use super::stage::{SOON_SECS, within};

/// More rows than a sweep may delete without a person's word, in any table.
const GONE: u32 = 150;
/// Some 5 MB of items: at one read unit a second, a page of 1 MB takes four minutes.
const FAT_ITEMS: u32 = 15;
const FAT_BYTES: usize = 350_000;

async fn is_loading(scene: &Scene) -> bool {
    let sql = "select count(*) from dynaurora.sources where backfilling";
    scene.stage.number(sql).await == 1
}

#[tokio::test]
async fn changes_arrive_however_long_a_load_takes() {
    let scene = Scene::start().await;
    scene.world.lock().unwrap().set_now(SystemClock.wall());
    for child in 0..FAT_ITEMS {
        let mut item = profile(child, Some("Noor"));
        item.push("note".to_owned(), AttributeValue::S("x".repeat(FAT_BYTES)));
        scene.world.lock().unwrap().put(TABLE, item);
    }
    let mut daemon = scene.stage.daemon();
    let there = "select count(*) from children where name = 'Noor'";
    within(SOON_SECS, "the tail has them", async || {
        (scene.stage.number(there).await == i64::from(FAT_ITEMS)).then_some(())
    })
    .await;
    let words = ["backfill", "--segments", "1", "--max-rcu", "1", "--detach"];
    let begun = scene.stage.command(&words).await;
    assert_eq!(begun.code, Some(0), "{begun:?}");
    within(SOON_SECS, "the load has read a page", async || {
        let sql = "select count(*) from dynaurora.partitions where kind <> 'shard' and records > 0";
        (scene.stage.number(sql).await == 1).then_some(())
    })
    .await;
    for round in 0..3 {
        let name = format!("Ole the {round}");
        scene.put(0, &name);
        let sql = format!("select count(*) from children where child_id = '0' and name = '{name}'");
        within(SOON_SECS, "a change arrives", async || {
            (scene.stage.number(&sql).await == 1).then_some(())
        })
        .await;
    }
    assert!(is_loading(&scene).await);
    let headroom = daemon.metric("dynaurora_retention_headroom_seconds").await;
    assert!(headroom > 23.0 * 3600.0, "{headroom}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_sweep_of_too_much_waits_for_a_person_and_spares_what_others_wrote() {
    let scene = Scene::start().await;
    let rows = async || scene.stage.number("select count(*) from children").await;
    for child in 0..GONE {
        scene.put(child, "Noor");
    }
    scene.put(GONE, "Ole");
    let daemon = scene.stage.daemon();
    within(SOON_SECS, "all are there", async || {
        (rows().await == i64::from(GONE) + 1).then_some(())
    })
    .await;
    daemon.stop().await;
    let by_hand = "insert into children (child_id, country, extra) values ('by hand', '??', '{}')";
    scene.stage.run(by_hand).await;
    (0..GONE).for_each(|child| scene.delete(child));
    scene.world.lock().unwrap().trim_all(TABLE, |_| false);

    let mut daemon = scene.stage.daemon();
    is_halted(&mut daemon, "trimmed").await;
    let begun = scene.stage.command(&["backfill", "--segments", "1", "--detach"]).await;
    assert_eq!(begun.code, Some(0), "{begun:?}");
    let waits = daemon.says("the end of a backfill waits for an operator").await;
    let why = waits["why"].as_str().unwrap();
    assert!(why.contains("150 of 151 rows"), "{why}");
    assert!(why.contains("dynaurora backfill --confirm-sweep"), "{why}");
    scene.put(GONE + 1, "Pia");
    within(SOON_SECS, "the tail goes on", async || {
        (rows().await == i64::from(GONE) + 3).then_some(())
    })
    .await;
    assert!(is_loading(&scene).await);

    let confirmed = scene.stage.command(&["backfill", "--confirm-sweep", "--detach"]).await;
    assert_eq!(confirmed.code, Some(0), "{confirmed:?}");
    daemon.stop().await;
    // Another daemon looks at once, and the word is in the ledger.
    let mut daemon = scene.stage.daemon();
    within(SOON_SECS, "the load ends", async || (!is_loading(&scene).await).then_some(())).await;
    let left = "select string_agg(child_id, ' ' order by child_id) from children";
    let left: String = sqlx::query_scalar(left).fetch_one(&scene.stage.pool).await.unwrap();
    assert_eq!(left, "150 151 by hand");
    daemon.readyz(200).await;
    daemon.stop().await;
}
