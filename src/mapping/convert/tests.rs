use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn convert(column_type: &str, value: AttributeValue) -> Result<String, RejectReason> {
    with(Conversion::to(ColumnType::parse(column_type).unwrap()), &value)
}

fn with(conversion: Conversion, value: &AttributeValue) -> Result<String, RejectReason> {
    let mut out = String::from("before|");
    conversion.attribute(value, &mut out).map_err(|loss| loss.reason)?;
    Ok(out.strip_prefix("before|").unwrap().to_owned())
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn n(text: &str) -> AttributeValue {
    AttributeValue::N(text.into())
}

#[test]
fn integers_fit_or_are_rejected() {
    for (column_type, value, expected) in [
        ("smallint", "32767", Ok("32767")),
        ("smallint", "32768", Err(RejectReason::Range)),
        ("int", "-2147483648", Ok("-2147483648")),
        ("int", "1.50E1", Ok("15")),
        ("int", "1.5", Err(RejectReason::Range)),
        ("bigint", "9223372036854775807", Ok("9223372036854775807")),
        ("bigint", "9223372036854775808", Err(RejectReason::Range)),
        ("bigint", "9.9E125", Err(RejectReason::Range)),
        ("numeric(6,2)", "1234.5600", Ok("1234.56")),
        ("numeric(6,2)", "12345.6", Err(RejectReason::Range)),
        ("numeric(6,2)", "0.001", Err(RejectReason::Range)),
        ("real", "1E39", Err(RejectReason::Range)),
        ("real", "1E-60", Err(RejectReason::Range)),
        ("real", "0.1", Ok("0.1")),
        ("double precision", "9.9E125", Ok(&format!("99{}", "0".repeat(124)))),
        ("boolean", "1", Err(RejectReason::Type)),
        ("date", "20261201", Err(RejectReason::Type)),
        ("timestamptz", "1796112000", Err(RejectReason::Type)),
        ("varchar(3)", "12.50", Err(RejectReason::Range)),
    ] {
        let result = convert(column_type, n(value));
        assert_eq!(result.as_deref(), expected.as_deref(), "{column_type} {value}");
    }
}

#[test]
fn rule_5_special_words_are_text_and_never_numbers_or_times() {
    for word in ["NaN", "Infinity", "-inf", "now", "today", "epoch", "infinity", ""] {
        for column_type in ["numeric", "double precision", "bigint", "timestamptz", "date", "time"]
        {
            assert_eq!(convert(column_type, s(word)), Err(RejectReason::Format), "{word}");
        }
        assert_eq!(convert("text", s(word)).as_deref(), Ok(word));
    }
    assert_eq!(convert("numeric", s("1.50")).as_deref(), Ok("1.5"));
}

#[test]
fn rule_5_nul_is_rejected_or_replaced_on_request() {
    assert_eq!(convert("text", s("å\u{10ffff}'\\")).as_deref(), Ok("å\u{10ffff}'\\"));
    assert_eq!(convert("text", AttributeValue::Bool(true)).as_deref(), Ok("true"));
    assert_eq!(convert("text", AttributeValue::L(vec![])), Err(RejectReason::Type));
    assert_eq!(convert("text", AttributeValue::B(vec![])), Err(RejectReason::Type));
    assert_eq!(convert("varchar(2)", s("åä")).as_deref(), Ok("åä"));
    assert_eq!(convert("varchar(2)", s("åä ")), Err(RejectReason::Range));
    for column_type in ["text", "varchar(9)", "jsonb", "pg_catalog.name"] {
        let mut conversion = Conversion::to(ColumnType::parse(column_type).unwrap());
        assert_eq!(with(conversion.clone(), &s("a\0b")), Err(RejectReason::Nul));
        conversion.nul = NulPolicy::Replace;
        assert!(with(conversion, &s("a\0b")).unwrap().contains("a\u{fffd}b"));
    }
}

#[test]
fn other_scalars() {
    let uuid = "0190163d-8694-739b-aea5-966c26f8ad91";
    let bytes = vec![
        0x01, 0x90, 0x16, 0x3d, 0x86, 0x94, 0x73, 0x9b, 0xae, 0xa5, 0x96, 0x6c, 0x26, 0xf8, 0xad,
        0x91,
    ];
    assert_eq!(convert("uuid", AttributeValue::B(bytes)).as_deref(), Ok(uuid));
    assert_eq!(convert("uuid", s(&uuid.to_uppercase())).as_deref(), Ok(uuid));
    assert_eq!(convert("uuid", s(&uuid.replace('-', ""))).as_deref(), Ok(uuid));
    for wrong in [
        "",
        "0190163d-8694-739b-aea5-966c26f8ad9",
        "0190163d8-694-739b-aea5-966c26f8ad91",
        "g190163d-8694-739b-aea5-966c26f8ad91",
        &"-".repeat(36),
    ] {
        assert_eq!(convert("uuid", s(wrong)), Err(RejectReason::Format), "{wrong}");
    }
    assert_eq!(convert("boolean", s("true")).as_deref(), Ok("true"));
    assert_eq!(convert("boolean", s("TRUE")), Err(RejectReason::Format));
    assert_eq!(convert("bytea", AttributeValue::B(vec![0, 255, 16])).as_deref(), Ok("\\x00ff10"));
    assert_eq!(convert("bytea", s("x")), Err(RejectReason::Type));
    assert_eq!(convert("inet", s("10.0.0.1/8")).as_deref(), Ok("10.0.0.1/8"));
    assert_eq!(convert("inet", s("2001:DB8::1/128")).as_deref(), Ok("2001:db8::1"));
    for wrong in ["10.0.0.1/33", "10.0.0", "10.0.0.1/+8", "10.0.0.1/"] {
        assert_eq!(convert("inet", s(wrong)), Err(RejectReason::Format), "{wrong}");
    }
    let mut instant = Conversion::to(ColumnType::Timestamptz);
    instant.epoch = Some(EpochUnit::Millis);
    assert_eq!(with(instant, &n("1796112000000")).as_deref(), Ok("2026-12-01T08:00:00Z"));
}

#[test]
fn documents_are_sorted_and_exact() {
    let map: HashMap<_, _> = [
        ("z".to_owned(), AttributeValue::Ns(vec!["10".into(), "9.0".into(), "-1E1".into()])),
        ("b".to_owned(), AttributeValue::Bs(vec![vec![255], vec![0]])),
        ("a".to_owned(), AttributeValue::Ss(vec!["y".into(), "x\"\u{1}\n".into()])),
        ("n".to_owned(), AttributeValue::L(vec![AttributeValue::Null(true), n("1E-7")])),
        ("e".to_owned(), AttributeValue::M(HashMap::new())),
    ]
    .into_iter()
    .collect();
    assert_eq!(
        convert("jsonb", AttributeValue::M(map)).unwrap(),
        r#"{"a":["x\"\u0001\n","y"],"b":["AA==","/w=="],"e":{},"n":[null,0.0000001],"z":[-10,9,10]}"#
    );
    let nul_name = [("a\0".to_owned(), n("1"))].into_iter().collect();
    assert_eq!(convert("jsonb", AttributeValue::M(nul_name)), Err(RejectReason::Nul));
    let mut deep = n("1");
    for _ in 0..200 {
        deep = AttributeValue::L(vec![deep]);
    }
    assert_eq!(convert("jsonb", deep), Err(RejectReason::Limit));
}

#[test]
fn arrays_are_literals_that_postgres_reads_back() {
    let list =
        AttributeValue::L(vec![s("a,b"), s("q\"\\"), s(""), s("NULL"), AttributeValue::Null(true)]);
    assert_eq!(convert("text[]", list).unwrap(), r#"{"a,b","q\"\\","","NULL",NULL}"#);
    let set = AttributeValue::Ss(vec!["b".into(), "a".into()]);
    assert_eq!(convert("text[]", set).unwrap(), r#"{"a","b"}"#);
    let numbers = AttributeValue::Ns(vec!["10".into(), "9".into()]);
    assert_eq!(convert("int[]", numbers.clone()).unwrap(), r#"{"9","10"}"#);
    assert_eq!(convert("text[]", numbers).unwrap(), r#"{"9","10"}"#);
    let bytes = AttributeValue::Bs(vec![vec![1], vec![0]]);
    assert_eq!(convert("bytea[]", bytes).unwrap(), r#"{"\\x00","\\x01"}"#);
    let documents = AttributeValue::L(vec![AttributeValue::M(HashMap::new()), s("x")]);
    assert_eq!(convert("jsonb[]", documents).unwrap(), r#"{"{}","\"x\""}"#);
    assert_eq!(convert("text[]", AttributeValue::L(vec![])).unwrap(), "{}");
    assert_eq!(convert("text[]", s("x")), Err(RejectReason::Type));
    assert_eq!(convert("int[]", AttributeValue::L(vec![s("x")])), Err(RejectReason::Format));
}

#[test]
fn a_map_of_values_takes_only_what_it_names() {
    let mut conversion = Conversion::to(ColumnType::Text);
    conversion.value_map = Some(vec![("P".into(), "posted".into()), ("1".into(), "one".into())]);
    assert_eq!(with(conversion.clone(), &s("P")).as_deref(), Ok("posted"));
    assert_eq!(with(conversion.clone(), &n("1.0")).as_deref(), Ok("one"));
    assert_eq!(with(conversion, &s("X")), Err(RejectReason::Format));
}

#[test]
fn a_key_is_taken_in_its_canonical_form_only() {
    for (column_type, canonical, other) in [
        ("bigint", "7", "007"),
        ("uuid", "0190163d-8694-739b-aea5-966c26f8ad91", "0190163D-8694-739B-AEA5-966C26F8AD91"),
        ("timestamptz", "2026-12-01T08:00:00Z", "2026-12-01T09:00:00+01:00"),
    ] {
        let mut conversion = Conversion::to(ColumnType::parse(column_type).unwrap());
        conversion.exact = true;
        assert_eq!(with(conversion.clone(), &s(canonical)).as_deref(), Ok(canonical));
        assert_eq!(with(conversion, &s(other)), Err(RejectReason::Format));
    }
}

#[test]
fn rule_5_a_time_from_a_number_needs_its_unit() {
    assert_eq!(convert("timestamptz", n("1796112000")), Err(RejectReason::Type));
    for (unit, number) in [
        (EpochUnit::Seconds, "1796112000"),
        (EpochUnit::Millis, "1796112000000"),
        (EpochUnit::Micros, "1796112000000000"),
        (EpochUnit::Nanos, "1796112000000000000"),
    ] {
        let mut conversion = Conversion::to(ColumnType::Timestamptz);
        conversion.epoch = Some(unit);
        assert_eq!(with(conversion, &n(number)).as_deref(), Ok("2026-12-01T08:00:00Z"));
    }
}

#[test]
fn rule_5_a_number_of_38_digits_is_exact() {
    for digits in ["12345678901234567890123456789012345678", "0.00000000000000000000000000001"] {
        assert_eq!(convert("numeric", n(digits)).as_deref(), Ok(digits));
        assert_eq!(convert("text", n(digits)).as_deref(), Ok(digits));
        assert_eq!(convert("jsonb", n(digits)).as_deref(), Ok(digits));
    }
}

fn any_value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        "[^\0]{0,8}".prop_map(AttributeValue::S),
        "-?[0-9]{1,20}(\\.[0-9]{1,10})?".prop_map(AttributeValue::N),
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(AttributeValue::B),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null(true)),
        proptest::collection::vec("[^\0]{1,4}", 1..4).prop_map(AttributeValue::Ss),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(AttributeValue::L),
            proptest::collection::hash_map("[^\0]{0,4}", inner, 0..5).prop_map(AttributeValue::M),
        ]
    })
}

proptest! {
    #[test]
    fn documents_are_valid_json(value in any_value()) {
        let text = convert("jsonb", value.clone()).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        prop_assert_eq!(convert("jsonb", value).unwrap(), text);
    }

    #[test]
    fn texts_survive_documents(text in "[^\0]{0,20}") {
        let json = convert("jsonb", s(&text)).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn array_elements_survive_their_quotes(texts in proptest::collection::vec("[^\0]{0,8}", 0..5)) {
        let list = AttributeValue::L(texts.iter().map(|text| s(text)).collect());
        let literal = convert("text[]", list).unwrap();
        let mut read = Vec::new();
        let mut chars = literal[1..literal.len() - 1].chars();
        let mut open: Option<String> = None;
        while let Some(char) = chars.next() {
            match (&mut open, char) {
                (None, '"') => open = Some(String::new()),
                (None, char) => prop_assert_eq!(char, ','),
                (Some(_), '"') => read.extend(open.take()),
                (Some(text), '\\') => text.push(chars.next().unwrap()),
                (Some(text), char) => text.push(char),
            }
        }
        prop_assert_eq!(read, texts);
    }

    #[test]
    fn binary_survives_hex(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        let text = convert("bytea", AttributeValue::B(bytes.clone())).unwrap();
        let digits = text.strip_prefix("\\x").unwrap();
        let read: Vec<u8> = (0..digits.len()).step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
        prop_assert_eq!(read, bytes);
    }

    #[test]
    fn rule_5_a_set_has_one_text_in_any_order(
        mut set in proptest::collection::vec("[^\0]{1,5}", 1..6),
    ) {
        let text = convert("text[]", AttributeValue::Ss(set.clone())).unwrap();
        set.reverse();
        prop_assert_eq!(convert("text[]", AttributeValue::Ss(set)).unwrap(), text);
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        "[-+0-9:TZ.eE/, ]{0,40}",
        "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9](:[0-9]{2}(\\.[0-9]{1,7})?)?(Z|[+-][0-9]{2})",
        "-?[0-9]{0,30}(\\.[0-9]{0,30})?([eE][-+]?[0-9]{1,4})?",
    ]
}

proptest! {
    #[test]
    fn no_value_makes_a_conversion_panic(value in any_value(), odd in any_text(), exact: bool) {
        for name in crate::mapping::TYPE_NAMES.iter().filter(|name| **name != "varchar") {
            for name in [(*name).to_owned(), format!("{name}[]")] {
                let mut conversion = Conversion::to(ColumnType::parse(&name).unwrap());
                conversion.exact = exact;
                conversion.epoch = Some(EpochUnit::Nanos);
                for value in [&value, &s(&odd), &n(&odd)] {
                    if let Ok(text) = with(conversion.clone(), value) {
                        prop_assert!(!text.contains('\0'), "{} {:?}", name, value);
                    }
                }
            }
        }
    }
}
