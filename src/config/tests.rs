use proptest::prelude::*;

use super::*;
use crate::mapping::Outcome;
use crate::mapping::trial::{TrialOp, rejected_text};

const SANTA: &str = include_str!("../../config/santa.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");
const WORKSHOPS: &str = include_str!("../../config/workshops.toml");

fn parse(text: &str) -> Result<Config, Diagnostics> {
    Config::parse(text, "test.toml", &[], std::iter::empty())
}

fn with(text: &str, sets: &[&str], env: &[(&str, &str)]) -> Result<Config, Diagnostics> {
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, "test.toml", &sets, env)
}

#[test]
fn where_the_daemon_listens_is_read_of_a_file_that_is_otherwise_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let none = std::iter::empty;
    std::fs::write(&file, "[telemetry]\nlisten = \"127.0.0.1:9\"\n[source.a]\ntabel = 1\n")
        .unwrap();
    let listen = Config::listen(Some(&file), &[], none()).unwrap();
    assert_eq!(listen.to_string(), "127.0.0.1:9");
    let set = ["telemetry.listen=127.0.0.1:8".to_owned()];
    assert_eq!(Config::listen(Some(&file), &set, none()).unwrap().port(), 8);
    let variable = ("DYNAURORA__TELEMETRY__LISTEN".to_owned(), "127.0.0.1:7".to_owned());
    assert_eq!(Config::listen(None, &[], std::iter::once(variable)).unwrap().port(), 7);
    assert_eq!(Config::listen(None, &[], none()).unwrap().port(), 9187);
    std::fs::write(&file, "[telemetry]\nlisten = \"here\"\n").unwrap();
    assert!(Config::listen(Some(&file), &[], none()).is_err());
    assert!(Config::listen(Some(&folder.path().join("absent")), &[], none()).is_err());
}

