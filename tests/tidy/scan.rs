//! Rust's text as words and marks, which is as much of a parser as the rules need.

/// One word or mark, with the line that it stands in, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// An identifier, a number, a literal, `::`, `->`, or one character.
    pub text: &'a str,
    /// Its line.
    pub line: usize,
}

/// The tokens of a file, without its comments.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while !rest.is_empty() {
        let (length, kept) = next(rest);
        let (token, after) = rest.split_at(length);
        if kept {
            tokens.push(Token { text: token, line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

/// The tokens without the items that are compiled for tests alone.
pub fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    const FOR_TESTS: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if texts(&tokens[at..]).take(FOR_TESTS.len()).eq(FOR_TESTS) {
            at = end_of_item(tokens, at + FOR_TESTS.len());
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

/// Where the bracket that opens here is closed.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len().saturating_sub(1)
}

/// The texts of tokens.
pub fn texts<'a>(tokens: &[Token<'a>]) -> impl Iterator<Item = &'a str> {
    tokens.iter().map(|token| token.text)
}

/// Whether a token is a name or a keyword.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
        && text.chars().all(|own| own.is_alphanumeric() || own == '_')
}

/// Past the item that begins here: its `;` or the brace that ends its body.
fn end_of_item(tokens: &[Token<'_>], from: usize) -> usize {
    let mut at = from;
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "{" => return closing(tokens, at) + 1,
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    at
}

/// The length of what stands first, and whether it is a token.
fn next(text: &str) -> (usize, bool) {
    let line = text.find('\n').unwrap_or(text.len());
    if text.starts_with("//") {
        return (line, false);
    }
    if text.starts_with("/*") {
        return (text.find("*/").map_or(text.len(), |end| end + 2), false);
    }
    if let Some(length) = literal(text) {
        return (length, true);
    }
    let first = text.chars().next().unwrap_or_default();
    if first.is_alphanumeric() || first == '_' {
        let end = text.find(|own: char| !(own.is_alphanumeric() || own == '_'));
        return (end.unwrap_or(text.len()), true);
    }
    let pair = ["::", "->", "=>"].iter().any(|pair| text.starts_with(pair));
    (if pair { 2 } else { first.len_utf8() }, !first.is_whitespace())
}

/// The length of a literal of text, a character or a lifetime.
fn literal(text: &str) -> Option<usize> {
    let plain = text.strip_prefix('b').unwrap_or(text);
    let prefix = text.len() - plain.len();
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = prefix + 1 + hashes + 1;
            let length = text[body..].find(&end).map(|at| body + at + end.len());
            return Some(length.unwrap_or(text.len()));
        }
    }
    let quote = plain.chars().next().filter(|first| ['"', '\''].contains(first))?;
    if quote == '\'' && is_lifetime(&plain[1..]) {
        return Some(prefix + 1);
    }
    let mut escaped = false;
    for (at, own) in plain.char_indices().skip(1) {
        if own == quote && !escaped {
            return Some(prefix + at + 1);
        }
        escaped = own == '\\' && !escaped;
    }
    Some(text.len())
}

/// Whether a quote is followed by a name that no quote ends.
fn is_lifetime(after: &str) -> bool {
    let mut chars = after.chars();
    let first = chars.next().unwrap_or_default();
    (first.is_alphabetic() || first == '_') && chars.next() != Some('\'')
}

#[test]
fn text_and_comments_hide_what_they_hold() {
    let code =
        "fn a<'b>(c: char) { // crate::x\n  d('\"', \"crate::y \\\" {\", r#\"{\"\"#, b'{') }";
    let found: Vec<_> = texts(&tokens(code)).collect();
    let name = |own: &&&str| is_name(own);
    assert_eq!(
        found.iter().filter(name).copied().collect::<Vec<_>>(),
        ["fn", "a", "b", "c", "char", "d"]
    );
    assert_eq!(found.iter().filter(|own| **own == "{").count(), 1);
    assert_eq!(tokens(code).last(), Some(&Token { text: "}", line: 2 }));
    let kept = tokens("use a; #[cfg(test)] mod tests { fn b() {} } #[cfg(test)] use c; fn d() {}");
    let kept: Vec<_> = texts(&without_tests(&kept)).collect();
    assert_eq!(kept, ["use", "a", ";", "fn", "d", "(", ")", "{", "}"]);
}
