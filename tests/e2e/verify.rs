//! `dynaurora verify` beside a running daemon: what is wrong is found, told and mended, and nothing else.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::demo::santa::TABLE;
use serde_json::Value;

use super::daemon::Ended;
use super::stage::{SOON_SECS, Setting, Stage, pause, within};
use super::writers::Writers;

async fn put(stage: &Stage, key: (&str, &str), attributes: &[(&str, AttributeValue)]) {
    let mut request = stage.client.put_item().table_name(TABLE);
    request = request.item("pk", AttributeValue::S(key.0.to_owned()));
    request = request.item("sk", AttributeValue::S(key.1.to_owned()));
    for (name, value) in attributes {
        request = request.item(*name, value.clone());
    }
    request.send().await.unwrap();
}

async fn delete(stage: &Stage, pk: &str, sk: &str) {
    let request = stage.client.delete_item().table_name(TABLE);
    let request = request.key("pk", AttributeValue::S(pk.to_owned()));
    request.key("sk", AttributeValue::S(sk.to_owned())).send().await.unwrap();
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

async fn child(stage: &Stage, id: &str, name: &str) {
    put(stage, (&format!("CHILD#{id}"), "PROFILE"), &[("name", text(name))]).await;
}

async fn letter(stage: &Stage, id: &str, toys: &[&str]) {
    let toy = |sku: &&str| AttributeValue::M([("sku".to_owned(), text(sku))].into());
    let toys = AttributeValue::L(toys.iter().map(toy).collect());
    let sent = ("sentAt", text("2026-12-01T08:00:00Z"));
    put(stage, ("CHILD#1", &format!("LETTER#2026#{id}")), &[sent, ("toys", toys)]).await;
}

async fn rows(stage: &Stage, children: i64, toys: i64) {
    within(SOON_SECS, "the rows arrive", async || {
        let here = stage.number("select count(*) from children").await;
        (here == children && stage.number("select count(*) from letter_toys").await == toys)
            .then_some(())
    })
    .await;
}

async fn run(stage: &Stage, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&stage.pool).await.unwrap();
}

async fn verify(stage: &Stage, more: &[&str]) -> Ended {
    let mut words = vec!["verify", "--output", "json"];
    words.extend(more);
    if !more.contains(&"--settle-secs") {
        words.extend(["--settle-secs", "1"]);
    }
    stage.command(&words).await
}

/// The faults found, as `fault table key columns`, sorted; the key's columns in the order of their names.
fn faults(ended: &Ended) -> Vec<String> {
    let report = ended.json();
    let differences = report["sources"][0]["differences"].as_array().unwrap();
    let line = |own: &Value| {
        let key: Vec<_> = own["key"].as_object().unwrap().values().collect();
        let key: Vec<_> = key.iter().map(|text| text.as_str().unwrap()).collect();
        let columns: Vec<_> = own["columns"].as_array().unwrap().iter().collect();
        let columns: Vec<_> = columns.iter().map(|text| text.as_str().unwrap()).collect();
        let (fault, table) = (own["fault"].as_str().unwrap(), own["table"].as_str().unwrap());
        format!("{fault} {table} {} {}", key.join(" "), columns.join(",")).trim().to_owned()
    };
    let mut lines: Vec<_> = differences.iter().map(line).collect();
    lines.sort();
    lines
}

const VANDALS: &str = "\
    update children set city = 'Nowhere', extra = '{\"a\": 1}' where child_id = '2'; \
    delete from children where child_id = '3'; \
    insert into children (child_id, name, country, extra) values ('99', 'Nobody', '??', '{}'); \
    insert into children select '98', name, city, country, naughty, born_on, updated_at, aliases, \
        extra, dynaurora_version from children where child_id = '4'; \
    insert into letters (child_id, year, letter_id, sent_at, dynaurora_version) \
        values ('9', 2026, 'z', now(), 9e60); \
    update children set name = 'Later', dynaurora_version = 9e60 where child_id = '5'; \
    update letters set deleted_at = now() where letter_id = 'c'; \
    delete from letter_toys where letter_id = 'a' and position = 1; \
    update letter_toys set qty = 7 where letter_id = 'b' and position = 0; \
    insert into letter_toys (child_id, year, letter_id, position, sku, qty) \
        values ('1', 2026, 'b', 5, 'extra', 1), ('7', 2026, 'orphan', 0, 'x', 1);";

