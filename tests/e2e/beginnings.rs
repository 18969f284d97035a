//! Ledgers that start anew over rows that are there, and sources that go by another name.

use super::gaps::{Scene, TAIL};
use super::stage::{SOON_SECS, within};

/// The stage's config with the source under another name, in a file of its own.
fn renamed(scene: &Scene) -> std::path::PathBuf {
    let text = std::fs::read_to_string(scene.stage.config_file()).unwrap();
    let text = text.replace("[source.santa", "[source.north");
    let text = text.replace("source = \"santa\"", "source = \"north\"");
    let path = scene.stage.config_file().with_file_name("north.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Rows of a fourth generation, and a ledger that begins with the first: every change would be turned away.
#[tokio::test]
async fn a_ledger_that_starts_anew_begins_above_the_rows_that_are_there() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    scene.put(2, "Ole");
    for _ in 0..3 {
        let loaded = scene.stage.command(&["backfill", "--segments", "1"]).await;
        assert_eq!(loaded.code, Some(0), "{loaded:?}");
    }
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
    scene.stage.run("drop schema dynaurora cascade").await;
    scene.put(1, "Noor the second");
    scene.delete(2);
    scene.put(3, "Pia");

    let applied = scene.stage.command(&["apply"]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let mut tail = scene.stage.daemon();
    within(SOON_SECS, "whoever only tails is told of the rows", async || {
        let (_, status) = tail.get("/status").await?;
        status.contains("the ledger began anew over rows").then_some(())
    })
    .await;
    tail.stop().await;
    let mut daemon = scene.stage.daemon_with(&["--backfill", "auto"]);
    scene.shows(&[(1, "Noor the second"), (3, "Pia")]).await;
    scene.put(3, "Pia the second");
    scene.shows(&[(1, "Noor the second"), (3, "Pia the second")]).await;
    within(
        SOON_SECS,
        "above the fourth generation is the fifth, and then its first load",
        async || {
            let loaded = "select count(*) from dynaurora.sources \
                      where generation = 6 and loaded_at is not null and load_sweeps";
            (scene.stage.number(loaded).await == 1).then_some(())
        },
    )
    .await;
    daemon.readyz(200).await;
    daemon.stop().await;
}

/// A new name in the file is refused with what to do, and that works: nothing is read again.
#[tokio::test]
async fn a_source_that_the_config_renamed_goes_on_once_the_ledger_renames_it() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    let daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor")]).await;
    daemon.stop().await;
    std::fs::copy(renamed(&scene), scene.stage.config_file()).unwrap();
    scene.put(1, "Noor the second");

    let says =
        |text: &str| text.contains("dynaurora sources rename") && text.contains("santa north`");
    let checked = scene.stage.command(&["check"]).await;
    assert_eq!(checked.code, Some(78), "{checked:?}");
    assert!(says(&checked.stdout), "{checked:?}");
    for words in [&["run"][..], &["backfill"]] {
        let refused = scene.stage.command(words).await;
        assert_eq!(refused.code, Some(78), "{refused:?}");
        assert!(says(&refused.stderr), "{refused:?}");
    }
    let renamed = scene.stage.command(&["sources", "rename", "santa", "north"]).await;
    assert_eq!(renamed.code, Some(0), "{renamed:?}");
    let mut daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor the second")]).await;
    daemon.readyz(200).await;
    daemon.stop().await;
    assert!(scene.gaps().await.is_empty());
    let known = "select count(*) from dynaurora.sources where source = 'north' and generation = 1";
    assert_eq!(scene.stage.number(known).await, 1);
}

/// Two files with sources of other names on one table: each would write over the other in silence.
#[tokio::test]
async fn a_table_that_another_source_keeps_is_refused_while_that_one_goes_on() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    let mut daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor")]).await;
    let other = renamed(&scene).display().to_string();
    let refused = scene.stage.command(&[&["run", "--config", &other][..], &TAIL].concat()).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("source santa keeps it"), "{refused:?}");
    for words in [&["rename", "santa", "north"][..], &["forget", "santa"]] {
        let words = [&["sources"], words, &["--config", &other]].concat();
        let alive = scene.stage.command(&words).await;
        assert_eq!(alive.code, Some(75), "{alive:?}");
        assert!(alive.stderr.contains("is alive"), "{alive:?}");
    }
    scene.put(2, "Ole");
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
    daemon.readyz(200).await;
    daemon.stop().await;

    let forgotten = scene.stage.command(&["sources", "forget", "santa"]).await;
    assert_eq!(forgotten.code, Some(0), "{forgotten:?}");
    let loaded = scene.stage.command(&["backfill", "--config", &other]).await;
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
}
