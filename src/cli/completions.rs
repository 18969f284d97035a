//! `dynaurora completions SHELL`: prints the completion script of a shell.

use std::io::Write;

use clap_complete::Shell;

use crate::error::{Error, ErrorKind, Result};

/// Prints the script that completes `command` in `shell`.
///
/// # Errors
/// `Unknown` when it cannot be printed.
pub fn run(mut command: clap::Command, shell: Shell, out: &mut impl Write) -> Result<()> {
    let name = command.get_name().to_owned();
    // The generator panics when a write fails, as with `| head`; a buffer cannot fail.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    out.write_all(&script)
        .map_err(|error| Error::new(ErrorKind::Unknown, "print the script").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let command = clap::Command::new("dynaurora").subcommand(clap::Command::new("verify"));
            let mut script = Vec::new();
            run(command, shell, &mut script).unwrap();
            assert!(String::from_utf8(script).unwrap().contains("verify"), "{shell}");
        }
    }
}
