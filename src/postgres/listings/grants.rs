//! The least rights of each role, as SQL to read before running it.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::mapping::spec::TableSpec;
use crate::postgres::migrations::SCHEMA;
use crate::postgres::sql::ident::{quoted, quoted_table};

/// The daemon's rights on each of its own tables; it creates none of them.
const OWN_TABLES: [(&str, &str); 11] = [
    ("sources", "select, insert, update"),
    ("partitions", "select, insert, update, delete"),
    ("workers", "select, insert, update, delete"),
    ("dead_letters", "select, insert, update, delete"),
    ("gaps", "select, insert"),
    ("claims", "select, insert, update, delete"),
    ("touched", "select, insert, delete"),
    ("hidden_rows", "select, insert, update, delete"),
    ("verifications", "select, insert, update"),
    ("freshness", "select"),
    ("_sqlx_migrations", "select"),
];

/// The functions for readers of the target tables; both read the view `freshness` as the caller.
const FUNCTIONS: [&str; 2] =
    ["synced_up_to(text)", "wait_for(text, timestamp with time zone, interval)"];

/// The grants of the daemon's role: rows of the named tables and of dynaurora's own, no DDL.
///
/// # Errors
/// `Config` for a name that Postgres does not allow.
pub fn grants(tables: &[TableSpec], role: &str) -> Result<String> {
    let role = quoted(role)?;
    let mut lines = vec![format!("grant usage on schema {SCHEMA} to {role};")];
    for (table, rights) in OWN_TABLES {
        lines.push(format!("grant {rights} on {SCHEMA}.{table} to {role};"));
    }
    lines.extend(functions(&role));
    lines.extend(usages(tables, &role)?);
    for table in tables {
        let table = quoted_table(&table.name)?;
        lines.push(format!("grant select, insert, update, delete on {table} to {role};"));
    }
    Ok(joined(lines))
}

/// The grants of a role that only reads the target tables and their freshness, but none of dynaurora's own
/// tables.
///
/// # Errors
/// `Config` for a name that Postgres does not allow.
pub fn query_grants(tables: &[TableSpec], role: &str) -> Result<String> {
    let role = quoted(role)?;
    let mut lines = vec![
        format!("grant usage on schema {SCHEMA} to {role};"),
        format!("grant select on {SCHEMA}.freshness to {role};"),
    ];
    lines.extend(functions(&role));
    lines.extend(usages(tables, &role)?);
    for table in tables {
        lines.push(format!("grant select on {} to {role};", quoted_table(&table.name)?));
    }
    Ok(joined(lines))
}

fn functions(role: &str) -> impl Iterator<Item = String> {
    FUNCTIONS.iter().map(move |own| format!("grant execute on function {SCHEMA}.{own} to {role};"))
}

fn usages(tables: &[TableSpec], role: &str) -> Result<Vec<String>> {
    let schemas: BTreeSet<&str> =
        tables.iter().filter_map(|table| table.name.schema.as_deref()).collect();
    schemas
        .into_iter()
        .map(|schema| Ok(format!("grant usage on schema {} to {role};", quoted(schema)?)))
        .collect()
}

fn joined(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}
