//! House rules that no other tool checks: who may import whom, sizes, what stands twice, and that the
//! documents and the code name each other. Each rule is a function over paths and texts, with a test that it
//! can fail.

#![allow(unreachable_pub, reason = "every item of a test binary is its own")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/known.rs"]
mod known;
#[path = "tidy/scan.rs"]
mod scan;
#[path = "tidy/tuples.rs"]
mod tuples;
#[path = "tidy/twins.rs"]
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use dynaurora::config::Config;

use documents::{DOCUMENTS, Items, absent_items, absent_paths};
use known::{CIRCLES_KNOWN, PARENTS_KNOWN, TUPLE_PARAMETERS_MAX, TWINS_KNOWN};

/// The longest file, in lines.
const FILE_LINES_MAX: usize = 500;
/// The longest line, in characters.
const LINE_CHARS_MAX: usize = 100;
/// The longest line of a comment, in characters.
const COMMENT_CHARS_MAX: usize = 110;

/// Which rooms each room may import besides itself; `*` is all.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("error", &[]),
    ("mapping", &["model"]),
    ("telemetry", &["model", "error"]),
    ("config", &["mapping", "model", "error"]),
    ("apply", &["mapping", "model", "error"]),
    ("engine", &["apply", "mapping", "model", "error", "telemetry"]),
    ("source", &["engine::ports", "ops::ports", "model", "error", "telemetry"]),
    ("postgres", &["apply", "engine::ports", "ops::ports", "mapping", "model", "error"]),
    ("runtime", &["engine::ports", "model"]),
    ("ops", OPS),
    ("cli", &["*"]),
    ("demo", &["*"]),
    ("main", &["cli", "telemetry"]),
    ("lib", &["*"]),
];

/// What an operation may use: everything but who asks for it.
const OPS: &[&str] = &[
    "apply",
    "config",
    "engine",
    "mapping",
    "model",
    "error",
    "postgres",
    "runtime",
    "source",
    "telemetry",
];

/// What must not be left behind in the code. Each stands here in two parts, so that this file passes.
const LEFT_BEHIND: &[&str] = &[
    concat!("todo", "!"),
    concat!("dbg", "!("),
    concat!("unimplemented", "!"),
    concat!("#[", "ignore"),
];

#[test]
fn rooms_import_only_what_they_may() {
    assert_tidy(&["src"], &["rs"], imports);
}

#[test]
fn files_and_lines_keep_their_limits() {
    assert_tidy(&["src", "tests", "benches"], &["rs"], sizes);
    assert_tidy(&["."], &["md"], long_prose_lines);
}

#[test]
fn nothing_is_left_behind() {
    assert_tidy(&["src", "tests", "benches"], &["rs"], left_behind);
}

#[test]
fn every_document_has_one_title() {
    assert_tidy(&["."], &["md"], one_title);
}

#[test]
fn every_source_file_is_in_the_architecture() {
    let Ok(architecture) = std::fs::read_to_string(root().join("ARCHITECTURE.md")) else {
        panic!("ARCHITECTURE.md is missing");
    };
    assert_tidy(&["src"], &["rs"], |path, _| named(&architecture, path));
}

#[test]
fn no_files_import_each_other_around_a_circle() {
    let owned = |circle: &&[&str]| circle.iter().map(|path| (*path).to_owned()).collect();
    let known = CIRCLES_KNOWN.iter().chain(PARENTS_KNOWN).map(owned).collect();
    assert_only_known(circles::circles(&texts("src")), known);
}

#[test]
fn no_function_stands_in_two_files() {
    let owned = |path: &&str| (*path).to_owned();
    let known = TWINS_KNOWN.iter();
    let known = known.map(|(name, paths)| (owned(name), paths.iter().map(owned).collect()));
    assert_only_known(twins::twins(&texts("src")), known.collect());
}

