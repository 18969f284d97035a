//! The rules of the mapping language, one by one, where they speak of rows: a mapping played over a real
//! server. Each test's name begins with the rule's number; those that need no server are in
//! `src/mapping` and `src/config`, those that need the whole daemon in `tests/e2e`.

use dynaurora::apply::ports::TableApplied;
use dynaurora::model::{Change, ChangeOp, EpochMillis};

use super::lifecycle::Play;
use crate::rig::{item, sequence};

const MAPPING: &str = r#"
    version = 1
    target.url = "postgres:///reads"
    [source.santa]
    table = "NorthPole"
    [source.santa.entity.letter]
    key     = { pk = "CHILD#{child}", sk = "LETTER#{nr:int}" }
    table   = "letters"
    where   = "kind = 'letter'"
    [source.santa.entity.letter.columns]
    child = "{child}"
    nr    = "{nr}"
    body  = "body"
    price = { from = "price", type = "numeric" }
    doc   = { from = "doc", type = "jsonb" }
    sent  = { from = "sent", type = "timestamptz", epoch = "ms" }
    tags  = { from = "tags", type = "text[]" }
    mood  = { from = "mood", type = "int", on_error = "null" }
    [source.santa.entity.letter.children.toys]
    from    = "toys"
    table   = "toys"
    limit   = 2
    columns = { position = "@index", sku = { from = "@value", type = "varchar(8)" } }
    [source.santa.entity.letter.children.boxes]
    from    = "boxes"
    table   = "boxes"
    columns = { box = "@key" }
    [source.santa.entity.letter.children.boxes.children.parts]
    from    = "@value"
    table   = "parts"
    limit   = 3
    columns = { part = "@index", sku = "@value" }
    [source.santa.entity.draft]
    key     = { pk = "CHILD#{child}", sk = "LETTER#{nr:int}" }
    table   = "drafts"
    where   = "kind = 'draft'"
    columns = { child = "{child}", nr = "{nr}", body = "body" }
"#;

const LETTERS: &str =
    "select child || '/' || nr || ' ' || coalesce(body, '-') from letters order by 1";
const TOYS: &str = "select child || '/' || nr || ' ' || position || sku from toys order by 1";
const DRAFTS: &str = "select child || '/' || nr || ' ' || body from drafts order by 1";

