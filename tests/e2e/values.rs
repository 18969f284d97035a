//! Values at the edge of what either side can hold: stored exactly, or a dead letter with its reason;
//! never anything in between, and never in the way of others.

use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::demo::santa::TABLE;
use dynaurora::model::Item;
use serde_json::{Value, json};

use super::stage::{SOON_SECS, Setting, Stage, within};

/// One more entity, with columns of all kinds.
const ODDITIES: &str = r#"
[source.santa.entity.oddity]
key   = { pk = "ODD#{odd}", sk = "THING" }
table = "oddities"
rest  = "extra"
[source.santa.entity.oddity.columns]
odd    = "{odd}"
must   = { from = "must", type = "int", required = true }
note   = "note"
code   = { from = "code", type = "varchar(5)" }
amount = { from = "amount", type = "numeric" }
small  = { from = "small", type = "smallint" }
score  = { from = "score", type = "numeric(6,2)" }
day    = { from = "day", type = "date" }
doc    = { from = "doc", type = "jsonb" }
tags   = { from = "tags", type = "text[]" }
sizes  = { from = "sizes", type = "numeric[]" }
blob   = { from = "blob", type = "bytea" }
"#;

const BIG: &str = "12345678901234567890123456789012345678";
const INJECTION: &str = r#"'); drop table oddities; -- "quoted" \ $1"#;
/// An item may have 400 KB, with its names.
const FAT_BYTES: usize = 400 * 1024 - 200;

enum Fate {
    /// The row is there, and this holds of it.
    Stored(String),
    /// A dead letter, for this reason at this place.
    Dead(&'static str, &'static str),
}
use Fate::{Dead, Stored};

fn stored(condition: &str) -> Fate {
    Stored(condition.to_owned())
}

