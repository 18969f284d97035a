//! Tables made, tables taken as they are, and what is refused.

use std::sync::Arc;

use dynaurora::apply::ports::Sink;
use dynaurora::engine::ports::Ledger;
use dynaurora::error::ErrorKind;
use dynaurora::mapping::spec::{ColumnType, TableName};
use dynaurora::postgres::ledger::PostgresLedger;
use dynaurora::postgres::listings::grants;
use dynaurora::postgres::migrations;
use dynaurora::postgres::session::Pools;
use dynaurora::postgres::tables::{PostgresSink, ddl};
use sqlx::{AssertSqlSafe, PgPool};

use super::cluster::fresh_database;
use super::rig::{LEASE_TTL, Rig, dead_letter, letter, settings, tables};
use crate::rig::tables::{Build, table};
use crate::rig::{SOURCE, batch, beside, version, wishing, worker};

async fn database() -> PgPool {
    PgPool::connect(&fresh_database().await).await.unwrap()
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

fn whats(steps: &[ddl::Step]) -> Vec<&str> {
    steps.iter().map(|step| step.what.as_str()).collect()
}

#[tokio::test]
async fn rule_8_a_plan_makes_what_is_missing_and_then_nothing() {
    let pool = database().await;
    let mut specs = tables();
    for spec in &mut specs {
        spec.name.schema = Some("north pole".to_owned());
    }
    specs[0].columns[2].not_null = true;
    // Toys by their number alone: the parent's key needs an index of its own.
    specs[1].key_columns = 1;
    let steps = ddl::plan(&pool, &specs).await.unwrap();
    assert_eq!(
        whats(&steps),
        [
            "create the schema north pole",
            "create the table north pole.letters",
            "create the table north pole.toys",
            "index the parent key of north pole.toys",
        ]
    );
    ddl::apply(&pool, &steps).await.unwrap();
    assert_eq!(ddl::plan(&pool, &specs).await.unwrap(), []);
    let columns: Vec<String> = sqlx::query_scalar(
        "select table_name || '.' || column_name || ' ' || is_nullable \
         from information_schema.columns where table_schema = 'north pole' order by 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(columns.contains(&"letters.body NO".to_owned()));
    assert!(columns.contains(&"letters.dynaurora_version NO".to_owned()));
    assert!(!columns.iter().any(|name| name.starts_with("toys.dynaurora")));

    specs[0] = specs[0].clone().column("wish", array(ColumnType::Varchar(10)));
    let steps = ddl::plan(&pool, &specs).await.unwrap();
    assert_eq!(whats(&steps), ["add the column wish to north pole.letters"]);
    let broken = ddl::Step {
        what: "break".to_owned(),
        sql: "select 1/0".to_owned(),
        kind: ddl::StepKind::Schema,
    };
    let mut failing = steps.clone();
    failing.push(broken);
    assert!(ddl::apply(&pool, &failing).await.is_err());
    assert_eq!(ddl::plan(&pool, &specs).await.unwrap(), steps, "all steps or none");
    ddl::apply(&pool, &steps).await.unwrap();
    assert_eq!(ddl::plan(&pool, &specs).await.unwrap(), []);
}

fn array(element: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(element))
}

#[tokio::test]
async fn rule_8_a_users_own_table_is_taken_and_filled() {
    let pool = database().await;
    run(
        &pool,
        "create table letters (id bigint generated always as identity primary key, \
         number numeric, child varchar not null, seen timestamptz not null default now(), \
         unique (number, child)); \
         insert into letters (child, number) values ('old', 1); \
         create table toys (child text, number bigint, position bigint, sku text, \
         primary key (position, number, child))",
    )
    .await;
    let steps = ddl::plan(&pool, &tables()).await.unwrap();
    assert_eq!(
        whats(&steps),
        [
            "add the column body to letters",
            "add the version column to letters",
            "index the parent key of toys",
        ]
    );
    ddl::apply(&pool, &steps).await.unwrap();
    assert_eq!(ddl::plan(&pool, &tables()).await.unwrap(), []);
    migrations::migrate(&pool).await.unwrap();
    let url = pool_url(&pool).await;
    let rig = Rig::open(url, pool, &tables()).await;
    rig.register(&["a"]).await;
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let units = vec![wishing(letter("new", "a", 5), &[(0, "kite")]), letter("old", "b", 5)];
    let applied = rig.apply(&batch(&ann, &lease, 5, units)).await.unwrap();
    assert_eq!(applied.tables[0].upserted, 2, "rows of before have a version below all others");
    assert_eq!(rig.count("letters").await, 2);
}

async fn pool_url(pool: &PgPool) -> String {
    let name: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(pool).await.unwrap();
    super::cluster::cluster().await.url(&name)
}

#[tokio::test]
async fn what_only_the_owner_can_resolve_is_told_at_once_with_the_remedy() {
    let pool = database().await;
    run(
        &pool,
        "create table letters (child text, number integer, demanded text not null, \
         body text generated always as (child || '!') stored, dynaurora_version text); \
         create unique index on letters (child, number) where number > 0; \
         create view toys as select 1 as one",
    )
    .await;
    let mut specs = tables();
    let mood = TableName { schema: None, name: "mood".to_owned() };
    specs[0] = specs[0].clone().column("mood", ColumnType::Named(mood));
    let error = ddl::plan(&pool, &specs[..1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    let text = error.to_string();
    for problem in [
        "letters.number is integer, the mapping says bigint",
        "letters.demanded is NOT NULL without a default and not mapped",
        "letters.body is generated by the database",
        "letters.dynaurora_version is text, not numeric",
        "letters has no unique index on (child, number)",
        "letters.mood has the unknown type \"mood\"",
    ] {
        assert!(text.contains(problem), "{problem} in {text}");
    }
    let remedy = error.hint().unwrap();
    assert!(
        remedy.contains("alter table \"public\".\"letters\" alter column \"number\" type bigint")
    );
    assert!(
        remedy
            .contains("alter table \"public\".\"letters\" add primary key (\"child\", \"number\")")
    );
    let error = ddl::plan(&pool, &specs[1..]).await.unwrap_err();
    assert_eq!(error.to_string(), "toys exists but is not a table");
    let long = [table(&"x".repeat(64))];
    assert_eq!(ddl::plan(&pool, &long).await.unwrap_err().kind(), ErrorKind::Config);
}

/// Items are told apart by every byte of their keys, so rows must be.
#[tokio::test]
async fn a_key_column_that_ignores_case_is_refused() {
    let pool = database().await;
    run(
        &pool,
        "create collation nocase (provider = icu, locale = 'und-u-ks-level2', \
         deterministic = false); \
         create table letters (child text collate nocase, number bigint, \
         body text collate nocase, dynaurora_version numeric not null default 0, \
         primary key (child, number))",
    )
    .await;
    let error = ddl::plan(&pool, &tables()[..1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    let text = error.to_string();
    assert!(text.contains("letters.child treats different texts as one key"), "{text}");
    assert!(!text.contains("letters.body"), "only keys must differ: {text}");
    let remedy =
        "alter table \"public\".\"letters\" alter column \"child\" type text collate \"C\"";
    assert!(error.hint().unwrap().contains(remedy), "{:?}", error.hint());
    run(&pool, remedy).await;
    assert_eq!(ddl::plan(&pool, &tables()[..1]).await.unwrap(), []);
}

#[tokio::test]
async fn the_granted_roles_can_do_their_work_and_no_more() {
    let rig = Rig::new().await;
    let suffix = rig.texts("select current_database()::text").await.pop().flatten().unwrap();
    let (runtime, query) = (format!("runtime \"{suffix}\""), format!("query {suffix}"));
    for role in [&runtime, &query] {
        let quoted = dynaurora::postgres::sql::ident::quoted(role).unwrap();
        rig.run(&format!("create role {quoted} login password 'x'")).await;
    }
    rig.run(&grants::grants(&tables(), &runtime).unwrap()).await;
    rig.run(&grants::query_grants(&tables(), &query).unwrap()).await;

    let port = super::cluster::cluster().await.port();
    let user = runtime.replace(' ', "%20").replace('"', "%22");
    let url = format!("postgres://{user}:x@127.0.0.1:{port}/{suffix}");
    let pools = Arc::new(Pools::connect(settings(&url)).await.unwrap());
    let pool = pools.pool().await.unwrap();
    assert_eq!(migrations::pending(&pool).await.unwrap(), Vec::<String>::new());
    assert_eq!(ddl::plan(&pool, &tables()).await.unwrap(), []);
    let ledger = PostgresLedger::new(Arc::clone(&pools));
    let sink = PostgresSink::new(pools, &tables()).unwrap();
    full_cycle(&ledger, &sink).await;
    let refused = sqlx::raw_sql("create table dynaurora.x ()").execute(&pool).await;
    assert!(refused.is_err(), "no DDL");

    let url = format!("postgres://{}:x@127.0.0.1:{port}/{suffix}", query.replace(' ', "%20"));
    let pool = PgPool::connect(&url).await.unwrap();
    let letters: i64 =
        sqlx::query_scalar("select count(*) from letters").fetch_one(&pool).await.unwrap();
    assert_eq!(letters, 1);
    let fresh = sqlx::query(
        "select f.*, dynaurora.synced_up_to(source), \
         dynaurora.wait_for(source, now(), interval '1 ms') from dynaurora.freshness f",
    );
    assert_eq!(fresh.fetch_all(&pool).await.unwrap().len(), 1);
    for refused in [
        "delete from letters",
        "select * from dynaurora.dead_letters",
        "select * from dynaurora.partitions",
        "select * from dynaurora.workers",
        "select * from dynaurora.sources",
        "delete from dynaurora.freshness",
    ] {
        assert!(sqlx::query(refused).execute(&pool).await.is_err(), "{refused}");
    }
}

async fn full_cycle(ledger: &PostgresLedger, sink: &PostgresSink) {
    use dynaurora::engine::ports::{LeaseRequest, Publication};
    use dynaurora::model::PartitionId;
    let ann = worker("ann");
    let listing =
        dynaurora::engine::ports::Listing { shards: vec![super::rig::shard("a")], complete: true };
    ledger.enrol(&crate::rig::identity()).await.unwrap();
    ledger.register(SOURCE, crate::rig::STREAM, &listing).await.unwrap();
    let wanted = [PartitionId::new("a")];
    let request = LeaseRequest {
        source: SOURCE,
        worker: &ann,
        generation: 1,
        wanted: &wanted,
        lease_ttl: LEASE_TTL,
    };
    let lease = ledger.acquire(&request).await.unwrap().pop().unwrap();
    let units = vec![wishing(letter("1", "a", 5), &[(0, "kite")]), super::rig::burnt("2", 5)];
    let touched = vec![(dead_letter("1", 1).key_hash, version(5))];
    let rejects = vec![dead_letter("1", 3)];
    let mut whole = beside(batch(&ann, &lease, 5, units));
    (whole.rows.rejects, whole.rows.touched) = (rejects, touched);
    sink.apply(&whole).await.unwrap();
    ledger.renew(SOURCE, &ann, LEASE_TTL).await.unwrap();
    let covers = [(lease.partition.clone(), lease.epoch)];
    let incarnation = ledger.view(SOURCE).await.unwrap().incarnation;
    let publication = Publication {
        source: SOURCE,
        worker: &ann,
        number: 1,
        synced_up_to: None,
        last_poll_at: None,
        covers: Some(&covers),
        mapping: 7,
        incarnation: &incarnation,
    };
    assert!(ledger.publish(&publication).await.unwrap().taken);
    ledger.release(SOURCE, &ann, &[(lease.partition, lease.epoch)], true).await.unwrap();
    assert_eq!(ledger.view(SOURCE).await.unwrap().partitions.len(), 2);
}

#[tokio::test]
async fn indexes_and_comments_are_made_once() {
    let pool = database().await;
    let mut specs = tables();
    specs[0].extras.indexes = vec![vec!["body".to_owned()], vec!["number".into(), "body".into()]];
    specs[0].extras.comment = Some("it's a \\ letter".to_owned());
    specs[0].extras.column_comments = vec![("body".to_owned(), "'; drop table letters; --".into())];
    let steps = ddl::plan(&pool, &specs).await.unwrap();
    let asked = ["index letters by body", "index letters by number, body", "comment on letters"];
    for what in asked {
        assert!(whats(&steps).contains(&what), "{what}: {steps:?}");
    }
    ddl::apply(&pool, &steps).await.unwrap();
    assert_eq!(ddl::plan(&pool, &specs).await.unwrap(), []);
    let comments: Vec<String> = sqlx::query_scalar(
        "select description from pg_description where objoid = 'letters'::regclass order by 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(comments, ["'; drop table letters; --", "it's a \\ letter"]);
    // An index that begins with the columns serves; a comment that differs is renewed.
    specs[0].extras.indexes = vec![vec!["number".to_owned()]];
    specs[0].extras.comment = Some("a wish".to_owned());
    let steps = ddl::plan(&pool, &specs).await.unwrap();
    assert_eq!(whats(&steps), ["comment on letters"]);
}
