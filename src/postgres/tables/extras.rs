//! A table's indexes and comments, and the columns of `columns = "auto"` with the values that wait for them
//! in the rest column.

use sqlx::{AssertSqlSafe, PgPool, Row};

use super::catalogue::ExistingTable;
use super::steps::{Plan, Step, StepKind};
use crate::error::Result;
use crate::mapping::spec::{AutoColumn, AutoSpec, ColumnType, TableSpec};
use crate::postgres::session::{Tx, in_transaction};
use crate::postgres::sql::ident::{quoted, quoted_table};

/// The start of the comment on a column that `columns = "auto"` fills; the attribute's name follows. Only
/// this tells such a column from the user's own.
pub const AUTO_MARK: &str = "dynaurora auto: ";

/// Rows moved out of the rest column by one statement: it skips locked rows, and nobody waits long for it.
const ROWS_MOVED: usize = 5_000;

impl Plan {
    /// Missing indexes and comments.
    pub(super) fn extras(
        &mut self,
        table: &TableSpec,
        existing: Option<&ExistingTable>,
    ) -> Result<()> {
        let (name, quoted_name) = (&table.name, quoted_table(&table.name)?);
        for index in &table.extras.indexes {
            let known = |wanted: &String| table.columns.iter().any(|own| own.name == *wanted);
            if !index.iter().all(known) || existing.is_some_and(|own| own.has_index(index)) {
                continue;
            }
            let columns: Vec<_> = index.iter().map(|own| quoted(own)).collect::<Result<_>>()?;
            let what = format!("index {name} by {}", index.join(", "));
            let sql = format!("create index on {quoted_name} ({})", columns.join(", "));
            self.step(StepKind::Schema, what, sql);
        }
        if let Some(comment) = &table.extras.comment
            && existing.is_none_or(|own| own.comment.as_ref() != Some(comment))
        {
            let sql = format!("comment on table {quoted_name} is {}", literal(comment));
            self.step(StepKind::Schema, format!("comment on {name}"), sql);
        }
        let auto = table.extras.auto.iter().flat_map(|auto| &auto.columns);
        let marks = auto.map(|own| (own.name.clone(), format!("{AUTO_MARK}{}", own.attribute)));
        for (column, comment) in table.extras.column_comments.iter().cloned().chain(marks) {
            let own = existing.and_then(|own| own.column(&column));
            if own.is_some_and(|own| own.comment.as_ref() == Some(&comment)) {
                continue;
            }
            let sql = format!(
                "comment on column {quoted_name}.{} is {}",
                quoted(&column)?,
                literal(&comment)
            );
            let what = match comment.strip_prefix(AUTO_MARK) {
                Some(attribute) => format!("fill {name}.{column} from the attribute {attribute}"),
                None => format!("comment on {name}.{column}"),
            };
            self.step(StepKind::Schema, what, sql);
        }
        Ok(())
    }
}

/// Moves values from the rest column to their columns: values older than the column, and those that a daemon
/// with an older mapping wrote since. The value in the rest column is always the newer one.
pub(super) async fn rows_of_rest(tx: &mut Tx, table: &TableSpec) -> Result<Option<Step>> {
    let Some(auto) = &table.extras.auto else { return Ok(None) };
    let name = &table.name;
    let Some(sql) = statement(table, auto)? else { return Ok(None) };
    if !has_rest(tx, table, auto).await? {
        return Ok(None);
    }
    let what = format!("move values of {name} from {} to their columns", auto.rest);
    Ok(Some(Step { what, sql, kind: StepKind::Rows }))
}

