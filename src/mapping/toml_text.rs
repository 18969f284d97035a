//! Texts and keys in TOML, for the configs and tests that dynaurora proposes.

use std::fmt::Write;

/// A key, bare if possible.
pub(crate) fn key(name: &str) -> String {
    let bare = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { string(name) }
}

/// A basic string.
pub(crate) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                out.push('\\');
                out.push(char);
            }
            char if char.is_control() => {
                write!(out, "\\u{:04X}", u32::from(char)).expect("a string takes any text");
            }
            char => out.push(char),
        }
    }
    out.push('"');
    out
}
