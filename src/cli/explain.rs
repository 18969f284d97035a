//! `dynaurora explain`: one item, its entity, its rows, and the SQL. It writes nothing and connects to
//! nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::{Output, print_json};
use crate::engine::ports::Clock;
use crate::error::Result;
use crate::ops::explain::{Explanation, explain, read_item};
use crate::ops::named;
use crate::runtime::SystemClock;

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file with one item as DynamoDB JSON, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    item: PathBuf,
    /// The source whose mapping to use; needed if the config has several.
    #[arg(long)]
    source: Option<String>,
    /// Explain the removal of the item instead.
    #[arg(long)]
    removed: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Maps one item and prints the result. Answers 1 if the item would become a dead letter.
///
/// # Errors
/// When the config or the item cannot be read.
pub fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let config = read(&args.config)?;
    let source = named::one(&config, args.source.as_deref())?;
    let item = read_item(&args.item)?;
    // Removed now: rows that outlive the item show this time.
    let removed_at = args.removed.then(|| SystemClock.wall());
    let explanation = explain(source, item, removed_at)?;
    let rejected = explanation.fate.is_rejected();
    if args.output == Output::Json {
        print_json(&explanation)?;
    } else {
        print(&explanation);
    }
    Ok(if rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A value for a terminal: control characters are escaped.
pub(super) fn printable(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for char in value.chars() {
        if char.is_control() && char != '\n' {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

fn print(explanation: &Explanation) {
    anstream::println!("{}", explanation.fate.outcome);
    if let Some(reason) = &explanation.fate.reason {
        anstream::println!("  {}", printable(reason));
    }
    for row in &explanation.fate.rows {
        anstream::println!("{} {} (entity {})", row.action, row.table, row.entity);
        let width = row.columns.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &row.columns {
            match value {
                Some(value) => anstream::println!("  {name:width$} = {}", printable(value)),
                None => anstream::println!("  {name:width$} is NULL"),
            }
        }
    }
    for statement in &explanation.statements {
        anstream::println!("\n{};", printable(&statement.sql));
        for (number, parameter) in (1..).zip(&statement.parameters) {
            anstream::println!("  ${number} = {}", printable(&array(parameter)));
        }
    }
}

/// An array as SQL writes it.
fn array(values: &[Option<String>]) -> String {
    let value = |value: &Option<String>| match value {
        Some(value) => format!("'{}'", value.replace('\'', "''")),
        None => "null".to_owned(),
    };
    let values: Vec<_> = values.iter().map(value).collect();
    format!("array[{}]::text[]", values.join(", "))
}
