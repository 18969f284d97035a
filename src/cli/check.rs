//! `dynaurora check`: everything that the daemon needs, each failure with the command that mends it.

use std::process::ExitCode;

use clap::Args;

use super::config_file::{load, show_problems};
use super::{ConfigArgs, Output, exit_code, paste, print_json};
use crate::config::{Config, SourceConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::resolve::resolve;
use crate::ops::stream::describe;
use crate::ops::wire;
use crate::postgres::migrations;
use crate::postgres::tables::ddl;

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Check the config file only; call nothing.
    #[arg(long)]
    offline: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One thing that was looked at.
#[derive(Debug, serde::Serialize)]
struct Finding {
    what: String,
    ok: bool,
    detail: Option<String>,
    remedy: Option<String>,
    #[serde(skip)]
    kind: Option<ErrorKind>,
}

/// Checks, prints, and answers with the exit code of the first failure.
///
/// # Errors
/// When the config is wrong; everything else is a finding.
pub async fn run(args: &CheckArgs) -> Result<ExitCode> {
    let mut config = load(&args.config)?;
    let mut findings = vec![good(format!(
        "config {}: {} sources, {} target tables",
        args.config.config.display(),
        config.sources.len(),
        wire::tables(&config).len()
    ))];
    if !args.offline {
        target(&mut config, &mut findings).await;
        for source in &config.sources {
            stream(&config, source, &mut findings).await;
        }
    }
    let failure = findings.iter().find_map(|finding| finding.kind);
    if args.output == Output::Json {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            print(finding);
        }
        match failure {
            None => {
                anstream::eprintln!("all is well");
                paste::next("dynaurora run");
            }
            Some(_) => anstream::eprintln!("mend the above, then check again"),
        }
    }
    Ok(failure.map_or(ExitCode::SUCCESS, exit_code))
}

async fn target(config: &mut Config, findings: &mut Vec<Finding>) {
    let what = "target: reachable, and takes writes";
    let pools = match wire::target(config).await {
        Ok(pools) => pools,
        Err(error) => return findings.push(bad(what, &error)),
    };
    let pool = match pools.pool().await {
        Ok(pool) => pool,
        Err(error) => return findings.push(bad(what, &error)),
    };
    findings.push(good(what));
    let what = "ledger: its schema is up to date";
    findings.push(match migrations::pending(&pool).await {
        Ok(pending) if pending.is_empty() => good(what),
        Ok(pending) => {
            let lacks = format!("{} migrations are missing", pending.len());
            bad(what, &Error::new(ErrorKind::Schema, lacks).with_hint("dynaurora apply"))
        }
        Err(error) => bad(what, &error),
    });
    if let Err(error) = resolve(config, &pool).await {
        show_problems(&error);
        return findings.push(bad("mapping: it fits the tables that exist", &error));
    }
    for source in &config.sources {
        let what = format!("source {}: its target tables fit the mapping", source.name);
        findings.push(match ddl::plan(&pool, source.mapper.tables()).await {
            Ok(steps) if steps.is_empty() => good(what),
            Ok(steps) => {
                let lacks = format!("{} changes are missing", steps.len());
                bad(what, &Error::new(ErrorKind::Schema, lacks).with_hint("dynaurora apply"))
            }
            Err(error) => bad(what, &error),
        });
    }
}

async fn stream(config: &Config, source: &SourceConfig, findings: &mut Vec<Finding>) {
    let what = format!("source {}: table {} has a stream that fits", source.name, source.table);
    let found = async {
        let dynamo = wire::source(config, source).await?;
        describe(&dynamo, source).await
    };
    findings.push(match found.await {
        Ok(info) => {
            let detail = info.stream_arn.unwrap_or_default();
            Finding { detail: Some(detail), ..good(what) }
        }
        Err(error) => bad(what, &error),
    });
}

fn good(what: impl Into<String>) -> Finding {
    Finding { what: what.into(), ok: true, detail: None, remedy: None, kind: None }
}

fn bad(what: impl Into<String>, error: &Error) -> Finding {
    Finding {
        what: what.into(),
        ok: false,
        detail: Some(paste::pasteable(&error.chain()).into_owned()),
        remedy: error.hint().map(|hint| paste::pasteable(hint).into_owned()),
        kind: Some(error.kind()),
    }
}

fn print(finding: &Finding) {
    let mark = if finding.ok { "ok    " } else { "FAILED" };
    anstream::println!("{mark}  {}", finding.what);
    if let Some(detail) = finding.detail.as_ref().filter(|_| !finding.ok) {
        anstream::println!("        {detail}");
    }
    if let Some(remedy) = &finding.remedy {
        anstream::println!("        try: {remedy}");
    }
}