/// Each oddity by its name, with the attributes that make it one.
type Case = (&'static str, Value, Fate);

fn texts() -> Vec<Case> {
    let fat = "x".repeat(FAT_BYTES);
    vec![
        ("plain", json!({ "note": { "S": "x" } }), stored("note = 'x' and extra = '{}'")),
        ("nul", json!({ "note": { "S": "a\0b" } }), Dead("nul", "note")),
        ("nul below", json!({ "any": { "M": { "k": { "S": "\0" } } } }), Dead("nul", "extra")),
        ("nul in a name", json!({ "any": { "M": { "\0": { "S": "" } } } }), Dead("nul", "extra")),
        ("too long", json!({ "code": { "S": "abcdef" } }), Dead("range", "code")),
        ("just so long", json!({ "code": { "S": "äöü李雷" } }), stored("code = 'äöü李雷'")),
        ("no day", json!({ "day": { "S": "2026-02-30" } }), Dead("format", "day")),
        (INJECTION, json!({ "note": { "S": INJECTION } }), stored("note = odd")),
        (
            "names",
            json!({ INJECTION: { "S": INJECTION }, "it's.a#b[0]": { "BOOL": true } }),
            Stored(format!(
                "extra->>$q${INJECTION}$q$ = $q${INJECTION}$q$ and extra ? $q$it's.a#b[0]$q$"
            )),
        ),
        (
            "characters",
            json!({ "note": { "S": "\u{1d54a}\u{200f}\u{feff}\u{7f}\u{1}\r\n🎅" } }),
            stored("note = e'\\U0001d54a\\u200f\\ufeff\\x7f\\x01\\r\\n🎅'"),
        ),
        (
            "fat",
            json!({ "note": { "S": fat } }),
            Stored(format!("note = repeat('x', {FAT_BYTES})")),
        ),
    ]
}

fn numbers() -> Vec<Case> {
    vec![
        (
            "38 digits",
            json!({ "amount": { "N": BIG }, "raw": { "N": format!("-0.{BIG}") } }),
            Stored(format!("amount = {BIG} and (extra->>'raw')::numeric = -0.{BIG}")),
        ),
        ("tiny", json!({ "amount": { "N": "1E-130" } }), stored("amount = 1e-130")),
        ("huge", json!({ "amount": { "N": "9.9E+125" } }), stored("amount = 9.9e125")),
        ("too wide", json!({ "small": { "N": "40000" } }), Dead("range", "small")),
        ("not whole", json!({ "small": { "N": "1.5" } }), Dead("range", "small")),
        ("too many digits", json!({ "score": { "N": "12345.67" } }), Dead("range", "score")),
        ("too fine", json!({ "score": { "N": "1.005" } }), Dead("range", "score")),
    ]
}

fn documents() -> Vec<Case> {
    let mut deep = json!({ "S": "bottom" });
    for _ in 0..31 {
        deep = json!({ "M": { "m": deep } });
    }
    let numbers: Vec<_> = (0..30_000).map(|n: u32| json!({ "N": n.to_string() })).collect();
    vec![
        ("null", json!({ "must": { "NULL": true } }), Dead("missing", "must")),
        ("no text", json!({ "note": { "M": {} } }), Dead("type", "note")),
        (
            "sets",
            json!({ "tags": { "SS": ["b", "a,\"{}"] }, "sizes": { "NS": ["2.50", "-1"] },
                    "blob": { "B": "AP8=" }, "bs": { "BS": ["AA=="] } }),
            stored(
                "tags @> array['b', 'a,\"{}'] and cardinality(tags) = 2 and sizes @> '{2.5,-1}' \
                 and blob = '\\x00ff' and jsonb_array_length(extra->'bs') = 1",
            ),
        ),
        (
            "deep",
            json!({ "doc": deep }),
            stored("doc #>> array_fill('m'::text, array[31]) = 'bottom'"),
        ),
        (
            "empty",
            json!({ "note": { "S": "" }, "doc": { "M": {} }, "tags": { "L": [] },
                    "blob": { "B": "" }, "nothing": { "L": [] } }),
            stored(
                "note = '' and doc = '{}' and tags = '{}' and blob = '' \
                 and extra = '{\"nothing\": []}'",
            ),
        ),
        (
            "many",
            json!({ "list": { "L": numbers } }),
            stored(
                "jsonb_array_length(extra->'list') = 30000 and extra#>>'{list,29999}' = '29999'",
            ),
        ),
    ]
}

/// All of them as whole items.
fn oddities() -> Vec<Case> {
    let whole = |(name, mut attributes, fate): Case| {
        attributes["pk"] = json!({ "S": format!("ODD#{name}") });
        attributes["sk"] = json!({ "S": "THING" });
        if attributes.get("must").is_none() {
            attributes["must"] = json!({ "N": "1" });
        }
        (name, attributes, fate)
    };
    [texts(), numbers(), documents()].into_iter().flatten().map(whole).collect()
}

/// Other items that cannot become rows.
fn others() -> Vec<(Value, Fate)> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut noise = |length| (0..length).map(|_| random.alphanumeric()).collect::<String>();
    // Each key is allowed, but an index of Postgres holds some 2,700 bytes that do not compress.
    let pk = format!("CHILD#{}", noise(2_000));
    let sk = format!("LETTER#2026#{}", noise(1_000));
    let sent = json!({ "S": "2026-12-01T08:00:00Z" });
    let toys = vec![json!({ "M": { "sku": { "S": "kite" } } }); 501];
    vec![
        (
            json!({ "pk": { "S": pk }, "sk": { "S": sk }, "sentAt": sent }),
            Dead("refused", "letters"),
        ),
        (
            json!({ "pk": { "S": "CHILD#1" }, "sk": { "S": "LETTER#2026#many" },
                    "sentAt": sent, "toys": { "L": toys } }),
            Dead("limit", "toys"),
        ),
        (
            json!({ "pk": { "S": "CHILD#1" }, "sk": { "S": "LETTER#2026#absent" } }),
            Dead("missing", "sent_at"),
        ),
        (json!({ "pk": { "S": "ELF#1" }, "sk": { "S": "PROFILE" } }), Dead("unmatched", "")),
    ]
}

