//! `dynaurora infer`: proposes a config from items or a design, with its reasons as comments.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::paste;
use crate::error::Result;
use crate::ops::infer::{Origin, Proposal, propose};
use crate::source::ConnectOptions;

/// The next step after a proposal.
const SAVED: &str = "save it as dynaurora.toml, read it, then dynaurora check --offline";

/// Options of `infer`.
#[derive(Debug, Args)]
pub struct InferArgs {
    /// The DynamoDB table; its items are sampled unless `--items` gives some.
    #[arg(value_name = "TABLE", required_unless_present = "from")]
    table: Option<String>,
    /// A data model of NoSQL Workbench, or a OneTable schema as JSON; nothing is called. TABLE chooses one
    /// of the model's tables, or names the schema's.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["items", "region", "profile", "endpoint"]
    )]
    from: Option<PathBuf>,
    /// A file of items, one DynamoDB JSON document per line; nothing is called.
    #[arg(long, value_name = "FILE", requires = "key")]
    items: Option<PathBuf>,
    /// The key attributes, partition key first, as in `--key pk,sk`; only with `--items`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    key: Vec<String>,
    /// Sample at most this many items; the default is 2000 of a table, all of a file.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// The Region of the table.
    #[arg(long)]
    region: Option<String>,
    /// The profile of the shared AWS files.
    #[arg(long)]
    profile: Option<String>,
    /// The endpoint of a local DynamoDB.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

impl InferArgs {
    fn origin(&self) -> Origin {
        let table = || self.table.clone().unwrap_or_default();
        match (&self.from, &self.items) {
            (Some(path), _) => Origin::Design { path: path.clone(), table: self.table.clone() },
            (None, Some(path)) => Origin::Items {
                table: table(),
                path: path.clone(),
                key_attributes: self.key.clone(),
                most: self.sample,
            },
            (None, None) => Origin::Table { table: table(), most: self.sample },
        }
    }
}

/// Samples and proposes; prints the config to stdout.
///
/// # Errors
/// When the items cannot be read.
pub async fn run(args: &InferArgs) -> Result<ExitCode> {
    let place = ConnectOptions {
        region: args.region.clone(),
        endpoint: args.endpoint.clone(),
        profile: args.profile.clone(),
    };
    let Proposal { config, from } = propose(&args.origin(), &place).await?;
    anstream::print!("{config}");
    anstream::eprintln!("proposed from {from}");
    paste::next(SAVED);
    Ok(ExitCode::SUCCESS)
}
