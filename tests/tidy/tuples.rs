//! Parameters that are tuples: two in one's place, by which a function seems to have fewer.

use super::scan::{Token, closing, is_name, tokens};

/// The parameters of a file's functions whose type is a tuple of two or more, also behind a reference: the
/// function's name with its line.
pub fn tuple_parameters(text: &str) -> Vec<(String, usize)> {
    let tokens = tokens(text);
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token<'_>| token.text);
    let mut found = Vec::new();
    for at in (0..tokens.len()).filter(|at| text(*at) == "fn" && is_name(text(*at + 1))) {
        let mut open = at + 2;
        let mut angles = 0_i32;
        while !(text(open) == "(" && angles == 0 || text(open).is_empty()) {
            angles += i32::from(text(open) == "<") - i32::from(text(open) == ">");
            open += 1;
        }
        let parameters = &tokens[(open + 1).min(tokens.len())..closing(&tokens, open)];
        let tuples = (0..parameters.len()).filter(|at| is_tuple(parameters, *at)).count();
        let named = (text(at + 1).to_owned(), tokens[at].line);
        found.extend(std::iter::repeat_n(named, tuples));
    }
    found
}

/// Whether a parameter's colon stands here and a tuple behind it.
fn is_tuple(parameters: &[Token<'_>], colon: usize) -> bool {
    if parameters[colon].text != ":" || depth(&parameters[..colon]) > 0 {
        return false;
    }
    let is_reference = |token: &&Token<'_>| ["&", "'", "mut"].contains(&token.text);
    let mut at = colon + 1 + parameters[colon + 1..].iter().take_while(is_reference).count();
    if parameters.get(at - 1).is_some_and(|before| before.text == "'") {
        at += 1 + usize::from(parameters.get(at + 1).is_some_and(|next| next.text == "mut"));
    }
    if parameters.get(at).is_none_or(|token| token.text != "(") {
        return false;
    }
    let inside = &parameters[at + 1..closing(parameters, at)];
    (0..inside.len()).any(|at| inside[at].text == "," && depth(&inside[..at]) == 0)
}

/// How many brackets are open at the end.
fn depth(tokens: &[Token<'_>]) -> usize {
    tokens.iter().fold(0, |depth, token| match token.text {
        "(" | "[" | "{" => depth + 1,
        ")" | "]" | "}" => depth.saturating_sub(1),
        _ => depth,
    })
}

#[test]
fn tuple_parameters_are_found() {
    let count = |text: &str| tuple_parameters(text).len();
    assert_eq!(count("fn a(b: (u8, u8), c: u8) {}"), 1);
    assert_eq!(count("fn a<T: Into<(u8, u8)>>(&self, b: &(T, u8), (c, d): (u8, u8));"), 2);
    assert_eq!(count("fn a<'b>(c: &'b (u8, u8), d: &'b mut (u8, u8), e: &mut (u8, u8)) {}"), 3);
    assert_eq!(count("fn a(b: ((u8), u8)) {}\nfn c(b: (u8, u8)) {}"), 2);
    assert_eq!(
        count("fn a(b: (), c: (u8), d: Vec<(u8, u8)>, e: impl Fn(u8, u8)) -> (u8, u8) {}"),
        0
    );
    assert_eq!(
        count("fn a(b: &[(u8, u8)], c: Option<&(u8, u8)>) { let d: (u8, u8) = (1, 2); }"),
        0
    );
    assert_eq!(tuple_parameters("\nfn a(b: (u8, u8)) {}"), [("a".to_owned(), 2)]);
}
