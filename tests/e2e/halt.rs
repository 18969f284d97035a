//! A mapping that rejects most of a stream: the source halts, stays up, and says so everywhere.

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use dynaurora::demo::santa::TABLE;

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
    daemon.still_runs();
}

fn stray(number: usize) -> WriteRequest {
    let text = |text: String| AttributeValue::S(text);
    let put = PutRequest::builder()
        .item("pk", text(format!("SLEIGH#{number}")))
        .item("sk", text("PARKED".to_owned()))
        .build();
    WriteRequest::builder().put_request(put.unwrap()).build()
}
