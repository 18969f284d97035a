use super::*;

const SANTA: &str = include_str!("../../config/santa.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");

fn parse(text: &str) -> Result<Config, Diagnostics> {
    Config::parse(text, "test.toml", &[], std::iter::empty())
}

fn with(text: &str, sets: &[&str], env: &[(&str, &str)]) -> Result<Config, Diagnostics> {
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, "test.toml", &sets, env)
}

#[test]
fn the_samples_parse_and_their_tests_pass() {
    for (name, text) in [("santa", SANTA), ("minimal", MINIMAL)] {
        let config = parse(text).unwrap_or_else(|problems| panic!("{name}\n{problems}"));
        for trial in &config.trials {
            let source = config.sources.iter().find(|source| *source.name == *trial.source);
            assert_eq!(trial.run(&source.unwrap().mapper), [], "{}", trial.name);
        }
    }
}

#[test]
fn the_worked_example_has_its_tables() {
    let config = parse(SANTA).unwrap();
    let tables = config.sources[0].mapper.tables();
    let names: Vec<_> = tables.iter().map(|table| table.name.name.as_str()).collect();
    assert_eq!(names, ["children", "letters", "letter_toys"]);
    let columns: Vec<_> = tables[2].columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["child_id", "year", "letter_id", "position", "sku", "qty"]);
    assert_eq!(tables[2].key_columns, 4);
    assert_eq!(tables[2].columns[1].column_type.to_string(), "bigint");
    assert!(tables[2].columns[5].not_null);
    assert_eq!(config.sources[0].mapper.key_attributes(), ["pk", "sk"]);
    assert_eq!(config.sources[0].mapper.needs_old_image(), None);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.target.pool, 2);
    assert!(config.target.local && config.target.migrate);
    assert_eq!(config.target.auth, Auth::Password(SecretRef::Env("DYNAURORA_PASSWORD".into())));
    assert_eq!(config.worker.lease_ttl_secs, 10);
    assert_eq!(config.worker.batch_bytes_max, 4 << 20);
    assert_eq!(config.telemetry.listen.to_string(), "127.0.0.1:9187");
    assert_eq!(config.sources[0].on_gap, OnGap::Halt);
}

#[test]
fn overrides_win_in_order_and_are_typed() {
    let env =
        [("DYNAURORA__TARGET__POOL", "7"), ("DYNAURORA__AWS__REGION", "eu-north-1"), ("X", "1")];
    let config = with(MINIMAL, &[], &env).unwrap();
    assert_eq!((config.target.pool, config.aws.region.as_deref()), (7, Some("eu-north-1")));
    let sets =
        ["target.pool=8", "target.url=postgres:///reads?host=/run/pg", "worker={grace_secs=5}"];
    let config = with(MINIMAL, &sets, &env).unwrap();
    assert_eq!((config.target.pool, config.worker.grace_secs), (8, 5));
    assert_eq!(config.target.url, "postgres:///reads?host=/run/pg");
    assert!(config.target.local);
}

#[test]
fn wrong_overrides_show_their_own_text() {
    let problems = with(MINIMAL, &["target.pol=8"], &[]).unwrap_err();
    let text = problems.render(false);
    assert!(text.contains("--set") && text.contains("did you mean `pool`?"), "{text}");
    let problems = with(MINIMAL, &["pool"], &[("DYNAURORA__TARGET__POOL", "many")]).unwrap_err();
    let text = problems.render(false);
    assert!(text.contains("KEY=VALUE") && text.contains("DYNAURORA__TARGET__POOL"), "{text}");
}

