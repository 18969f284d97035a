//! The yardstick: the same rows from memory, by the plainest client that there is, in a process of its own.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::backfill::segments;
use dynaurora::engine::ports::{Clock, ReadFrom, Source};
use dynaurora::engine::tail::listing;
use dynaurora::mapping::Outcome as Mapped;
use dynaurora::model::{Cells, Position, Version};
use dynaurora::ops::wire;
use dynaurora::runtime::SystemClock;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::stage::{Helper, Replay, Stage, config};
use crate::{Outcome, Run, usage};

/// The guarded upsert in the form that was measured to be the fastest: unnested in the select list.
const UPSERT: &str = "insert into letters as t \
    (child_id, name, city, age, good, written_at, wishes, letter, dynaurora_version) \
    select unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[])::int, \
    unnest($5::text[])::bool, unnest($6::text[])::timestamptz, unnest($7::text[])::jsonb, \
    unnest($8::text[]), unnest($9::text[])::numeric \
    on conflict (child_id) do update set name = excluded.name, city = excluded.city, \
    age = excluded.age, good = excluded.good, written_at = excluded.written_at, \
    wishes = excluded.wishes, letter = excluded.letter, \
    dynaurora_version = excluded.dynaurora_version \
    where t.dynaurora_version < excluded.dynaurora_version";
/// The same columns, without a look at what is there.
const COPY: &str = "copy letters (child_id, name, city, age, good, written_at, wishes, letter, \
    dynaurora_version) from stdin";
/// Segments of the scan, on both sides.
pub(crate) const SEGMENTS: u32 = 8;
/// The parameters of the statement: the mapping's columns and the version.
const COLUMNS: usize = 9;

/// One statement's parameters.
type Columns = [Vec<String>; COLUMNS];

/// Where the rows come from, and how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// The stream's records, by the guarded upsert.
    Stream,
    /// The table's items, by the guarded upsert.
    Table,
    /// The table's items, by COPY: what no upsert can be faster than.
    Copy,
}

/// Writes everything into an empty database, in transactions of one statement with `batch` rows.
pub(crate) async fn run(
    stage: &mut Stage,
    replay: &Replay,
    batch: usize,
    way: Way,
) -> Outcome<Run> {
    let mut database = stage.database(replay).await?;
    let named = clap::ValueEnum::to_possible_value(&way).ok_or("a way without a name")?;
    let (batch, named) = (batch.to_string(), named.get_name().to_owned());
    let arguments = ["raw".to_owned(), stage.url(&database.name), batch, named];
    let sets = stage.sets(&database.name, &replay.endpoint);
    let mut helper = Helper::spawn(&[&arguments[..], &sets].concat())?;
    let process = helper.process.id();
    helper.hear()?;
    let (cpu, postgres) = (usage::cpu(process)?, stage.cpu()?);
    helper.nod()?;
    let took = Duration::from_secs_f64(helper.hear()?.parse()?);
    let mut run = Run {
        took,
        cpu: usage::cpu(process)? - cpu,
        postgres_cpu: stage.cpu()? - postgres,
        ..Run::default()
    };
    drop(helper);
    (run.rows, run.transactions, run.sum) = database.contents().await?;
    database.drop(stage).await?;
    Ok(run)
}

/// The client's process: makes all rows, says so, waits for a line, writes them, tells the seconds.
pub(crate) async fn write(url: &str, batch: usize, way: Way, sets: &[String]) -> Outcome<()> {
    let batches = rows(batch, way, sets).await?;
    let mut connection = PgConnection::connect(url).await?;
    let mut nods = std::io::stdin().lock().lines();
    println!("ready");
    nods.next();
    let start = SystemClock.now();
    for columns in batches {
        if way == Way::Copy {
            let mut copy = connection.copy_in_raw(COPY).await?;
            copy.send(lines(&columns)).await?;
            copy.finish().await?;
            continue;
        }
        let mut transaction = connection.begin().await?;
        let mut query = sqlx::query(UPSERT);
        for column in columns {
            query = query.bind(column);
        }
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    println!("{}", start.elapsed().as_secs_f64());
    // The process stays until what it used has been looked at.
    nods.next();
    Ok(())
}

/// The rows that the daemon makes, the shards in turn, sorted by key within each batch.
async fn rows(batch: usize, way: Way, sets: &[String]) -> Outcome<Vec<Columns>> {
    let config = config(sets)?;
    let own = config.sources.first().ok_or("a config without a source")?;
    let source = wire::source(&config, own).await?;
    let stream_arn = source.describe().await?.stream_arn.ok_or("a table without a stream")?;
    let stream_arn: Arc<str> = stream_arn.into();
    let (partitions, generation): (Vec<_>, _) = if way == Way::Stream {
        let shards = listing::list(&source, &SystemClock, &stream_arn).await?.shards;
        (shards.into_iter().map(|shard| (shard.id.clone(), shard.start())).collect(), 1)
    } else {
        let segments = segments(Some(SEGMENTS), None).into_iter();
        (segments.map(|segment| (segment, Position::Start)).collect(), 2)
    };
    let mut reads: Vec<ReadFrom> = (partitions.into_iter())
        .map(|(partition, position)| {
            let stream_arn = Arc::clone(&stream_arn);
            ReadFrom { stream_arn, partition, position, iterator: None }
        })
        .collect();
    let mut rows: Vec<(Cells, Version)> = Vec::new();
    let mut mapped = Vec::new();
    while !reads.is_empty() {
        let mut unread = Vec::new();
        for mut read in reads {
            let page = source.read(&read).await?;
            for change in &page.changes {
                if own.mapper.map(change, &mut mapped) != Mapped::Mapped {
                    return Err("a record was not mapped".into());
                }
                let version = Version { generation, sequence: change.sequence };
                rows.extend(mapped.drain(..).map(|row| (row.cells, version)));
            }
            if !page.changes.is_empty() && !page.end {
                (read.iterator, read.position) = (page.iterator, page.next);
                unread.push(read);
            }
        }
        reads = unread;
    }
    Ok(rows.chunks_mut(batch).map(columns).collect())
}

/// The same rows in the text format of COPY; none of the values needs an escape.
fn lines(columns: &Columns) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..columns[0].len() {
        for (number, column) in columns.iter().enumerate() {
            text.push_str(if number > 0 { "\t" } else { "" });
            text.push_str(&column[row]);
        }
        text.push('\n');
    }
    text.into_bytes()
}

fn columns(rows: &mut [(Cells, Version)]) -> Columns {
    rows.sort_unstable_by(|(one, _), (other, _)| one.cmp_prefix(other, 1));
    std::array::from_fn(|column| {
        let cell = |(cells, version): &(Cells, Version)| {
            let own = (column < cells.len()).then(|| cells.cell(column));
            own.map_or_else(|| version.to_string(), |cell| cell.unwrap_or_default().to_owned())
        };
        rows.iter().map(cell).collect()
    })
}
