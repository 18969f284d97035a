//! Proposes a config: from a table's items, from a file of them, or from a design.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::sample::sample;
use crate::engine::ports::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::{InferPlace, InferRequest, infer_items, infer_model};
use crate::model::Item;
use crate::source::{ConnectOptions, DynamoSource, SourceOptions, connect};

/// Items sampled from a table by default.
const SAMPLE: usize = 2_000;

/// What a config is proposed from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A table, whose items are sampled; at most so many where somebody says.
    Table {
        /// Its name.
        table: String,
        /// Items to sample at most.
        most: Option<usize>,
    },
    /// A file of items, one of DynamoDB JSON a line; nothing is called.
    Items {
        /// The name of their table.
        table: String,
        /// The file.
        path: PathBuf,
        /// The key attributes, the partition key first.
        key_attributes: Vec<String>,
        /// Items to read at most.
        most: Option<usize>,
    },
    /// A data model or a schema; nothing is called.
    Design {
        /// The file.
        path: PathBuf,
        /// One of the model's tables, or the schema's name.
        table: Option<String>,
    },
}

/// A proposed config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The file, with its reasons as comments.
    pub config: String,
    /// What it was proposed from, in words.
    pub from: String,
}

/// Items with what their table's key is.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// The key attributes, the partition key first.
    pub key_attributes: Vec<String>,
    /// The items.
    pub items: Vec<Item>,
}

/// Proposes a config; `place` is where the table is.
///
/// # Errors
/// When the items or the design cannot be read; `Gone` when there are no items.
pub async fn propose(origin: &Origin, place: &ConnectOptions) -> Result<Proposal> {
    match origin {
        Origin::Table { table, most } => {
            let sdk = connect(place).await?;
            let dynamo = DynamoSource::new(table.as_str(), &sdk, SourceOptions::default());
            proposed(table, place, &sampled(&dynamo, *most).await?)
        }
        Origin::Items { table, path, key_attributes, most } => {
            let items = read_items(path, most.unwrap_or(usize::MAX))?;
            proposed(table, place, &Sampled { key_attributes: key_attributes.clone(), items })
        }
        Origin::Design { path, table } => {
            let config = from_design(path, table.as_deref())?;
            Ok(Proposal { config, from: path.display().to_string() })
        }
    }
}

/// Samples a table's items, from all over it.
///
/// # Errors
/// As the service answers.
pub async fn sampled(source: &impl Source, most: Option<usize>) -> Result<Sampled> {
    let key_attributes = source.describe().await?.key_attributes;
    let items = sample(source, most.unwrap_or(SAMPLE)).await?;
    Ok(Sampled { key_attributes, items })
}

fn proposed(table: &str, place: &ConnectOptions, sampled: &Sampled) -> Result<Proposal> {
    let Sampled { key_attributes, items } = sampled;
    if items.is_empty() {
        return Err(Error::new(ErrorKind::Gone, format!("there are no items in {table}"))
            .with_hint("dynaurora init writes a config to begin with"));
    }
    let source = table.to_lowercase();
    let place = InferPlace {
        region: place.region.as_deref(),
        profile: place.profile.as_deref(),
        endpoint: place.endpoint.as_deref(),
    };
    let request = InferRequest { source: &source, table, key_attributes, place };
    let config = infer_items(request, items);
    Ok(Proposal { config, from: format!("{} items", items.len()) })
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
