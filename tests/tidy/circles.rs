//! Circles between files: who imports from whom, file by file, and which files lead back to themselves.
//!
//! An import names a file by the longest path that is one. A file does not import its children by
//! declaring them or by handing on their names (`mod`, `pub use`); all else counts.

use std::collections::{BTreeMap, BTreeSet};

/// The files of each circle, each circle sorted, by their paths under `src`.
pub(crate) fn circles(files: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let imports = imports(files);
    let mut found = BTreeSet::new();
    for start in imports.keys() {
        let circle: Vec<String> = reached(&imports, start)
            .into_iter()
            .filter(|file| reached(&imports, file).contains(start))
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// Each file with the files that it imports from.
fn imports(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeMap<String, &String> =
        files.keys().map(|file| (module_of(file), file)).collect();
    let mut imports = BTreeMap::new();
    for (file, text) in files {
        let module = module_of(file);
        let mut named = BTreeSet::new();
        for path in paths(text, &module) {
            let target = owner(&path, &modules).filter(|target| **target != *file);
            named.extend(target.map(|target| (*target).clone()));
        }
        imports.insert(file.clone(), named);
    }
    imports
}

/// The file that has a path: the longest part of it that is a module.
fn owner<'m>(path: &str, modules: &BTreeMap<String, &'m String>) -> Option<&'m String> {
    let mut path = path;
    loop {
        if let Some(file) = modules.get(path) {
            return Some(file);
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// `engine/tail/mod.rs` and `engine/tail.rs` are both `engine::tail`.
fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs");
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

/// All absolute paths into this crate that a file's own code names, its tests left out.
fn paths(text: &str, module: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut paths = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].trim_end_matches([' ', '\t']);
        let statement = &rest[at + 4..];
        let end = statement.find(';').unwrap_or(statement.len());
        let handed_on = before.ends_with("pub") || before.ends_with(')');
        let starts = handed_on || before.is_empty() || before.ends_with('\n');
        if starts && !handed_on {
            flatten(&statement[..end], "", &mut paths);
        }
        rest = &statement[end..];
    }
    paths.extend(inline(&code));
    paths.iter().filter_map(|path| absolute(path, module)).collect()
}

/// `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn flatten(tree: &str, before: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        let name = name.trim_end_matches("::self").trim_end_matches("self").trim_end_matches("::");
        paths.push(format!("{before}{name}").trim_end_matches("::").to_owned());
        return;
    };
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let before = format!("{before}{}", head.trim());
    let (mut depth, mut start) = (0_usize, 0);
    for (at, char) in inner.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                flatten(&inner[start..at], &before, paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        flatten(&inner[start..], &before, paths);
    }
}

/// Paths in the midst of code, as `crate::engine::run(…)`.
fn inline(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || "_:$".contains(before)) {
                continue;
            }
            let line = code[..at].rsplit('\n').next().unwrap_or_default();
            if line.contains("use ") {
                continue;
            }
            let end = |own: char| !(own.is_alphanumeric() || own == '_' || own == ':');
            let rest = &code[at..];
            let path = &rest[..rest.find(end).unwrap_or(rest.len())];
            paths.push(path.trim_end_matches(':').to_owned());
        }
    }
    paths
}

/// The path from the crate's root, where it is one into this crate.
fn absolute(path: &str, module: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let mut within: Vec<&str> = module.split("::").collect();
    let mut rest = path;
    while let Some(after) = rest.strip_prefix("super::") {
        within.pop()?;
        rest = after;
    }
    // A bare path names a child, another crate or what is imported already; only children are files.
    within.push(rest.strip_prefix("self::").unwrap_or(rest));
    Some(within.join("::"))
}

/// Every file that can be reached, the first one only by a circle.
fn reached(imports: &BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = imports.get(start).into_iter().flatten().collect();
    while let Some(file) = open.pop() {
        if reached.insert(file.clone()) {
            open.extend(imports.get(file).into_iter().flatten());
        }
    }
    reached
}

#[test]
fn a_circle_is_found_through_every_form_of_import() {
    let of = |files: &[(&str, &str)]| {
        circles(&files.iter().map(|(file, text)| ((*file).into(), (*text).into())).collect())
    };
    let two = |first: &str, second: &str| of(&[("a/x.rs", first), ("a/y.rs", second)]);
    let circle = vec![vec!["a/x.rs".to_owned(), "a/y.rs".to_owned()]];
    assert_eq!(two("use crate::a::y::Y;", "use super::x::X;"), circle);
    assert_eq!(two("use super::{\n    y::{self, Y},\n};", "fn f() { crate::a::x::g() }"), circle);
    assert_eq!(two("use crate::a::y::Y;", "// use super::x::X;"), Vec::<Vec<String>>::new());
    assert_eq!(two("use crate::a::y::Y;", "pub use super::x::X;"), Vec::<Vec<String>>::new());
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::a::x::X;\n}";
    assert_eq!(two("use crate::a::y::Y;", tests), Vec::<Vec<String>>::new());
    // A parent that declares its child is no import; one that uses what the child has is.
    let parent = |text: &str| of(&[("a.rs", text), ("a/x.rs", "use super::Parent;")]);
    assert_eq!(parent("mod x;\npub use x::X;"), Vec::<Vec<String>>::new());
    assert_eq!(parent("mod x;\nuse x::X;").len(), 1);
}
