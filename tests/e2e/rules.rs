//! Rules of the mapping language that only the whole daemon shows; the others are in
//! `tests/postgres/rules.rs`.

use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::demo::santa::TABLE;

use super::stage::{SOON_SECS, Stage, within};

async fn put(stage: &Stage, (pk, sk): (&str, &str), more: &[(&str, AttributeValue)]) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut request = stage.client.put_item().table_name(TABLE);
    request = request.item("pk", text(pk)).item("sk", text(sk));
    for (name, value) in more {
        request = request.item(*name, value.clone());
    }
    request.send().await.unwrap();
}

/// The sum of a metric's series that have this label.
fn count(metrics: &str, name: &str, label: &str) -> u64 {
    let own = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(label);
    let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    metrics.lines().filter(own).map(value).sum()
}

#[tokio::test]
async fn rule_10_what_is_unmatched_filtered_rejected_or_superseded_is_counted_by_name() {
    let stage = Stage::start().await;
    // Nothing is read before all is written, so that one batch has the first child twice.
    put(&stage, ("CHILD#1", "PROFILE"), &[]).await;
    put(&stage, ("CHILD#1", "PROFILE"), &[("name", AttributeValue::S("Ada".to_owned()))]).await;
    let born = ("born", AttributeValue::S("never".to_owned()));
    put(&stage, ("CHILD#2", "PROFILE"), &[born]).await;
    put(&stage, ("CHILD#1", "LETTER#2026#a"), &[("draft", AttributeValue::Bool(true))]).await;
    put(&stage, ("ELF#1", "SHIFT"), &[]).await;
    let mut daemon = stage.daemon();
    let records = "dynaurora_records_total";
    let metrics = within(SOON_SECS, "all five are counted", async || {
        daemon.still_runs();
        let metrics = daemon.metrics().await;
        (count(&metrics, records, "santa") == 5).then_some(metrics)
    })
    .await;
    let outcome = |name: &str| count(&metrics, records, &format!("outcome=\"{name}\""));
    // Unmatched items become dead letters here, so they are rejected; their own counter names them.
    assert_eq!((outcome("mapped"), outcome("filtered")), (2, 1), "{metrics}");
    assert_eq!(outcome("rejected") + outcome("unmatched"), 2, "{metrics}");
    let rejected = "dynaurora_rejected_records_total";
    assert_eq!(count(&metrics, rejected, "reason=\"format\""), 1, "{metrics}");
    assert_eq!(count(&metrics, rejected, "reason=\"unmatched\""), 1, "{metrics}");
    let superseded = "dynaurora_rows_superseded_total";
    assert_eq!(count(&metrics, superseded, "table=\"children\""), 1, "{metrics}");
    assert_eq!(stage.number("select count(*) from dynaurora.dead_letters").await, 2);
    assert_eq!(stage.number("select count(*) from children").await, 1);
    daemon.stop().await;
}
