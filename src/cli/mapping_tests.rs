//! `dynaurora test`: the mapping tests of the config, offline.

use std::process::ExitCode;

use clap::Args;

use super::config_file::load;
use super::{ConfigArgs, Output, print_json};
use crate::error::{Error, ErrorKind, Result};

/// Options of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// How one test ended; the JSON's shape only grows.
#[derive(serde::Serialize)]
struct Ended {
    name: String,
    source: String,
    passed: bool,
    differences: Vec<String>,
}

/// Runs every `[[test]]`; nothing is called. Answers 1 when one fails.
///
/// # Errors
/// When the config is wrong.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let config = load(&args.config)?;
    let mut ended = Vec::new();
    for trial in &config.trials {
        let source = config.sources.iter().find(|source| *source.name == *trial.source);
        let Some(source) = source else {
            let what = format!("test {:?} names no source of this config", trial.name);
            return Err(Error::new(ErrorKind::Config, what));
        };
        let differences: Vec<String> =
            trial.run(&source.mapper).iter().map(ToString::to_string).collect();
        ended.push(Ended {
            name: trial.name.clone(),
            source: trial.source.clone(),
            passed: differences.is_empty(),
            differences,
        });
    }
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
