//! Reads from the two databases what the file leaves out: types of existing columns, and the columns that
//! `columns = "auto"` stands for.
//!
//! The daemon takes both as it finds them, so an unexpected attribute never stops it; only `plan` and
//! `apply` look for columns to add.

use std::collections::{HashMap, HashSet};

use sqlx::PgPool;

use super::sample::sample;
use super::stream::no_table;
use super::wire;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Result};
use crate::mapping::Known;
use crate::mapping::spec::{AutoColumn, ColumnType};
use crate::model::{KeyType, TableIndex};
use crate::postgres::tables::ddl;
use crate::postgres::tables::extras::{AUTO_MARK, rest_attributes};

/// Items checked for attributes without a column. Attributes not among them wait in the rest column for the
/// next `plan`.
const SAMPLE: usize = 2_000;

/// Compiles every mapping against the existing tables.
///
/// # Errors
/// When a database does not answer, or the mapping does not fit its tables.
pub async fn resolve(config: &mut Config, pool: &PgPool) -> Result<()> {
    for at in 0..config.sources.len() {
        let Some(source) = config.sources.get(at) else { continue };
        let (known, _) = known(config, source, pool).await?;
        compile(config, at, &known)?;
    }
    Ok(())
}

/// The same, and adds a column to the mapping for every attribute without one.
///
/// # Errors
/// As for [`resolve`].
pub async fn resolve_with_new_columns(config: &mut Config, pool: &PgPool) -> Result<()> {
    for at in 0..config.sources.len() {
        let Some(source) = config.sources.get(at) else { continue };
        let (mut known, foreign) = known(config, source, pool).await?;
        compile(config, at, &known)?;
        let Some(source) = config.sources.get(at).filter(|own| own.definition.is_auto()) else {
            continue;
        };
        let dynamo = wire::source(config, source).await?;
        let items = sample(&dynamo, SAMPLE).await?;
        let mut in_rest: HashMap<TableIndex, Vec<AutoColumn>> = HashMap::new();
        for (number, table) in (0_u16..).zip(source.mapper.tables()) {
            in_rest.insert(TableIndex(number), rest_attributes(pool, table).await?);
        }
        for (table, columns) in source.mapper.missing_columns(&items, &in_rest) {
            for mut column in columns {
                let place = (table.clone(), column.name.clone());
                if foreign.contains(&place) {
                    continue;
                }
                // An uncommented column with this name is taken over; the plan says so.
                let own_type = known.types.get(&place);
                column.column_type = own_type.cloned().unwrap_or(column.column_type);
                known.auto.entry(table.clone()).or_default().push(column);
            }
        }
        compile(config, at, &known)?;
    }
    Ok(())
}

/// Columns by table and name.
type Places = HashSet<(String, String)>;

/// The known columns, and those that belong to somebody else: with another comment, or of a type that the
/// mapping does not have.
async fn known(config: &Config, source: &SourceConfig, pool: &PgPool) -> Result<(Known, Places)> {
    let (mut known, mut foreign) = (Known::default(), Places::new());
    if source.definition.needs_keys() {
        let dynamo = wire::source(config, source).await?;
        let keys = dynamo.key_schema().await.map_err(|error| no_table(source, error))?;
        known.keys = keys.into_iter().map(|(name, kind)| (name, column_type(kind))).collect();
    }
    for table in ddl::existing(pool, source.mapper.tables()).await? {
        for column in table.columns {
            let place = (table.name.clone(), column.name.clone());
            let mark = column.comment.as_deref().and_then(|own| own.strip_prefix(AUTO_MARK));
            if column.column_type.is_none() || column.comment.is_some() && mark.is_none() {
                foreign.insert(place.clone());
            }
            let Some(column_type) = column.column_type else { continue };
            known.types.insert(place, column_type.clone());
            if let Some(attribute) = mark {
                let attribute = attribute.to_owned();
                let made = AutoColumn { name: column.name, attribute, column_type };
                known.auto.entry(table.name.clone()).or_default().push(made);
            }
        }
    }
    Ok((known, foreign))
}

fn compile(config: &mut Config, at: usize, known: &Known) -> Result<()> {
    config.resolve(at, known).map_err(Error::from)
}

/// The type that takes every key of a kind.
fn column_type(kind: KeyType) -> ColumnType {
    match kind {
        KeyType::S => ColumnType::Text,
        KeyType::N => ColumnType::Numeric(None),
        KeyType::B => ColumnType::Bytea,
    }
}
