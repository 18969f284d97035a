//! What the daemon refuses to start with: the exit code, the reason, and what to do about it.

use std::sync::{Arc, Mutex};

use dynaurora::engine::ports::StreamView;

use super::daemon::{Ended, command, run_to_end};
use super::stage::{SOON_SECS, Setting, Stage, within};
use crate::world::{World, WorldServer};

#[tokio::test]
async fn a_wrong_config_is_refused_with_all_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    let text = "version = 1\n\
                [target]\n\
                url = \"postgres://dynaurora:hunter2@db.example.com/reads\"\n\
                pool = \"four\"\n\
                [source.santa]\n\
                tabel = \"NorthPole\"\n\
                [source.santa.columns]\n\
                id = { from = \"id\", type = \"itn\" }\n";
    std::fs::write(&file, text).unwrap();
    let mut run = command("run");
    run.arg("--config").arg(&file);
    let ended = run_to_end(run).await;
    says(&ended, 78, &["wrong.toml:3", "password", "wrong.toml:4", "tabel", "itn", "problems in"]);
    assert!(!ended.stderr.contains("hunter2"), "a secret is never shown: {}", ended.stderr);

    let mut run = command("run");
    run.arg("--config").arg(folder.path().join("absent.toml"));
    says(&run_to_end(run).await, 78, &["absent.toml"]);
}

/// A machine boots before its database, and a role gets its credentials late: both pass.
#[tokio::test]
async fn servers_that_cannot_be_reached_are_named_and_waited_for() {
    let stage = Stage::start().await;
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let url = format!("target.url=postgres://postgres@{nobody}/santa");
    let endpoint = format!("aws.endpoint=http://{nobody}");
    let address = nobody.to_string();
    for (set, words) in [
        (&url, ["connect to the target", "pg_isready", address.as_str()]),
        (&endpoint, ["DescribeTable of table NorthPole", "curl", address.as_str()]),
    ] {
        waits(&stage, &["--set", set], &words).await;
    }
    let ended = stage.command(&["run", "--set", &no_database(&stage)]).await;
    says(&ended, 78, &["create the database"]);
}

/// One source whose table is not there does not keep the others from their work.
#[tokio::test]
async fn a_source_that_cannot_work_leaves_the_others_alone() {
    let stage = Stage::with(Setting { reindeer: true, ..Setting::default() }).await;
    let words = ["--backfill", "never", "--set", "source.santa.table=Nowhere"];
    let mut daemon = stage.daemon_with(&words);
    within(SOON_SECS, "rows arrive, and readiness says what does not work", async || {
        daemon.still_runs();
        let (code, body) = daemon.get("/readyz").await?;
        let told = code == 503 && body.contains("source santa") && body.contains("Nowhere");
        (told && stage.number("select count(*) from reindeer").await > 0).then_some(())
    })
    .await;
    daemon.stop().await;
}

fn no_database(stage: &Stage) -> String {
    let url = stage.config.target.url.replace(&stage.database, "nowhere");
    format!("target.url={url}")
}

#[tokio::test]
async fn a_target_without_its_tables_sends_to_apply() {
    let stage = Stage::with(Setting { applied: false, ..Setting::default() }).await;
    let planned = stage.command(&["plan", "--exit-code", "--output", "json"]).await;
    assert_eq!(planned.code, Some(1), "{planned:?}");
    assert_eq!(planned.json()["steps"].as_array().unwrap().len(), 4, "{planned:?}");
    says(&stage.command(&["run"]).await, 78, &["the target's tables need", "dynaurora apply"]);
    says(&stage.command(&["check"]).await, 78, &["fix the above"]);
    says(&stage.command(&["apply"]).await, 0, &["next: dynaurora run"]);
    assert_eq!(stage.command(&["plan", "--exit-code"]).await.code, Some(0));
}

#[tokio::test]
async fn rule_3_a_stream_that_cannot_feed_the_mapping_is_refused() {
    let mut world = World::new(3);
    world.create_table_without_stream("Streamless", &["pk", "sk"]);
    world.create_table("Disabled", &["pk", "sk"], StreamView::NewImage);
    world.disable_stream("Disabled");
    world.create_table("KeysOnly", &["pk", "sk"], StreamView::KeysOnly);
    world.create_table("OldOnly", &["pk", "sk"], StreamView::OldImage);
    world.create_table("NewOnly", &["pk", "sk"], StreamView::NewImage);
    let server = WorldServer::start(Arc::new(Mutex::new(world)));
    let endpoint = Some(server.endpoint().to_owned());
    let stage = Stage::with(Setting { endpoint, ..Setting::default() }).await;
    let enable = "aws dynamodb update-table --table-name";
    for (table, why) in [
        ("Streamless", "table Streamless has no stream"),
        ("Disabled", "the stream of table Disabled is disabled"),
        ("KeysOnly", "the stream of table KeysOnly does not carry new images"),
        ("OldOnly", "the stream of table OldOnly does not carry new images"),
    ] {
        let other = format!("source.santa.table={table}");
        let ended = stage.command(&["run", "--set", &other]).await;
        says(&ended, 78, &[why, enable, table, "StreamViewType=NEW_AND_OLD_IMAGES"]);
        let ended = stage.command(&["check", "--set", &other]).await;
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stdout.contains(why) && ended.stdout.contains(enable), "{ended:?}");
    }
    let unique = "create unique index on children (child_id, name)";
    sqlx::raw_sql(unique).execute(&stage.pool).await.unwrap();
    // A removal carries the keys alone, and the row's key has a column that is none of them.
    let words = ["--set", "source.santa.table=NewOnly", "--set"];
    let by_name = "source.santa.entity.child.primary_key=[\"child_id\", \"name\"]";
    let why = "its column name comes from an attribute that is no key";
    let ended = stage.command(&[&["run"], &words[..], &[by_name]].concat()).await;
    says(&ended, 78, &[why, enable, "entity child", "StreamViewType=NEW_AND_OLD_IMAGES"]);
    let ended = stage.command(&[&["check"], &words[..], &[by_name]].concat()).await;
    assert!(ended.stdout.contains(why) && ended.stdout.contains(enable), "{ended:?}");
    let ended = stage.command(&["run", "--set", "source.santa.table=Nowhere"]).await;
    assert!(ended.stderr.contains("aws dynamodb list-tables --region"), "{ended:?}");
    assert_ne!(ended.code, Some(0));
}

/// Starts a daemon that waits for something to pass, and says what.
pub(super) async fn waits(stage: &Stage, words: &[&str], told: &[&str]) {
    let mut daemon = stage.daemon_with(words);
    within(SOON_SECS, "readiness says why", async || {
        daemon.still_runs();
        let (code, body) = daemon.get("/readyz").await?;
        (code == 503 && told.iter().all(|word| body.contains(word))).then_some(())
    })
    .await;
    assert_eq!(daemon.get("/livez").await.unwrap().0, 200, "a restart would not help");
    daemon.stop().await;
}

pub(super) fn says(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word} is not in {}", ended.stderr);
    }
}
