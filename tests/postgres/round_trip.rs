//! Any value that DynamoDB can hold, from the service's JSON through the mapping into Postgres, is there
//! exactly. What is expected is worked out here, apart from the code that converts.

use std::collections::BTreeSet;

use dynaurora::apply::ports::{RecordRef, Unit};
use dynaurora::config::Config;
use dynaurora::mapping::{Mapper, Outcome};
use dynaurora::postgres::repair::compare::compare;
use dynaurora::source::changes;
use proptest::collection::{btree_set, hash_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use super::rig::Rig;
use crate::rig::{batch, version, worker};

const ITEMS: usize = 400;

const CONFIG: &str = r#"
version = 1
[target]
url = "postgres://dynaurora@localhost/reads"
tls = "disable"
[source.s]
table = "T"
key = { id = "{id}" }
rest = "extra"
[source.s.columns]
id = "{id}"
n = { from = "n", type = "numeric" }
t = "t"
b = { from = "b", type = "bytea" }
ss = { from = "ss", type = "text[]" }
ns = { from = "ns", type = "numeric[]" }
doc = { from = "doc", type = "jsonb" }
"#;

/// An item as the service writes it, and each column's value as a text that Postgres reads.
#[derive(Debug)]
struct Case {
    image: Value,
    expected: [String; 7],
}

/// A number of up to 38 digits, from 1E-130 to 9.9…E+125, as the service may write it.
fn number() -> impl Strategy<Value = String> {
    let digits = prop_oneof!["[1-9]", "[1-9][0-9]{0,36}[1-9]", "[1-9][0-9]{36}[1-9]"];
    let exponent = prop_oneof![-130_i32..=125, Just(-130), Just(125), -3_i32..40];
    let other = (digits, exponent, any::<bool>(), any::<bool>()).prop_map(
        |(digits, exponent, negative, scientific)| {
            let sign = if negative { "-" } else { "" };
            // The service has no number whose last digit stands below 1E-130.
            let below = usize::try_from(exponent + 130).unwrap_or(0) + 1;
            let digits = &digits[..digits.len().min(below)];
            let (first, rest) = digits.split_at(1);
            let whole = usize::try_from(exponent).ok().filter(|whole| *whole + 1 >= digits.len());
            match whole {
                Some(whole) if !scientific => {
                    format!("{sign}{digits}{}", "0".repeat(whole + 1 - digits.len()))
                }
                _ if rest.is_empty() => format!("{sign}{first}E{exponent:+}"),
                _ => format!("{sign}{first}.{rest}E{exponent:+}"),
            }
        },
    );
    prop_oneof![9 => other, 1 => Just("0".to_owned())]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect()),
        "[\"'\\\\{},NUL$ \u{1}\u{7f}\n\r\t]{0,12}",
    ]
    .prop_map(|text: String| text.replace('\0', "\u{fffd}"))
}

/// DynamoDB JSON, and the plain JSON that it should become.
fn document() -> impl Strategy<Value = (Value, String)> {
    let quoted = |text: &str| Value::from(text).to_string();
    let leaf = prop_oneof![
        number().prop_map(|n| (json!({ "N": n }), n)),
        text().prop_map(move |t| (json!({ "S": t }), quoted(&t))),
        any::<bool>().prop_map(|b| (json!({ "BOOL": b }), b.to_string())),
        Just((json!({ "NULL": true }), "null".to_owned())),
        btree_set(text(), 1..4).prop_map(|set| {
            let texts: Vec<_> = set.iter().map(|text| Value::from(text.as_str())).collect();
            (json!({ "SS": set }), Value::from(texts).to_string())
        }),
    ];
    leaf.prop_recursive(8, 60, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|list| {
                let (list, plain): (Vec<_>, Vec<_>) = list.into_iter().unzip();
                (json!({ "L": list }), format!("[{}]", plain.join(",")))
            }),
            hash_map(text(), inner, 0..5).prop_map(|map| {
                let plain: Vec<_> = map
                    .iter()
                    .map(|(name, (_, plain))| format!("{}:{plain}", Value::from(name.as_str())))
                    .collect();
                let map: Map<String, Value> =
                    map.into_iter().map(|(name, (value, _))| (name, value)).collect();
                (json!({ "M": map }), format!("{{{}}}", plain.join(",")))
            }),
        ]
    })
}

