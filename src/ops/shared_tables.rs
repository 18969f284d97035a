//! Plans a table that several sources share once, with the columns of all.

use sqlx::PgPool;

use crate::config::Config;
use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::postgres::tables::ddl;

/// The tables to plan for each source, in the order of the sources. A new table is planned with its first
/// source, with the columns of all; an existing one with each source.
///
/// # Errors
/// When the target cannot be asked.
pub async fn to_plan(config: &Config, pool: &PgPool) -> Result<Vec<Vec<TableSpec>>> {
    let mut planned: Vec<Vec<TableSpec>> = Vec::with_capacity(config.sources.len());
    for (at, source) in config.sources.iter().enumerate() {
        let there = ddl::existing(pool, source.mapper.tables()).await?;
        let mut tables = Vec::new();
        for table in source.mapper.tables() {
            if there.iter().any(|there| there.name == table.name.to_string()) {
                tables.push(table.clone());
                continue;
            }
            if planned.iter().flatten().any(|earlier| earlier.name.is(&table.name)) {
                continue;
            }
            let later = config.sources.iter().skip(at + 1);
            let later = later.flat_map(|source| source.mapper.tables());
            let sharers = later.filter(|later| later.name.is(&table.name));
            tables.push(sharers.fold(table.clone(), with));
        }
        planned.push(tables);
    }
    Ok(planned)
}

/// One table for the rows of both; a column that only one fills is NULL in the rows of the other.
fn with(mut table: TableSpec, other: &TableSpec) -> TableSpec {
    let keys = table.key_columns;
    for column in table.columns.iter_mut().skip(keys) {
        let theirs = other.columns.iter().find(|theirs| theirs.name == column.name);
        column.not_null &= theirs.is_some_and(|theirs| theirs.not_null);
    }
    for theirs in &other.columns {
        if !table.columns.iter().any(|own| own.name == theirs.name) {
            let mut column = theirs.clone();
            column.not_null = false;
            table.columns.push(column);
        }
    }
    let extras = &mut table.extras;
    extras.comment = extras.comment.take().or_else(|| other.extras.comment.clone());
    for index in &other.extras.indexes {
        if !extras.indexes.contains(index) {
            extras.indexes.push(index.clone());
        }
    }
    for (column, comment) in &other.extras.column_comments {
        if !extras.column_comments.iter().any(|(own, _)| own == column) {
            extras.column_comments.push((column.clone(), comment.clone()));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::spec::{ColumnSpec, ColumnType};

    fn table(columns: &[(&str, bool)]) -> TableSpec {
        let column = |(name, not_null): &(&str, bool)| ColumnSpec {
            name: (*name).to_owned(),
            column_type: ColumnType::Text,
            not_null: *not_null,
        };
        let columns = columns.iter().map(column).collect();
        TableSpec { columns, key_columns: 1, ..TableSpec::default() }
    }

    #[test]
    fn a_shared_table_demands_only_what_every_source_fills() {
        let both = with(
            table(&[("origin", true), ("a", true), ("b", true), ("c", false)]),
            &table(&[("origin", true), ("b", true), ("c", true), ("d", true)]),
        );
        let expected =
            table(&[("origin", true), ("a", false), ("b", true), ("c", false), ("d", false)]);
        assert_eq!(both, expected);
    }
}
