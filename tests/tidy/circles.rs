//! No circles between files: who imports whom, read from the paths in the code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::scan::{Token, closing, is_name, tokens, without_tests};

/// A path or a `use` with what it names, as seen from the crate's root.
type Names = Vec<String>;

/// What one file declares, binds and names.
#[derive(Debug, Default)]
struct File {
    /// Its module's path.
    module: Names,
    /// The modules that it declares.
    children: BTreeSet<String>,
    /// The names that its `use` lines bind, each with the path behind it.
    bound: BTreeMap<String, Names>,
    /// Every path that it names.
    named: Vec<Names>,
}

/// The circles among the files of `src`, given as path and text, each with its files.
///
/// A file imports another where it names something of it, by `use` or by a path. It does not where it only
/// declares a module of its own or hands its names on with `pub use`; who imports such a name imports the
/// file that it comes from. Code for tests alone does not count.
///
/// Files that import each other around a ring stand in one circle, in order. Where a file imports one of its
/// own modules, which leads back to it, the shortest way back is a circle of its own: it begins with the
/// parent. Were these put together with the rest, most files of a room would be one circle.
pub fn circles(files: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let paths: Vec<&String> = files.keys().collect();
    let files: Vec<File> = files.iter().map(|(path, text)| read(path, text)).collect();
    let is_below = |own: usize, other: usize| files[other].module.starts_with(&files[own].module);
    let imports = imports(&files);
    let sideways: Vec<BTreeSet<usize>> = imports
        .iter()
        .enumerate()
        .map(|(own, others)| others.iter().copied().filter(|it| !is_below(own, *it)).collect())
        .collect();
    let mut found: BTreeSet<Vec<usize>> = BTreeSet::new();
    let reached: Vec<_> = (0..files.len()).map(|own| reached(&sideways, own)).collect();
    for (own, others) in reached.iter().enumerate().filter(|(own, others)| others.contains(own)) {
        found.insert(others.iter().copied().filter(|it| reached[*it].contains(&own)).collect());
    }
    for (own, others) in imports.iter().enumerate() {
        let back = others.iter().filter(|it| is_below(own, **it));
        found.extend(back.filter_map(|child| way(&sideways, *child, own)));
    }
    let names = |circle: Vec<usize>| circle.into_iter().map(|it| paths[it].clone()).collect();
    found.into_iter().map(names).collect()
}

/// Which files each file imports, itself not among them.
fn imports(files: &[File]) -> Vec<BTreeSet<usize>> {
    let modules: BTreeMap<&[String], usize> =
        files.iter().enumerate().map(|(at, file)| (file.module.as_slice(), at)).collect();
    let of_one = |(own, file): (usize, &File)| {
        let homes = file.named.iter().filter_map(|path| home(files, &modules, path, 0));
        homes.filter(|other| *other != own).collect()
    };
    files.iter().enumerate().map(of_one).collect()
}

/// All that a file imports, and what that imports.
fn reached(imports: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        open.extend(imports[at].iter().filter(|other| found.insert(**other)));
    }
    found
}

/// The shortest way by imports from one file to another, which stands first.
fn way(imports: &[BTreeSet<usize>], from: usize, to: usize) -> Option<Vec<usize>> {
    let mut ways = VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::from([from]);
    while let Some(way) = ways.pop_front() {
        let at = *way.last()?;
        if imports[at].contains(&to) {
            return Some([vec![to], way].concat());
        }
        for next in imports[at].iter().filter(|next| seen.insert(**next)) {
            ways.push_back([way.as_slice(), &[*next]].concat());
        }
    }
    None
}

