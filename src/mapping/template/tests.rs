use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> (Template, CaptureNames) {
    let mut names = CaptureNames::default();
    (Template::parse(text, &mut names).unwrap(), names)
}

fn captured(template: &str, text: &str) -> Option<Vec<String>> {
    let (template, names) = parse(template);
    let value = AttributeValue::S(text.into());
    let mut captures = Captures::default();
    let found = template.capture(&value, &mut captures);
    found.then(|| {
        (0..names.0.len())
            .map(|slot| match captures[slot] {
                Captured::Text(text) => text.to_owned(),
                other => format!("{other:?}"),
            })
            .collect()
    })
}

#[test]
fn rule_1_a_capture_ends_at_the_next_literal_and_the_last_is_greedy() {
    let template = "LETTER#{year:int}#{letter_id}";
    assert_eq!(captured(template, "LETTER#2026#a#1").unwrap(), ["2026", "a#1"]);
    assert_eq!(captured("{a}--{b}", "x-y--z--w").unwrap(), ["x-y", "z--w"]);
    assert_eq!(captured("PROFILE", "PROFILE").unwrap(), Vec::<String>::new());
    for wrong in ["LETTER#", "LETTER#2026", "LETTER#2026#", "LETTER#x#a", "letter#2026#a", ""] {
        assert_eq!(captured(template, wrong), None, "{wrong}");
    }
    assert_eq!(captured("{a}#END", "1#END").unwrap(), ["1"]);
    assert_eq!(captured("{a}#END", "1#2#END").unwrap(), ["1#2"]);
    assert_eq!(captured("{a}#END", "1#ENDS"), None);
}

#[test]
fn rule_1_captures_can_be_discarded_and_braces_escaped() {
    assert_eq!(captured("{{{a}}}", "{x}").unwrap(), ["x"]);
    assert_eq!(captured("T#{_}#{b}", "T#1#2").unwrap(), ["2"]);
}

#[test]
fn rule_1_typed_captures_take_canonical_forms_only() {
    for (kind, right, wrong) in [
        (
            "int",
            vec!["0", "-5", "42", "9223372036854775807"],
            vec!["007", "+1", "-0", "1.0", "9223372036854775808"],
        ),
        ("int(4)", vec!["0042"], vec!["42", "00042", "-042"]),
        (
            "uuid",
            vec!["0190163d-8694-739b-aea5-966c26f8ad91"],
            vec!["0190163D-8694-739B-AEA5-966C26F8AD91", "0190163d8694739baea5966c26f8ad91", "x"],
        ),
        ("date", vec!["2026-12-01"], vec!["2026-02-30", "20261201", "0000-01-01"]),
        (
            "ulid",
            vec!["01ARZ3NDEKTSV4RRFFQ69G5FAV"],
            vec!["81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEK"],
        ),
    ] {
        let template = format!("K#{{x:{kind}}}");
        for text in right {
            assert_eq!(captured(&template, &format!("K#{text}")).unwrap(), [text], "{kind}");
        }
        for text in wrong {
            assert_eq!(captured(&template, &format!("K#{text}")), None, "{kind} {text}");
        }
    }
}

#[test]
fn fixed_widths_may_hold_their_separator() {
    let text = "2026-12-01-0190163d-8694-739b-aea5-966c26f8ad91-x-y";
    let parts = captured("{d:date}-{u:uuid}-{x}", text).unwrap();
    assert_eq!(parts, ["2026-12-01", "0190163d-8694-739b-aea5-966c26f8ad91", "x-y"]);
    assert_eq!(captured("{n:int}-{x}", "-5-x").unwrap(), ["-5", "x"]);
}

#[test]
fn one_name_means_one_text() {
    assert_eq!(captured("{a}#{a}", "x#x").unwrap(), ["x"]);
    assert_eq!(captured("{a}#{a}", "x#y"), None);
}

#[test]
fn numbers_and_binary_are_captured_whole() {
    let (template, _) = parse("{id}");
    let (number, bytes) = (AttributeValue::N("7".into()), AttributeValue::B(vec![1]));
    for value in [&number, &bytes] {
        let mut captures = Captures::default();
        assert!(template.capture(value, &mut captures));
        assert_eq!(captures[0], Captured::Whole(value));
    }
    let (prefixed, _) = parse("A{id}");
    assert!(!prefixed.capture(&number, &mut Captures::default()));
}