#[test]
fn the_samples_parse_and_their_tests_pass() {
    for (name, text) in [("santa", SANTA), ("minimal", MINIMAL), ("workshops", WORKSHOPS)] {
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
    assert_eq!(names, ["children", "letters", "letter_toys", "letters_history"]);
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
fn a_secret_has_one_place_of_four() {
    for (place, expected) in [
        (r#"{ file = "pw" }"#, SecretRef::File("pw".into())),
        (r#"{ credential = "pw" }"#, SecretRef::Credential("pw".into())),
        (
            r#"{ secretsmanager = "arn", field = "password" }"#,
            SecretRef::SecretsManager { arn: "arn".into(), field: Some("password".into()) },
        ),
    ] {
        let config = with(MINIMAL, &[&format!("target.password={place}")], &[]).unwrap();
        assert_eq!(config.target.auth, Auth::Password(expected.clone()));
        let text = MINIMAL.replace("{ env = \"DYNAURORA_PASSWORD\" }", place);
        let config = parse(&text).unwrap();
        assert_eq!(config.target.auth, Auth::Password(expected));
        assert!(config.effective().contains(&format!("password = {place}")));
    }
    let env = [("DYNAURORA__TARGET__PASSWORD__FILE", "pw")];
    let config = with(MINIMAL, &[], &env).unwrap();
    assert_eq!(config.target.auth, Auth::Password(SecretRef::File("pw".into())));
    for wrong in ["{}", r#"{ field = "x" }"#, r#"{ credential = "../pw" }"#] {
        assert!(parse(&MINIMAL.replace("{ env = \"DYNAURORA_PASSWORD\" }", wrong)).is_err());
    }
}

#[test]
fn the_effective_config_is_what_was_read() {
    let sets = ["target.pool=8", "aws.endpoint=http://[::1]:8000", "worker.reject_share_max=1"];
    let config = with(MINIMAL, &sets, &[]).unwrap();
    let effective = config.effective();
    assert!(effective.contains("password = { env = \"DYNAURORA_PASSWORD\" }"), "{effective}");
    // With the mapping added again, the text means the same.
    let mapping = "table = \"Reindeer\"\nkey = { id = \"{id}\" }\ncolumns = { id = \"{id}\" }";
    let again = parse(&effective.replace("table = \"Reindeer\"", mapping)).unwrap();
    assert_eq!((&again.target, &again.aws), (&config.target, &config.aws));
    assert_eq!((&again.worker, &again.telemetry), (&config.worker, &config.telemetry));
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

/// Each broken config has its expected report beside it; `DYNAURORA_BLESS=1` writes the reports.
#[test]
fn broken_configs_say_what_is_wrong() {
    reports_in("tests/broken-configs");
}

/// The messages of a broken config's report, and the number of places of each.
fn problems_of(name: &str) -> Vec<(String, usize)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken-configs");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let problems = parse(&text).unwrap_err();
    let shown = |problem: &Problem| (problem.message.clone(), 1 + problem.related.len());
    problems.problems().iter().map(shown).collect()
}

fn assert_says(name: &str, expected: &[(&str, usize)]) {
    let problems = problems_of(name);
    for (message, places) in expected {
        let found = problems.iter().any(|(own, shown)| own.contains(message) && shown == places);
        assert!(found, "{name} says {message}, with {places} places: {problems:?}");
    }
}

#[test]
fn rule_1_captures_side_by_side_and_templates_that_overlap_show_both_places() {
    assert_says("side-by-side.toml", &[("side by side", 2)]);
    assert_says("overlap.toml", &[("overlap: one key can match both", 2)]);
}

#[test]
fn rule_4_two_items_that_could_hit_one_row_are_an_error() {
    let key = [("two items could hit one row", 1), ("which is part of the key", 1)];
    assert_says("keys.toml", &key);
    assert_says("keys.toml", &[("cannot be a float", 1), ("cannot have a `map`", 1)]);
    assert_says("tables.toml", &[("both fill the table `same`", 2)]);
    assert_says("children.toml", &[("the table `public.tags` is filled twice", 2)]);
}

#[test]
fn rule_4_the_primary_key_is_the_source_keys_columns() {
    let config = parse(SANTA).unwrap();
    let keys = |at: usize| {
        let table = &config.sources[0].mapper.tables()[at];
        let names = table.columns.iter().take(table.key_columns);
        names.map(|column| column.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys(0), ["child_id"]);
    assert_eq!(keys(1), ["child_id", "year", "letter_id"]);
}

#[test]
fn rule_7_identifiers_that_postgres_would_cut_or_confuse_are_refused() {
    let said = [
        ("longer than the 63 bytes that Postgres keeps", 1),
        ("is dynaurora's own", 1),
        ("has a system column `ctid` already", 1),
    ];
    assert_says("columns.toml", &said);
    assert_says("tables.toml", &[("holds the ledger and nothing else", 1)]);
    let nul = MINIMAL.replace("rest  = \"extra\"", "rest  = \"ex\\u0000tra\"");
    assert!(nul != MINIMAL && parse(&nul).unwrap_err().render(false).contains("U+0000"));
}

/// The messages in the README are those of the program.
#[test]
fn the_readme_shows_reports_as_they_are() {
    let readme = include_str!("../../README.md");
    for (path, report) in reports_in("tests/tour") {
        let shown = format!("```text\n{report}\n```");
        assert!(readme.contains(&shown), "{} is not in the README:\n{shown}", path.display());
    }
}

/// Reads each config of a folder, compares its report with the one beside it, and returns them.
fn reports_in(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty());
    let bless = std::env::var_os("DYNAURORA_BLESS").is_some();
    let (mut wrong, mut reports) = (Vec::new(), Vec::new());
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
        reports.push((path, report));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    reports
}

#[test]
fn a_dead_letter_becomes_a_test_that_passes() {
    let config = parse(SANTA).unwrap();
    let mapper = &config.sources[0].mapper;
    let json = r#"{"pk":{"S":"CHILD#1"},"sk":{"S":"PROFILE"},"born":{"S":"\"to'''morrow\u0001"}}"#;
    let item: crate::model::Item = serde_json::from_str(json).unwrap();
    let trial = |expected: Option<&str>| Trial {
        name: String::new(),
        source: "santa".into(),
        op: TrialOp::Insert,
        item: item.clone(),
        old_item: None,
        expect: Vec::new(),
        rejected: expected.map(str::to_owned),
    };
    let Outcome::Rejected(reject) = mapper.map(&trial(None).change(mapper), &mut Vec::new()) else {
        panic!("a date that is none")
    };
    let text = rejected_text("santa", TrialOp::Insert, &item, &reject).unwrap();
    let config = parse(&format!("{SANTA}\n{text}")).unwrap();
    let last = config.trials.last().unwrap();
    assert_eq!((last.run(mapper), &last.item), (Vec::new(), &item));
    assert_eq!(trial(None).run(mapper).len(), 1);
    assert_eq!(trial(Some("range")).run(mapper).len(), 1);
}

#[test]
fn a_test_that_fails_says_how() {
    let text = SANTA.replace("year = 2026, letter_id", "year = 2025, letter_id");
    let config = parse(&text.replace("position = 1, ", "")).unwrap();
    let differences = config.trials[0].run(&config.sources[0].mapper);
    let texts: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["letters: row 1: `year` is 2026, expected 2025"]);
}

#[test]
fn a_file_without_end_is_an_error() {
    for piece in ["[", "a.", "a={", "[[", "{", "\"", "'", "a=1\n", "[source.a]\n", "é", "\\"] {
        let text = piece.repeat(20_000);
        for text in [format!("version = 1\nx = {text}"), format!("{MINIMAL}\n{text}"), text] {
            assert!(parse(&text).is_err());
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        edits in proptest::collection::vec((0_usize..3000, 0_usize..4, ".{0,3}"), 1..6),
    ) {
        let mut text = SANTA.to_owned();
        for (at, gone, new) in edits {
            let border = |at: usize| {
                (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at))
            };
            let (start, end) = (border(at).unwrap(), border(at + gone).unwrap());
            text.replace_range(start..end, &new);
        }
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.render(true).is_empty());
        }
    }

    #[test]
    fn no_override_makes_the_reader_panic(
        set in "(target|worker|source|aws|[a-z\\[\"é]{0,3})[.a-z_]{0,9}=?.{0,9}"
    ) {
        if let Err(problems) = with(MINIMAL, &[&set], &[]) {
            prop_assert!(!problems.render(false).is_empty());
        }
    }
}