#[tokio::test]
async fn what_was_done_by_hand_is_found_and_mended_and_the_stream_still_wins() {
    let stage = Stage::start().await;
    let mut daemon = stage.ready_daemon().await;
    for id in ["1", "2", "3", "4", "5", "6"] {
        child(&stage, id, "Ada").await;
    }
    letter(&stage, "a", &["train", "kite"]).await;
    letter(&stage, "b", &["doll"]).await;
    letter(&stage, "c", &[]).await;
    rows(&stage, 6, 3).await;
    within(SOON_SECS, "the letters arrive", async || {
        (stage.number("select count(*) from letters").await == 3).then_some(())
    })
    .await;
    let well = verify(&stage, &[]).await;
    assert_eq!(well.code, Some(0), "{well:?}");
    assert_eq!(well.json()["sources"][0]["items"], 9);

    run(&stage, VANDALS).await;
    let found = verify(&stage, &[]).await;
    assert_eq!(found.code, Some(1), "{found:?}");
    let all = [
        "differs children 2 city,extra",
        "differs children 5 name",
        "differs letter_toys 1 b 0 2026 qty",
        "differs letters 1 c 2026 deleted_at",
        "missing children 3",
        "missing letter_toys 1 a 1 2026",
        "unexpected children 98",
        "unexpected letter_toys 1 b 5 2026",
        "unexpected letter_toys 7 orphan 0 2026",
        "unexpected letters 9 z 2026",
    ];
    assert_eq!(faults(&found), all, "{found:?}");
    assert!(!found.stdout.contains("Nowhere"), "no values unless asked: {}", found.stdout);
    let shown = verify(&stage, &["--show-values", "--table", "children"]).await;
    assert!(shown.stdout.contains("Nowhere"), "{shown:?}");
    assert_eq!(faults(&shown).len(), 4, "{shown:?}");

    let mended = verify(&stage, &["--repair"]).await;
    assert_eq!(mended.code, Some(0), "{mended:?}");
    assert_eq!(mended.json()["sources"][0]["repaired"], 10);
    let after = verify(&stage, &[]).await;
    assert_eq!((after.code, faults(&after)), (Some(0), Vec::new()), "{after:?}");
    // A row that dynaurora never wrote is somebody's own: it is told of, and stays.
    let own = "select count(*) from children where name = 'Nobody'";
    assert_eq!(after.json()["sources"][0]["foreign"], 1, "{after:?}");
    assert_eq!(stage.number(own).await, 1);
    run(&stage, "delete from children where name = 'Nobody'").await;
    stage.converge().await;
    within(SOON_SECS, "the daemon tells of it", async || {
        let metrics = daemon.metrics().await;
        metrics.contains("dynaurora_verify_mismatched_rows{source=\"santa\"} 0\n").then_some(())
    })
    .await;
    let kept = "select count(*) from dynaurora.verifications where mismatched = 0 and share = 1";
    assert_eq!(stage.number(kept).await, 1);

    // Rows that were mended, one with a version of the future among them, follow the stream as before.
    for id in ["2", "3", "5"] {
        child(&stage, id, "Grace").await;
    }
    delete(&stage, "CHILD#3", "PROFILE").await;
    letter(&stage, "a", &["ball"]).await;
    rows(&stage, 5, 2).await;
    let stale = "select count(*) from children where child_id in ('2', '5') and name <> 'Grace'";
    within(SOON_SECS, "the stream wins", async || (stage.number(stale).await == 0).then_some(()))
        .await;
    stage.converge().await;
    daemon.stop().await;
}

