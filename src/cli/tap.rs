//! `dynaurora tap`: live records as they would be mapped; nothing is written, nothing is remembered.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::config_file::load;
use super::explain::{ExplainedRow, Fate, chosen, fate, printable};
use super::{ConfigArgs, Output};
use crate::config::SourceConfig;
use crate::engine::ports::{Clock, Page, ReadFrom, ShardIterator, Source};
use crate::engine::tail::listing::list;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Change, Item, PartitionId, Position, ShardListing};
use crate::ops::resolve::resolve;
use crate::ops::stream::describe;
use crate::ops::wire;
use crate::runtime::{SystemClock, signals};
use crate::source::DynamoSource;

/// How long a round over all shards takes at least: a shard gives at most five pages a second to all of its
/// readers together, and a daemon is to have most of them.
const ROUND: Duration = Duration::from_secs(1);

/// Options of `tap`.
#[derive(Debug, Args)]
#[command(after_help = "\
It shows the values of items: that is what it is for, so mind where its output goes.

It reads from the newest record of each open shard on, with the target's columns as they are, and \
neither moves a position nor takes a lease. A shard of DynamoDB Streams should have two readers at \
most: a daemon that reads the same table is one of them, this is the other; more are throttled.")]
pub struct TapArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The source; needed when the config names several.
    #[arg(long)]
    source: Option<String>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// How to report: as JSON one document a line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One record; the JSON's shape only grows.
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
    let mut config = load(&args.config)?;
    let mut signals = signals()
        .map_err(|error| Error::new(ErrorKind::Unknown, "listen for signals").with_source(error))?;
    let work = async {
        let pools = wire::target_to_read(&config).await?;
        let pool = pools.pool().await?;
        resolve(&mut config, &pool).await?;
        let source = chosen(&config, args.source.as_deref())?;
        let dynamo = wire::source(&config, source).await?;
        let stream = describe(&dynamo, source).await?.stream_arn.ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("table {} has no stream", source.table))
        })?;
        tap(&dynamo, (source, &stream), args).await
    };
    tokio::select! {
        biased;
        _ = signals.signal() => {}
        ended = work => ended?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn tap(
    dynamo: &DynamoSource,
    (source, stream): (&SourceConfig, &str),
    args: &TapArgs,
) -> Result<()> {
    let shards = list(dynamo, &SystemClock, stream).await?.shards;
    let is_parent = |id: &PartitionId| shards.iter().any(|own| own.parent.as_ref() == Some(id));
    let mut readers = Vec::new();
    for shard in shards.iter().filter(|own| !is_parent(&own.id)) {
        let iterator = Some(dynamo.latest(stream, &shard.id).await?);
        readers.push(reader(stream, shard, iterator));
    }
    anstream::eprintln!(
        "reading {} shards of {} from now on, beside any daemon: a shard should have two readers \
         at most, and this is one of them; nothing is written, ctrl-C ends it",
        readers.len(),
        source.table
    );
    let mut left = args.limit.unwrap_or(u64::MAX);
    while !readers.is_empty() && left > 0 {
        let next = SystemClock.now() + ROUND;
        let mut going_on = Vec::new();
        for mut reader in readers {
            let Some(page) = read(dynamo, &mut reader).await? else {
                going_on.push(reader);
                continue;
            };
            for change in &page.changes {
                if left == 0 {
                    return Ok(());
                }
                show(source, change, args.output)?;
                left -= 1;
            }
            if page.end {
                // What a child holds is newer than all of its parent's.
                let children = dynamo.child_shards(stream, &reader.partition).await?;
                going_on.extend(children.iter().map(|child| self::reader(stream, child, None)));
            } else {
                reader.position = page.next;
                reader.iterator = page.iterator;
                going_on.push(reader);
            }
        }
        readers = going_on;
        SystemClock.sleep_until(next).await;
    }
    Ok(())
}

fn reader(stream: &str, shard: &ShardListing, iterator: Option<ShardIterator>) -> ReadFrom {
    ReadFrom {
        stream_arn: stream.into(),
        partition: shard.id.clone(),
        position: Position::Horizon,
        iterator,
    }
}

/// A page, or nothing this time where others read too much already.
async fn read(dynamo: &DynamoSource, reader: &mut ReadFrom) -> Result<Option<Page>> {
    match dynamo.read(reader).await {
        Ok(page) => Ok(Some(page)),
        Err(error) if matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Unavailable) => {
            anstream::eprintln!("waiting: {}", error.chain());
            Ok(None)
        }
        Err(error) if matches!(error.kind(), ErrorKind::Expired | ErrorKind::Trimmed) => {
            anstream::eprintln!("records are left out: {}", error.chain());
            reader.iterator = Some(dynamo.latest(&reader.stream_arn, &reader.partition).await?);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn show(source: &SourceConfig, change: &Change, output: Output) -> Result<()> {
    let fate = fate(&source.mapper, change, &mut Vec::new());
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
