//! `dynaurora dead-letters`: records that could not be mapped or stored, with their reasons.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Args, Subcommand};

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::{Output, print_json};
use super::{paste, verify};
use crate::config::{Config, SourceConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::trial::{self, TrialOp};
use crate::model::{Reject, RejectReason, StoredRecord};
use crate::ops::resolve::resolve;
use crate::ops::retry::{Retried, retry};
use crate::ops::{named, wire};
use crate::postgres::listings::dead_letters::{
    DeadLetterFilter, DeadLetterState, StoredDeadLetter, list, open_ids, settle, show,
};
use crate::postgres::session::Pools;
use crate::telemetry::status::timestamp;

/// Options of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, newest first, without item data.
    List(ListArgs),
    /// Show one with its whole record.
    Show(ShowArgs),
    /// Apply the items' current state; a success resolves the dead letter.
    Retry(Choice),
    /// Give up on dead letters.
    Drop(DropArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this source.
    #[arg(long)]
    source: Option<String>,
    /// Only this state: open, superseded, resolved or dropped.
    #[arg(long, default_value = "open")]
    state: String,
    /// Show at most this many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The dead letter's number, as `list` shows it.
    id: i64,
    /// Print a mapping test with the rejected item, to paste into the config and fix there.
    #[arg(long)]
    as_test: bool,
}

/// Which dead letters to settle.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["id", "all"])))]
struct Choice {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this source.
    #[arg(long)]
    source: Option<String>,
    /// The one with this number, as `list` shows it.
    #[arg(long, conflicts_with = "reason")]
    id: Option<i64>,
    /// All open ones.
    #[arg(long)]
    all: bool,
    /// With `--all`, only those with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Options of `drop`.
#[derive(Debug, Args)]
struct DropArgs {
    #[command(flatten)]
    choice: Choice,
    /// Why they are dropped; stored with them.
    #[arg(long)]
    note: String,
}

/// The result for one dead letter; the JSON only gains fields.
#[derive(serde::Serialize)]
struct Fate {
    id: i64,
    source: String,
    state: &'static str,
    detail: Option<String>,
}

/// A dead letter as printed; the JSON only gains fields.
#[derive(serde::Serialize)]
struct Printed {
    id: i64,
    source: String,
    state: &'static str,
    created_at: String,
    reason: String,
    entity: Option<String>,
    place: Option<String>,
    detail: String,
    key: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Lists, shows, retries or drops.
///
/// # Errors
/// When the target cannot be reached, or there is no such dead letter.
pub async fn run(args: &DeadLettersArgs) -> Result<ExitCode> {
    match &args.command {
        Command::List(args) => run_list(args).await,
        Command::Show(args) => run_show(args).await,
        Command::Retry(choice) => Box::pin(run_retry(choice)).await,
        Command::Drop(args) => run_drop(args).await,
    }
}

async fn run_list(args: &ListArgs) -> Result<ExitCode> {
    let Some(state) = DeadLetterState::parse(&args.state) else {
        let known = DeadLetterState::ALL.map(DeadLetterState::label);
        return Err(named::nothing("state of dead letters", &args.state, known));
    };
    let config = read(&args.config)?;
    named::source(&config, args.source.as_deref())?;
    let pool = wire::target(&config).await?.pool().await?;
    let filter = DeadLetterFilter {
        source: args.source.as_deref(),
        state: Some(state),
        limit: Some(args.limit),
    };
    let letters = list(&pool, filter).await?;
    if args.output == Output::Json {
        let printed: Vec<Printed> =
            letters.into_iter().map(|letter| printed(letter, false)).collect();
        print_json(&printed)?;
        return Ok(ExitCode::SUCCESS);
    }
    for letter in &letters {
        let place = [letter.entity.as_deref(), letter.place.as_deref()];
        let place: Vec<&str> = place.into_iter().flatten().collect();
        anstream::println!(
            "{:>6}  {}  {}  {:<9}  {}  {}  {}",
            letter.id,
            timestamp(letter.created_at),
            letter.source,
            letter.reason,
            place.join("."),
            letter.key,
            letter.detail
        );
    }
    match letters.first() {
        None => anstream::eprintln!("no dead letters in state {}", args.state),
        Some(first) => paste::next(&format!("dynaurora dead-letters show {}", first.id)),
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_show(args: &ShowArgs) -> Result<ExitCode> {
    let config = read(&args.config)?;
    let pool = wire::target(&config).await?.pool().await?;
    let Some(letter) = show(&pool, args.id).await? else {
        return Err(Error::new(ErrorKind::Gone, format!("there is no dead letter {}", args.id))
            .with_hint("dynaurora dead-letters list"));
    };
    if args.as_test {
        anstream::print!("{}", as_test(&letter)?);
        paste::next("dynaurora test, once it is in the config");
    } else {
        print_json(&printed(letter, true))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The rejected item as a test of the mapping.
fn as_test(letter: &StoredDeadLetter) -> Result<String> {
    let reason = RejectReason::ALL.iter().find(|reason| reason.label() == letter.reason);
    let Some(reason) = reason.filter(|reason| **reason != RejectReason::Refused) else {
        let what = format!("the mapping accepts the item of dead letter {}", letter.id);
        return Err(Error::new(ErrorKind::Usage, what)
            .with_hint(format!("the database refused its row: {}", letter.detail)));
    };
    let record = StoredRecord::read(&letter.image).ok_or_else(|| {
        Error::new(ErrorKind::Unknown, format!("read the record of dead letter {}", letter.id))
    })?;
    let op = match record.op.as_str() {
        "modify" => TrialOp::Modify,
        "remove" => TrialOp::Remove,
        _ => TrialOp::Insert,
    };
    let item = match op {
        TrialOp::Remove => record.old_image,
        _ => record.new_image,
    };
    let reject = Reject {
        reason: *reason,
        entity: letter.entity.as_deref().map(Into::into),
        place: letter.place.as_deref().map(Into::into),
        detail: letter.detail.clone(),
    };
    trial::rejected_text(&letter.source, op, &item.unwrap_or(record.keys), &reject)
        .map_err(|error| Error::new(ErrorKind::Unknown, "write the test").with_source(error))
}

fn printed(letter: StoredDeadLetter, whole: bool) -> Printed {
    let json = |text: &str| {
        serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned()))
    };
    Printed {
        id: letter.id,
        state: letter.state.label(),
        created_at: timestamp(letter.created_at),
        reason: letter.reason,
        entity: letter.entity,
        place: letter.place,
        detail: letter.detail,
        key: json(&letter.key),
        partition: whole.then_some(letter.partition),
        version: whole.then_some(letter.version),
        record: whole.then(|| json(&letter.image)),
        note: letter.note,
        source: letter.source,
    }
}

/// Retries dead letters; answers 1 if some stay open.
async fn run_retry(choice: &Choice) -> Result<ExitCode> {
    let mut config = read(&choice.config)?;
    let pools = wire::target(&config).await?;
    resolve(&mut config, &pools.pool().await?).await?;
    let mut fates = Vec::new();
    for (source, ids) in chosen(&config, choice, &pools).await? {
        if ids.is_empty() {
            continue;
        }
        let context = verify::context(&config, source, &pools, None).await?;
        for id in ids {
            let Some(retried) = Box::pin(retry(&context, id)).await? else { continue };
            let Retried { resolved, detail } = retried;
            let state = if resolved { DeadLetterState::Resolved } else { DeadLetterState::Open };
            fates.push(fate(id, &source.name, state, detail));
        }
    }
    report(&fates, choice.output)
}

/// Drops dead letters.
async fn run_drop(args: &DropArgs) -> Result<ExitCode> {
    let config = read(&args.choice.config)?;
    let pools = wire::target(&config).await?;
    let pool = pools.pool().await?;
    let mut fates = Vec::new();
    for (source, ids) in chosen(&config, &args.choice, &pools).await? {
        for id in ids {
            if settle(&pool, id, DeadLetterState::Dropped, Some(&args.note)).await? {
                fates.push(fate(id, &source.name, DeadLetterState::Dropped, None));
            }
        }
    }
    report(&fates, args.choice.output)
}

async fn chosen<'a>(
    config: &'a Config,
    choice: &Choice,
    pools: &Arc<Pools>,
) -> Result<Vec<(&'a SourceConfig, Vec<i64>)>> {
    named::source(config, choice.source.as_deref())?;
    if let Some(reason) = &choice.reason {
        let known = RejectReason::ALL.map(RejectReason::label);
        if !known.contains(&reason.as_str()) {
            return Err(named::nothing("reason of dead letters", reason, known));
        }
    }
    let pool = pools.pool().await?;
    if let Some(id) = choice.id {
        let letter = show(&pool, id).await?.filter(|letter| letter.state == DeadLetterState::Open);
        let Some(letter) = letter else {
            let what = format!("there is no open dead letter {id}");
            return Err(Error::new(ErrorKind::Gone, what).with_hint("dynaurora dead-letters list"));
        };
        let named = choice.source.as_ref().is_none_or(|name| *name == letter.source);
        let own = config.sources.iter().find(|source| *source.name == *letter.source && named);
        let own = own.ok_or_else(|| {
            let what = format!("dead letter {id} belongs to the source {}", letter.source);
            Error::new(ErrorKind::Usage, what).with_hint("name that source, and its config")
        })?;
        return Ok(vec![(own, vec![id])]);
    }
    let mut all = Vec::new();
    for source in &config.sources {
        if choice.source.as_ref().is_none_or(|name| **name == *source.name) {
            all.push((source, open_ids(&pool, &source.name, choice.reason.as_deref()).await?));
        }
    }
    Ok(all)
}

fn fate(id: i64, source: &str, state: DeadLetterState, detail: Option<String>) -> Fate {
    Fate { id, source: source.to_owned(), state: state.label(), detail }
}

fn report(fates: &[Fate], output: Output) -> Result<ExitCode> {
    let open = fates.iter().filter(|fate| fate.state == "open").count();
    if output == Output::Json {
        print_json(&fates)?;
    } else {
        for Fate { id, source, state, detail } in fates {
            let detail = detail.as_deref().unwrap_or_default();
            anstream::println!("{id:>6}  {source}  {state}  {detail}");
        }
        match (fates.len(), open) {
            (0, _) => anstream::eprintln!("no open dead letters match"),
            (_, 0) => paste::next("dynaurora verify"),
            _ => {
                let open = fates.iter().find(|fate| fate.state == "open");
                let id = open.map_or(0, |fate| fate.id);
                paste::next(&format!("dynaurora dead-letters show {id} --as-test"));
            }
        }
    }
    Ok(if open > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
