//! Printed commands that can be pasted: each repeats the config flags that the user gave.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

use clap::Command;

use super::args::{CONFIG, ConfigArgs};

/// The flags of this process, quoted for a shell.
static GIVEN: OnceLock<String> = OnceLock::new();

/// The commands of this program.
static COMMANDS: OnceLock<Command> = OnceLock::new();

/// Remembers which commands there are, and so which take a config.
pub(super) fn know(commands: Command) {
    COMMANDS.get_or_init(|| commands);
}

/// Remembers the flags that printed commands must repeat.
pub(super) fn remember(args: &ConfigArgs) {
    // Every command of a process reads one config; the first one given counts.
    GIVEN.get_or_init(|| flags(args));
}

/// The text with the user's flags added to each of our commands.
pub(super) fn pasteable(text: &str) -> Cow<'_, str> {
    match (GIVEN.get().map(String::as_str), COMMANDS.get()) {
        (None | Some(""), _) | (_, None) => Cow::Borrowed(text),
        (Some(given), Some(commands)) => Cow::Owned(with_flags(text, given, commands)),
    }
}

/// Prints the next step to stderr.
pub(super) fn next(what: &str) {
    anstream::eprintln!("{}", pasteable(&format!("next: {what}")));
}

/// A word quoted for a shell.
pub(super) fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=,@%+".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

fn flags(args: &ConfigArgs) -> String {
    let mut flags = String::new();
    if args.config != Path::new(CONFIG) {
        flags.push_str(&format!(" --config {}", quoted(&args.config.to_string_lossy())));
    }
    for set in &args.set {
        flags.push_str(&format!(" --set {}", quoted(set)));
    }
    flags
}

/// Adds the flags after the name of each command that takes a config.
fn with_flags(text: &str, flags: &str, commands: &Command) -> String {
    const PROGRAM: &str = "dynaurora";
    let mut out = String::with_capacity(text.len() + flags.len());
    let mut rest = text;
    while let Some(at) = rest.find(PROGRAM) {
        let mut end = at + PROGRAM.len();
        let mut command = commands;
        while let Some((name, own)) = named(command, rest.get(end..).unwrap_or_default()) {
            end += 1 + name;
            command = own;
        }
        let takes = command.get_arguments().any(|own| own.get_id() == "config");
        let (before, after) = rest.split_at(end);
        out.push_str(before);
        if takes && !after.starts_with(" --config") {
            out.push_str(flags);
        }
        rest = after;
    }
    out + rest
}

/// The subcommand named after the space, and the length of its name.
fn named<'c>(command: &'c Command, text: &str) -> Option<(usize, &'c Command)> {
    let text = text.strip_prefix(' ')?;
    let end = text.find(|char: char| !char.is_ascii_lowercase() && char != '-');
    let name = text.get(..end.unwrap_or(text.len()))?;
    command.find_subcommand(name).map(|own| (name.len(), own))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn each_command_that_takes_a_config_repeats_it() {
        let flags = flags(&ConfigArgs {
            config: "my configs/a.toml".into(),
            set: vec!["target.pool=4".into(), "aws.profile=o'neill".into()],
        });
        let given =
            r"--config 'my configs/a.toml' --set target.pool=4 --set 'aws.profile=o'\''neill'";
        assert_eq!(flags.trim_start(), given);
        for (text, want) in [
            ("next: dynaurora run", "next: dynaurora run -c X"),
            ("`dynaurora status` says which", "`dynaurora status -c X` says which"),
            ("dynaurora verify, to see", "dynaurora verify -c X, to see"),
            ("dynaurora dead-letters show 3", "dynaurora dead-letters show -c X 3"),
            ("dynaurora config show", "dynaurora config show -c X"),
            ("dynaurora apply --confirm t", "dynaurora apply -c X --confirm t"),
            (
                "dynaurora plan, then dynaurora apply",
                "dynaurora plan -c X, then dynaurora apply -c X",
            ),
            ("dynaurora init FILE", "dynaurora init FILE"),
            ("a newer dynaurora migrated it", "a newer dynaurora migrated it"),
            ("dynaurora check --config b", "dynaurora check --config b"),
        ] {
            assert_eq!(with_flags(text, " -c X", &crate::cli::Cli::command()), want);
        }
    }

    #[test]
    fn the_config_that_is_read_anyway_is_not_repeated() {
        let args = ConfigArgs { config: CONFIG.into(), set: Vec::new() };
        assert_eq!(flags(&args), "");
    }

    #[test]
    fn a_shell_reads_a_quoted_word_back() {
        for word in ["plain/a-b_c.toml", "", "a b", "it's", "$HOME", "*", "é"] {
            let script = format!("printf %s {}", quoted(word));
            let read = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(read.stdout, word.as_bytes());
        }
    }
}
