//! No function twice: one that has another's name and body in another file should be one.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{closing, is_name, texts, tokens};

/// A body of fewer lines may stand twice.
const TWIN_LINES_MIN: usize = 4;

/// The functions of the same name and body, whatever their layout: the name and the files, in order.
pub fn twins(files: &BTreeMap<String, String>) -> Vec<(String, Vec<String>)> {
    let mut bodies: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files {
        for (name, body) in functions(text) {
            bodies.entry((name, body)).or_default().insert(path.clone());
        }
    }
    let twins = bodies.into_iter().filter(|(_, paths)| paths.len() > 1);
    twins.map(|((name, _), paths)| (name, paths.into_iter().collect())).collect()
}

/// The functions that are long enough, each with the words of its body.
fn functions(text: &str) -> Vec<(String, String)> {
    let tokens = tokens(text);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut found = Vec::new();
    for at in (0..tokens.len()).filter(|at| text(*at) == "fn" && is_name(text(*at + 1))) {
        let mut open = at;
        while !["{", ";", ""].contains(&text(open)) {
            open = if ["(", "["].contains(&text(open)) { closing(&tokens, open) } else { open } + 1;
        }
        if text(open) != "{" {
            continue;
        }
        let body = &tokens[open + 1..closing(&tokens, open)];
        let lines: BTreeSet<usize> = body.iter().map(|token| token.line).collect();
        if lines.len() >= TWIN_LINES_MIN {
            let words: Vec<&str> = texts(body).collect();
            found.push((text(at + 1).to_owned(), words.join(" ")));
        }
    }
    found
}

#[test]
fn twins_are_found() {
    let body = "{\n    let a = b();\n    // why\n    c(a);\n    d(a);\n    e([0; 2])\n}";
    let one = format!("fn own(a: [u8; 4]) {body}");
    let folded = one.replace("    ", "  ").replace("// why", "");
    let own = |text: &str| ("src/a.rs".to_owned(), text.to_owned());
    let other = |text: &str| ("src/b.rs".to_owned(), text.to_owned());
    let found = |a: &str, b: &str| twins(&BTreeMap::from([own(a), other(b)]));
    let both = vec!["src/a.rs".to_owned(), "src/b.rs".to_owned()];
    assert_eq!(found(&one, &format!("impl X {{ pub {folded} }}")), [("own".to_owned(), both)]);
    assert!(found(&one, &one.replace("own", "another")).is_empty(), "another name");
    assert!(found(&one, &one.replace("d(a)", "d(c)")).is_empty(), "another body");
    let short = one.replace("    c(a);\n", "").replace("    d(a);\n", "");
    assert!(found(&short, &short).is_empty(), "too short");
}
