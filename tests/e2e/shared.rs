//! Two DynamoDB tables in one Postgres table, told apart by a constant in the primary key: nothing that is
//! done for one of them touches a row of the other.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};
use dynaurora::config::{Auth, SecretRef};

use super::daemon::Daemon;
use super::stage::{SOON_SECS, Setting, Stage, within};

const SOURCES: &str = r#"
[source.eu]
table       = "Children-EU"
into        = "everybody"
key         = { id = "{id}" }
primary_key = ["region", "id"]
history     = "everybody_history"
columns     = { region = { const = "eu" }, id = "{id}", name = { from = "name", required = true } }
[source.eu.children.toys]
from    = "toys"
table   = "toys"
columns = { at = "@index", sku = "@value" }

[source.us]
table       = "Children-US"
into        = "everybody"
key         = { id = "{id}" }
primary_key = ["region", "id"]
history     = "everybody_history"
columns     = { region = { const = "us" }, id = "{id}", zip = { from = "zip", required = true } }
[source.us.children.toys]
from    = "toys"
table   = "toys"
columns = { at = "@index", sku = "@value" }
"#;

/// Rows that nobody has an item for, as an old generation wrote them, and toys without a child.
const GHOSTS: &str = "\
    insert into everybody (region, id, name, zip, dynaurora_version) \
        select region, 'ghost', 'x', 'x', 1e40 + 1 from unnest(array['eu', 'us', 'moon']) region; \
    insert into toys (region, id, at, sku) \
        select region, 'orphan', 0, 'x' from unnest(array['eu', 'us', 'moon']) region";

const ROWS: &str = "select concat_ws(' ', region, id, name, zip) from everybody order by 1";
const TOYS: &str = "select concat_ws(' ', region, id, at, sku) from toys order by 1";
const HISTORY: &str = "select concat_ws(' ', region, id, op) from everybody_history \
    where id = '2' order by region, id, dynaurora_version";

async fn create(stage: &Stage, table: &str) {
    let stream = StreamSpecification::builder().stream_enabled(true);
    let stream = stream.stream_view_type(StreamViewType::NewImage).build().unwrap();
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash);
    let kind = AttributeDefinition::builder().attribute_name("id");
    let kind = kind.attribute_type(ScalarAttributeType::S).build().unwrap();
    let request = stage.client.create_table().table_name(table);
    let request = request.billing_mode(BillingMode::PayPerRequest).stream_specification(stream);
    let request = request.key_schema(key.build().unwrap()).attribute_definitions(kind);
    request.send().await.unwrap();
}

/// A stage whose config has these sources, of these DynamoDB tables, in the place of its own.
pub(super) async fn stage_of(sources: &str, tables: &[&str]) -> Stage {
    let stage = Stage::with(Setting { applied: false, ..Setting::default() }).await;
    let Auth::Password(SecretRef::File(password)) = &stage.config.target.auth else {
        panic!("the stage's password is in a file")
    };
    let text = format!(
        "version = 1\n[target]\nurl = {:?}\npassword = {{ file = {:?} }}\n\
         tls = \"disable\"\n[aws]\nendpoint = {:?}\nregion = \"eu-north-1\"\n\
         [worker]\npoll_min_ms = 20\npoll_idle_max_ms = 100\n\
         [telemetry]\nlisten = \"127.0.0.1:0\"\nlog_format = \"json\"\n{sources}",
        stage.config.target.url,
        password.display().to_string(),
        stage.config.aws.endpoint.as_ref().unwrap(),
    );
    std::fs::write(stage.config_file(), text).unwrap();
    for table in tables {
        create(&stage, table).await;
    }
    stage
}

async fn put(stage: &Stage, region: &str, id: &str, toys: &[&str]) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let toys = AttributeValue::L(toys.iter().map(|sku| text(sku)).collect());
    let request = stage.client.put_item().table_name(format!("Children-{region}"));
    let request = request.item("id", text(id)).item("toys", toys);
    request.item("name", text(region)).item("zip", text("90100")).send().await.unwrap();
}

async fn texts(stage: &Stage, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(&stage.pool).await.unwrap()
}

