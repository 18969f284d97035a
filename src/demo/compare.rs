//! Compares the whole source with the whole target: reads and maps every item, and compares the rows.

use sqlx::postgres::PgPool;

use crate::engine::ports::{ReadFrom, Source};
use crate::error::Result;
use crate::mapping::{Mapper, Outcome};
use crate::model::{Cells, PartitionId, Position, RowAction};
use crate::postgres::repair::compare::{Differences, compare};

/// What a full comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Items in the source.
    pub items: u64,
    /// Correct rows in the target.
    pub rows: u64,
    /// Rows that are missing, wrong or extra.
    pub mismatches: u64,
    /// Some of the mismatches.
    pub examples: Vec<String>,
}

/// Reads and maps the whole table, and compares every target table with types.
///
/// # Errors
/// When a server does not answer.
pub async fn full_comparison(
    source: &impl Source,
    mapper: &Mapper,
    pool: &PgPool,
) -> Result<Comparison> {
    let mut expected: Vec<Vec<Cells>> = vec![Vec::new(); mapper.tables().len()];
    let mut comparison = Comparison::default();
    let mut rows = Vec::new();
    let mut from = ReadFrom {
        stream_arn: "".into(),
        partition: PartitionId::new("scan/000-of-001"),
        position: Position::Start,
        iterator: None,
    };
    loop {
        let page = source.read(&from).await?;
        for change in &page.changes {
            comparison.items += 1;
            if mapper.map(change, &mut rows) != Outcome::Mapped {
                rows.clear();
            }
            for row in rows.drain(..).filter(|row| row.action == RowAction::Upsert) {
                expected[usize::from(row.table.0)].push(row.cells);
                for (table, child) in row.children {
                    expected[usize::from(table.0)].push(child);
                }
            }
        }
        if page.end {
            break;
        }
        from.position = page.next;
    }
    for (at, rows) in expected.iter().enumerate() {
        let Differences { matching, missing, unexpected, examples } =
            compare(pool, mapper.tables(), at, rows).await?;
        comparison.rows += matching;
        comparison.mismatches += missing + unexpected;
        comparison.examples.extend(examples);
    }
    Ok(comparison)
}
