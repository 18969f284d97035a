//! The worked example of the mapping language as it stands in `config/santa.toml`, and columns that come
//! while it runs.

use aws_sdk_dynamodb::types::AttributeValue;
use dynaurora::demo::compare::full_comparison;
use dynaurora::demo::santa::{REINDEER, TABLE};
use dynaurora::ops::{resolve, wire};

use super::stage::{SOON_SECS, Setting, Stage, within};

const ALL: Setting = Setting {
    lease_ttl_secs: 3,
    more: "",
    endpoint: None,
    applied: true,
    reindeer: true,
    postgres: None,
    server: None,
};

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: &str) -> AttributeValue {
    AttributeValue::N(number.to_owned())
}

async fn put(stage: &Stage, table: &str, item: &[(&str, AttributeValue)]) {
    let mut request = stage.client.put_item().table_name(table);
    for (name, value) in item {
        request = request.item(*name, value.clone());
    }
    request.send().await.unwrap();
}

/// A column of a query's rows, as text.
async fn texts(stage: &Stage, sql: &str) -> Vec<String> {
    let rows: Vec<Option<String>> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_all(&stage.pool)
        .await
        .unwrap();
    rows.into_iter().map(Option::unwrap_or_default).collect()
}

async fn become_(stage: &Stage, sql: &str, expected: &[&str]) {
    let mut last = Vec::new();
    let what = format!("{sql} gives {expected:?}");
    within(SOON_SECS, &what, async || {
        last = texts(stage, sql).await;
        (last == expected).then_some(())
    })
    .await;
}

