//! Every type exact, every name harmless, every refusal without a trace and without the value.

use dynaurora::apply::ports::{Sink, Unit};
use dynaurora::error::{Error, ErrorKind};
use dynaurora::mapping::spec::{ColumnType, TableName};
use dynaurora::model::RowAction;
use sqlx::AssertSqlSafe;

use super::rig::{Rig, burnt, letter, unit};
use crate::rig::tables::{Build, table};
use crate::rig::{LETTERS, SOURCE, TOYS, batch, cells, moved, worker};

fn array(element: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(element))
}

fn named(name: &str) -> ColumnType {
    ColumnType::Named(TableName { schema: None, name: name.to_owned() })
}

/// A type and the text that goes in and must come out.
fn exact() -> Vec<(ColumnType, &'static str)> {
    vec![
        (ColumnType::Text, "it's \"odd\" \\ {1,NULL} \u{1f384}\n\ttab"),
        (ColumnType::Varchar(5), "ab  é"),
        (ColumnType::SmallInt, "-32768"),
        (ColumnType::Integer, "2147483647"),
        (ColumnType::BigInt, "-9223372036854775808"),
        (ColumnType::Numeric(None), "-99999999999999999999999999999999999999.5000"),
        (ColumnType::Numeric(Some((38, 37))), "1.2345678901234567890123456789012345678"),
        (ColumnType::Real, "1.5"),
        (ColumnType::Double, "0.1"),
        (ColumnType::Boolean, "true"),
        (ColumnType::Date, "2026-12-24"),
        (ColumnType::Time, "23:59:59.123456"),
        (ColumnType::Timestamptz, "2026-12-24 18:00:00.000001+00"),
        (ColumnType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (ColumnType::Bytea, "\\x00ff5c22"),
        (ColumnType::Jsonb, r#"{"a": [1.10, "\\", null, 99999999999999999999999999999999999999]}"#),
        (ColumnType::Inet, "10.0.0.0/8"),
        (array(ColumnType::Text), r#"{a,"b,\"c\\",NULL,"NULL",""}"#),
        (array(ColumnType::Numeric(None)), "{1.50,-99999999999999999999999999999999999999}"),
        (array(ColumnType::Bytea), r#"{"\\x00","\\xff"}"#),
        (array(ColumnType::Timestamptz), r#"{"2026-12-24 18:00:00+00"}"#),
        (named("Mood \"\u{1f385}\""), "glad; --"),
    ]
}

#[tokio::test]
async fn every_type_comes_out_as_it_went_in() {
    let cases = exact();
    let mut spec = table("values of all types").key("id", ColumnType::Text);
    for (at, (kind, _)) in cases.iter().enumerate() {
        spec = spec.column(&format!("c{at}"), kind.clone());
    }
    let names: Vec<String> = (0..cases.len()).map(|at| format!("c{at}::text")).collect();
    let specs = [spec];

    let mood = "create type \"Mood \"\"\u{1f385}\"\"\" as enum ('glad; --', 'sad')";
    let rig = Rig::prepared(mood, &specs).await;
    let again = dynaurora::postgres::tables::ddl::plan(&rig.pool, &specs).await.unwrap();
    assert_eq!(again, [], "what was made fits");
    rig.register(&["a"]).await;

    let mut full: Vec<Option<&str>> = vec![Some("full")];
    full.extend(cases.iter().map(|(_, text)| Some(*text)));
    let mut none: Vec<Option<&str>> = vec![Some("none")];
    none.resize(full.len(), None);
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let units = [&full, &none].map(|values| unit(RowAction::Upsert, cells(values), 5));
    rig.apply(&batch(&ann, &lease, 5, units.to_vec())).await.unwrap();
    let select = format!(
        "select unnest(array[{}]) from \"values of all types\" where id = ",
        names.join(", ")
    );
    let stored = rig.texts(&format!("{select} 'full'")).await;
    for (stored, (kind, text)) in stored.iter().zip(&cases) {
        assert_eq!(stored.as_deref(), Some(*text), "{kind:?}");
    }
    let stored = rig.texts(&format!("{select} 'none'")).await;
    assert!(stored.iter().all(Option::is_none), "NULL stays NULL");
}

#[tokio::test]
async fn rule_7_hostile_names_mean_themselves() {
    let nasty = [
        "\"; drop table x; --".to_owned(),
        "select".to_owned(),
        "$1".to_owned(),
        "a.b".to_owned(),
        "x".repeat(63),
        "\u{1f384}".repeat(15),
        "excluded".to_owned(),
        "dynaurora_gone".to_owned(),
        "%s {} \\ '".to_owned(),
    ];
    for (at, name) in nasty.iter().enumerate() {
        let key = nasty[(at + 1) % nasty.len()].as_str();
        let schema = nasty[(at + 2) % nasty.len()].as_str();
        let parent = table(name).key(key, ColumnType::Text).column(name, ColumnType::Text);
        let parent = parent.in_schema(schema);
        let child = table("unnest").key(name, ColumnType::Text).key("n", ColumnType::Text);
        let child = child.column("c", ColumnType::Text).below(LETTERS, 1).in_schema(schema);
        let specs = [parent.clone(), child];
        let rig = Rig::with_tables(&specs).await;
        rig.register(&["a"]).await;
        let ann = worker("ann");
        let lease = rig.lease(&ann, "a").await;
        let mut row = unit(RowAction::Upsert, cells(&[Some("k"), Some(name)]), 5);
        row.op.children = vec![(TOYS, cells(&[Some("k"), Some("1"), Some(name)]))];
        rig.apply(&batch(&ann, &lease, 5, vec![row])).await.unwrap();
        let quoted = dynaurora::postgres::sql::ident::quoted_table(&parent.name).unwrap();
        let column = dynaurora::postgres::sql::ident::quoted(name).unwrap();
        let stored = rig.texts(&format!("select {column} from {quoted}")).await;
        assert_eq!(stored, [Some(name.clone())]);
        let gone = unit(RowAction::Delete, cells(&[Some("k")]), 6);
        let applied = rig.apply(&batch(&ann, &moved(&lease, 5), 6, vec![gone])).await.unwrap();
        assert_eq!((applied.tables[0].deleted, applied.tables[1].deleted), (1, 1), "{name}");
    }
}

/// A table that refuses much, and rows that it refuses.
async fn strict() -> Rig {
    let strict = table("strict")
        .key("id", ColumnType::Text)
        .column("small", ColumnType::SmallInt)
        .column("short", ColumnType::Varchar(3))
        .column("day", ColumnType::Date)
        .column("note", ColumnType::Text);
    let rig = Rig::with_tables(&[strict]).await;
    rig.run(
        "alter table strict add unique (note), add check (small < 100), \
         alter column note set not null; \
         create function refuse() returns trigger language plpgsql as $$ begin \
         if new.note = 'SECRET trigger' then raise exception 'no % here', new.note; end if; \
         if new.note = 'SECRET code' then \
         raise exception 'no % here', new.note using errcode = 'ZZ123'; end if; \
         return new; end $$; \
         create trigger refuse before insert on strict for each row execute function refuse(); \
         insert into strict (id, note) values ('taken', 'SECRET taken')",
    )
    .await;
    rig.register(&["a"]).await;
    rig
}

fn row(values: [Option<&str>; 5]) -> Unit {
    unit(RowAction::Upsert, cells(&values), 5)
}

/// Text that the server cannot compress below the size of an index entry.
fn incompressible(length: usize) -> String {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + u8::try_from(state % 90).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn refused_data_is_told_from_all_else_and_never_quoted() {
    let rig = strict().await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let random = incompressible(6_000);
    let cases = [
        ("22P02", row([Some("1"), Some("SECRET"), None, None, Some("n")])),
        ("22003", row([Some("1"), Some("77777"), None, None, Some("n")])),
        ("22001", row([Some("1"), None, Some("SECRET"), None, Some("n")])),
        ("22007", row([Some("1"), None, None, Some("SECRET day"), Some("n")])),
        ("22008", row([Some("1"), None, None, Some("2026-02-30"), Some("n")])),
        ("22021", row([Some("1"), None, None, None, Some("SECRET\0")])),
        ("23502", row([Some("1"), None, None, None, None])),
        ("23505", row([Some("1"), None, None, None, Some("SECRET taken")])),
        ("23514", row([Some("1"), Some("777"), None, None, Some("n")])),
        ("P0001", row([Some("1"), None, None, None, Some("SECRET trigger")])),
        ("ZZ123", row([Some("1"), None, None, None, Some("SECRET code")])),
        ("54000", row([Some(&random), None, None, None, Some("n")])),
    ];
    for (code, unit) in cases {
        let good = row([Some("0"), Some("1"), Some("abc"), Some("2026-12-24"), Some("good")]);
        let whole = batch(&ann, &lease, 5, vec![good, unit]);
        let told = |error: Error| {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Data, Some(code)));
            let text = format!("{} {error:?}", error.chain());
            for quoted in ["SECRET", "77777", "02-30", "777"] {
                assert!(!text.contains(quoted), "{code}: {text}");
            }
        };
        told(rig.apply(&whole).await.unwrap_err());
        told(rig.sink.probe(&whole, &whole.rows.units[1..]).await.unwrap_err());
        rig.sink.probe(&whole, &whole.rows.units[..1]).await.unwrap();
        assert_eq!(rig.count("strict").await, 1, "{code}: nothing was written");
    }
}

#[tokio::test]
async fn a_deferred_constraint_speaks_in_the_probe_and_at_the_commit() {
    let rig = Rig::new().await;
    rig.run(
        "create table children (name text primary key); \
         alter table letters add foreign key (child) references children \
         deferrable initially deferred",
    )
    .await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let whole = batch(&ann, &lease, 5, vec![letter("nobody", "a", 5)]);
    for error in [
        rig.sink.probe(&whole, &whole.rows.units).await.unwrap_err(),
        rig.apply(&whole).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::Data, Some("23503")));
    }
    assert_eq!(rig.count("letters").await, 0);
    let position = "select position from dynaurora.partitions where partition = 'a'";
    assert_eq!(rig.texts(position).await, [Some(lease.position.to_string())]);
    rig.apply(&batch(&ann, &lease, 5, vec![burnt("nobody", 5)])).await.unwrap();
}

#[tokio::test]
async fn arrays_of_any_length_travel_whole() {
    let rig = Rig::new().await;
    let ann = worker("ann");
    let mut lease = rig.lease(&ann, "a").await;
    let mut expected = 0;
    for (to, length) in [(2, 0_usize), (3, 1), (4, 2), (5, 3_000)] {
        let long = "é".repeat(400_000 / 2);
        let mut units: Vec<_> =
            (0..length).map(|at| letter(&format!("{to}-{at:05}"), "x", to)).collect();
        if let Some(first) = units.first_mut() {
            *first = letter(&format!("{to}-00000"), &long, to);
        }
        expected += i64::try_from(length).unwrap();
        rig.apply(&batch(&ann, &lease, to, units)).await.unwrap();
        lease = moved(&lease, to);
        assert_eq!(rig.count("letters").await, expected);
    }
    let longest = "select max(octet_length(body)) from letters";
    let longest: i32 =
        sqlx::query_scalar(AssertSqlSafe(longest)).fetch_one(&rig.pool).await.unwrap();
    assert_eq!(longest, 400_000);
    assert_eq!(
        rig.texts("select distinct source from dynaurora.partitions").await,
        [Some(SOURCE.to_owned())]
    );
}
