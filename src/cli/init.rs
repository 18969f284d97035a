//! `dynaurora init`, `schema` and `config`: commands for the config file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::args::ConfigArgs;
use super::config_file::read;
use super::paste;
use crate::config::SCHEMA;
use crate::error::{Error, ErrorKind, Result};

/// The commented config that `init` writes: the worked example.
const EXAMPLE: &str = include_str!("../../config/santa.toml");

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it; an existing file is not overwritten.
    #[arg(value_name = "FILE", default_value = "dynaurora.toml")]
    file: PathBuf,
}

/// Options of `config`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(subcommand)]
    command: ShowCommand,
}

#[derive(Debug, Subcommand)]
enum ShowCommand {
    /// Print the effective config with defaults and overrides, without secrets.
    Show(ConfigArgs),
}

/// Writes a commented config to start with.
///
/// # Errors
/// `Usage` when the file exists or cannot be written.
pub fn run(args: &InitArgs) -> Result<ExitCode> {
    let path = args.file.display();
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&args.file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, EXAMPLE.as_bytes()));
    written.map_err(|error| {
        Error::new(ErrorKind::Usage, format!("write {path}"))
            .with_hint("choose another name: dynaurora init FILE")
            .with_source(error)
    })?;
    anstream::eprintln!("{path} holds an example; adapt it");
    paste::remember(&ConfigArgs { config: args.file.clone(), set: Vec::new() });
    paste::next("dynaurora check");
    Ok(ExitCode::SUCCESS)
}

/// Prints the JSON Schema of the config, for editors.
pub fn schema() -> ExitCode {
    anstream::print!("{SCHEMA}");
    ExitCode::SUCCESS
}

/// Shows the effective config.
///
/// # Errors
/// When the config is wrong.
pub fn config(args: &ShowArgs) -> Result<ExitCode> {
    let ShowCommand::Show(args) = &args.command;
    anstream::print!("{}", read(args)?.effective());
    Ok(ExitCode::SUCCESS)
}