/// Every source, compared as the daemon has mapped it.
async fn whole_is_in_step(stage: &Stage) {
    let mut config = stage.config.clone();
    resolve::resolve(&mut config, &stage.pool).await.unwrap();
    for source in &config.sources {
        let dynamo = wire::source(&config, source).await.unwrap();
        within(SOON_SECS, "source and target agree", async || {
            let found = full_comparison(&dynamo, &source.mapper, &stage.pool).await.unwrap();
            (found.mismatches == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_worked_example_runs_as_it_stands() {
    let stage = Stage::with(ALL).await;
    let ended = stage.command(&["test"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    let _daemon = stage.ready_daemon().await;
    let toys = AttributeValue::L(vec![
        AttributeValue::M([("sku".to_owned(), text("train"))].into()),
        AttributeValue::M(
            [("sku".to_owned(), text("kite")), ("qty".to_owned(), number("2"))].into(),
        ),
    ]);
    let letter = |status: &str, draft: bool| {
        [
            ("pk", text("CHILD#42")),
            ("sk", text("LETTER#2026#a1")),
            ("sentAt", text("2026-12-01T08:00:00Z")),
            ("status", text(status)),
            ("toys", toys.clone()),
            ("draft", AttributeValue::Bool(draft)),
        ]
    };
    put(&stage, TABLE, &[("pk", text("CHILD#42")), ("sk", text("PROFILE")), ("name", text("Ada"))])
        .await;
    put(&stage, TABLE, &letter("P", false)).await;
    become_(&stage, "select status from letters", &["posted"]).await;
    put(&stage, TABLE, &letter("D", false)).await;
    become_(&stage, "select status from letters", &["delivered"]).await;
    put(&stage, TABLE, &letter("D", true)).await;
    let marked = "select status || (deleted_at is null) from letters";
    become_(&stage, marked, &["deliveredfalse"]).await;
    put(&stage, TABLE, &letter("P", false)).await;
    become_(&stage, marked, &["postedtrue"]).await;
    whole_is_in_step(&stage).await;
    let key = |sk: &str| [("pk", text("CHILD#42")), ("sk", text(sk))];
    let [pk, sk] = key("LETTER#2026#a1");
    let request = stage.client.delete_item().table_name(TABLE);
    request.key(pk.0, pk.1).key(sk.0, sk.1).send().await.unwrap();
    become_(&stage, marked, &["postedfalse"]).await;
    let history = "select op || ' ' || coalesce(status, '-') || ' ' || \
        (valid_to is null or valid_from > valid_to) \
        from letters_history order by dynaurora_version";
    let expected = [
        "insert posted false",
        "modify delivered false",
        "filter - false",
        "modify posted false",
        "remove - false",
    ];
    become_(&stage, history, &expected).await;
    assert_eq!(stage.number("select count(*) from letter_toys").await, 2, "the row stays whole");

    let rudolf = "select concat_ws(' ', id, harness, leads, nose, extra) from reindeer \
        where id = 'Rudolf'";
    become_(&stage, rudolf, &[r#"Rudolf 9 t {"colour": "red"} {}"#]).await;
    whole_is_in_step(&stage).await;
}

#[tokio::test]
async fn an_unknown_attribute_waits_in_the_rest_until_apply_gives_it_a_column() {
    let stage = Stage::with(ALL).await;
    let daemon = stage.daemon();
    become_(&stage, "select count(*)::text from reindeer", &["9"]).await;
    let item = |id: &str, speed: AttributeValue| {
        vec![("id", text(id)), ("topSpeed", speed), ("harness", text("none"))]
    };
    put(&stage, REINDEER, &item("Olive", number("12.50"))).await;
    put(&stage, REINDEER, &item("Olaf", number("3"))).await;
    let rests = "select id || ' ' || extra from reindeer where id like 'Ol%' order by id";
    let waits = [
        r#"Olaf {"harness": "none", "topSpeed": 3}"#,
        r#"Olive {"harness": "none", "topSpeed": 12.5}"#,
    ];
    become_(&stage, rests, &waits).await;
    daemon.stop().await;

    let ended = stage.command(&["plan", "--exit-code"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for said in [
        "-- reindeer exists: only missing parts are added",
        "fill reindeer.top_speed from the attribute topSpeed",
        "move values of reindeer from extra to their columns",
    ] {
        assert!(ended.stdout.contains(said), "{said}\n{}", ended.stdout);
    }
    let ended = stage.command(&["apply"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // What fits has moved; what does not fit its column waits on, and is not lost.
    become_(&stage, rests, &[r#"Olaf {"harness": "none"}"#, r#"Olive {"harness": "none"}"#]).await;
    let speeds = "select top_speed::text from reindeer where id like 'Ol%' order by id";
    become_(&stage, speeds, &["3", "12.5"]).await;
    let ended = stage.command(&["plan", "--exit-code"]).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);

    let _daemon = stage.daemon();
    put(&stage, REINDEER, &item("Olive", number("13"))).await;
    put(&stage, REINDEER, &item("Olaf", text("slow"))).await;
    become_(&stage, speeds, &["", "13"]).await;
    let waits = [r#"Olaf {"harness": "none", "topSpeed": "slow"}"#, r#"Olive {"harness": "none"}"#];
    become_(&stage, rests, &waits).await;
    whole_is_in_step(&stage).await;
}

#[tokio::test]
async fn rule_8_a_table_of_ones_own_keeps_its_types_and_gets_one_column() {
    let stage = Stage::with(Setting { applied: false, reindeer: false, ..ALL }).await;
    let sql = "create table children (child_id varchar(20) primary key, name varchar(40), \
        city text, country text, naughty numeric(6,2), born_on date, updated_at timestamptz, \
        aliases text[], extra jsonb, note text default 'mine')";
    sqlx::raw_sql(sql).execute(&stage.pool).await.unwrap();
    let ended = stage.command(&["plan"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("-- children exists"), "{}", ended.stdout);
    let of_children: Vec<_> =
        ended.stdout.lines().filter(|line| line.contains("\"children\"")).collect();
    let version = "alter table \"public\".\"children\" \
                   add column \"dynaurora_version\" numeric not null default 0;";
    assert_eq!(of_children, [version]);
    assert_eq!(stage.command(&["apply"]).await.code, Some(0));
    let _daemon = stage.daemon();
    put(&stage, TABLE, &[("pk", text("CHILD#7")), ("sk", text("PROFILE")), ("name", text("Bo"))])
        .await;
    become_(&stage, "select child_id || name || note from children", &["7Bomine"]).await;
}

#[tokio::test]
async fn rule_8_nothing_is_destroyed_before_it_is_confirmed() {
    let stage = Stage::with(Setting { applied: false, reindeer: false, ..ALL }).await;
    let sql = "create table children (child_id text primary key, name text, city text, \
        country text, naughty text, born_on date, updated_at timestamptz, aliases text[], \
        extra jsonb, motto text not null); \
        insert into children values ('1', 'Ada', '', '', '1.5', null, null, null, '{}', 'go')";
    sqlx::raw_sql(sql).execute(&stage.pool).await.unwrap();
    for words in [&["plan"][..], &["apply"], &["apply", "--confirm", "letters"]] {
        let ended = stage.command(words).await;
        assert_eq!(ended.code, Some(78), "{}", ended.stdout);
        for said in ["children.naughty is text", "motto is NOT NULL", "--confirm children"] {
            assert!(ended.stderr.contains(said), "{said}\n{}", ended.stderr);
        }
    }
    let ended = stage.command(&["plan", "--confirm", "children"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("which may lose data"), "{}", ended.stdout);
    let ended = stage.command(&["apply", "--confirm", "children"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(texts(&stage, "select naughty::text || motto from children").await, ["1.50go"]);
    assert_eq!(stage.command(&["plan", "--exit-code"]).await.code, Some(0));
}
