//! Changes are lost before they are read: the daemon halts and says what to do, and what it says works.

use std::sync::{Arc, Mutex};

use dynaurora::demo::santa::TABLE;
use dynaurora::engine::ports::StreamView;
use dynaurora::model::{AttributeValue, Item};
use serde_json::Value;

use super::daemon::Daemon;
use super::stage::{SOON_SECS, Setting, Stage, within};
use crate::world::{World, WorldServer};

pub(super) const TAIL: [&str; 2] = ["--backfill", "never"];

/// A daemon over a world of our own, which can forget.
pub(super) struct Scene {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) stage: Stage,
    _server: WorldServer,
}

impl Scene {
    pub(super) async fn start() -> Self {
        let mut world = World::new(7);
        world.create_table(TABLE, &["pk", "sk"], StreamView::NewAndOldImages);
        let world = Arc::new(Mutex::new(world));
        let server = WorldServer::start(Arc::clone(&world));
        let endpoint = Some(server.endpoint().to_owned());
        let stage = Stage::with(Setting { endpoint, ..Setting::default() }).await;
        Self { world, stage, _server: server }
    }

    pub(super) fn put(&self, child: u32, name: &str) {
        self.world.lock().unwrap().put(TABLE, profile(child, Some(name)));
    }

    pub(super) fn delete(&self, child: u32) {
        self.world.lock().unwrap().delete(TABLE, &profile(child, None));
    }

    async fn names(&self) -> Vec<(String, Option<String>)> {
        let sql = "select child_id, name from children order by child_id";
        sqlx::query_as(sql).fetch_all(&self.stage.pool).await.unwrap()
    }

    pub(super) async fn shows(&self, expected: &[(u32, &str)]) {
        let expected: Vec<_> = (expected.iter())
            .map(|(child, name)| (child.to_string(), Some((*name).to_owned())))
            .collect();
        let mut last = Vec::new();
        within(SOON_SECS, &format!("the rows are {expected:?}"), async || {
            last = self.names().await;
            (last == expected).then_some(())
        })
        .await;
    }

    /// Two changes are applied, and then some are lost while nobody reads.
    async fn loses_changes(&self) {
        self.put(1, "Noor");
        self.put(2, "Ole");
        let mut daemon = self.stage.daemon();
        self.shows(&[(1, "Noor"), (2, "Ole")]).await;
        daemon.still_runs();
        daemon.stop().await;
        self.put(1, "Noor the second");
        self.delete(2);
        self.put(3, "Pia");
        self.world.lock().unwrap().trim_all(TABLE, |_| false);
    }

    pub(super) async fn gaps(&self) -> Vec<Value> {
        let listed = self.stage.command(&["gaps", "list", "--output", "json"]).await;
        listed.json().as_array().unwrap().clone()
    }
}

pub(super) fn profile(child: u32, name: Option<&str>) -> Item {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut item: Item = [("pk", format!("CHILD#{child}")), ("sk", "PROFILE".to_owned())]
        .into_iter()
        .map(|(attribute, value)| (attribute.to_owned(), text(&value)))
        .collect();
    if let Some(name) = name {
        item.push("name".to_owned(), text(name));
    }
    item
}

/// The daemon is not ready and says why, with the commands that mend it.
pub(super) async fn is_halted(daemon: &mut Daemon, reason: &str) {
    daemon.readyz(503).await;
    within(SOON_SECS, "it says that it is halted", async || {
        let (_, body) = daemon.get("/readyz").await?;
        (body.contains(reason) && body.contains("dynaurora gaps accept")).then_some(())
    })
    .await;
    assert!(daemon.metric("dynaurora_halted").await > 0.0);
}

/// I6: halted until an operator loads the table again; then nothing is missing, and nothing too many.
#[tokio::test]
async fn i6_a_gap_halts_until_the_table_is_loaded_again() {
    let scene = Scene::start().await;
    scene.loses_changes().await;
    let mut daemon = scene.stage.daemon();
    is_halted(&mut daemon, "trimmed").await;
    let [gap] = scene.gaps().await.try_into().unwrap();
    assert_eq!((&gap["reason"], &gap["state"]), (&"trimmed".into(), &"open".into()));
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;

    let loaded = scene.stage.command(&["backfill", "--segments", "2"]).await;
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    assert!(loaded.stdout.contains("complete"), "{loaded:?}");
    scene.shows(&[(1, "Noor the second"), (3, "Pia")]).await;
    assert!(scene.gaps().await.is_empty(), "repaired");
    daemon.readyz(200).await;
    scene.put(4, "Quinn");
    scene.shows(&[(1, "Noor the second"), (3, "Pia"), (4, "Quinn")]).await;
    daemon.stop().await;
}

