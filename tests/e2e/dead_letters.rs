//! Dead letters settled by people: retried with the items' present state, or given up.

use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::demo::santa::TABLE;
use serde_json::Value;

use super::stage::{SOON_SECS, Stage, within};

const OPEN: &str = "select count(*) from dynaurora.dead_letters where state = 'open'";
/// Forgiving where the sample is strict.
const MENDED: &str = "source.santa.entity.child.columns.born_on.on_error=\"null\"";

async fn child(stage: &Stage, id: &str, name: &str, born: &str) {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let request = stage.client.put_item().table_name(TABLE);
    let request = request.item("pk", text(&format!("CHILD#{id}"))).item("sk", text("PROFILE"));
    request.item("name", text(name)).item("born", text(born)).send().await.unwrap();
}

async fn gone(stage: &Stage, id: &str) {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let request = stage.client.delete_item().table_name(TABLE);
    let request = request.key("pk", text(&format!("CHILD#{id}"))).key("sk", text("PROFILE"));
    request.send().await.unwrap();
}

async fn names(stage: &Stage) -> Vec<String> {
    let sql = "select child_id || ' ' || name from children order by 1";
    sqlx::query_scalar(sql).fetch_all(&stage.pool).await.unwrap()
}

/// Each fate as its state, in order.
fn states(fates: &Value) -> Vec<&str> {
    fates.as_array().unwrap().iter().map(|fate| fate["state"].as_str().unwrap()).collect()
}

async fn open(stage: &Stage, count: i64) {
    within(SOON_SECS, "the dead letters are there", async || {
        (stage.number(OPEN).await == count).then_some(())
    })
    .await;
}

/// Puts a letter, or without a status takes it away.
async fn letter(stage: &Stage, status: Option<&str>, sent: &str) {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let Some(status) = status else {
        let request = stage.client.delete_item().table_name(TABLE);
        let request = request.key("pk", text("CHILD#1")).key("sk", text("LETTER#2026#a"));
        request.send().await.unwrap();
        return;
    };
    let request = stage.client.put_item().table_name(TABLE);
    let request = request.item("pk", text("CHILD#1")).item("sk", text("LETTER#2026#a"));
    request.item("status", text(status)).item("sentAt", text(sent)).send().await.unwrap();
}