#[tokio::test]
async fn each_is_stored_exactly_or_set_aside_and_the_newest_image_wins() {
    let stage = Stage::with(Setting { more: ODDITIES, ..Setting::default() }).await;
    let mut daemon = stage.daemon();
    let oddities = oddities();
    for (number, (_, item, _)) in oddities.iter().enumerate() {
        put(&stage, item).await;
        put(&stage, &neighbour(number)).await;
    }
    for (item, _) in others() {
        put(&stage, &item).await;
    }
    put(&stage, &neighbour(oddities.len())).await;
    within(SOON_SECS, "the last neighbour arrives", async || {
        daemon.still_runs();
        let sql = format!("select count(*) from children where child_id = '{}'", oddities.len());
        (stage.number(&sql).await == 1).then_some(())
    })
    .await;
    let neighbours = i64::try_from(oddities.len()).unwrap() + 1;
    assert_eq!(stage.number("select count(*) from children").await, neighbours);

    let open = dead_letters(&stage, "open").await;
    let mut dead = Vec::new();
    for (name, item, fate) in &oddities {
        match fate {
            Stored(condition) => {
                let letter = find(&open, item);
                assert!(letter.is_none(), "{name}: {letter:?}");
                let sql = format!(
                    "select count(*) from oddities where odd = $q${name}$q$ and ({condition})"
                );
                assert_eq!(stage.number(&sql).await, 1, "{name}: {condition}");
            }
            Dead(reason, place) => dead.push((item.clone(), *reason, *place)),
        }
    }
    for (item, fate) in others() {
        let Dead(reason, place) = fate else { panic!("none of these can be stored") };
        dead.push((item, reason, place));
    }
    for (item, reason, place) in &dead {
        let letter = find(&open, item).unwrap_or_else(|| panic!("no dead letter: {item}"));
        assert_eq!(letter["reason"], *reason, "{letter}");
        let at = letter["place"].as_str().unwrap_or_default();
        assert!(at.contains(place) || *reason == "refused", "{letter}");
    }
    assert_eq!(open.len(), dead.len(), "{open:#?}");
    let id = open[0]["id"].to_string();
    let shown = stage.command(&["dead-letters", "show", &id]).await.json();
    assert_eq!(shown["key"], open[0]["key"]);
    assert!(shown["record"].is_object(), "{shown}");

    mend(&stage, &dead).await;
    daemon.readyz(200).await;
    assert_eq!(daemon.logged("source halted").len(), 0);
    daemon.stop().await;
}

/// Good images follow the bad ones; one item is deleted, and one is of no entity for ever.
async fn mend(stage: &Stage, dead: &[(Value, &str, &str)]) {
    for (item, reason, _) in dead {
        let (pk, sk) = (&item["pk"], &item["sk"]);
        match *reason {
            "unmatched" => {}
            "refused" => {
                let request = stage.client.delete_item().table_name(TABLE);
                let [pk, sk] = [pk, sk].map(|key| key["S"].as_str().unwrap().to_owned());
                let request = request.key("pk", AttributeValue::S(pk));
                request.key("sk", AttributeValue::S(sk)).send().await.unwrap();
            }
            _ => {
                let sent = json!({ "S": "2026-12-01T08:00:00Z" });
                let must = json!({ "N": "7" });
                put(stage, &json!({ "pk": pk, "sk": sk, "must": must, "sentAt": sent })).await;
            }
        }
    }
    within(SOON_SECS, "the good images supersede the bad ones", async || {
        let open = dead_letters(stage, "open").await;
        let [one] = open.as_slice() else { return None };
        assert_eq!(one["reason"], "unmatched", "{one}");
        Some(())
    })
    .await;
    assert_eq!(dead_letters(stage, "superseded").await.len(), dead.len() - 1);
    stage.converge().await;
}

fn neighbour(number: usize) -> Value {
    json!({ "pk": { "S": format!("CHILD#{number}") }, "sk": { "S": "PROFILE" },
            "name": { "S": "Noor" } })
}

async fn put(stage: &Stage, item: &Value) {
    let item: Item = serde_json::from_value(item.clone()).unwrap();
    let mut request = stage.client.put_item().table_name(TABLE);
    for (name, value) in item.iter() {
        request = request.item(name, AttributeValue::from(value.clone()));
    }
    request.send().await.unwrap();
}

async fn dead_letters(stage: &Stage, state: &str) -> Vec<Value> {
    let words = ["dead-letters", "list", "--state", state, "--output", "json"];
    let ended = stage.command(&words).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.json().as_array().unwrap().clone()
}

fn find<'a>(letters: &'a [Value], item: &Value) -> Option<&'a Value> {
    let same = |letter: &&Value| {
        ["pk", "sk"].iter().all(|name| letter["key"][*name]["S"] == item[*name]["S"])
    };
    letters.iter().find(same)
}