#[tokio::test]
async fn while_writers_write_nothing_is_found_and_repairs_do_no_harm() {
    let stage = Stage::start().await;
    let mut daemon = stage.ready_daemon().await;
    let writers = Writers::start(&stage, 3, 17, f64::INFINITY);
    within(SOON_SECS, "some hundred rows are there", async || {
        (stage.number("select count(*) from children").await > 100).then_some(())
    })
    .await;
    for segments in ["1", "4"] {
        let ended = verify(&stage, &["--segments", segments, "--settle-secs", "5"]).await;
        assert_eq!((ended.code, faults(&ended)), (Some(0), Vec::new()), "{ended:?}");
        let report = ended.json();
        assert!(report["sources"][0]["items"].as_u64().unwrap() > 100, "{report}");
    }
    // Rows go by hand under the writers' feet, over and over, and come back by repair.
    let mut repaired = 0;
    for _ in 0..4 {
        run(
            &stage,
            "delete from children where child_id in \
             (select child_id from children order by random() limit 40)",
        )
        .await;
        let ended = verify(&stage, &["--repair"]).await;
        daemon.still_runs();
        assert!(ended.code == Some(0) || ended.code == Some(1), "{ended:?}");
        repaired += ended.json()["sources"][0]["repaired"].as_u64().unwrap();
        pause(Duration::from_millis(100)).await;
    }
    assert!(repaired > 0);
    writers.stop().await;
    let ended = verify(&stage, &["--repair"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    stage.converge().await;
    daemon.stop().await;
}

/// What becomes of histories: a version lost, one changed, one open again, times that fall, an end that
/// nobody brought about, two that are open without a row, the second beside one that is marked, and
/// versions of the past that lie over each other.
const REWRITTEN: &str = "\
    delete from letters_history where letter_id = 'a' and valid_to is null; \
    update letters_history set status = 'burnt' where letter_id = 'b' and valid_to is null; \
    update letters_history set valid_to = null where letter_id = 'c'; \
    update letters_history set valid_from = valid_from + interval '9 h' \
        where letter_id = 'd' and valid_to is not null; \
    insert into letters_history \
        (child_id, year, letter_id, dynaurora_version, op, valid_from, valid_to) \
        select child_id, year, letter_id, dynaurora_version + 1, 'remove', now(), now() \
        from letters_history where letter_id = 'e' and valid_to is null; \
    update letters_history set valid_to = now() where letter_id = 'e'; \
    insert into letters_history (child_id, year, letter_id, dynaurora_version, op, valid_from) \
        values ('9', 2026, 'z', 1e40 + 5, 'insert', now()); \
    delete from letters_history where letter_id = 'f' and op = 'remove'; \
    update letters_history set valid_to = null where letter_id = 'f'; \
    update letters_history set valid_to = valid_to + interval '1 h' where letter_id = 'g';";

#[tokio::test]
async fn a_history_is_verified_and_mended_like_its_table() {
    let stage = Stage::start().await;
    let daemon = stage.ready_daemon().await;
    for id in ["a", "b", "c", "d", "e", "f", "g"] {
        letter(&stage, id, &[]).await;
        letter(&stage, id, &["kite"]).await;
    }
    delete(&stage, "CHILD#1", "LETTER#2026#f").await;
    delete(&stage, "CHILD#1", "LETTER#2026#g").await;
    within(SOON_SECS, "the histories arrive", async || {
        (stage.number("select count(*) from letters_history").await == 16).then_some(())
    })
    .await;
    let well = verify(&stage, &["--table", "letters_history"]).await;
    assert_eq!((well.code, faults(&well)), (Some(0), Vec::new()), "{well:?}");
    let marked = "select extract(epoch from deleted_at)::bigint from letters where letter_id = 'f'";
    let marked_at = stage.number(marked).await;

    run(&stage, REWRITTEN).await;
    let found = verify(&stage, &[]).await;
    assert_eq!(found.code, Some(1), "{found:?}");
    let short = |ended: &Ended| {
        let report = ended.json();
        let differences = report["sources"][0]["differences"].as_array().unwrap().clone();
        let line = |own: &Value| {
            assert_eq!(own["table"], "letters_history");
            format!("{} {} {}", own["key"]["letter_id"], own["fault"], own["columns"])
        };
        let mut lines: Vec<_> = differences.iter().map(line).collect();
        lines.sort();
        lines.join("; ").replace('"', "")
    };
    let all = "a missing []; b differs [status]; c differs [valid_to]; d differs [valid_from]; \
               e missing []; f unexpected []; g differs [valid_to]; z unexpected []";
    assert_eq!(short(&found), all, "{found:?}");
    let mended = verify(&stage, &["--repair"]).await;
    assert_eq!(mended.code, Some(0), "{mended:?}");
    let after = verify(&stage, &[]).await;
    assert_eq!((after.code, faults(&after)), (Some(0), Vec::new()), "{after:?}");
    assert_eq!(stage.number(marked).await, marked_at, "what is marked stays as it is");
    assert_eq!(stage.number("select count(*) from letters where letter_id = 'z'").await, 0);

    // The stream goes on from there.
    for id in ["a", "b", "c", "d", "e", "z"] {
        letter(&stage, id, &["ball"]).await;
    }
    let newest = "select count(*) from letters_history where valid_to is null and op <> 'scan'";
    within(SOON_SECS, "the stream wins", async || (stage.number(newest).await == 6).then_some(()))
        .await;
    stage.converge().await;
    daemon.stop().await;
}

/// A table whose key is no key of the item.
const BY_MAIL: &str = r#"
[source.santa.entity.elf]
key = { pk = "ELF#{_}", sk = "PROFILE" }
table = "elves"
primary_key = ["mail"]
[source.santa.entity.elf.columns]
mail = { from = "mail", required = true }
name = "name"
"#;

#[tokio::test]
async fn rows_that_name_no_item_are_settled_by_a_second_reading() {
    let stage = Stage::with(Setting { more: BY_MAIL, ..Setting::default() }).await;
    let daemon = stage.ready_daemon().await;
    for id in ["1", "2"] {
        let mail = format!("{id}@north.pole");
        put(&stage, (&format!("ELF#{id}"), "PROFILE"), &[("mail", text(&mail))]).await;
    }
    within(SOON_SECS, "the elves arrive", async || {
        (stage.number("select count(*) from elves").await == 2).then_some(())
    })
    .await;
    run(
        &stage,
        "insert into elves (mail, dynaurora_version) \
         select 'grinch@cave', dynaurora_version from elves limit 1; \
         insert into elves (mail) values ('own@cave')",
    )
    .await;
    let sampled = verify(&stage, &["--sample", "0.9"]).await;
    assert_eq!(sampled.code, Some(0), "{sampled:?}");
    let found = verify(&stage, &["--max-rcu", "1000"]).await;
    assert_eq!(faults(&found), ["unexpected elves grinch@cave"], "{found:?}");
    let mended = verify(&stage, &["--repair"]).await;
    assert_eq!(mended.code, Some(0), "{mended:?}");
    assert_eq!(stage.number("select count(*) from elves where mail <> 'own@cave'").await, 2);
    assert_eq!(stage.number("select count(*) from elves").await, 3, "one is somebody's own");
    daemon.stop().await;
}

#[tokio::test]
async fn what_waits_as_a_dead_letter_is_left_out_and_counted() {
    let stage = Stage::start().await;
    let daemon = stage.ready_daemon().await;
    child(&stage, "1", "Ada").await;
    rows(&stage, 1, 0).await;
    let bad = [("name", text("Ada")), ("born", text("never"))];
    put(&stage, ("CHILD#1", "PROFILE"), &bad).await;
    within(SOON_SECS, "the dead letter arrives", async || {
        let open = "select count(*) from dynaurora.dead_letters where state = 'open'";
        (stage.number(open).await == 1).then_some(())
    })
    .await;
    let ended = verify(&stage, &[]).await;
    assert_eq!((ended.code, faults(&ended)), (Some(0), Vec::new()), "{ended:?}");
    let report = ended.json();
    assert_eq!(report["sources"][0]["unmappable"], 1, "{report}");
    assert_eq!(report["sources"][0]["dead_letters"], 1, "{report}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_letter_that_is_older_than_the_row_excuses_nothing() {
    let stage = Stage::start().await;
    let daemon = stage.ready_daemon().await;
    child(&stage, "1", "Ada").await;
    rows(&stage, 1, 0).await;
    let bad = [("name", text("Ada")), ("born", text("never"))];
    put(&stage, ("CHILD#1", "PROFILE"), &bad).await;
    within(SOON_SECS, "the dead letter arrives", async || {
        let open = "select count(*) from dynaurora.dead_letters where state = 'open'";
        (stage.number(open).await == 1).then_some(())
    })
    .await;
    child(&stage, "1", "Ada Lovelace").await;
    within(SOON_SECS, "its correction arrives", async || {
        let superseded = "select count(*) from dynaurora.dead_letters where state = 'superseded'";
        (stage.number(superseded).await == 1).then_some(())
    })
    .await;
    stage.run("update children set name = 'damaged'").await;
    stage.run("update dynaurora.dead_letters set state = 'open', settled_at = null").await;
    let ended = verify(&stage, &[]).await;
    assert_eq!(faults(&ended).len(), 1, "{ended:?}");
    stage.run("update dynaurora.dead_letters set version = version * 2").await;
    let ended = verify(&stage, &[]).await;
    assert_eq!(
        (faults(&ended), ended.json()["sources"][0]["dead_letters"].clone()),
        (Vec::new(), 1.into())
    );
    daemon.stop().await;
}
