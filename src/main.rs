//! The `dynaurora` program: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use dynaurora::cli::{Cli, dispatch};

fn main() -> ExitCode {
    dispatch(&Cli::parse())
}
