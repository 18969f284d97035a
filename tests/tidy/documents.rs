//! Documents that name files and items which are not there.

use std::collections::BTreeSet;

use super::scan::{is_name, texts, tokens};

/// The documents that name files.
pub const DOCUMENTS: [&str; 4] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "docs"];

/// The quoted paths of files and folders that are not there. A file may be named by its name alone after its
/// folder, in the same line.
pub fn absent_paths(path: &str, text: &str, is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let mut absent = Vec::new();
    for (number, line) in prose(text) {
        let mut folders = Vec::new();
        for word in quoted(line).filter(|word| word.ends_with(".rs") || word.ends_with('/')) {
            let is_in = |folder: &&str| is_there(&format!("{folder}{word}"));
            if word.ends_with('/') {
                folders.push(word);
            }
            let known = is_there(word) || !word.contains('/') && folders.iter().any(is_in);
            if !known {
                absent.push(format!("{path}:{number}: there is no {word}"));
            }
        }
    }
    absent
}

/// The quoted functions, types and paths of items that the code does not have.
pub fn absent_items(path: &str, text: &str, code: &Items) -> Vec<String> {
    let mut absent = Vec::new();
    for (number, line) in prose(text) {
        let gone = quoted(line).filter(|word| !code.has(word));
        absent.extend(gone.map(|word| format!("{path}:{number}: the code has no {word}")));
    }
    absent
}

/// What the code names.
#[derive(Debug, Default)]
pub struct Items {
    functions: BTreeSet<String>,
    words: BTreeSet<String>,
}

impl Items {
    /// Takes one file's names.
    pub fn add(&mut self, path: &str, text: &str) {
        let folders = path.split('/').map(|name| name.strip_suffix(".rs").unwrap_or(name));
        self.words.extend(folders.map(str::to_owned));
        let mut before = "";
        for word in texts(&tokens(text)) {
            if before == "fn" {
                self.functions.insert(word.to_owned());
            }
            if is_name(word) {
                self.words.insert(word.to_owned());
            }
            before = word;
        }
    }

    /// Whether a quoted word is in the code, if it looks like an item at all: `name(…)`, `path::name` or
    /// `TypeName`.
    fn has(&self, word: &str) -> bool {
        let (name, called) = match word.split_once('(') {
            Some((name, end)) if end.ends_with(')') => (name, true),
            _ => (word, false),
        };
        let parts: Vec<&str> = name.split("::").collect();
        let looks_like_one = called || parts.len() > 1 || is_type_name(name);
        if !looks_like_one || !parts.iter().all(|part| is_name(part)) {
            return true;
        }
        let last = parts.last().copied().unwrap_or_default();
        parts.iter().all(|part| self.words.contains(*part))
            && (!called || is_type_name(last) || self.functions.contains(last))
    }
}

/// `TypeName`, which neither `LATEST` nor `I1` is.
fn is_type_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.contains(|own: char| own.is_ascii_lowercase())
}

/// The lines outside of blocks of code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        code ^= line.trim_start().starts_with("```");
        !code
    })
}

/// What stands between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn absent_paths_are_found() {
    let there = ["mapping/compile/", "mapping/compile/mod.rs", "error.rs", "docs/"];
    let absent = |text: &str| absent_paths("a.md", text, |path| there.contains(&path));
    assert!(absent("`error.rs` and `docs/`\n```\n`gone.rs`\n```\nand gone.rs").is_empty());
    assert!(absent("| `mapping/compile/` | `mod.rs` definition to mapper |").is_empty());
    assert_eq!(absent("`docs/`\n`gone.rs`, `gone/`").len(), 2);
    assert_eq!(absent("`docs/`\n`mod.rs`"), ["a.md:2: there is no mod.rs"]);
}

#[test]
fn absent_items_are_found() {
    let mut code = Items::default();
    code.add("src/sink/mod.rs", "struct Reject;\nfn apply() {} // fn gone() {}");
    let absent = |text: &str| absent_items("a.md", text, &code).len();
    assert_eq!(absent("`apply(batch)` of `sink::apply` makes a `Reject`; `LATEST`, `GET /x`"), 0);
    assert_eq!(absent("`gone()`, `sink::gone`, `gone::apply()`, `Gone`, `sink()`"), 5);
    assert_eq!(absent("gone() in prose, `select(1) from t`, `I1`, `a word`"), 0);
}