fn array(elements: impl Iterator<Item = String>) -> String {
    let quoted =
        elements.map(|own| format!("\"{}\"", own.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}

fn case() -> impl Strategy<Value = Case> {
    use base64::Engine;
    let bytes = vec(any::<u8>(), 0..20);
    let numbers = vec(number(), 1..4);
    let parts = (number(), text(), bytes, btree_set(text(), 1..4), numbers, document(), document());
    parts.prop_map(|(n, t, bytes, ss, ns, (doc, plain), (odd, odd_plain))| {
        let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let ns: BTreeSet<String> = ns.into_iter().collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let image = json!({
            "n": { "N": n }, "t": { "S": t }, "b": { "B": base64 }, "ss": { "SS": ss },
            "ns": { "NS": ns }, "doc": doc, "odd \"name\"": odd,
        });
        let expected = [
            n,
            t,
            format!("\\x{hex}"),
            array(ss.into_iter()),
            array(ns.into_iter()),
            plain,
            format!("{{\"odd \\\"name\\\"\": {odd_plain}}}"),
        ];
        Case { image, expected }
    })
}

fn page(cases: &mut [Case]) -> Vec<u8> {
    let record = |(number, case): (usize, &mut Case)| {
        let id = json!({ "S": format!("{number:06}") });
        case.image["id"] = id.clone();
        let sequence = format!("{:021}", number + 1);
        json!({ "eventName": "INSERT", "dynamodb": {
            "SequenceNumber": sequence, "Keys": { "id": id }, "NewImage": case.image } })
    };
    let records: Vec<Value> = cases.iter_mut().enumerate().map(record).collect();
    json!({ "Records": records }).to_string().into_bytes()
}

fn mapped(mapper: &Mapper, answer: &[u8]) -> Vec<Unit> {
    let mut rows = Vec::new();
    for change in changes(answer).unwrap() {
        let outcome = mapper.map(&change, &mut rows);
        assert_eq!(outcome, Outcome::Mapped, "{change:?}");
    }
    let record = RecordRef { page: 0, index: 0 };
    rows.into_iter().map(|op| Unit { op, version: version(5), record }).collect()
}

#[tokio::test]
async fn rule_5_every_value_is_there_exactly() {
    let config = Config::parse(CONFIG, "test", &[], std::iter::empty()).unwrap();
    let mapper = &config.sources[0].mapper;
    let seed = fastrand::u64(..);
    eprintln!("round trip: seed {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let mut cases: Vec<Case> =
        (0..ITEMS).map(|_| case().new_tree(&mut runner).unwrap().current()).collect();
    let units = mapped(mapper, &page(&mut cases));

    let rig = Rig::with_tables(mapper.tables()).await;
    rig.register(&["a"]).await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    rig.apply(&batch(&ann, &lease, 5, units.clone())).await.unwrap();

    // Sets of numbers may come in any order, and two texts may be one number.
    let sql = "select n = $2::numeric and t = $3 and b = $4::bytea \
               and ss @> $5::text[] and ss <@ $5::text[] \
               and cardinality(ss) = cardinality($5::text[]) \
               and ns @> $6::numeric[] and ns <@ $6::numeric[] \
               and doc = $7::jsonb and extra = $8::jsonb from s where id = $1";
    for (number, case) in cases.iter().enumerate() {
        let mut query = sqlx::query_scalar::<_, bool>(sql).bind(format!("{number:06}"));
        for expected in &case.expected {
            query = query.bind(expected);
        }
        let exact = query.fetch_one(&rig.pool).await.unwrap();
        assert!(exact, "{case:#?}");
    }
    let rows: Vec<_> = units.into_iter().map(|unit| unit.op.cells).collect();
    let found = compare(&rig.pool, mapper.tables(), 0, &rows).await.unwrap();
    assert_eq!((found.matching, found.missing, found.unexpected), (ITEMS as u64, 0, 0));
}
