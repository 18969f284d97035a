//! What is proposed runs as it stands: nothing of it is edited, only the target is named from outside.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use dynaurora::config::{Auth, Config, SecretRef};
use dynaurora::demo::compare::full_comparison;
use dynaurora::demo::santa::TABLE;
use dynaurora::model::Item;
use dynaurora::ops::wire;
use serde_json::{Value, json};

use super::stage::{SOON_SECS, Setting, Stage, within};

const ITEMS: u32 = 5_000;
/// The most items that one BatchWriteItem takes.
const BATCH: usize = 25;

/// Items of four shapes whose attributes disagree about their types.
fn mixed() -> Vec<Value> {
    let mut random = fastrand::Rng::with_seed(5_000);
    (0..ITEMS).map(|number| item(number, &mut random)).collect()
}

fn item(number: u32, random: &mut fastrand::Rng) -> Value {
    let mut item = match number % 4 {
        0 => json!({ "pk": { "S": format!("CHILD#{number}") }, "sk": { "S": "PROFILE" } }),
        1 => json!({ "pk": { "S": format!("CHILD#{number}") },
                     "sk": { "S": format!("LETTER#2026#{number}") }, "type": { "S": "letter" } }),
        2 => {
            let key = format!("ELF#{}", random.u64(..));
            json!({ "pk": { "S": key }, "sk": { "S": "SHIFT#night" } })
        }
        _ => json!({ "pk": { "S": "SLEIGH" }, "sk": { "S": format!("2026-12-24#{number}") } }),
    };
    let values = [
        json!({ "S": "Émile \"O'Brien\"\n\\" }),
        json!({ "S": "2026-12-01T08:00:00Z" }),
        json!({ "N": random.i32(..).to_string() }),
        json!({ "N": "12345678901234567890.123456789012345678" }),
        json!({ "BOOL": random.bool() }),
        json!({ "NULL": true }),
        json!({ "B": "AP8=" }),
        json!({ "SS": ["b", "a"] }),
        json!({ "NS": ["2.5", "-1"] }),
        json!({ "L": [{ "S": "x" }, { "M": { "n": { "N": "1E-7" } } }] }),
        json!({ "M": { "a b": { "S": "" }, "l": { "L": [] } } }),
    ];
    let names = ["name", "sentAt", "upd", "score", "weird name", "extra", "xmin", "Name", "tags"];
    for (at, name) in names.iter().enumerate() {
        // Mostly each attribute has a type of its own; late and seldom, any other.
        let odd = number > 4_000 && random.u8(..10) == 0;
        let at = if odd { random.usize(..values.len()) } else { at };
        if random.u8(..10) < 7 {
            item[*name] = values[at].clone();
        }
    }
    if random.u8(..) == 0 {
        item[format!("rare{number}")] = json!({ "S": "kept" });
    }
    item
}

#[tokio::test]
async fn five_thousand_mixed_items_become_a_config_that_runs_unedited() {
    let stage = Stage::with(Setting { applied: false, ..Setting::default() }).await;
    let items = mixed();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.jsonl");
    let lines: Vec<String> = items.iter().map(ToString::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let endpoint = stage.config.aws.endpoint.clone().unwrap();
    let place = ["--endpoint", &endpoint, "--region", "eu-north-1"];
    let infer = ["infer", TABLE, "--items", file, "--key", "pk,sk"];
    let ended = stage.command(&[&infer[..], &place[..]].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let proposed = ended.stdout;
    assert!(proposed.contains("from 5000 items") && proposed.contains("several types"));

    let sets = outside(&stage);
    std::fs::write(stage.config_file(), &proposed).unwrap();
    let ended = stage.command(&["check", "--offline"]).await;
    assert_eq!(ended.code, Some(0), "{proposed}\n{}", ended.stderr);
    let mut words: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
    let ended = stage.command(&[&["apply"], words.as_slice()].concat()).await;
    assert_eq!(ended.code, Some(0), "{proposed}\n{}", ended.stderr);

    for chunk in items.chunks(BATCH) {
        let put = |item: &Value| {
            let item: Item = serde_json::from_value(item.clone()).unwrap();
            let item: HashMap<String, AttributeValue> =
                item.iter().map(|(name, value)| (name.to_owned(), value.clone().into())).collect();
            let request = PutRequest::builder().set_item(Some(item)).build().unwrap();
            WriteRequest::builder().put_request(request).build()
        };
        let requests: Vec<WriteRequest> = chunk.iter().map(put).collect();
        stage.client.batch_write_item().request_items(TABLE, requests).send().await.unwrap();
    }
    words.extend(["--backfill", "auto"]);
    let mut daemon = stage.daemon_with(&words);
    daemon.readyz(200).await;
    let config = Config::parse(&proposed, "proposed", &sets, std::iter::empty()).unwrap();
    let source = wire::source(&config, &config.sources[0]).await.unwrap();
    let found = within(SOON_SECS, "source and target agree", async || {
        daemon.still_runs();
        let mapper = &config.sources[0].mapper;
        let found = full_comparison(&source, mapper, &stage.pool).await.unwrap();
        (found.mismatches == 0).then_some(found)
    })
    .await;
    assert_eq!((found.items, found.rows), (u64::from(ITEMS), u64::from(ITEMS)));
    assert_eq!(stage.number("select count(*) from dynaurora.dead_letters").await, 0);
    daemon.stop().await;
}

/// What the stage's own config says of the target and the daemon, as overrides.
fn outside(stage: &Stage) -> Vec<String> {
    let Auth::Password(SecretRef::File(password)) = &stage.config.target.auth else {
        panic!("the stage's password is in a file")
    };
    vec![
        format!("target.url={}", stage.config.target.url),
        format!("target.password={{ file = {:?} }}", password.display().to_string()),
        "worker.poll_idle_max_ms=100".to_owned(),
        "worker.poll_min_ms=20".to_owned(),
        "telemetry.listen=127.0.0.1:0".to_owned(),
        "telemetry.log_format=json".to_owned(),
    ]
}

#[tokio::test]
async fn designs_become_configs_that_check_takes_unedited() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["workbench.json", "onetable.json"] {
        let design = format!("{}/tests/samples/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut infer = super::daemon::command("infer");
        infer.args(["--from", &design]);
        let ended = super::daemon::run_to_end(infer).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let file = folder.path().join(name).with_extension("toml");
        std::fs::write(&file, &ended.stdout).unwrap();
        let mut check = super::daemon::command("check");
        check.arg("--offline").arg("--config").arg(file);
        let ended = super::daemon::run_to_end(check).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}