fn change(op: ChangeOp, (child, nr): (&str, &str), number: u64, image: &str) -> Change {
    let key = format!(r#""pk":{{"S":"CHILD#{child}"}},"sk":{{"S":"LETTER#{nr}"}}"#);
    Change {
        op,
        sequence: sequence(number),
        keys: item(&format!("{{{key}}}")),
        new_image: (op != ChangeOp::Remove).then(|| item(&format!("{{{key},{image}}}"))),
        old_image: None,
        changed_at: Some(EpochMillis(1_796_112_000_000)),
        expired: false,
        bytes: 0,
    }
}

fn put(key: (&str, &str), number: u64, kind: &str, more: &str) -> Change {
    let image = format!(r#""kind":{{"S":"{kind}"}}{more}"#);
    change(ChangeOp::Modify, key, number, &image)
}

/// A letter with these toys.
fn letter(key: (&str, &str), number: u64, toys: &[&str]) -> Change {
    let toys: Vec<_> = toys.iter().map(|sku| format!(r#"{{"S":"{sku}"}}"#)).collect();
    let more = format!(r#","body":{{"S":"b{number}"}},"toys":{{"L":[{}]}}"#, toys.join(","));
    put(key, number, "letter", &more)
}

fn counts(upserted: u64, deleted: u64, superseded: u64) -> TableApplied {
    TableApplied { upserted, deleted, superseded }
}

async fn rejected(play: &Play) -> Vec<String> {
    play.texts(
        "select reason || ' ' || coalesce(place, '-') from dynaurora.dead_letters order by id",
    )
    .await
}

const ADA: (&str, &str) = ("ada", "7");

#[tokio::test]
async fn rule_1_a_key_routes_to_its_table_and_fills_its_columns() {
    let mut play = Play::with(MAPPING).await;
    // The last capture is greedy; what is no number is no letter.
    play.apply(vec![letter(("a#b", "-3"), 5, &[]), letter(("ada", "x"), 6, &[])]).await;
    assert_eq!(play.texts(LETTERS).await, ["a#b/-3 b5"]);
    assert_eq!(rejected(&play).await, ["unmatched -"]);
}

#[tokio::test]
async fn rule_2_leaving_the_filter_deletes_the_row_and_what_hangs_on_it() {
    let mut play = Play::with(MAPPING).await;
    play.apply(vec![letter(ADA, 5, &["kite"]), letter(("bo", "1"), 6, &["doll"])]).await;
    play.apply(vec![put(ADA, 7, "burnt", "")]).await;
    assert_eq!(play.texts(LETTERS).await, ["bo/1 b6"]);
    assert_eq!(play.texts(TOYS).await, ["bo/1 0doll"]);
    play.apply(vec![letter(ADA, 8, &[])]).await;
    assert_eq!(play.texts(LETTERS).await, ["ada/7 b8", "bo/1 b6"]);
}

#[tokio::test]
async fn rule_2_changing_entity_under_one_key_moves_the_item_to_the_other_table() {
    let mut play = Play::with(MAPPING).await;
    play.apply(vec![letter(ADA, 5, &["kite"])]).await;
    let body = r#","body":{"S":"again"}"#;
    play.apply(vec![put(ADA, 6, "draft", body)]).await;
    assert_eq!((play.texts(LETTERS).await, play.texts(TOYS).await), (vec![], vec![]));
    assert_eq!(play.texts(DRAFTS).await, ["ada/7 again"]);
    // There and back within one batch, and a late change of before.
    play.apply(vec![letter(ADA, 7, &[]), put(ADA, 8, "draft", body), letter(ADA, 9, &[])]).await;
    play.apply(vec![put(ADA, 6, "draft", body)]).await;
    assert_eq!(play.texts(LETTERS).await, ["ada/7 b9"]);
}

#[tokio::test]
async fn rule_3_a_removal_that_carries_keys_alone_finds_its_row() {
    let mut play = Play::with(MAPPING).await;
    play.apply(vec![
        letter(ADA, 5, &["kite"]),
        put(("bo", "1"), 6, "draft", r#","body":{"S":"b"}"#),
    ])
    .await;
    assert!(play.mapper.needs_old_image().is_none());
    let gone = |key, number| change(ChangeOp::Remove, key, number, "");
    play.apply(vec![gone(ADA, 7), gone(("bo", "1"), 8)]).await;
    for sql in [LETTERS, TOYS, DRAFTS] {
        assert!(play.texts(sql).await.is_empty(), "{sql}");
    }
}

#[tokio::test]
async fn rule_4_items_of_different_keys_have_rows_of_their_own() {
    let mut play = Play::with(MAPPING).await;
    let keys =
        [("ada", "7"), ("ada", "70"), ("ada#7", "0"), ("Ada", "7"), ("", "7"), (" ada", "7")];
    let put = |(at, key): (usize, &(&'static str, &'static str))| letter(*key, 5 + at as u64, &[]);
    play.apply(keys.iter().enumerate().map(put).collect()).await;
    // Captures are never empty, and a number is taken in one form only.
    assert_eq!(play.texts(LETTERS).await.len(), keys.len() - 1);
    assert_eq!(rejected(&play).await, ["unmatched -"]);
    play.apply(vec![letter(("ada", "07"), 20, &[])]).await;
    assert_eq!(rejected(&play).await, ["unmatched -"; 2]);
}

#[tokio::test]
async fn rule_5_values_are_exact_and_absent_null_and_empty_stay_apart() {
    let mut play = Play::with(MAPPING).await;
    let digits = "1234567890123456789012345678.9012345678";
    let whole = format!(
        r#","body":{{"S":""}},"price":{{"N":"{digits}"}},"doc":{{"M":{{}}}},
           "sent":{{"N":"1796112000000"}},"tags":{{"SS":["b","a"]}}"#
    );
    let nulls = r#","body":{"NULL":true},"doc":{"NULL":true},"tags":{"L":[]}"#;
    play.apply(vec![
        put(("a", "1"), 5, "letter", &whole),
        put(("a", "2"), 6, "letter", nulls),
        put(("a", "3"), 7, "letter", ""),
        put(("a", "4"), 8, "letter", r#","price":{"S":"NaN"}"#),
        put(("a", "5"), 9, "letter", r#","sent":{"S":"infinity"}"#),
        put(("a", "6"), 10, "letter", r#","body":{"S":"a\u0000b"}"#),
        put(("a", "7"), 11, "letter", r#","body":{"S":"NaN"}"#),
    ])
    .await;
    let shown = "select concat_ws('|', nr, coalesce(body, 'null'), coalesce(price::text, 'null'), \
                 coalesce(doc::text, 'null!'), \
                 coalesce(extract(epoch from sent)::bigint::text, 'null'), \
                 coalesce(tags::text, 'null')) from letters order by nr";
    let expected = [
        format!("1||{digits}|{{}}|1796112000|{{a,b}}"),
        "2|null|null|null|null|{}".to_owned(),
        "3|null|null|null!|null|null".to_owned(),
        "7|NaN|null|null!|null|null".to_owned(),
    ];
    assert_eq!(play.texts(shown).await, expected);
    assert_eq!(rejected(&play).await, ["format price", "format sent", "nul body"]);
}

#[tokio::test]
async fn rule_6_a_record_that_does_not_fit_writes_nothing_unless_its_column_forgives() {
    let mut play = Play::with(MAPPING).await;
    play.apply(vec![letter(ADA, 5, &["kite"])]).await;
    // The row, its children and its other entity's row: all of it or nothing.
    play.apply(vec![letter(ADA, 6, &["train", "much too long"])]).await;
    assert_eq!(play.texts(LETTERS).await, ["ada/7 b5"]);
    assert_eq!(play.texts(TOYS).await, ["ada/7 0kite"]);
    assert_eq!(rejected(&play).await, ["range sku"]);
    play.apply(vec![put(ADA, 7, "letter", r#","body":{"S":"b7"},"mood":{"S":"merry"}"#)]).await;
    assert_eq!(play.texts("select body || (mood is null) from letters").await, ["b7true"]);
}

#[tokio::test]
async fn rule_9_more_child_rows_than_the_limit_are_a_reject() {
    let mut play = Play::with(MAPPING).await;
    play.apply(vec![letter(ADA, 5, &["kite", "drum"])]).await;
    play.apply(vec![letter(ADA, 6, &["a", "b", "c"])]).await;
    assert_eq!(rejected(&play).await, ["limit toys"]);
    assert_eq!(play.texts(TOYS).await, ["ada/7 0kite", "ada/7 1drum"]);
    // Within it again: by difference.
    let applied = play.apply(vec![letter(ADA, 7, &["kite"])]).await;
    assert_eq!(applied.tables[..2], [counts(1, 0, 0), counts(0, 1, 0)]);
    assert_eq!(play.texts(TOYS).await, ["ada/7 0kite"]);
}

/// A letter with boxes of parts, as `a=x,y b=z`.
fn boxed(number: u64, boxes: &str) -> Change {
    let part = |sku: &str| format!(r#"{{"S":"{sku}"}}"#);
    let boxes = boxes.split_whitespace().map(|own| {
        let (name, parts) = own.split_once('=').unwrap();
        let parts: Vec<_> = parts.split_terminator(',').map(part).collect();
        format!(r#""{name}":{{"L":[{}]}}"#, parts.join(","))
    });
    let boxes: Vec<_> = boxes.collect();
    put(ADA, number, "letter", &format!(r#","boxes":{{"M":{{{}}}}}"#, boxes.join(",")))
}

#[tokio::test]
async fn rule_9_children_of_children_change_by_difference_in_the_same_transaction() {
    let mut play = Play::with(MAPPING).await;
    // A user's own foreign keys hold after every statement.
    play.rig
        .run(
            "alter table boxes add foreign key (child, nr) references letters; \
             alter table parts add foreign key (child, nr, box) references boxes",
        )
        .await;
    let parts = "select box || part || sku from parts order by 1";
    let applied = play.apply(vec![boxed(5, "a=wheel,axle b=rope")]).await;
    assert_eq!(applied.tables[2..4], [counts(2, 0, 0), counts(3, 0, 0)]);
    let rowid = "select ctid::text from parts where sku = 'wheel'";
    let before = play.texts(rowid).await;
    // One box goes with its part, another comes; what stays is not written again.
    let applied = play.apply(vec![boxed(6, "a=wheel,bolt c=")]).await;
    assert_eq!(applied.tables[2..4], [counts(1, 1, 0), counts(1, 1, 0)]);
    assert_eq!(play.texts(parts).await, ["a0wheel", "a1bolt"]);
    assert_eq!(play.texts("select box from boxes order by 1").await, ["a", "c"]);
    assert_eq!(play.texts(rowid).await, before, "the same tuple");
    // Beyond the limit in all boxes together: nothing of it.
    play.apply(vec![boxed(7, "a=x,y b=z,w")]).await;
    assert_eq!(rejected(&play).await, ["limit boxes[].@value"]);
    assert_eq!(play.texts(parts).await, ["a0wheel", "a1bolt"]);
    play.apply(vec![change(ChangeOp::Remove, ADA, 8, "")]).await;
    for table in ["letters", "boxes", "parts"] {
        assert_eq!(play.rig.count(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn rule_10_what_a_newer_change_made_needless_is_counted_and_not_lost() {
    let mut play = Play::with(MAPPING).await;
    play.apply(vec![letter(ADA, 9, &[])]).await;
    let applied = play.apply(vec![letter(ADA, 5, &[]), change(ChangeOp::Remove, ADA, 6, "")]).await;
    let letters = &applied.tables[0];
    assert_eq!((letters.upserted, letters.deleted), (0, 0));
    assert!(letters.superseded > 0, "{letters:?}");
    assert_eq!(play.texts(LETTERS).await, ["ada/7 b9"]);
}