#[test]
fn tuple_parameters_do_not_become_more() {
    let mut found = Vec::new();
    for (path, text) in texts("src") {
        let tuples = tuples::tuple_parameters(&text).into_iter();
        found.extend(tuples.map(|(name, line)| format!("{path}:{line}: {name}")));
    }
    let (count, found) = (found.len(), found.join("\n"));
    assert_eq!(count, TUPLE_PARAMETERS_MAX, "lower the number, never raise it\n{found}");
}

#[test]
fn documents_name_what_is_there() {
    let is_there =
        |path: &str| root().join(path).exists() || root().join("src").join(path).exists();
    assert_tidy(&DOCUMENTS, &["md"], |path, text| absent_paths(path, text, is_there));
    let mut items = Items::default();
    texts("src").iter().for_each(|(path, text)| items.add(path, text));
    assert_tidy(&["ARCHITECTURE.md"], &["md"], |path, text| absent_items(path, text, &items));
}

#[test]
fn every_test_that_is_promised_is_there() {
    let table = std::fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let code = [texts("src"), texts("tests")].into_iter().flatten();
    let code: String = code.map(|(_, text)| text).collect();
    let absent = promised_and_absent(&table, &code);
    assert!(absent.is_empty(), "docs/reliability.md names no test there is: {absent:?}");
}

#[test]
fn sample_configs_are_right() {
    assert_tidy(&["config"], &["toml"], is_config);
}

/// Imports of other rooms, as `use crate::room::…`, as a path, or through `super` out of the room.
fn imports(path: &str, text: &str) -> Vec<String> {
    let room = room_of(path);
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{path}: room {room} is not in the table of arrows")];
    };
    if allowed.contains(&"*") {
        return Vec::new();
    }
    let may = |target: &str| {
        let first = target.split("::").next().unwrap_or_default();
        first == room
            || allowed.iter().any(|own| target == *own || target.starts_with(&format!("{own}::")))
    };
    let mut found = Vec::new();
    for (number, line) in code_lines(text) {
        for target in targets(line) {
            if !may(&target) {
                found.push(format!("{path}:{number}: {room} must not import {target}"));
            }
        }
    }
    found
}

/// What a line's paths into this crate name; a list in braces gives one target each.
fn targets(line: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let starts = line.match_indices("crate::").chain(line.match_indices("dynaurora::"));
    for (at, start) in starts {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':') {
            continue;
        }
        let rest = &line[at + start.len()..];
        let list = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap_or_default());
        let items = list.map_or_else(|| vec![rest], |list| list.split(',').collect());
        for item in items {
            let item = item.trim();
            let end = item.find(|own: char| !(own.is_alphanumeric() || own == '_' || own == ':'));
            let path = item[..end.unwrap_or(item.len())].trim_end_matches(':');
            if !path.is_empty() {
                targets.push(path.to_owned());
            }
        }
    }
    targets
}

/// The first folder or file under `src`.
fn room_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Lines with their numbers from 1, without those that are comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn sizes(path: &str, text: &str) -> Vec<String> {
    // A line that is one literal of text is data, which a break would change.
    let literal = |line: &str| line.trim_start().starts_with(['"', 'r']) && line.contains('"');
    let mut found = long_lines(path, text, literal);
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{path}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    found
}

/// In prose, tables, links and code blocks may be as long as they must.
fn long_prose_lines(path: &str, text: &str) -> Vec<String> {
    let mut code = false;
    let mut exempt = BTreeSet::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        if code || fence || line.trim_start().starts_with(['|', '<', '[']) {
            exempt.insert(line);
        }
    }
    long_lines(path, text, |line| exempt.contains(line))
}

fn long_lines(path: &str, text: &str, exempt: impl Fn(&str) -> bool) -> Vec<String> {
    let long = |line: &str| line.chars().count() > LINE_CHARS_MAX && !line.contains("://");
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| long(line) && !exempt(line) && !is_ragged_comment(line))
        .map(|(number, _)| format!("{path}:{number}: longer than {LINE_CHARS_MAX} characters"))
        .collect()
}

/// Comments reach a little further: the formatter leaves them alone, and prose is ragged.
fn is_ragged_comment(line: &str) -> bool {
    line.trim_start().starts_with("//") && line.chars().count() <= COMMENT_CHARS_MAX
}

