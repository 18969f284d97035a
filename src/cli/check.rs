//! `dynaurora check`: checks all that the daemon needs; each failure names the command that fixes it.

use std::process::ExitCode;

use clap::Args;

use super::args::ConfigArgs;
use super::config_file::{read, show_problems};
use super::output::{Output, exit_code, print_json};
use super::paste;
use crate::error::Result;
use crate::ops::check::{Finding, check};
use crate::ops::wire;

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Check only the config file; connect to nothing.
    #[arg(long)]
    offline: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One thing that was looked at; the JSON's shape only grows.
#[derive(Debug, serde::Serialize)]
struct Printed {
    what: String,
    ok: bool,
    detail: Option<String>,
    remedy: Option<String>,
}

/// Checks, prints, and answers with the exit code of the first failure.
///
/// # Errors
/// When the config is wrong; everything else is a finding.
pub async fn run(args: &CheckArgs) -> Result<ExitCode> {
    let mut config = read(&args.config)?;
    let mut findings = vec![Finding::good(format!(
        "config {}: {} sources, {} target tables",
        args.config.config.display(),
        config.sources.len(),
        wire::tables(&config).len()
    ))];
    if !args.offline {
        findings.extend(Box::pin(check(&mut config)).await);
    }
    let mut failures = findings.iter().filter_map(|finding| finding.outcome.as_ref().err());
    failures.clone().for_each(show_problems);
    let failure = failures.next().map(|error| error.kind());
    let findings: Vec<Printed> = findings.iter().map(printed).collect();
    if args.output == Output::Json {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            print(finding);
        }
        match failure {
            None => {
                anstream::eprintln!("everything is in place");
                paste::next("dynaurora run");
            }
            Some(_) => anstream::eprintln!("fix the above, then check again"),
        }
    }
    Ok(failure.map_or(ExitCode::SUCCESS, exit_code))
}

fn printed(finding: &Finding) -> Printed {
    let what = finding.what.clone();
    match &finding.outcome {
        Ok(detail) => Printed { what, ok: true, detail: detail.clone(), remedy: None },
        Err(error) => Printed {
            what,
            ok: false,
            detail: Some(paste::pasteable(&error.chain()).into_owned()),
            remedy: error.hint().map(|hint| paste::pasteable(hint).into_owned()),
        },
    }
}

fn print(finding: &Printed) {
    let mark = if finding.ok { "ok    " } else { "FAILED" };
    anstream::println!("{mark}  {}", finding.what);
    if let Some(detail) = finding.detail.as_ref().filter(|_| !finding.ok) {
        anstream::println!("        {detail}");
    }
    if let Some(remedy) = &finding.remedy {
        anstream::println!("        try: {remedy}");
    }
}
