//! A mapping that rejects most of a stream: the source halts, stays up, and says so everywhere.

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use dynaurora::demo::santa::TABLE;
use dynaurora::model::AttributeValue as StoredValue;

use super::gaps::Scene;
use super::stage::{SOON_SECS, Stage, within};

/// Items that no entity takes: more than the window over which the share is judged.
const STRAYS: usize = 1_500;
/// The most items in one request.
const BATCH_MAX: usize = 25;

#[tokio::test]
async fn a_stream_that_is_mostly_rejected_halts_and_everybody_says_so() {
    let stage = Stage::start().await;
    let mut daemon = stage.ready_daemon().await;
    for first in (0..STRAYS).step_by(BATCH_MAX) {
        let puts = (first..first + BATCH_MAX).map(stray).collect();
        stage.client.batch_write_item().request_items(TABLE, puts).send().await.unwrap();
    }
    let halted = daemon.says("source halted").await;
    assert!(halted["reason"].as_str().unwrap().contains("dead letters"), "{halted}");
    within(SOON_SECS, "readiness says why", async || {
        let (code, body) = daemon.get("/readyz").await?;
        (code == 503 && body.contains("worker.reject_share_max")).then_some(())
    })
    .await;
    let (alive, _) = daemon.get("/livez").await.unwrap();
    assert_eq!(alive, 200, "a restart would not help");
    assert!(daemon.metric("dynaurora_halted").await > 0.0);
    let (_, status) = daemon.get("/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["sources"][0]["state"], "halted");
    assert!(status["sources"][0]["halted"].is_string(), "{status}");
    let mut headroom = async || daemon.metric("dynaurora_retention_headroom_seconds").await;
    let before = headroom().await;
    within(SOON_SECS, "the one number to watch counts on", async || {
        (headroom().await < before).then_some(())
    })
    .await;
    daemon.still_runs();
}

/// Nobody but the daemon knows why it halted, until it tells the ledger; a new one begins as if nothing had
/// been.
#[tokio::test]
async fn a_halt_is_known_to_those_who_ask_the_target_until_a_daemon_starts_anew() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    let mut daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor")]).await;
    let seen = async || -> (String, Option<String>) {
        let sql = "select state, halted from dynaurora.freshness";
        sqlx::query_as(sql).fetch_one(&scene.stage.pool).await.unwrap()
    };
    assert_eq!(seen().await.1, None);
    for number in 0..STRAYS {
        let keys = [("pk", format!("SLEIGH#{number}")), ("sk", "PARKED".to_owned())];
        let item = keys.into_iter().map(|(name, value)| (name.to_owned(), StoredValue::S(value)));
        scene.world.lock().unwrap().put(TABLE, item.collect());
    }
    daemon.says("source halted").await;
    let reason = within(SOON_SECS, "the ledger knows of the halt", async || {
        let (state, reason) = seen().await;
        reason.filter(|_| state == "halted")
    })
    .await;
    assert!(reason.contains("dead letters") && reason.contains("fix the mapping"), "{reason}");
    let waited =
        ["wait", "--source", "santa", "--after", "2026-01-01T00:00:00Z", "--timeout", "0s"];
    let waited = scene.stage.command(&waited).await;
    assert!(waited.stderr.contains("source santa is halted"), "{waited:?}");
    daemon.signal("TERM").await;
    assert_ne!(daemon.ended(SOON_SECS).await, Some(0));
    assert_eq!(seen().await.0, "halted", "whoever is gone halted it");

    scene.put(2, "Ole");
    let mut daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
    daemon.readyz(200).await;
    within(SOON_SECS, "it is in step again", async || {
        let (state, reason) = seen().await;
        (reason.is_none() && ["live", "idle"].contains(&&*state)).then_some(())
    })
    .await;
    daemon.stop().await;
    let (state, reason) = seen().await;
    assert_eq!((state.as_str(), reason), ("stuck", None), "nobody runs, and nobody halted it");
}

fn stray(number: usize) -> WriteRequest {
    let text = |text: String| AttributeValue::S(text);
    let put = PutRequest::builder()
        .item("pk", text(format!("SLEIGH#{number}")))
        .item("sk", text("PARKED".to_owned()))
        .build();
    WriteRequest::builder().put_request(put.unwrap()).build()
}
