//! `dynaurora dead-letters`: the records that could not be mapped or stored, with the reason of each.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::config_file::load;
use super::{ConfigArgs, Output, paste, print_json, retry};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::trial::{self, TrialOp};
use crate::model::{Reject, RejectReason};
use crate::ops::{named, wire};
use crate::postgres::listings::dead_letters::{
    DeadLetterFilter, DeadLetterState, StoredDeadLetter, list, show,
};
use crate::telemetry::status::timestamp;

/// Options of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, the newest first, without the items' data.
    List(ListArgs),
    /// Show one with its whole record.
    Show(ShowArgs),
    /// Apply the items' present state; what succeeds is resolved.
    Retry(retry::Choice),
    /// Give them up.
    Drop(retry::DropArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only those of this source.
    #[arg(long)]
    source: Option<String>,
    /// Only those in this state: open, superseded, resolved or dropped.
    #[arg(long, default_value = "open")]
    state: String,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The dead letter's number, as `list` shows it.
    id: i64,
    /// Print a mapping test that shows the rejected item, to paste into the config and mend there.
    #[arg(long)]
    as_test: bool,
}

/// A dead letter as it is printed; the JSON's shape only grows.
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

/// Lists, shows, tries again or gives up.
///
/// # Errors
/// When the target cannot be reached, or there is no such dead letter.
pub async fn run(args: &DeadLettersArgs) -> Result<ExitCode> {
    match &args.command {
        Command::List(args) => run_list(args).await,
        Command::Show(args) => run_show(args).await,
        Command::Retry(choice) => Box::pin(retry::retry(choice)).await,
        Command::Drop(args) => retry::give_up(args).await,
    }
}

async fn run_list(args: &ListArgs) -> Result<ExitCode> {
    let Some(state) = DeadLetterState::parse(&args.state) else {
        let known = DeadLetterState::ALL.map(DeadLetterState::label);
        return Err(named::nothing("state of dead letters", &args.state, known));
    };
    let config = load(&args.config)?;
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
    let config = load(&args.config)?;
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
    let reason = REASONS.iter().find(|reason| reason.label() == letter.reason);
    let Some(reason) = reason.filter(|reason| **reason != RejectReason::Refused) else {
        let what = format!("the mapping takes the item of dead letter {}", letter.id);
        return Err(Error::new(ErrorKind::Usage, what)
            .with_hint(format!("the database refused its row: {}", letter.detail)));
    };
    let record = retry::Record::read(letter)?;
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

/// Every reason that a stored dead letter can have.
pub(super) const REASONS: [RejectReason; 8] = [
    RejectReason::Unmatched,
    RejectReason::Missing,
    RejectReason::Type,
    RejectReason::Format,
    RejectReason::Range,
    RejectReason::Nul,
    RejectReason::Limit,
    RejectReason::Refused,
];

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
