//! Looking at what a mapping does, on one item and on the live stream.

use std::process::Stdio;

use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::demo::santa::TABLE;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::daemon::command;
use super::stage::Stage;

fn letter() -> Value {
    json!({
        "pk": { "S": "CHILD#42" }, "sk": { "S": "LETTER#2026#a1" }, "status": { "S": "P" },
        "sentAt": { "S": "2026-12-01T08:00:00Z" }, "meta": { "M": { "it's": { "S": "\u{1b}[2J" } } },
        "toys": { "L": [{ "M": { "sku": { "S": "train" } } }, { "M": { "sku": { "S": "kite" } } }] },
    })
}

/// The statements are not only shown: with what is said to be bound, they do what the daemon does.
#[tokio::test]
async fn the_sql_that_explain_shows_writes_the_rows() {
    let stage = Stage::start().await;
    let file = stage.config_file().with_file_name("item.json");
    std::fs::write(&file, letter().to_string()).unwrap();
    let file = file.to_str().unwrap();
    let counts = "select (select count(*) from letters where deleted_at is null) * 100 \
                  + (select count(*) from letter_toys) * 10 \
                  + (select count(*) from letters_history)";
    for (more, after) in [(&[][..], 121), (&["--removed"][..], 22)] {
        let words = [&["explain", "--item", file, "--output", "json"][..], more].concat();
        let explained = stage.command(&words).await;
        assert_eq!(explained.code, Some(0), "{}", explained.stderr);
        let explained = explained.json();
        assert_eq!(explained["outcome"], "mapped");
        for statement in explained["statements"].as_array().unwrap() {
            let sql = statement["sql"].as_str().unwrap().to_owned();
            // A removal comes later than what it removes.
            let later =
                |text: &str| text.replace("10000000000000000000000000000000000000000", "2e40");
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for parameter in statement["parameters"].as_array().unwrap() {
                let values = parameter.as_array().unwrap().iter();
                let values: Vec<Option<String>> = values
                    .map(|value| value.as_str().map(str::to_owned))
                    .map(|value| value.map(|v| if more.is_empty() { v } else { later(&v) }))
                    .collect();
                query = query.bind(values);
            }
            query.execute(&stage.pool).await.unwrap();
        }
        assert_eq!(stage.number(counts).await, after, "{more:?}");
    }
    let text = stage.command(&["explain", "--item", file]).await.stdout;
    assert!(text.contains("insert into \"public\".\"letters\" as t"), "{text}");
    assert!(text.contains("$1 = array['42']::text[]"), "{text}");
    assert!(text.contains("it''s") && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn tap_shows_live_records_and_writes_nothing() {
    let stage = Stage::start().await;
    put(&stage, &letter()).await;
    let mut tap = command("tap");
    tap.args(["--limit", "3", "--output", "json"]).env("DYNAURORA_CONFIG", stage.config_file());
    let mut tap = tap.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(tap.stderr.take().unwrap()).lines();
    let line = told.next_line().await.unwrap().unwrap();
    assert!(line.contains("1 shards of NorthPole") && line.contains("two readers"), "{line}");

    let mut changed = letter();
    changed["status"] = json!({ "S": "D" });
    put(&stage, &changed).await;
    put(&stage, &json!({ "pk": { "S": "ELF#1" }, "sk": { "S": "x" } })).await;
    let request = stage.client.delete_item().table_name(TABLE);
    let request = request.key("pk", AttributeValue::S("CHILD#42".into()));
    request.key("sk", AttributeValue::S("LETTER#2026#a1".into())).send().await.unwrap();
    let mut shown = String::new();
    tap.stdout.take().unwrap().read_to_string(&mut shown).await.unwrap();
    assert!(tap.wait().await.unwrap().success());

    let records: Vec<Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<_> = records.iter().map(|own| (&own["op"], &own["outcome"])).collect();
    let expected = [("modify", "mapped"), ("insert", "unmatched"), ("remove", "mapped")];
    let expected = expected.map(|(op, outcome)| (json!(op), json!(outcome)));
    assert_eq!(outcomes, expected.each_ref().map(|(op, outcome)| (op, outcome)));
    let row = &records[0]["rows"][0];
    assert_eq!((&row["table"], &row["action"]), (&json!("letters"), &json!("upsert")));
    assert!(row["columns"].as_array().unwrap().contains(&json!(["status", "delivered"])), "{row}");
    assert_eq!(records[2]["rows"][0]["action"], "soft delete");
    assert_eq!(stage.number("select count(*) from letters").await, 0);
    assert!(stage.ledger().await.is_empty(), "nobody holds a lease or a position");
}

async fn put(stage: &Stage, item: &Value) {
    let item: dynaurora::model::Item = serde_json::from_value(item.clone()).unwrap();
    let mut request = stage.client.put_item().table_name(TABLE);
    for (name, value) in item.iter() {
        request = request.item(name, AttributeValue::from(value.clone()));
    }
    request.send().await.unwrap();
}