#[test]
fn no_message_shows_a_secret() {
    let inline = MINIMAL.replace("{ env = \"DYNAURORA_PASSWORD\" }", "\"hunter2\"");
    let url = MINIMAL.replace("dynaurora@", "dynaurora:hunter2@");
    let query = MINIMAL.replace("/reads\"", "/reads?password=hunter2\"");
    let typo =
        MINIMAL.replace("password = { env = \"DYNAURORA_PASSWORD\" }", "pasword = \"hunter2\"");
    let one_line = "version = 1\ntarget = { url = \"postgres://a:hunter2@h/d\", pol = 1 }";
    for text in [&inline, &url, &query, &typo, one_line] {
        let problems = parse(text).unwrap_err();
        for shown in [problems.render(true), format!("{problems:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(!problems.problems().is_empty());
    }
    for set in ["target.password=hunter2", "target.url=postgres://a:hunter2@h/d", "hunter2 !=x"] {
        let shown = with(MINIMAL, &[set], &[]).unwrap_err().render(false);
        assert!(!shown.contains("hunter2") || set.starts_with("hunter2"), "{shown}");
    }
    let env = [("DYNAURORA__TARGET__PASSWORD", "hunter2")];
    assert!(!with(MINIMAL, &[], &env).unwrap_err().render(false).contains("hunter2"));
}

#[test]
fn colours_are_there_only_when_asked_for() {
    let problems = parse("version = 2").unwrap_err();
    assert!(problems.render(true).contains("\u{1b}["));
    assert!(!problems.render(false).contains("\u{1b}["));
}

#[test]
fn problems_have_lines_and_columns() {
    let problems = parse(&MINIMAL.replace("rest  =", "rst   =")).unwrap_err();
    let problem = &problems.problems()[0];
    assert_eq!(problems.locate(problem), Some(("test.toml", 12, 1)));
    assert_eq!(problem.hint.as_deref(), Some("did you mean `rest`?"));
}

/// Each broken config stands beside the report that it must give; `DYNAURORA_BLESS=1` writes the reports.
#[test]
fn broken_configs_say_what_is_wrong() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken-configs");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty());
    let bless = std::env::var_os("DYNAURORA_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let report = match Config::parse(&text, name, &[], std::iter::empty()) {
            Ok(_) => "nothing is wrong".to_owned(),
            Err(problems) => problems.render(false),
        };
        let expected = path.with_extension("txt");
        if bless {
            std::fs::write(&expected, format!("{report}\n")).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default().trim_end() != report {
            wrong.push(format!("{name}:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

mod inferred {
    use proptest::prelude::*;

    use super::parse;
    use crate::mapping::{InferRequest, infer_items};
    use crate::model::{AttributeValue, Item};

    fn infer(keys: &[&str], items: &[&str]) -> String {
        let items: Vec<Item> =
            items.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
        let key_attributes: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        let request =
            InferRequest { source: "santa", table: "NorthPole", key_attributes: &key_attributes };
        infer_items(request, &items)
    }

    #[test]
    fn a_single_table_falls_into_its_entities() {
        let text = infer(
            &["pk", "sk"],
            &[
                r#"{"pk":{"S":"CHILD#42"},"sk":{"S":"PROFILE"},"name":{"S":"Ada"},"upd":{"N":"1796112000000"}}"#,
                r#"{"pk":{"S":"CHILD#x7"},"sk":{"S":"PROFILE"},"name":{"N":"7"},"aliases":{"SS":["a"]}}"#,
                r#"{"pk":{"S":"CHILD#42"},"sk":{"S":"LETTER#2026#a1"},"sentAt":{"S":"2026-12-01T08:00:00Z"},
                    "toys":{"L":[{"M":{"sku":{"S":"x"}}}]}}"#,
            ],
        );
        for expected in [
            r#"key   = { pk = "CHILD#{child_id}", sk = "PROFILE" }"#,
            r#"key   = { pk = "CHILD#{child_id:int}", sk = "LETTER#{letter_id:int}#{sk}" }"#,
            "[source.santa.entity.child]   # 2 of 3 items",
            r#"upd = { from = "upd", type = "bigint" }   # 50 % of items; a time? type = "timestamptz", epoch = "ms""#,
            r#"name = { from = "name", type = "jsonb" }   # 100 % of items; several types: 1 number (N), as in CHILD#x7 / PROFILE; 1 string (S), as in CHILD#42 / PROFILE"#,
            r#"aliases = { from = "aliases", type = "text[]" }"#,
            r#"sent_at = { from = "sentAt", type = "timestamptz" }"#,
            "a list of maps",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        parse(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    }

    #[test]
    fn a_plain_table_is_one_entity() {
        let text =
            infer(&["id"], &[r#"{"id":{"N":"1"},"x":{"BOOL":true}}"#, r#"{"id":{"N":"2"}}"#]);
        assert!(text.contains(r#"key   = { id = "{id}" }"#), "{text}");
        parse(&text).unwrap();
        parse(&infer(&["id", "range"], &[])).unwrap();
    }

    #[test]
    fn overlapping_groups_are_told_apart_or_left_as_comments() {
        let order = |key: &str, kind: &str| format!(r#"{{"pk":{{"S":"{key}"}}{kind}}}"#);
        let items = [order("ORDER#a", ""), order("ORDER#a#ITEM#b", "")];
        let text = infer(&["pk"], &items.each_ref().map(String::as_str));
        assert!(text.contains("# [source.santa.entity."), "{text}");
        parse(&text).unwrap();
        let kind = |kind: &str| format!(r#","type":{{"S":"{kind}"}}"#);
        let items = [order("ORDER#a", &kind("it's")), order("ORDER#a#ITEM#b", &kind("Item"))];
        let text = infer(&["pk"], &items.each_ref().map(String::as_str));
        assert!(text.contains(r#"where = "\"type\" = 'it''s'""#), "{text}");
        parse(&text).unwrap();
    }

    fn value() -> impl Strategy<Value = AttributeValue> {
        prop_oneof![
            ".{0,8}".prop_map(AttributeValue::S),
            "-?[0-9]{1,12}(\\.[0-9]{1,3})?".prop_map(AttributeValue::N),
            any::<bool>().prop_map(AttributeValue::Bool),
            Just(AttributeValue::Null(true)),
            Just(AttributeValue::L(vec![AttributeValue::M(Default::default())])),
            proptest::collection::vec("[a-z]{1,3}", 1..3).prop_map(AttributeValue::Ss),
        ]
    }

    proptest! {
        #[test]
        fn every_proposal_parses_unchanged(
            items in proptest::collection::vec(
                ("(A|ORDER|user)?[#:]?.{1,6}", "(X#)?[a-zA-Z0-9#-]{1,6}",
                 proptest::collection::hash_map("(type|ctid|extra|.{1,5})", value(), 0..5)), 0..12)
        ) {
            let items: Vec<Item> = items.into_iter().map(|(pk, sk, mut map)| {
                map.insert("pk".into(), AttributeValue::S(pk));
                map.insert("s k".into(), AttributeValue::S(sk));
                Item::from(map)
            }).collect();
            let key_attributes = ["pk".to_owned(), "s k".to_owned()];
            let request = InferRequest { source: "s", table: "T\"", key_attributes: &key_attributes };
            let text = infer_items(request, &items);
            if let Err(problems) = parse(&text) {
                prop_assert!(false, "{}\n{}", text, problems);
            }
        }
    }
}