/// The file in which what a path names is written, as far as `use` lines tell.
fn home(
    files: &[File],
    modules: &BTreeMap<&[String], usize>,
    path: &[String],
    depth: usize,
) -> Option<usize> {
    let known = |length: &usize| modules.contains_key(&path[..*length]);
    let length = (0..=path.len()).rev().find(known)?;
    let at = modules[&path[..length]];
    // A name may be handed on a few times; a `use` of itself would never end.
    if depth > 8 || length == path.len() {
        return Some(at);
    }
    let Some(target) = files[at].bound.get(&path[length]) else { return Some(at) };
    home(files, modules, &[target, &path[length + 1..]].concat(), depth + 1)
}

/// The path of a file's module; that of the root is empty.
fn module_of(path: &str) -> Names {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut names: Names = inside.split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|last| last == "mod") || names == ["lib"] {
        names.pop();
    }
    names
}

fn read(path: &str, text: &str) -> File {
    let all = tokens(text);
    let tokens = without_tests(&all);
    let mut file = File { module: module_of(path), ..File::default() };
    // Where each module that is written in this file ends, with its name.
    let mut inline: Vec<(usize, String)> = Vec::new();
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token<'_>| token.text);
    for (at, token) in tokens.iter().enumerate() {
        if token.text == "mod" && text(at + 2) == ";" {
            file.children.insert(text(at + 1).to_owned());
        }
    }
    let mut at = 0;
    while at < tokens.len() {
        inline.retain(|(end, _)| at <= *end);
        let here: Names =
            file.module.iter().chain(inline.iter().map(|(_, name)| name)).cloned().collect();
        match text(at) {
            "mod" if text(at + 2) == "{" => {
                inline.push((closing(&tokens, at + 2), text(at + 1).to_owned()));
                at += 3;
            }
            "use" => {
                let shared = is_shared(&tokens[..at]);
                let end = (at..tokens.len()).find(|end| text(*end) == ";").unwrap_or(at);
                let mut leaves = Vec::new();
                tree(&tokens[at + 1..end], &Names::new(), &mut leaves);
                for (path, name) in leaves {
                    bind(&mut file, &here, shared, &path, name);
                }
                at = end + 1;
            }
            start if is_name(start) && !["::", "."].contains(&text(at.wrapping_sub(1))) => {
                let mut path = vec![start.to_owned()];
                while text(at + 1) == "::" && is_name(text(at + 2)) {
                    path.push(text(at + 2).to_owned());
                    at += 2;
                }
                at += 1;
                if path.len() > 1 {
                    file.named.extend(absolute(&file, &here, &path));
                }
            }
            _ => at += 1,
        }
    }
    file
}

