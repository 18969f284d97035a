//! Names of columns and entities, made of what attributes are called.

/// `sentAt` -> `sent_at`; empty if no part of it can be an identifier.
pub(in crate::mapping) fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut before = '_';
    for char in name.chars() {
        if char.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            out.push('_');
        }
        if char.is_ascii_alphanumeric() {
            out.push(char.to_ascii_lowercase());
        } else if before != '_' && !out.ends_with('_') {
            out.push('_');
        }
        before = char;
    }
    let out = out.trim_matches('_');
    let out = if out.starts_with(|char: char| char.is_ascii_digit()) {
        format!("n{out}")
    } else {
        out.to_owned()
    };
    out.get(..40).map_or(out.clone(), str::to_owned)
}

/// The name, with a number if it is taken or reserved.
pub(in crate::mapping) fn unique(name: &str, taken: &[String]) -> String {
    let name = if name.is_empty() { "attribute" } else { name };
    let reserved = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "dynaurora_version"];
    let free = |name: &str| !taken.iter().any(|own| own == name) && !reserved.contains(&name);
    if free(name) {
        return name.to_owned();
    }
    (2..).map(|number| format!("{name}_{number}")).find(|name| free(name)).unwrap_or_default()
}

/// An attribute's name as a path in the mapping.
pub(in crate::mapping) fn path_name(name: &str) -> String {
    let plain = !name.is_empty()
        && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'));
    if plain {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
