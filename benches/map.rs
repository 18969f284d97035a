//! What a record costs before the database sees it: decoding it from the service's JSON, and mapping
//! it; in nanoseconds and in allocations.
//!
//! The entities of the worked example, and a plain table of 20 columns; pages of 1,000 records, the
//! median of 300 pages. Run it with `cargo bench --bench map`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails where it stands")]
#![allow(clippy::disallowed_methods, reason = "a measurement takes the real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use dynaurora::config::Config;
use dynaurora::mapping::{Mapper, Outcome};
use dynaurora::model::{Change, RowOp};
use dynaurora::source::changes;
use serde_json::{Value, json};

const RECORDS: u32 = 1_000;
const PAGES: usize = 300;

const SANTA: &str = include_str!("../config/santa.toml");
const PLAIN: &str = r#"
version = 1
[target]
url = "postgres://dynaurora@localhost/reads"
tls = "disable"
[source.plain]
table = "Plain"
key = { id = "{id}" }
[source.plain.columns]
id = "{id}"
t1 = "t1"
t2 = "t2"
t3 = "t3"
t4 = "t4"
t5 = "t5"
t6 = "t6"
t7 = "t7"
n1 = { from = "n1", type = "bigint" }
n2 = { from = "n2", type = "bigint" }
n3 = { from = "n3", type = "int" }
n4 = { from = "n4", type = "numeric" }
n5 = { from = "n5", type = "numeric" }
n6 = { from = "n6", type = "numeric(12,2)" }
b1 = { from = "b1", type = "boolean" }
b2 = { from = "b2", type = "boolean" }
at = { from = "at", type = "timestamptz" }
ms = { from = "ms", type = "timestamptz", epoch = "ms" }
who = { from = "who", type = "uuid" }
doc = { from = "doc", type = "jsonb" }
"#;

fn main() {
    measure("Santa's children and letters", SANTA, santa);
    measure("a plain table of 20 columns", PLAIN, plain);
}

fn measure(what: &str, config: &str, item: fn(u32) -> (Value, Value)) {
    let config = Config::parse(config, "bench", &[], std::iter::empty());
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let mapper = &config.sources[0].mapper;
    let answer = page(item);
    let decoded = changes(&answer).unwrap();
    let mut rows = Vec::new();
    assert!(decoded.iter().all(|change| mapper.map(change, &mut rows) == Outcome::Mapped));
    let written = rows.iter().map(|row| 1 + row.children.len()).sum::<usize>();
    println!("{what}: {} bytes and {:.1} rows a record", answer.len() / 1_000, per_record(written));

    let decode = || drop(black_box(changes(black_box(&answer)).unwrap()));
    report("decode", decode);
    report("map", || map(mapper, &decoded, &mut rows));
}

fn map(mapper: &Mapper, changes: &[Change], rows: &mut Vec<RowOp>) {
    rows.clear();
    for change in changes {
        black_box(mapper.map(black_box(change), rows));
    }
}

fn report(what: &str, mut work: impl FnMut()) {
    let mut took: Vec<Duration> = Vec::with_capacity(PAGES);
    for _ in 0..PAGES {
        let started = Instant::now();
        work();
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let allocations = allocation_counter::measure(work).count_total;
    println!(
        "  {what:6}  {:5.0} ns  {:5.1} allocations a record",
        took[PAGES / 2].as_secs_f64() * 1e9 / f64::from(RECORDS),
        per_record(usize::try_from(allocations).unwrap()),
    );
}

fn per_record(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / f64::from(RECORDS)
}

/// An answer to GetRecords as the service writes it.
fn page(item: fn(u32) -> (Value, Value)) -> Vec<u8> {
    let record = |number: u32| {
        let (keys, image) = item(number);
        json!({
            "eventID": format!("{number:032x}"), "eventName": "MODIFY", "eventVersion": "1.1",
            "eventSource": "aws:dynamodb", "awsRegion": "eu-north-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_796_112_000, "Keys": keys, "NewImage": image,
                "SequenceNumber": format!("{number:021}"), "SizeBytes": 400,
                "StreamViewType": "NEW_IMAGE",
            },
        })
    };
    let records: Vec<Value> = (0..RECORDS).map(record).collect();
    json!({ "Records": records, "NextShardIterator": "next" }).to_string().into_bytes()
}

/// Two letters to each child, two toys to each letter.
fn santa(number: u32) -> (Value, Value) {
    let child = json!({ "S": format!("CHILD#{number}") });
    if number.is_multiple_of(3) {
        let keys = json!({ "pk": child, "sk": { "S": "PROFILE" } });
        let mut image = keys.clone();
        image["name"] = json!({ "S": "Wanjiru" });
        image["address"] = json!({ "M": { "city": { "S": "Nairobi" }, "country": { "S": "KE" } } });
        image["score"] = json!({ "M": { "naughty": { "N": "12.5" } } });
        image["born"] = json!({ "S": "2019-04-01" });
        image["upd"] = json!({ "N": "1796112000000" });
        image["aliases"] = json!({ "SS": ["Wanja", "Ciku"] });
        image["shoe"] = json!({ "N": "31" });
        return (keys, image);
    }
    let keys = json!({ "pk": child, "sk": { "S": format!("LETTER#2026#a{number}") } });
    let mut image = keys.clone();
    image["sentAt"] = json!({ "S": "2026-12-01T08:00:00Z" });
    image["status"] = json!({ "S": "P" });
    image["meta"] = json!({ "M": { "stamp": { "S": "reindeer" }, "pages": { "N": "2" } } });
    image["toys"] = json!({ "L": [
        { "M": { "sku": { "S": "train" } } },
        { "M": { "sku": { "S": "kite" }, "qty": { "N": "2" } } },
    ] });
    (keys, image)
}

fn plain(number: u32) -> (Value, Value) {
    let keys = json!({ "id": { "S": format!("item-{number:08}") } });
    let mut image = keys.clone();
    for at in 1..=7 {
        image[format!("t{at}")] = json!({ "S": format!("a text of middling length, {at}") });
    }
    for (at, value) in (1..).zip(["1", "900719925474099", "42", "12.50", "-0.000125", "1999.99"]) {
        image[format!("n{at}")] = json!({ "N": value });
    }
    image["b1"] = json!({ "BOOL": true });
    image["b2"] = json!({ "BOOL": false });
    image["at"] = json!({ "S": "2026-12-24T18:00:00.123Z" });
    image["ms"] = json!({ "N": "1796112000000" });
    image["who"] = json!({ "S": "0190163d-8694-739b-aea5-966c26f8ad91" });
    image["doc"] = json!({ "M": { "a": { "N": "1" }, "b": { "L": [{ "S": "x" }] } } });
    (keys, image)
}
