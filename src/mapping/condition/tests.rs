use proptest::prelude::*;

use super::*;

fn item() -> Item {
    serde_json::from_str(
        r#"{"n":{"N":"10"},"s":{"S":"apple"},"t":{"BOOL":true},"z":{"NULL":true},
            "m":{"M":{"in":{"N":"1.50"}}},"l":{"L":[{"N":"1"},{"S":"x"}]},
            "ss":{"SS":["a","b"]},"ns":{"NS":["1.0","2"]},"b":{"B":"AQID"},"and":{"S":"and"}}"#,
    )
    .unwrap()
}

fn holds(text: &str) -> bool {
    Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}")).holds(&item())
}

#[test]
fn what_holds() {
    for text in [
        "n = 10",
        "n = 1E1",
        "n <> 11",
        "n > 9.99",
        "n >= 10 AND n <= 10",
        "NOT n < 10",
        "s = 'apple'",
        "s < 'b'",
        "s BETWEEN 'a' AND 'b'",
        "n between 1 and 10",
        "n IN (1, 10.0)",
        "t = true",
        "z = null",
        "m.in = 1.5",
        "l[1] = 'x'",
        "absent <> 1",
        "n <> 'ten'",
        "attribute_exists(m.in)",
        "attribute_not_exists(m.out)",
        "attribute_type(ss, 'SS')",
        "begins_with(s, 'app')",
        "contains(s, 'ppl')",
        "contains(l, 1)",
        "contains(ss, 'b')",
        "contains(ns, 1)",
        "size(s) = 5",
        "size(l) < size(s)",
        "3 = size(b)",
        "attribute_not_exists(draft) OR draft = false",
        "n = 1 AND n = 2 OR n = 10",
        "n = 10 OR n = 1 AND n = 2",
        "NOT n = 1 AND n = 10",
        "(n = 1 OR n = 10) AND (t = true)",
        r#""and" = 'and'"#,
        "ns <> ss",
        "s <> 'it''s'",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn what_does_not_hold() {
    for text in [
        "n = '10'",
        "absent = 1",
        "absent < 1",
        "absent = absent",
        "s > 1",
        "l = 1",
        "t < false",
        "n BETWEEN 11 AND 12",
        "n IN (1, 2)",
        "attribute_type(n, 'S')",
        "begins_with(n, '1')",
        "contains(ss, 'c')",
        "size(n) = 2",
        "NOT (n = 10 OR s = 'x')",
        "n = 10 AND NOT t = true",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn mistakes_name_their_place() {
    let error = |text: &str| Condition::parse(text).unwrap_err();
    assert_eq!(error("n == 1").range, 3..4);
    assert_eq!(error("a = 1 b = 2").range, 6..7);
    assert!(error("a = :v").message.contains("placeholders"));
    assert!(error("a = 'x").message.contains("never closed"));
    for text in [
        "",
        "a",
        "a =",
        "(a = 1",
        "a = 1)",
        "a IN ()",
        "a BETWEEN 1",
        "begins_with(a)",
        "attribute_type(a, 'X')",
        "size(a)",
        "contains a",
        "a = 12b",
        "NOT",
        "a = 1 AND",
        "attribute_exists(a) = true",
        "a = begins_with(b, 'c')",
    ] {
        assert!(Condition::parse(text).is_err(), "{text}");
    }
    assert!(Condition::parse(&"(".repeat(10_000)).is_err());
    assert!(Condition::parse(&"NOT ".repeat(10_000)).is_err());
}

#[test]
fn long_conditions_come_to_an_end() {
    let many = format!("{}n = 10", "n = 11 OR n BETWEEN 1 AND 2 AND s = 'x' OR ".repeat(5_000));
    assert!(holds(&many));
    let list = format!("n IN ({}10)", "1, ".repeat(50_000));
    assert!(holds(&list));
    let _ended = Condition::parse(&format!("n = {}", "9".repeat(100_000)));
}

proptest! {
    #[test]
    fn no_words_make_the_parser_panic(
        words in proptest::collection::vec(
            "(n|s|l\\[0\\]|m\\.a|\"a b\"|=|<>|<=|AND|OR|NOT|BETWEEN|IN|\\(|\\)|,|'x'|-1E-130|9E125|\
             true|null|size\\(|contains\\(|begins_with\\(|attribute_type\\(|attribute_exists\\()",
            0..25,
        ),
    ) {
        if let Ok(condition) = Condition::parse(&words.join(" ")) {
            condition.holds(&item());
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[ a-c=<>()'\"0-9.,é\\[\\]ANDORNT_-]{0,40}") {
        if let Ok(condition) = Condition::parse(&text) {
            condition.holds(&item());
        }
    }

    #[test]
    fn numbers_compare_as_numbers(left in -1000_i64..1000, right in -1000_i64..1000) {
        let number = AttributeValue::N(format!("{left}.0"));
        let item: Item = [("a".to_owned(), number)].into_iter().collect();
        let holds = |text: String| Condition::parse(&text).unwrap().holds(&item);
        prop_assert_eq!(holds(format!("a < {right}")), left < right);
        prop_assert_eq!(holds(format!("a = {right}E0")), left == right);
    }
}