fn left_behind(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in code_lines(text) {
        for word in LEFT_BEHIND.iter().filter(|word| line.contains(**word)) {
            found.push(format!("{path}:{number}: {word}"));
        }
    }
    found
}

fn one_title(path: &str, text: &str) -> Vec<String> {
    let mut code = false;
    let mut titles = 0;
    for line in text.lines() {
        code ^= line.trim_start().starts_with("```");
        titles += usize::from(!code && line.starts_with("# "));
    }
    if titles == 1 { Vec::new() } else { vec![format!("{path}: {titles} titles")] }
}

/// A file is named by its path under `src`, or under the heading of its room by its own name.
fn named(architecture: &str, path: &str) -> Vec<String> {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let file = inside.rsplit('/').next().unwrap_or(inside);
    let in_room = || {
        let room = format!("{}/", room_of(path));
        let found = architecture.find(&room).map(|at| &architecture[at..]);
        file != "mod.rs" && found.is_some_and(|rest| has_word(rest, file))
    };
    let folder = inside.strip_suffix("mod.rs").filter(|folder| !folder.is_empty());
    let by_folder = folder.is_some_and(|folder| architecture.contains(folder));
    if has_word(architecture, inside) || by_folder || in_room() {
        return Vec::new();
    }
    vec![format!("{path}: ARCHITECTURE.md does not name it")]
}

/// Whether the text holds this file name, not as the end of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|before| !(before.is_alphanumeric() || before == '_'))
    })
}

fn is_config(path: &str, text: &str) -> Vec<String> {
    match Config::parse(text, path, &[], std::iter::empty()) {
        Ok(_) => Vec::new(),
        Err(diagnostics) => vec![diagnostics.render(false)],
    }
}

/// The tests in the last column of a document's tables that the code does not have.
fn promised_and_absent(document: &str, code: &str) -> Vec<String> {
    let rows = document.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |"));
    let cells = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let name = |text: &&str| text.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    let absent =
        |text: &&str| !["(", "<"].iter().any(|end| code.contains(&format!("fn {text}{end}")));
    quoted.filter(name).filter(absent).map(str::to_owned).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a rule over all files with these endings in these folders, and fails with all that it finds.
fn assert_tidy(folders: &[&str], endings: &[&str], rule: impl Fn(&str, &str) -> Vec<String>) {
    let mut found = Vec::new();
    for folder in folders {
        visit(&root().join(folder), &mut |path| {
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if endings.contains(&ending) {
                let text = std::fs::read_to_string(path).unwrap();
                found.extend(rule(&inside(path), &text));
            }
        });
    }
    found.sort();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Fails with what a rule found beyond what is known, and with what is known but gone.
fn assert_only_known<T: Ord + Debug>(found: Vec<T>, known: Vec<T>) {
    let (found, known) = (BTreeSet::from_iter(found), BTreeSet::from_iter(known));
    let new: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(new.is_empty() && gone.is_empty(), "new: {new:#?}\ngone, so unlist it: {gone:#?}");
}

/// Every Rust file of a folder by its path.
fn texts(folder: &str) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    visit(&root().join(folder), &mut |path| {
        if path.extension().is_some_and(|ending| ending == "rs") {
            texts.insert(inside(path), std::fs::read_to_string(path).unwrap());
        }
    });
    texts
}

/// A path below the root.
fn inside(path: &Path) -> String {
    let inside = path.strip_prefix(root().join(".")).unwrap_or(path);
    inside.to_string_lossy().replace('\\', "/").trim_start_matches("./").to_owned()
}

/// Every file below, or the file itself, leaving out what is built, hidden or somebody else's.
fn visit(folder: &Path, take: &mut impl FnMut(&Path)) {
    if folder.is_file() {
        return take(folder);
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let hidden = name.starts_with('.') && name != ".ci";
            if !hidden && name != "target" && name != "node_modules" {
                visit(&path, take);
            }
        } else {
            take(&path);
        }
    }
}

