//! `dynaurora test`: runs the config's mapping tests, offline.

use std::process::ExitCode;

use clap::Args;

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::{Output, print_json};
use crate::error::Result;
use crate::ops::trials;

/// Options of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs every `[[test]]` without connections. Answers 1 if one fails.
///
/// # Errors
/// When the config is wrong.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let ended = trials::run(&read(&args.config)?)?;
    let failed = ended.iter().filter(|test| !test.passed).count();
    if args.output == Output::Json {
        print_json(&ended)?;
    } else {
        for test in &ended {
            let mark = if test.passed { "ok    " } else { "FAILED" };
            anstream::println!("{mark}  {}: {}", test.source, test.name);
            for difference in &test.differences {
                anstream::println!("        {difference}");
            }
        }
        anstream::eprintln!("{} passed, {failed} failed", ended.len() - failed);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
