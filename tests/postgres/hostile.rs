//! Names by chance: whatever they hold, each statement is one statement and means the tables that it names.

use dynaurora::mapping::spec::{ColumnType, HISTORY_COLUMNS, TableSpec, VERSION_COLUMN};
use dynaurora::model::{RowAction, RowOp, TableIndex};
use dynaurora::postgres::sql::ident::NAME_BYTES_MAX;
use dynaurora::postgres::tables::shown::shown;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sqlx::{AssertSqlSafe, Executor, PgPool, SqlSafeStr};

use super::rig::Rig;
use crate::rig::tables::{Build, table};
use crate::rig::{cells, version};

const CASES: usize = 24;
const HISTORY: TableIndex = TableIndex(2);

/// Pieces that end a name, a string, a comment or a statement somewhere.
fn names() -> impl Strategy<Value = Vec<String>> {
    let piece = "(\"|'|\"\"|;|--|/\\*|\\*/|\\$\\$|\\$1|\\\\|\\)|,|e'|U&\"|\n|\t| |\\.|%s|\\{\\}|\
                 drop table canary|select|unnest|excluded|t|[a-zé\u{202e}🎅]{1,3})";
    let name = proptest::collection::vec(piece, 1..8).prop_map(|pieces| {
        let mut name = pieces.concat();
        while name.len() > NAME_BYTES_MAX {
            name.pop();
        }
        name
    });
    proptest::collection::hash_set(name, 9).prop_map(|set| set.into_iter().collect())
}

/// A table with every kind of column that statements treat apart, its children and its history.
fn tables(names: &[String]) -> Vec<TableSpec> {
    let [own, children, history, key, other, mark, child, last, schema] = names else {
        panic!("nine names")
    };
    let text = ColumnType::Text;
    let mut parent = table(own)
        .key(key, text.clone())
        .column(other, text.clone())
        .column(mark, ColumnType::Timestamptz)
        .in_schema(schema);
    parent.deleted_at = Some(2);
    let toys = table(children).key(key, text.clone()).key(child, text.clone());
    let toys = toys.column(last, text.clone()).below(TableIndex(0), 1);
    let [op, from, to] = HISTORY_COLUMNS;
    let mut versions = table(history)
        .key(key, text.clone())
        .key(VERSION_COLUMN, ColumnType::Numeric(None))
        .column(other, text.clone())
        .column(op, text)
        .column(from, ColumnType::Timestamptz)
        .column(to, ColumnType::Timestamptz);
    versions.history_of = Some(TableIndex(0));
    vec![parent, toys, versions]
}

fn rows(names: &[String]) -> Vec<RowOp> {
    let evil = names.first().map(String::as_str);
    let row = |table, action, values: &[Option<&str>]| RowOp {
        table,
        action,
        cells: cells(values),
        children: Vec::new(),
        item: None,
    };
    let own = TableIndex(0);
    let mut upsert = row(own, RowAction::Upsert, &[evil, evil, None]);
    upsert.children = vec![(TableIndex(1), cells(&[evil, Some("1"), evil]))];
    let at = Some("2026-12-24T18:00:00Z");
    vec![
        upsert,
        row(own, RowAction::SoftDelete, &[evil, at]),
        row(HISTORY, RowAction::Record, &[evil, Some("1"), evil, Some("insert"), at, None]),
        row(own, RowAction::Delete, &[evil]),
    ]
}

#[tokio::test]
async fn rule_7_no_name_makes_a_statement_of_its_own() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..CASES {
        let names = names().new_tree(&mut runner).unwrap().current();
        let specs = tables(&names);
        let rig = Rig::with_tables(&specs).await;
        rig.run("create table canary (x int); insert into canary values (1)").await;
        for row in rows(&names) {
            for statement in shown(&specs, &row, version(5)).unwrap() {
                one_statement(&rig.pool, &statement.sql).await;
                let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
                for parameter in statement.parameters {
                    query = query.bind(parameter);
                }
                let done = query.execute(&rig.pool).await;
                done.unwrap_or_else(|error| panic!("{names:?}: {error}: {}", statement.sql));
            }
        }
        assert_eq!(rig.count("canary").await, 1, "{names:?}");
        // What stands before this run's end is an exact text, which no name has cut off or added to.
        let stored = "select count(*) from information_schema.tables where table_name = any($1)";
        let made: i64 =
            sqlx::query_scalar(stored).bind(&names[..3]).fetch_one(&rig.pool).await.unwrap();
        assert_eq!(made, 3, "{names:?}");
        rig.pool.close().await;
    }
}

/// The extended protocol takes one statement; what is left without quoted names has nothing hostile in it.
async fn one_statement(pool: &PgPool, sql: &str) {
    let prepared = pool.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await;
    prepared.unwrap_or_else(|error| panic!("{error}: {sql}"));
    let outside: String = sql.replace("\"\"", "").split('"').step_by(2).collect();
    for hostile in ["canary", ";", "--", "/*", "$$", "\\"] {
        assert!(!outside.contains(hostile), "{hostile} in {outside}");
    }
}