#[test]
fn rule_1_captures_side_by_side_show_both_places() {
    let error = |text| Template::parse(text, &mut CaptureNames::default()).unwrap_err();
    let side_by_side = error("A{x}{y}");
    assert_eq!((side_by_side.range, side_by_side.other), (4..7, Some(1..4)));
    assert_eq!(error("A{x").range, 1..3);
    assert_eq!(error("A}").range, 1..2);
    assert_eq!(error("{x:inte}").range, 0..8);
    assert_eq!(error("{1x}").range, 0..4);
    assert!(error("").message.contains("empty"));
}

#[test]
fn rule_1_overlaps_are_found_and_only_those() {
    let overlaps = |left: &str, right: &str| {
        let (left, right) = (parse(left).0, parse(right).0);
        assert_eq!(left.overlaps(&right), right.overlaps(&left));
        left.overlaps(&right)
    };
    for (left, right) in [
        ("A#{x}", "A#{x}"),
        ("A#{x}", "{y}"),
        ("ORDER#{id}", "ORDER#{id}#ITEM#{item}"),
        ("A#{x:int}", "A#{y:ulid}"),
        ("A#{x:int}", "A#7"),
        ("{x}#B", "A#{y}"),
    ] {
        assert!(overlaps(left, right), "{left} {right}");
    }
    for (left, right) in [
        ("CHILD#{x}", "LETTER#{x}"),
        ("A#{x:int}", "A#PROFILE"),
        ("A#{x:uuid}", "A#{y:date}"),
        ("ORDER#{id}#ITEM#{item}", "ORDER#{id}#NOTE#{note}"),
        ("ORDER#{id:uuid}", "ORDER#{id:uuid}#ITEM#{item}"),
        ("A#{x:int(4)}", "A#{x:int(5)}"),
        ("A", "AB"),
    ] {
        assert!(!overlaps(left, right), "{left} {right}");
    }
}

#[test]
fn long_templates_and_keys_come_to_an_end() {
    let long = "A#".repeat(1_000);
    let key = AttributeValue::S(format!("{long}B"));
    let template = parse("{a}#{b}#{c}#{d}#{e}A#B#{f}").0;
    assert!(!template.capture(&key, &mut Captures::default()));
    template.overlaps(&parse(&format!("{long}{{x}}#B#{{y}}")).0);
    for piece in ["{a}#", "{", "}", "{{", "{a:int(9)}", "é"] {
        let _ended = Template::parse(&piece.repeat(50_000), &mut CaptureNames::default());
    }
}

proptest! {
    #[test]
    fn what_was_put_in_comes_out(a in "[^#]{1,12}", n in any::<i64>(), b in ".{1,12}") {
        let parts = captured("K#{a}#{n:int}#{b}", &format!("K#{a}#{n}#{b}")).unwrap();
        prop_assert_eq!(parts, vec![a, n.to_string(), b]);
    }

    #[test]
    fn a_text_that_matches_both_is_an_overlap(
        pieces in proptest::collection::vec("[#AB0]{1,3}", 1..5),
        left_holes in 0_u8..32, right_holes in 0_u8..32,
    ) {
        // Two templates made from one text by replacing parts with captures overlap, if no capture holds
        // the first character of the literal after it.
        let template = |holes: u8| {
            let mut text = String::new();
            let mut hole_before = false;
            for (index, piece) in pieces.iter().enumerate() {
                let hole = holes & (1 << index) != 0 && !hole_before
                    && !pieces.get(index + 1).is_some_and(|next| piece.contains(&next[..1]));
                if hole { text.push_str(&format!("{{c{index}}}")); } else { text.push_str(piece); }
                hole_before = hole;
            }
            parse(&text).0
        };
        prop_assert!(template(left_holes).overlaps(&template(right_holes)));
    }

    #[test]
    fn no_template_makes_a_key_panic(
        left in "([{}]{1,3}|\\{[a-c_]\\}|\\{[a-c]:(int|int\\([0-9]{0,3}\\)|uuid)\\}|[#é0]){0,9}",
        right in "(\\{[a-c_]\\}[#é0-]|\\{[a-c]:(int|uuid|date|ulid)\\}#|[#é0]){0,9}",
        key in "[#é0-9a-f-]{0,60}",
    ) {
        let parse = |text: &str| Template::parse(text, &mut CaptureNames::default());
        let value = AttributeValue::S(key);
        let parsed: Vec<_> = [&left, &right].into_iter().filter_map(|t| parse(t).ok()).collect();
        for template in &parsed {
            let mut captures = Captures::default();
            template.capture(&value, &mut captures);
            for other in &parsed {
                prop_assert_eq!(other.overlaps(template), template.overlaps(other));
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,20}") {
        let parsed = Template::parse(&text, &mut CaptureNames::default());
        prop_assert!(parsed.is_ok() || !parsed.unwrap_err().message.is_empty());
    }
}