#[tokio::test]
async fn a_retry_is_a_version_of_the_history() {
    let stage = Stage::start().await;
    let daemon = stage.ready_daemon().await;
    let history = async || -> Vec<String> {
        let sql = "select op || ' ' || coalesce(status, '-') || (valid_to is null) \
                   from letters_history order by dynaurora_version";
        sqlx::query_scalar(sql).fetch_all(&stage.pool).await.unwrap()
    };
    let becomes = async |expected: &[&str]| {
        within(SOON_SECS, &format!("the history is {expected:?}"), async || {
            (history().await == expected).then_some(())
        })
        .await;
    };
    let retry = ["dead-letters", "retry", "--all", "--output", "json"];
    letter(&stage, Some("P"), "2026-12-01T08:00:00Z").await;
    becomes(&["insert postedtrue"]).await;
    letter(&stage, Some("D"), "never").await;
    open(&stage, 1).await;
    let sent_at = "source.santa.entity.letter.columns.sent_at";
    let sets = [
        format!("{sent_at}.required=false"),
        format!("{sent_at}.default=\"2026-01-01T00:00:00Z\""),
        format!("{sent_at}.on_error=default"),
    ];
    let forgiving: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
    let ended = stage.command(&[&retry[..], &forgiving].concat()).await;
    assert_eq!(states(&ended.json()), ["resolved"], "{ended:?}");
    assert_eq!(history().await, ["insert postedfalse", "scan deliveredtrue"]);

    // Set aside again, and gone before anybody looks.
    letter(&stage, Some("P"), "never").await;
    open(&stage, 1).await;
    daemon.stop().await;
    letter(&stage, None, "").await;
    // Where an expiry keeps the row, nobody could tell whether this was one.
    let soft = ["--set", "source.santa.entity.letter.on_ttl=soft"];
    let ended = stage.command(&[&retry[..], &soft].concat()).await;
    assert_eq!(states(&ended.json()), ["resolved"], "{ended:?}");
    let all = ["insert postedfalse", "scan deliveredfalse", "remove -false"];
    assert_eq!(history().await, all);
    // The stream's own removal is no other end, and a new letter goes on from there.
    let daemon = stage.daemon();
    letter(&stage, Some("P"), "2026-12-02T08:00:00Z").await;
    becomes(&[&all[..], &["insert postedtrue"]].concat()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_retry_applies_what_the_item_is_now_and_a_drop_keeps_the_reason() {
    let stage = Stage::start().await;
    let daemon = stage.ready_daemon().await;
    for id in ["1", "2", "3"] {
        child(&stage, id, "Ada", "2020-01-01").await;
    }
    within(SOON_SECS, "the rows arrive", async || (names(&stage).await.len() == 3).then_some(()))
        .await;
    for id in ["1", "2", "3", "4"] {
        child(&stage, id, "Never", "never").await;
    }
    open(&stage, 4).await;
    daemon.stop().await;
    assert_eq!(names(&stage).await, ["1 Ada", "2 Ada", "3 Ada"]);

    let again = ["dead-letters", "retry", "--all", "--output", "json"];
    let ended = stage.command(&again).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(states(&ended.json()), ["open"; 4]);
    let detail = ended.json()[0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("format"), "{detail}");
    let test = stage.command(&["dead-letters", "show", "1", "--as-test"]).await;
    assert!(test.stdout.starts_with("[[test]]\n"), "{test:?}");
    assert!(test.stdout.contains("expect_reject = \"format\""), "{test:?}");

    // What the stream will bring later is applied now, and comes again without harm.
    child(&stage, "1", "Grace", "2020-01-01").await;
    gone(&stage, "2").await;
    let versions = "select count(*) from children where child_id in ('1', '3') \
                    and dynaurora_version > 1e40";
    assert_eq!(stage.number(versions).await, 2);
    let ended = stage.command(&again).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(states(&ended.json()), ["resolved", "resolved", "open", "open"]);
    assert_eq!(names(&stage).await, ["1 Grace", "3 Ada"]);
    assert_eq!(stage.number(versions).await, 2, "a row keeps its version");

    // The mapping is mended: the items themselves need not change.
    let ended = stage.command(&["dead-letters", "retry", "--id", "3", "--set", MENDED]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(names(&stage).await, ["1 Grace", "3 Never"]);
    let words = ["dead-letters", "drop", "--all", "--reason", "format", "--note", "not a child"];
    let ended = stage.command(&words).await;
    assert_eq!((ended.code, stage.number(OPEN).await), (Some(0), 0), "{ended:?}");
    let shown = stage.command(&["dead-letters", "show", "4"]).await.json();
    assert_eq!((&shown["state"], &shown["note"]), (&"dropped".into(), &"not a child".into()));
    let ended = stage.command(&["dead-letters", "retry", "--id", "4"]).await;
    assert_eq!(ended.code, Some(1), "it is settled: {ended:?}");
    for words in [&["dead-letters", "retry"][..], &["dead-letters", "retry", "--reason", "format"]]
    {
        let ended = stage.command(words).await;
        assert_eq!(ended.code, Some(2), "which ones? {ended:?}");
        assert!(ended.stderr.contains("--id <ID>|--all"), "{ended:?}");
    }
    let typos = ["dead-letters", "retry", "--all", "--reason", "fromat"];
    let ended = stage.command(&typos).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("did you mean format? there are: unmatched, "), "{ended:?}");

    let mut daemon = stage.daemon_with(&["--backfill", "never", "--set", MENDED]);
    daemon.readyz(200).await;
    child(&stage, "4", "Later", "2020-01-01").await;
    within(SOON_SECS, "the stream goes on", async || {
        (names(&stage).await == ["1 Grace", "3 Never", "4 Later"]).then_some(())
    })
    .await;
    let clean = stage.command(&["verify", "--settle-secs", "1", "--set", MENDED]).await;
    assert_eq!(clean.code, Some(0), "{clean:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn an_item_that_no_entity_matches_is_settled_by_its_removal() {
    let stage = Stage::start().await;
    let daemon = stage.ready_daemon().await;
    let key = |sk: &str| {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        [("pk".to_owned(), text("ELF#1")), ("sk".to_owned(), text(sk))].into()
    };
    let put = stage.client.put_item().table_name(TABLE).set_item(Some(key("PROFILE")));
    put.send().await.unwrap();
    open(&stage, 1).await;
    let delete = stage.client.delete_item().table_name(TABLE).set_key(Some(key("PROFILE")));
    delete.send().await.unwrap();
    open(&stage, 0).await;
    // Both at once, in one page or in two.
    let put = stage.client.put_item().table_name(TABLE).set_item(Some(key("HAT")));
    put.send().await.unwrap();
    let delete = stage.client.delete_item().table_name(TABLE).set_key(Some(key("HAT")));
    delete.send().await.unwrap();
    child(&stage, "1", "Ada", "2020-01-01").await;
    within(SOON_SECS, "all is read", async || (names(&stage).await.len() == 1).then_some(())).await;
    open(&stage, 0).await;
    let superseded = "select count(*) from dynaurora.dead_letters where state = 'superseded'";
    assert_eq!(stage.number(superseded).await, 2);
    assert_eq!(stage.number("select count(*) from dynaurora.dead_letters").await, 2);
    daemon.stop().await;
}