/// Whether the word before `use` makes the names others' as well.
fn is_shared(before: &[Token<'_>]) -> bool {
    before.last().is_some_and(|token| ["pub", ")"].contains(&token.text))
}

/// Keeps one leaf of a `use`: the name it binds, and the path unless it is only handed on.
fn bind(file: &mut File, here: &Names, shared: bool, path: &Names, name: String) {
    let Some(target) = absolute(file, here, path) else { return };
    let from_child = target.len() > file.module.len() && target.starts_with(&file.module);
    if !(shared && from_child) {
        file.named.push(target.clone());
    }
    if *here == file.module {
        file.bound.insert(name, target);
    }
}

/// A path as seen from the crate's root; none where it begins outside of the crate.
fn absolute(file: &File, here: &Names, path: &[String]) -> Option<Names> {
    let ups = path.iter().take_while(|name| *name == "super").count();
    let first = path.first()?.as_str();
    let (base, rest) = match first {
        "crate" => (&[][..], &path[1..]),
        "self" => {
            let ups = path[1..].iter().take_while(|name| *name == "super").count();
            (&here[..here.len().checked_sub(ups)?], &path[1 + ups..])
        }
        "super" => (&here[..here.len().checked_sub(ups)?], &path[ups..]),
        _ if file.children.contains(first) && *here == file.module => (&here[..], path),
        _ => return None,
    };
    Some([base, rest].concat())
}

/// The leaves of a tree of `use`: each path with the name that it binds.
fn tree(tokens: &[Token<'_>], before: &Names, leaves: &mut Vec<(Names, String)>) {
    let mut path = before.clone();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text {
            "{" => {
                let end = closing(tokens, at);
                for branch in branches(&tokens[at + 1..end]) {
                    tree(branch, &path, leaves);
                }
                return;
            }
            "*" => {
                leaves.push((path, "*".to_owned()));
                return;
            }
            "as" => {
                let name = tokens.get(at + 1).map_or("_", |token| token.text);
                leaves.push((path, name.to_owned()));
                return;
            }
            "self" if !path.is_empty() => {}
            name if is_name(name) => path.push(name.to_owned()),
            _ => {}
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned().filter(|_| !tokens.is_empty()) {
        leaves.push((path, name));
    }
}

/// What commas part, outside of inner braces.
fn branches<'a, 'b>(tokens: &'b [Token<'a>]) -> Vec<&'b [Token<'a>]> {
    let mut depth = 0_usize;
    let parts = tokens.split(|token| {
        match token.text {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token.text == ","
    });
    parts.collect()
}

/// The circles of files that are given as pairs of path and text.
#[cfg(test)]
fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let own = |(path, text): &(&str, &str)| (format!("src/{path}.rs"), (*text).to_owned());
    let strip = |path: &String| path.replace("src/", "").replace(".rs", "");
    let circles = circles(&files.iter().map(own).collect());
    circles.iter().map(|circle| circle.iter().map(strip).collect()).collect()
}

#[test]
fn a_circle_is_found_in_every_form() {
    let names_b = [
        "use crate::b::X;",
        "use super::b;",
        "fn f() { crate::b::x(); }",
        "use crate::{\n    c,\n    b::{self as d, X},\n};",
        "use self::super::b::*;",
        "mod inner { use super::super::b::X; }",
        "impl super::b::X for Y {}",
    ];
    for text in names_b {
        let files = [("a", text), ("b", "use crate::a::{self, Y};"), ("c", "")];
        assert_eq!(found(&files), [["a", "b"]], "{text}");
    }
    for text in [
        "// use crate::b;",
        "\"use crate::b::X;\"",
        "#[cfg(test)] mod t { use crate::b; }",
        "use other::b::X;",
        "fn f() { other::crate_b::x(); }",
    ] {
        assert!(found(&[("a", text), ("b", "use super::a;")]).is_empty(), "{text}");
    }
    let ring = [("a", "use crate::c::X;"), ("b", "use crate::a;"), ("c", "use crate::b;")];
    assert_eq!(found(&ring), [["a", "b", "c"]]);
}

#[test]
fn names_that_are_handed_on_belong_to_the_file_they_come_from() {
    let handed = ("p/mod", "mod a;\nmod b;\npub use a::X;");
    assert!(found(&[handed, ("p/a", "use super::Y;"), ("p/b", "use super::X;")]).is_empty());
    let circle = [handed, ("p/a", "use super::b::Y;"), ("p/b", "use super::X;")];
    assert_eq!(found(&circle), [["p/a", "p/b"]]);
}

#[test]
fn a_parent_that_uses_what_leads_back_to_it_is_in_a_circle() {
    let parent = ("p/mod", "mod a;\nmod b;\nuse a::X;\nfn f() {}");
    assert_eq!(found(&[parent, ("p/a", "use super::f;")]), [["p/mod", "p/a"]]);
    let long = [parent, ("p/a", "use super::b;"), ("p/b", "use crate::p::f;")];
    assert_eq!(found(&long), [["p/mod", "p/a", "p/b"]]);
    let named = [("p/mod", "mod a;\nfn f() { a::x(); }"), ("p/a", "use super::f;")];
    assert_eq!(found(&named), [["p/mod", "p/a"]]);
    assert!(found(&[parent, ("p/a", "use crate::q::X;"), ("q", "")]).is_empty());
}