async fn becomes(stage: &Stage, daemon: &mut Daemon, sql: &'static str, expected: &[&str]) {
    let mut last = Vec::new();
    within(SOON_SECS, &format!("{sql} gives {expected:?}"), async || {
        daemon.still_runs();
        last = texts(stage, sql).await;
        (last == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rule_4_two_sources_share_a_table_and_neither_touches_the_others_rows() {
    let stage = stage_of(SOURCES, &["Children-EU", "Children-US"]).await;
    let planned = stage.command(&["plan"]).await;
    for once in ["create the table everybody\n", "create the table everybody_history\n"] {
        assert_eq!(planned.stdout.matches(once).count(), 1, "{}", planned.stdout);
    }
    let applied = stage.command(&["apply"]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    for words in [&["plan", "--exit-code"][..], &["check"]] {
        let ended = stage.command(words).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let grants = stage.command(&["grants"]).await.stdout;
    assert_eq!(grants.matches("\"everybody\" to").count(), 1, "{grants}");

    put(&stage, "EU", "1", &["kite"]).await;
    put(&stage, "US", "1", &["drum", "ball"]).await;
    let mut daemon = stage.daemon_with(&["--backfill", "auto"]);
    let both = ["eu 1 EU", "us 1 90100"];
    becomes(&stage, &mut daemon, ROWS, &both).await;
    daemon.readyz(200).await;
    // A load that still reads would add what it finds to the history.
    within(SOON_SECS, "both were loaded", async || {
        let loaded = "select count(*) from dynaurora.sources where loaded_at is not null";
        (stage.number(loaded).await == 2).then_some(())
    })
    .await;
    put(&stage, "US", "2", &[]).await;
    put(&stage, "EU", "2", &[]).await;
    becomes(&stage, &mut daemon, ROWS, &["eu 1 EU", "eu 2 EU", "us 1 90100", "us 2 90100"]).await;
    let key = AttributeValue::S("2".to_owned());
    stage.client.delete_item().table_name("Children-EU").key("id", key).send().await.unwrap();
    becomes(&stage, &mut daemon, ROWS, &["eu 1 EU", "us 1 90100", "us 2 90100"]).await;
    assert_eq!(texts(&stage, TOYS).await, ["eu 1 0 kite", "us 1 0 drum", "us 1 1 ball"]);
    let ended = ["eu 2 insert", "eu 2 remove", "us 2 insert"];
    assert_eq!(texts(&stage, HISTORY).await, ended);
    let metrics = daemon.metrics().await;
    for source in ["eu", "us"] {
        let series = format!("source=\"{source}\",table=\"everybody\"");
        assert!(metrics.contains(&series), "{series}\n{metrics}");
    }

    // A load of one, with its sweep, and a verification and a repair of the other.
    sqlx::raw_sql(GHOSTS).execute(&stage.pool).await.unwrap();
    let loaded = stage.command(&["backfill", "--source", "eu", "--confirm-sweep"]).await;
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    let left = ["eu 1 EU", "moon ghost x x", "us 1 90100", "us 2 90100", "us ghost x x"];
    becomes(&stage, &mut daemon, ROWS, &left).await;
    let versions = "select region || (dynaurora_version >= 3e40) from everybody \
                    where id <> 'ghost' order by 1";
    assert_eq!(texts(&stage, versions).await, ["eutrue", "usfalse", "usfalse"]);
    let faults = async |source: &str, more: &[&str]| {
        let words = ["verify", "--source", source, "--settle-secs", "1", "--output", "json"];
        let report = stage.command(&[&words, more].concat()).await.json();
        let differences = report["sources"][0]["differences"].as_array().unwrap().clone();
        let line = |own: &serde_json::Value| {
            format!("{} {} {}", own["fault"], own["table"], own["key"]).replace('"', "")
        };
        let mut lines: Vec<_> = differences.iter().map(line).collect();
        lines.sort();
        lines
    };
    let orphan = |region| format!("unexpected toys {{at:0,id:orphan,region:{region}}}");
    assert!(faults("eu", &["--repair"]).await.is_empty(), "the sweep took its orphan");
    let ghost = "unexpected everybody {id:ghost,region:us}".to_owned();
    assert_eq!(faults("us", &["--repair"]).await, [ghost, orphan("us")]);
    for source in ["eu", "us"] {
        assert!(faults(source, &[]).await.is_empty(), "{source}");
    }
    // What belongs to no source stays.
    becomes(&stage, &mut daemon, ROWS, &["eu 1 EU", "moon ghost x x", "us 1 90100", "us 2 90100"])
        .await;
    let toys = ["eu 1 0 kite", "moon orphan 0 x", "us 1 0 drum", "us 1 1 ball"];
    assert_eq!(texts(&stage, TOYS).await, toys);
    daemon.stop().await;
}