#[test]
fn a_wrong_arrow_is_found_in_every_form() {
    let wrong = |text: &str| imports("src/engine/worker.rs", text).len();
    assert_eq!(wrong("use crate::postgres::Pools;"), 1);
    assert_eq!(wrong("    let config = crate::config::load()?;"), 1);
    assert_eq!(wrong("use crate::{cli, model::Item, source};"), 2);
    assert_eq!(wrong("use crate::mapping::Mapper; // and use crate::model::Item"), 0);
    assert_eq!(wrong("// use crate::postgres::Pools;"), 0);
    assert_eq!(wrong("use $crate::sink;\nuse other_crate::sink;"), 1);
    let source = |text: &str| imports("src/source/mod.rs", text).len();
    assert_eq!(source("use crate::engine::ports::Source;"), 0);
    assert_eq!(source("use crate::engine::retry::pause;"), 1);
    assert_eq!(source("use crate::source::decode;"), 0);
    assert_eq!(imports("src/model.rs", "use crate::error::Error;").len(), 1);
    assert_eq!(imports("src/attic/mod.rs", "").len(), 1);
    assert_eq!(imports("src/demo/mod.rs", "use crate::cli::Cli;").len(), 0);
}

#[test]
fn long_files_and_lines_are_found() {
    assert_eq!(sizes("a.rs", &"x\n".repeat(FILE_LINES_MAX)).len(), 0);
    assert_eq!(sizes("a.rs", &"x\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    assert_eq!(sizes("a.rs", &"x".repeat(LINE_CHARS_MAX + 1)).len(), 1);
    assert_eq!(sizes("a.rs", &"ü".repeat(LINE_CHARS_MAX)).len(), 0);
    let long = "word ".repeat(30);
    assert_eq!(long_prose_lines("a.md", &long).len(), 1);
    assert_eq!(long_prose_lines("a.md", &format!("| {long} |")).len(), 0);
    assert_eq!(long_prose_lines("a.md", &format!("```\n{long}\n```")).len(), 0);
    assert_eq!(long_prose_lines("a.md", &format!("{long} https://example.com")).len(), 0);
}

#[test]
fn what_is_left_behind_is_found() {
    for word in LEFT_BEHIND {
        assert_eq!(left_behind("a.rs", &format!("    {word}")).len(), 1, "{word}");
        assert_eq!(left_behind("a.rs", &format!("    // {word}")).len(), 0, "{word}");
    }
}

#[test]
fn missing_and_second_titles_are_found() {
    assert_eq!(one_title("a.md", "# One\n\n```sh\n# a comment\n```\n").len(), 0);
    assert_eq!(one_title("a.md", "text\n## Two\n").len(), 1);
    assert_eq!(one_title("a.md", "# One\n# Two\n").len(), 1);
}

#[test]
fn unnamed_files_are_found() {
    let architecture =
        "src/\n  error.rs\n  engine/\n    mod.rs ports.rs\n  sink/\n    connect.rs\n";
    let missing = |path| named(architecture, path).len();
    assert_eq!(missing("src/error.rs"), 0);
    assert_eq!(missing("src/engine/mod.rs"), 0);
    assert_eq!(missing("src/engine/ports.rs"), 0);
    assert_eq!(missing("src/sink/connect.rs"), 0);
    assert_eq!(missing("src/sink/ports.rs"), 1);
    assert_eq!(missing("src/engine/reports.rs"), 1);
    assert_eq!(missing("src/source/mod.rs"), 1);
}

#[test]
fn absent_tests_are_found() {
    let row = "| a fault | what `it` does | `one_test`, `another`; none on `cargo test` |";
    assert_eq!(promised_and_absent(row, "fn one_test() {}"), ["another"]);
    assert!(promised_and_absent("`one_test` in prose", "").is_empty());
}

#[test]
fn broken_configs_are_found() {
    assert_eq!(is_config("a.toml", "version = ").len(), 1);
    assert_eq!(is_config("a.toml", "version = 1\nsauce = 2\n").len(), 1);
}
