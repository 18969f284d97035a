//! Everything that the daemon needs, looked at one by one.

use super::resolve::resolve;
use super::sources::refused;
use super::stream::describe;
use super::wire;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::migrations;
use crate::postgres::tables::ddl;

/// The result of one check.
#[derive(Debug)]
pub struct Finding {
    /// What should be.
    pub what: String,
    /// What more there is to say of it, where it is so; why not, where it is not.
    pub outcome: Result<Option<String>>,
}

/// Looks at the target and at each stream; the mapping is compiled onto the tables that exist.
pub async fn check(config: &mut Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    target(config, &mut findings).await;
    for source in &config.sources {
        findings.push(stream(config, source).await);
    }
    findings
}

impl Finding {
    /// That all is well with this.
    pub fn good(what: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: Ok(None) }
    }

    fn bad(what: impl Into<String>, error: Error) -> Self {
        Self { what: what.into(), outcome: Err(error) }
    }

    /// What should be there, of which so much is lacking.
    fn complete(what: impl Into<String>, lacking: Result<usize>, of: &str) -> Self {
        match lacking {
            Ok(0) => Self::good(what),
            Ok(lacking) => {
                let lacks = format!("{lacking} {of} are missing");
                Self::bad(what, Error::new(ErrorKind::Schema, lacks).with_hint("dynaurora apply"))
            }
            Err(error) => Self::bad(what, error),
        }
    }
}

async fn target(config: &mut Config, findings: &mut Vec<Finding>) {
    let what = "target: reachable and writable";
    let pool = async { wire::target(config).await?.pool().await };
    let pool = match pool.await {
        Ok(pool) => pool,
        Err(error) => return findings.push(Finding::bad(what, error)),
    };
    findings.push(Finding::good(what));
    let pending = migrations::pending(&pool).await.map(|pending| pending.len());
    let what = "ledger: its schema is up to date";
    let complete = matches!(pending, Ok(0));
    findings.push(Finding::complete(what, pending, "migrations"));
    if complete {
        let what = "ledger: no other source keeps the target tables";
        findings.push(match refused(config, &pool).await {
            Ok(None) => Finding::good(what),
            Ok(Some(error)) | Err(error) => Finding::bad(what, error),
        });
    }
    if let Err(error) = resolve(config, &pool).await {
        return findings.push(Finding::bad("mapping: fits the existing tables", error));
    }
    for source in &config.sources {
        let what = format!("source {}: target tables fit the mapping", source.name);
        let steps = ddl::plan(&pool, source.mapper.tables()).await.map(|steps| steps.len());
        findings.push(Finding::complete(what, steps, "changes"));
    }
}

async fn stream(config: &Config, source: &SourceConfig) -> Finding {
    let what = format!("source {}: table {} has a suitable stream", source.name, source.table);
    let found = async {
        let dynamo = wire::source(config, source).await?;
        describe(&dynamo, source).await
    };
    let outcome = found.await.map(|info| Some(info.stream_arn.unwrap_or_default()));
    Finding { what, outcome }
}