/// A gap that is accepted stays: the source goes on behind it.
#[tokio::test]
async fn i6_an_accepted_gap_is_lived_with() {
    let scene = Scene::start().await;
    scene.loses_changes().await;
    let mut daemon = scene.stage.daemon();
    is_halted(&mut daemon, "trimmed").await;
    let [gap] = scene.gaps().await.try_into().unwrap();
    let id = gap["id"].to_string();
    let accepted = scene.stage.command(&["gaps", "accept", &id]).await;
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    scene.put(4, "Quinn");
    scene.shows(&[(1, "Noor"), (2, "Ole"), (4, "Quinn")]).await;
    daemon.readyz(200).await;
    assert!(scene.gaps().await.is_empty());
    let again = scene.stage.command(&["gaps", "accept", &id]).await;
    assert_eq!(again.code, Some(2), "{again:?}");
    daemon.stop().await;
}

/// With `on_gap = "resync"` nobody is asked.
#[tokio::test]
async fn i6_a_source_that_resyncs_mends_itself() {
    let scene = Scene::start().await;
    scene.loses_changes().await;
    let resync = ["--set", "source.santa.on_gap=resync"];
    let mut daemon = scene.stage.daemon_with(&[TAIL, resync].concat());
    scene.shows(&[(1, "Noor the second"), (3, "Pia")]).await;
    daemon.readyz(200).await;
    assert!(scene.gaps().await.is_empty());
    let all = scene.stage.command(&["gaps", "list", "--all", "--output", "json"]).await.json();
    assert_eq!(all[0]["state"], "repaired");
    daemon.stop().await;
}

/// The service keeps shards for a day, so that they may have come and gone since the last listing.
#[tokio::test]
async fn i6_shards_that_nobody_listed_for_a_day_are_a_gap() {
    let scene = Scene::start().await;
    let listed_ago = async |hours: u32| {
        let sql = format!("update dynaurora.sources set listed_at = now() - interval '{hours} h'");
        scene.stage.run(&sql).await;
    };
    scene.put(1, "Noor");
    let daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor")]).await;
    daemon.stop().await;
    listed_ago(22).await;
    let daemon = scene.stage.ready_daemon().await;
    daemon.stop().await;
    assert!(scene.gaps().await.is_empty());

    listed_ago(24).await;
    let mut daemon = scene.stage.daemon();
    is_halted(&mut daemon, "nobody listed the shards").await;
    let [gap] = scene.gaps().await.try_into().unwrap();
    assert_eq!((&gap["reason"], &gap["state"]), (&"unpolled".into(), &"open".into()));
    daemon.stop().await;
}

/// A table of that name again is another table: a sweep could empty the target.
#[tokio::test]
async fn i6_a_recreated_table_waits_for_a_person() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    let daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor")]).await;
    daemon.stop().await;
    {
        let mut world = scene.world.lock().unwrap();
        world.delete_table(TABLE);
        world.create_table(TABLE, &["pk", "sk"], StreamView::NewAndOldImages);
        world.put(TABLE, profile(2, Some("Ole")));
    }
    let resync = ["--set", "source.santa.on_gap=resync"];
    let mut daemon = scene.stage.daemon_with(&[TAIL, resync].concat());
    is_halted(&mut daemon, "deleted and created again").await;
    let refused = scene.stage.command(&["backfill"]).await;
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("dynaurora gaps accept"), "{refused:?}");
    scene.shows(&[(1, "Noor")]).await;

    let [gap] = scene.gaps().await.try_into().unwrap();
    let accepted = scene.stage.command(&["gaps", "accept", &gap["id"].to_string()]).await;
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
    daemon.readyz(200).await;
    daemon.stop().await;
}
