//! `dynaurora dead-letters retry` and `drop`: settles dead letters by the items' present state, or by the
//! operator's word.
//!
//! A retry never replays the stored image: the item is read as it is now, by a consistent read, and its
//! rows are made so under the lock that `postgres/repair/mend.rs` explains. So it never overwrites a newer
//! row, and doing it twice changes nothing.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Args};

use super::config_file::load;
use super::dead_letters::REASONS;
use super::verify::{Asked, Context, scanned, truth};
use super::{ConfigArgs, Output, paste, print_json};
use crate::config::{Config, SourceConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::spec::{HISTORY_COLUMNS, HISTORY_ENDS};
use crate::mapping::{Outcome, Unmatched};
use crate::model::{Change, ChangeOp, Item, Reject, RejectReason, RowAction, RowOp};
use crate::ops::resolve::resolve;
use crate::ops::{named, wire};
use crate::postgres::listings::dead_letters::{
    DeadLetterState, StoredDeadLetter, keep_open, open_ids, settle, show,
};
use crate::postgres::repair::mend::{Guard, Mended, Recorded, Wound};
use crate::postgres::session::Pools;

/// Which dead letters are meant.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["id", "all"])))]
pub(super) struct Choice {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only those of this source.
    #[arg(long)]
    source: Option<String>,
    /// The one with this number, as `list` shows it.
    #[arg(long, conflicts_with = "reason")]
    id: Option<i64>,
    /// All that are open.
    #[arg(long)]
    all: bool,
    /// Of all, those for this reason only.
    #[arg(long)]
    reason: Option<String>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Options of `drop`.
#[derive(Debug, Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    choice: Choice,
    /// Why they are given up; it is kept with them.
    #[arg(long)]
    note: String,
}

/// What became of one dead letter; the JSON's shape only grows.
#[derive(serde::Serialize)]
struct Fate {
    id: i64,
    source: String,
    state: &'static str,
    detail: Option<String>,
}

/// Tries them again; 1 where some stay open.
pub(super) async fn retry(choice: &Choice) -> Result<ExitCode> {
    let mut config = load(&choice.config)?;
    let pools = wire::target(&config).await?;
    resolve(&mut config, &pools.pool().await?).await?;
    let mut fates = Vec::new();
    for (source, ids) in chosen(&config, choice, &pools).await? {
        if ids.is_empty() {
            continue;
        }
        let context = Context::open(&config, source, &pools, None).await?;
        for id in ids {
            let pool = pools.pool().await?;
            let Some(letter) = show(&pool, id).await? else { continue };
            if letter.state == DeadLetterState::Open {
                fates.push(Box::pin(retry_one(&context, &letter)).await?);
            }
        }
    }
    report(&fates, choice.output)
}

/// Gives them up.
pub(super) async fn give_up(args: &DropArgs) -> Result<ExitCode> {
    let config = load(&args.choice.config)?;
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
        let known = REASONS.map(RejectReason::label);
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

/// Makes the rows of one dead letter's item what the item says now.
async fn retry_one(context: &Context, letter: &StoredDeadLetter) -> Result<Fate> {
    let pool = context.pools.pool().await?;
    let record = Record::read(letter)?;
    let item = context.items(&[&record.keys]).await?.pop().flatten();
    let mut rows = Vec::new();
    let outcome = match &item {
        Some(item) => {
            let change = scanned(record.keys.clone(), item.clone());
            context.mapper.map(&change, &mut rows)
        }
        None => context.mapper.map(&record.removal(), &mut rows),
    };
    let reject = match outcome {
        Outcome::Rejected(reject) => Some(reject),
        Outcome::Unmatched
            if item.is_some() && context.mapper.unmatched() == Unmatched::DeadLetter =>
        {
            Some(unmatched())
        }
        _ => Box::pin(mend(context, letter, &record, rows)).await?,
    };
    if let Some(reject) = reject {
        keep_open(&pool, letter.id, &reject).await?;
        let detail = Some(format!("{}: {}", reject.reason.label(), reject.detail));
        return Ok(fate(letter.id, &letter.source, DeadLetterState::Open, detail));
    }
    // False when a newer change superseded it meanwhile; then it is settled as well.
    settle(&pool, letter.id, DeadLetterState::Resolved, None).await?;
    let gone = item.is_none().then(|| "the item is gone".to_owned());
    Ok(fate(letter.id, &letter.source, DeadLetterState::Resolved, gone))
}

/// Mends the rows one by one; what Postgres refuses is the new reason.
async fn mend(
    context: &Context,
    letter: &StoredDeadLetter,
    record: &Record,
    rows: Vec<RowOp>,
) -> Result<Option<Reject>> {
    for op in rows.iter().filter(|op| op.action != RowAction::Record) {
        let table = op.table;
        let named = context.mapper.names_items(table, &context.schema);
        let key_columns =
            context.mapper.tables().get(usize::from(table.0)).map_or(0, |spec| spec.key_columns);
        let row = op.cells.prefix(key_columns);
        // A row that is found through the stored image may be another item's by now.
        let guard = match (named, op.action) {
            (false, action) if action.ends_row() => Guard::Below(letter.version.clone()),
            _ => Guard::Any,
        };
        // The history keeps what the item is now in the place of the change that could not be applied.
        let end = end_of(context, &rows, op).to_owned();
        let recorded = Some(Recorded { version: letter.version.clone(), end });
        let wounds = [Wound { key: row.clone(), guard, recorded }];
        let asked =
            Asked { item: Some(record.keys.clone()), row, version: Some(letter.version.clone()) };
        let mending = context.mender.mend(table, &wounds, || async {
            if !named && op.action.ends_row() {
                let item = context.items_now(std::slice::from_ref(&record.keys)).await?.pop();
                return Ok(vec![item.flatten().is_none().then(|| op.clone())]);
            }
            truth(context, table, vec![asked]).await
        });
        let outcome = Box::pin(mending).await;
        match outcome {
            Ok(fates) if fates.contains(&Mended::LeftAlone) => {
                tracing::debug!(id = letter.id, "the row of a dead letter was left alone");
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Data => {
                return Ok(Some(Reject {
                    reason: RejectReason::Refused,
                    entity: None,
                    place: None,
                    detail: error.to_string(),
                }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What the history says of the end of a row: why it ends is with its own version of it.
fn end_of<'r>(context: &Context, rows: &'r [RowOp], op: &RowOp) -> &'r str {
    let tables = context.mapper.tables();
    let version = rows.iter().find(|own| {
        let spec = tables.get(usize::from(own.table.0));
        own.action == RowAction::Record
            && spec.is_some_and(|spec| spec.history_of == Some(op.table))
    });
    // The word stands before the two times.
    let at = |own: &RowOp| own.cells.len().checked_sub(HISTORY_COLUMNS.len());
    let word = version.and_then(|own| own.cells.cell(at(own)?));
    word.filter(|word| HISTORY_ENDS.contains(word)).unwrap_or("remove")
}

/// A dead letter's record, as it was stored.
#[derive(serde::Deserialize)]
pub(super) struct Record {
    pub(super) op: String,
    pub(super) keys: Item,
    pub(super) new_image: Option<Item>,
    pub(super) old_image: Option<Item>,
}

impl Record {
    /// Reads it; what it says is never quoted.
    pub(super) fn read(letter: &StoredDeadLetter) -> Result<Self> {
        serde_json::from_str(&letter.image).map_err(|_| {
            Error::new(ErrorKind::Unknown, format!("read the record of dead letter {}", letter.id))
        })
    }

    /// The removal of the item, as far as the record shows what was there.
    fn removal(&self) -> Change {
        Change {
            op: ChangeOp::Remove,
            new_image: None,
            old_image: self.new_image.clone().or_else(|| self.old_image.clone()),
            ..scanned(self.keys.clone(), Item::default())
        }
    }
}

fn unmatched() -> Reject {
    Reject {
        reason: RejectReason::Unmatched,
        entity: None,
        place: None,
        detail: "no entity's key template matches this key".to_owned(),
    }
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
            (0, _) => anstream::eprintln!("no open dead letters are meant"),
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
