//! `dynaurora tap`: shows live records as they would be mapped; writes and remembers nothing.

use std::process::ExitCode;

use clap::Args;

use super::args::ConfigArgs;
use super::config_file::read;
use super::explain::printable;
use super::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Change, Item};
use crate::ops::explain::{ExplainedRow, Fate};
use crate::ops::tap::{Viewer, tap};
use crate::runtime::signals;

/// Options of `tap`.
#[derive(Debug, Args)]
#[command(after_help = "\
It shows the values of items, so mind where its output goes.

It reads each open shard from the newest record on, with the target's current columns. It moves no \
position and takes no lease. A shard of DynamoDB Streams allows two readers; a daemon on the same \
table is one, this is the other. More readers are throttled.")]
pub struct TapArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The source; needed if the config has several.
    #[arg(long)]
    source: Option<String>,
    /// Stop after this many records.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Output format; JSON is one document per line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One record; the JSON only gains fields.
#[derive(serde::Serialize)]
struct Tapped<'a> {
    op: &'static str,
    sequence: String,
    key: &'a Item,
    #[serde(flatten)]
    fate: Fate,
}

/// Shows records until the limit, ctrl-C, or the end of all shards.
///
/// # Errors
/// When the config, the target or the stream cannot be read.
pub async fn run(args: &TapArgs) -> Result<ExitCode> {
    let mut config = read(&args.config)?;
    let mut signals = signals()
        .map_err(|error| Error::new(ErrorKind::Unknown, "listen for signals").with_source(error))?;
    let screen = Screen(args.output);
    let work = tap(&mut config, args.source.as_deref(), args.limit, &screen);
    tokio::select! {
        biased;
        _ = signals.signal() => {}
        ended = work => ended?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints records on stdout, and what else there is to say on stderr.
struct Screen(Output);

impl Viewer for Screen {
    fn reading(&self, shards: usize, table: &str) {
        anstream::eprintln!(
            "reading {shards} shards of {table} from now on, beside any daemon: a shard should \
             have two readers at most, and this is one of them; nothing is written, ctrl-C ends it"
        );
    }

    fn record(&self, change: &Change, fate: Fate) -> Result<()> {
        show(change, fate, self.0)
    }

    fn waiting(&self, why: &Error) {
        anstream::eprintln!("waiting: {}", why.chain());
    }

    fn left_out(&self, why: &Error) {
        anstream::eprintln!("records are skipped: {}", why.chain());
    }
}

fn show(change: &Change, fate: Fate, output: Output) -> Result<()> {
    let unread =
        |error| Error::new(ErrorKind::Unknown, "write a record as JSON").with_source(error);
    if output == Output::Json {
        let (op, sequence) = (change.op.label(), change.sequence.to_string());
        let tapped = Tapped { op, sequence, key: &change.keys, fate };
        anstream::println!("{}", serde_json::to_string(&tapped).map_err(unread)?);
        return Ok(());
    }
    let key = serde_json::to_string(&change.keys).map_err(unread)?;
    anstream::println!("{} {}: {}", change.op.label(), printable(&key), fate.outcome);
    if let Some(reason) = &fate.reason {
        anstream::println!("  {}", printable(reason));
    }
    for ExplainedRow { table, entity, action, columns } in &fate.rows {
        let cells: Vec<String> = columns
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name} = {}", printable(value).replace('\n', "\\n")),
                None => format!("{name} is NULL"),
            })
            .collect();
        anstream::println!("  {entity}: {action} {table}: {}", cells.join(", "));
    }
    Ok(())
}
