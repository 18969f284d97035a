//! Child rows of child rows through every command that knows tables.

use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::model::Item;

use super::shared::stage_of;
use super::stage::{SOON_SECS, Stage, within};

const SOURCES: &str = r#"
[source.toys]
table   = "Toys"
into    = "toys"
key     = { id = "{id}" }
columns = { id = "{id}", name = "name" }
[source.toys.children.boxes]
from    = "boxes"
table   = "boxes"
columns = { box = "@index", label = "label" }
[source.toys.children.boxes.children.parts]
from    = "parts"
table   = "parts"
limit   = 3
columns = { part = "@index", sku = { from = "sku", required = true } }
"#;

const TRAIN: &str = r#"{"id":{"S":"train"},"name":{"S":"Train"},"boxes":{"L":[
    {"M":{"label":{"S":"a"},"parts":{"L":[
        {"M":{"sku":{"S":"wheel"}}},{"M":{"sku":{"S":"axle"}}}]}}},
    {"M":{"label":{"S":"b"},"parts":{"L":[{"M":{"sku":{"S":"rope"}}}]}}}]}}"#;
const LESS: &str = r#"{"id":{"S":"train"},"name":{"S":"Train"},"boxes":{"L":[
    {"M":{"label":{"S":"a"},"parts":{"L":[{"M":{"sku":{"S":"wheel"}}}]}}}]}}"#;
const PARTS: &str = "select concat_ws(' ', id, box, part, sku) from parts order by 1";

async fn put(stage: &Stage, json: &str) {
    let item: Item = serde_json::from_str(json).unwrap();
    let mut request = stage.client.put_item().table_name("Toys");
    for (name, value) in item.iter() {
        request = request.item(name, AttributeValue::from(value.clone()));
    }
    request.send().await.unwrap();
}

async fn become_(stage: &Stage, expected: &[&str]) {
    within(SOON_SECS, &format!("the parts are {expected:?}"), async || {
        let parts: Vec<String> = sqlx::query_scalar(PARTS).fetch_all(&stage.pool).await.unwrap();
        (parts == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rule_9_children_of_children_are_planned_written_explained_verified_and_mended() {
    let stage = stage_of(SOURCES, &["Toys"]).await;
    let planned = stage.command(&["plan"]).await;
    assert!(planned.stdout.contains("primary key (\"id\", \"box\", \"part\")"), "{planned:?}");
    assert_eq!(stage.command(&["apply"]).await.code, Some(0));
    assert_eq!(stage.command(&["plan", "--exit-code"]).await.code, Some(0));
    let item = stage.config_file().with_file_name("item.json");
    std::fs::write(&item, TRAIN).unwrap();
    let words = ["explain", "--output", "json", "--item", item.to_str().unwrap()];
    let explained = stage.command(&words).await.json();
    let tables: Vec<_> = explained["rows"].as_array().unwrap().iter().collect();
    let tables: Vec<_> = tables.iter().map(|row| row["table"].as_str().unwrap()).collect();
    assert_eq!(tables, ["toys", "boxes", "parts", "parts", "boxes", "parts"]);

    put(&stage, TRAIN).await;
    let mut daemon = stage.daemon();
    become_(&stage, &["train 0 0 wheel", "train 0 1 axle", "train 1 0 rope"]).await;
    put(&stage, LESS).await;
    become_(&stage, &["train 0 0 wheel"]).await;
    put(&stage, TRAIN).await;
    become_(&stage, &["train 0 0 wheel", "train 0 1 axle", "train 1 0 rope"]).await;
    let four = TRAIN
        .replace(r#"{"M":{"sku":{"S":"rope"}}}"#, &[r#"{"M":{"sku":{"S":"r"}}}"#; 2].join(","));
    put(&stage, &four).await;
    within(SOON_SECS, "too many parts are a dead letter", async || {
        daemon.still_runs();
        let sql = "select count(*) from dynaurora.dead_letters where reason = 'limit'";
        (stage.number(sql).await == 1).then_some(())
    })
    .await;
    put(&stage, TRAIN).await;
    within(SOON_SECS, "which the next change settles", async || {
        let sql = "select count(*) from dynaurora.dead_letters where state = 'open'";
        (stage.number(sql).await == 0).then_some(())
    })
    .await;

    let vandals = "delete from parts where sku = 'axle'; \
        update parts set sku = 'reed' where box = 1; \
        insert into parts values ('train', 9, 0, 'x'), ('gone', 0, 0, 'x')";
    sqlx::raw_sql(vandals).execute(&stage.pool).await.unwrap();
    let verify = ["verify", "--settle-secs", "1", "--output", "json"];
    let ended = stage.command(&[&verify[..], &["--repair"]].concat()).await;
    let report = ended.json();
    let differences = report["sources"][0]["differences"].as_array().unwrap();
    let mut faults: Vec<_> =
        differences.iter().map(|own| format!("{} {}", own["fault"], own["table"])).collect();
    faults.sort();
    let expected = ["differs", "missing", "unexpected", "unexpected"];
    assert_eq!(faults, expected.map(|fault| format!("\"{fault}\" \"parts\"")), "{report}");
    become_(&stage, &["train 0 0 wheel", "train 0 1 axle", "train 1 0 rope"]).await;
    assert_eq!(stage.command(&verify).await.code, Some(0));

    let request = stage.client.delete_item().table_name("Toys");
    request.key("id", AttributeValue::S("train".to_owned())).send().await.unwrap();
    become_(&stage, &[]).await;
    assert_eq!(stage.number("select count(*) from boxes").await, 0);
    daemon.stop().await;
}
