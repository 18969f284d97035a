//! `dynaurora infer`: items, or a design, become a proposed config with its reasons as comments.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::paste;
use crate::engine::ports::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::{InferPlace, InferRequest, infer_items, infer_model};
use crate::model::Item;
use crate::ops::sample::sample;
use crate::source::{ConnectOptions, DynamoSource, SourceOptions, connect};

/// Items that are sampled of a table unless told.
const SAMPLE: usize = 2_000;

/// What to do with a proposal.
const SAVED: &str = "save it as dynaurora.toml, read it, then dynaurora check --offline";

/// Options of `infer`.
#[derive(Debug, Args)]
pub struct InferArgs {
    /// The DynamoDB table; its items are sampled unless `--items` gives some.
    #[arg(value_name = "TABLE", required_unless_present = "from")]
    table: Option<String>,
    /// A data model of NoSQL Workbench, or a OneTable schema as JSON; nothing is called then. TABLE
    /// chooses one of the model's tables, or names the schema's.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["items", "region", "profile", "endpoint"]
    )]
    from: Option<PathBuf>,
    /// A file of items, one of DynamoDB JSON a line; nothing is called then.
    #[arg(long, value_name = "FILE", requires = "key")]
    items: Option<PathBuf>,
    /// The key attributes, the partition key first, as in `--key pk,sk`; with `--items` only.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    key: Vec<String>,
    /// Sample at most so many items; of a table 2000 unless told, of a file all.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// The Region of the table.
    #[arg(long)]
    region: Option<String>,
    /// The profile of the shared AWS files.
    #[arg(long)]
    profile: Option<String>,
    /// The endpoint of a local stand-in.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

/// Samples and proposes; the config goes to stdout.
///
/// # Errors
/// When the items cannot be read.
pub async fn run(args: &InferArgs) -> Result<ExitCode> {
    if let Some(path) = &args.from {
        anstream::print!("{}", from_design(path, args.table.as_deref())?);
        anstream::eprintln!("proposed from {}", path.display());
        paste::next(SAVED);
        return Ok(ExitCode::SUCCESS);
    }
    let table = args.table.as_deref().unwrap_or_default();
    let (key_attributes, items) = match &args.items {
        Some(path) => (args.key.clone(), read_items(path, args.sample.unwrap_or(usize::MAX))?),
        None => sampled(args, table).await?,
    };
    if items.is_empty() {
        return Err(Error::new(ErrorKind::Gone, format!("there are no items in {table}"))
            .with_hint("dynaurora init writes a config to begin with"));
    }
    let source = table.to_lowercase();
    let place = InferPlace {
        region: args.region.as_deref(),
        profile: args.profile.as_deref(),
        endpoint: args.endpoint.as_deref(),
    };
    let request = InferRequest { source: &source, table, key_attributes: &key_attributes, place };
    anstream::print!("{}", infer_items(request, &items));
    anstream::eprintln!("proposed from {} items", items.len());
    paste::next(SAVED);
    Ok(ExitCode::SUCCESS)
}

fn from_design(path: &Path, table: Option<&str>) -> Result<String> {
    let what = || format!("read the design in {}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::new(ErrorKind::Usage, what()).with_source(error))?;
    infer_model(&text, table).map_err(|error| {
        Error::new(ErrorKind::Usage, what()).with_source(error).with_hint(
            "give a data model that NoSQL Workbench exported, or a OneTable schema as JSON",
        )
    })
}

async fn sampled(args: &InferArgs, table: &str) -> Result<(Vec<String>, Vec<Item>)> {
    let options = ConnectOptions {
        region: args.region.clone(),
        endpoint: args.endpoint.clone(),
        profile: args.profile.clone(),
    };
    let dynamo = DynamoSource::new(table, &connect(&options).await?, SourceOptions::default());
    let key_attributes = dynamo.describe().await?.key_attributes;
    Ok((key_attributes, sample(&dynamo, args.sample.unwrap_or(SAMPLE)).await?))
}

fn read_items(path: &Path, most: usize) -> Result<Vec<Item>> {
    let failed = |line: usize| {
        Error::new(ErrorKind::Usage, format!("read the item in {}, line {line}", path.display()))
            .with_hint(r#"one item a line, as {"pk": {"S": "CHILD#42"}}"#)
    };
    let file = std::fs::File::open(path).map_err(|error| failed(1).with_source(error))?;
    let mut items = Vec::new();
    for (number, line) in (1..).zip(std::io::BufReader::new(file).lines()) {
        let line = line.map_err(|error| failed(number).with_source(error))?;
        if line.trim().is_empty() {
            continue;
        }
        items.push(serde_json::from_str(&line).map_err(|error| failed(number).with_source(error))?);
        if items.len() == most {
            break;
        }
    }
    Ok(items)
}