/// The attributes in a table's rest column, each with the type of its values.
///
/// # Errors
/// When the database does not answer.
pub async fn rest_attributes(pool: &PgPool, table: &TableSpec) -> Result<Vec<AutoColumn>> {
    const WHAT: &str = "read the attributes without a column";
    let Some(auto) = &table.extras.auto else { return Ok(Vec::new()) };
    let sql = format!(
        "select distinct e.key, jsonb_typeof(e.value) from {} t, jsonb_each(t.{}) e order by 1, 2",
        quoted_table(&table.name)?,
        quoted(&auto.rest)?
    );
    let rows: Vec<(String, String)> = in_transaction(pool, WHAT, async |tx| {
        if !rest_exists(tx, table, auto).await? {
            return Ok(Vec::new());
        }
        let rest = tx.query_once(AssertSqlSafe(sql));
        rest.all(|row| Ok((row.try_get(0)?, row.try_get(1)?))).await
    })
    .await?;
    let mut found: Vec<AutoColumn> = Vec::new();
    for (attribute, kind) in rows {
        let column_type = match kind.as_str() {
            "string" => ColumnType::Text,
            "number" => ColumnType::Numeric(None),
            "boolean" => ColumnType::Boolean,
            "null" => continue,
            _ => ColumnType::Jsonb,
        };
        match found.last_mut().filter(|last| last.attribute == attribute) {
            Some(last) => last.column_type = ColumnType::Jsonb,
            None => found.push(AutoColumn { name: String::new(), attribute, column_type }),
        }
    }
    Ok(found)
}

async fn rest_exists(tx: &mut Tx, table: &TableSpec, auto: &AutoSpec) -> Result<bool> {
    let existing = super::catalogue::table(tx, &table.name).await?;
    Ok(existing.is_some_and(|own| own.column(&auto.rest).is_some()))
}

async fn has_rest(tx: &mut Tx, table: &TableSpec, auto: &AutoSpec) -> Result<bool> {
    if !rest_exists(tx, table, auto).await? {
        return Ok(false);
    }
    let waits: Vec<_> = waiting(auto)?.into_iter().map(|(_, condition, _)| condition).collect();
    let sql = format!(
        "select exists (select from {} t where {})",
        quoted_table(&table.name)?,
        waits.join(" or ")
    );
    tx.query_once(AssertSqlSafe(sql))
        .named("look for values without a column")
        .one(|row| row.try_get(0))
        .await
}

/// The statement that moves some rows' values; `None` if no column takes any.
fn statement(table: &TableSpec, auto: &AutoSpec) -> Result<Option<String>> {
    let waiting = waiting(auto)?;
    if waiting.is_empty() {
        return Ok(None);
    }
    let rest = quoted(&auto.rest)?;
    let (mut sets, mut gone, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
    for (column, condition, value) in &waiting {
        let name = quoted(&column.name)?;
        sets.push(format!("{name} = case when {condition} then {value} else t.{name} end"));
        gone.push(format!("case when {condition} then {} end", literal(&column.attribute)));
        conditions.push(condition.as_str());
    }
    let quoted_name = quoted_table(&table.name)?;
    let condition = conditions.join(" or ");
    Ok(Some(format!(
        "update {quoted_name} t set {}, {rest} = t.{rest} - array_remove(array[{}], null) \
         where ({condition}) and t.ctid = any(array(select t.ctid from {quoted_name} t \
         where {condition} limit {ROWS_MOVED} for update skip locked))",
        sets.join(", "),
        gone.join(", "),
    )))
}

/// Columns with the condition under which a row's rest column has a value for them, and that value. It is
/// JSON that dynaurora wrote, so its type is known and the casts are exact. Binary looks like text there, and
/// stays until its item changes.
fn waiting(auto: &AutoSpec) -> Result<Vec<(&AutoColumn, String, String)>> {
    let rest = quoted(&auto.rest)?;
    let mut waiting = Vec::new();
    for column in &auto.columns {
        let key = literal(&column.attribute);
        let of = |kind: &str, cast: &str| {
            (
                format!("jsonb_typeof(t.{rest}->{key}) in ('{kind}', 'null')"),
                format!("(t.{rest}->>{key}){cast}"),
            )
        };
        let (condition, value) = match &column.column_type {
            ColumnType::Text => of("string", ""),
            ColumnType::Numeric(None) => of("number", "::numeric"),
            ColumnType::Boolean => of("boolean", "::boolean"),
            ColumnType::Jsonb => (format!("t.{rest} ? {key}"), format!("t.{rest}->{key}")),
            _ => continue,
        };
        waiting.push((column, condition, value));
    }
    Ok(waiting)
}

/// A text as SQL, for any content and any backslash setting of the server.
pub(super) fn literal(text: &str) -> String {
    let doubled = text.replace('\\', "\\\\").replace('\'', "''").replace('\0', "");
    format!("E'{doubled}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_means_its_text() {
        assert_eq!(literal("it's"), "E'it''s'");
        assert_eq!(literal(r"a\'; drop table t; --"), r"E'a\\''; drop table t; --'");
    }
}
