//! Rows whose keys are no keys of their items: items that move, are rejected on the way, and change places.

use std::sync::{Arc, Mutex};

use dynaurora::apply::apply_whole;
use dynaurora::apply::ports::Sink;
use dynaurora::engine::ports::{StreamView, Sweep, Swept, Target};
use dynaurora::model::{Change, ChangeOp, EpochMillis, Item, SequenceNumber};
use dynaurora::ops::ports::Parties;
use dynaurora::ops::retry::retry;
use dynaurora::ops::verify::context::{Context, Subject};
use dynaurora::postgres::ledger::PostgresLedger;
use dynaurora::postgres::repair::ports::PostgresTarget;
use dynaurora::runtime::SystemClock;

use super::lifecycle::Play;
use crate::rig::{SOURCE, item, moved, sequence, worker};
use crate::world::{World, WorldSource};

/// Elves and their seats: an elf may move, and two may change places.
const PLAIN: &str = r#"
    version = 1
    target.url = "postgres:///reads"
    [source.santa]
    table = "NorthPole"
    [source.santa.entity.elf]
    key         = { pk = "ELF#{elf}" }
    table       = "seats"
    primary_key = ["seat"]
    where       = "attribute_not_exists(away)"
    [source.santa.entity.elf.columns]
    seat = "seat"
    elf  = "{elf}"
    mood = { from = "mood", type = "numeric(3,1)" }
    [source.santa.entity.elf.children.toys]
    from    = "toys"
    table   = "toys"
    columns = { nr = "@index", sku = "@value" }
"#;

/// How the rows of elves end.
fn mapping(policy: &str) -> String {
    PLAIN.replace("    where ", &format!("    {policy}\n    where "))
}

const POLICIES: [&str; 3] =
    ["on_delete = \"delete\"", "on_delete = \"soft\"", "history = \"seats_history\""];

const SEATS: &str = "select seat || '=' || elf || ' ' || coalesce(mood::text, '-') from seats \
    where coalesce(to_jsonb(seats)->>'deleted_at', '') = '' order by seat";
const TOYS: &str = "select seat || nr || sku from toys order by 1";
const HIDDEN: &str = "select target || ' ' || item from dynaurora.hidden_rows order by 1";
/// `seat elf op from-to` of each item's versions in their order.
const HISTORY: &str = "select seat || ' ' || coalesce(elf, '-') || ' ' || op || ' ' || \
    extract(epoch from valid_from)::bigint || '-' || \
    coalesce(extract(epoch from valid_to)::bigint::text, '') \
    from seats_history order by seat, valid_from, dynaurora_version";

/// What an elf is: `seat mood`, and more attributes.
fn elf(name: &str, what: Option<&str>) -> Option<Item> {
    let (seat, mood) = what?.split_once(' ').unwrap_or((what?, "1.5"));
    let seat = match seat {
        "nowhere" => String::new(),
        seat => format!(r#""seat":{{"S":"{seat}"}},"#),
    };
    let away = if mood == "away" { r#""away":{"BOOL":true},"# } else { "" };
    let mood = if mood == "away" { "1.5" } else { mood };
    let toys = format!(r#""toys":{{"L":[{{"S":"{name}s"}}]}}"#);
    let mood = format!(r#""mood":{{"N":"{mood}"}}"#);
    Some(item(&format!(r#"{{"pk":{{"S":"ELF#{name}"}},{seat}{away}{mood},{toys}}}"#)))
}

/// An elf's change with this number, which is its time too.
fn change(name: &str, number: u64, from: Option<&str>, to: Option<&str>) -> Change {
    let op = match (from, to) {
        (_, None) => ChangeOp::Remove,
        (None, _) => ChangeOp::Insert,
        _ => ChangeOp::Modify,
    };
    Change {
        op,
        sequence: sequence(number),
        keys: item(&format!(r#"{{"pk":{{"S":"ELF#{name}"}}}}"#)),
        new_image: elf(name, to),
        old_image: elf(name, from),
        changed_at: Some(EpochMillis(i64::try_from(number).unwrap() * 1000)),
        expired: false,
        bytes: 0,
    }
}

fn sits(name: &str, number: u64, seat: &str) -> Change {
    change(name, number, None, Some(seat))
}

fn moves(name: &str, number: u64, from: &str, to: &str) -> Change {
    change(name, number, Some(from), Some(to))
}

fn leaves(name: &str, number: u64, from: &str) -> Change {
    change(name, number, Some(from), None)
}

fn scan(name: &str, seat: &str) -> Change {
    Change {
        op: ChangeOp::Scan,
        sequence: SequenceNumber::ZERO,
        changed_at: None,
        ..sits(name, 1, seat)
    }
}

async fn seats(play: &Play) -> Vec<String> {
    play.texts(SEATS).await
}

/// The orders in which two changes can come: together, or in two batches, by which one begins.
const ORDERS: [&[&[usize]]; 4] = [&[&[0, 1]], &[&[1, 0]], &[&[0], &[1]], &[&[1], &[0]]];
/// When ada takes her seat and leaves it, and when bo does: the numbers of two shards do not compare.
const NUMBERS: [[u64; 4]; 4] =
    [[10, 20, 11, 30], [10, 30, 11, 20], [900, 910, 10, 20], [10, 20, 900, 910]];

async fn play_in(play: &mut Play, order: &[&[usize]], changes: &[Change]) {
    for batch in order {
        play.apply(batch.iter().map(|at| changes[*at].clone()).collect()).await;
    }
}

#[tokio::test]
async fn two_items_that_change_keys_keep_both_rows_whatever_comes_first() {
    for policy in POLICIES {
        let mut play = Play::with(&mapping(policy)).await;
        for ([sat, left, other_sat, other_left], order) in
            NUMBERS.into_iter().flat_map(|numbers| ORDERS.map(|order| (numbers, order)))
        {
            let what = format!("{policy} {left} {other_left} {order:?}");
            play.rig.run("truncate seats, toys").await;
            play.apply(vec![sits("ada", sat, "x"), sits("bo", other_sat, "y")]).await;
            let both = [moves("ada", left, "x", "y"), moves("bo", other_left, "y", "x")];
            play_in(&mut play, order, &both).await;
            assert_eq!(seats(&play).await, ["x=bo 1.5", "y=ada 1.5"], "{what}");
            assert_eq!(play.texts(TOYS).await, ["x0bos", "y0adas"], "{what}");
            assert!(play.texts(HIDDEN).await.is_empty(), "{what}");
            // And back again, and one of them is gone.
            let back = [moves("ada", left + 1, "y", "x"), moves("bo", other_left + 1, "x", "y")];
            play_in(&mut play, order, &back).await;
            assert_eq!(seats(&play).await, ["x=ada 1.5", "y=bo 1.5"], "{what}");
            play.apply(vec![leaves("ada", left + 2, "x")]).await;
            assert_eq!(seats(&play).await, ["y=bo 1.5"], "{what}");
            assert!(play.texts(HIDDEN).await.is_empty(), "{what}");
        }
    }
}

/// The shard of one item lags: what it did long ago comes after all that the other one did.
#[tokio::test]
async fn a_shard_that_lags_takes_no_row_from_an_item_that_is_there() {
    for policy in POLICIES {
        for [sat, left, other_sat, other_left] in NUMBERS {
            let mut play = Play::with(&mapping(policy)).await;
            play.apply(vec![sits("ada", sat, "x")]).await;
            play.apply(vec![sits("bo", other_sat, "y"), moves("bo", other_left, "y", "x")]).await;
            assert_eq!(seats(&play).await, ["x=bo 1.5"]);
            assert_eq!(play.texts(HIDDEN).await.len(), 1, "ada holds x, as far as we know");
            // She took the other seat only for a moment, and came back when bo had left it.
            let lags = [moves("ada", left, "x", "y"), moves("ada", left + 1, "y", "z 2.5")];
            play_in(&mut play, &[&[0], &[1]], &lags).await;
            assert_eq!(seats(&play).await, ["x=bo 1.5", "z=ada 2.5"], "{policy} {left}");
            play.apply(vec![moves("ada", left + 2, "z", "x 3.5")]).await;
            assert_eq!(seats(&play).await, ["x=ada 3.5"]);
            // bo had gone before that.
            play.apply(vec![moves("bo", other_left + 1, "x", "w")]).await;
            assert_eq!(seats(&play).await, ["w=bo 1.5", "x=ada 3.5"], "{policy} {left}");
            assert!(play.texts(TOYS).await.contains(&"x0adas".to_owned()));
            assert!(play.texts(HIDDEN).await.is_empty(), "{policy} {left}");
        }
    }
}

/// What is hidden shows again, whole, when the item before it leaves.
#[tokio::test]
async fn what_another_items_row_hid_shows_again_when_that_item_leaves() {
    for policy in POLICIES {
        let mut play = Play::with(&mapping(policy)).await;
        // Two items hold one key, which is promised to nobody; but their ends come one by one.
        play.apply(vec![sits("ada", 10, "x 2.5"), sits("bo", 20, "x")]).await;
        assert_eq!(seats(&play).await, ["x=bo 1.5"]);
        play.apply(vec![sits("cy", 5, "x 3.5")]).await;
        assert_eq!(
            (seats(&play).await, play.texts(HIDDEN).await.len()),
            (vec!["x=cy 3.5".to_owned()], 2)
        );
        play.apply(vec![leaves("bo", 30, "x")]).await;
        assert_eq!(
            (seats(&play).await, play.texts(HIDDEN).await.len()),
            (vec!["x=cy 3.5".to_owned()], 1)
        );
        play.apply(vec![leaves("cy", 40, "x")]).await;
        assert_eq!(seats(&play).await, ["x=ada 2.5"], "{policy}");
        assert_eq!(play.texts(TOYS).await, ["x0adas"]);
        play.apply(vec![leaves("ada", 50, "x")]).await;
        assert!(seats(&play).await.is_empty() && play.texts(HIDDEN).await.is_empty());
    }
}

#[tokio::test]
async fn a_history_follows_each_item_that_has_the_key() {
    for order in ORDERS {
        for [sat, left, other_sat, other_left] in NUMBERS {
            let mut play = Play::with(&mapping(POLICIES[2])).await;
            let at = |change: Change, secs: i64| Change {
                changed_at: Some(EpochMillis(secs * 1000)),
                ..change
            };
            play.apply(vec![at(sits("ada", sat, "x"), 1), at(sits("bo", other_sat, "y"), 2)]).await;
            let both =
                [at(moves("ada", left, "x", "y"), 5), at(moves("bo", other_left, "y", "x"), 5)];
            play_in(&mut play, order, &both).await;
            let expected = [
                "x ada insert 1-5",
                "x - move 5-5",
                "x bo modify 5-",
                "y bo insert 2-5",
                "y - move 5-5",
                "y ada modify 5-",
            ];
            let mut history = play.texts(HISTORY).await;
            history.sort();
            let mut expected: Vec<_> = expected.into_iter().collect();
            expected.sort_unstable();
            assert_eq!(history, expected, "{left} {other_left} {order:?}");
        }
    }
}

/// Rows from before rows named their items are anybody's, as they were.
#[tokio::test]
async fn a_row_of_no_known_item_is_anybodys() {
    let mut play = Play::with(&mapping(POLICIES[0])).await;
    play.apply(vec![sits("ada", 10, "x"), sits("bo", 11, "y")]).await;
    play.rig.run("update seats set dynaurora_version = trunc(dynaurora_version)").await;
    play.apply(vec![moves("ada", 20, "x", "z"), moves("bo", 30, "y", "x")]).await;
    assert_eq!(seats(&play).await, ["x=bo 1.5", "z=ada 1.5"]);
    let named = "select (mod(dynaurora_version, 1) > 0)::text from seats";
    assert_eq!(play.texts(named).await, ["true", "true"], "a row that is written names its item");
    let plain = "select count(*)::text from information_schema.columns where table_name = 'seats'";
    assert_eq!(play.texts(plain).await, ["4"], "three columns of the mapping, and the version");
}

/// What is rejected on the way: a value that does not fit, a key that is not there, a row that the database
/// refuses.
const REJECTED: [&str; 4] = ["y 1234.5", "nowhere", "nowhere 1234.5", "y 9.9"];

/// Applies one change as a worker would, and tells how many dead letters are open and superseded.
async fn applied(play: &mut Play, change: Change) -> Vec<String> {
    let mut sealed = play.sealed(vec![change]);
    apply_whole(&play.rig.sink, &mut sealed).await.unwrap();
    play.went_on();
    play.texts("select state || count(*) from dynaurora.dead_letters group by state order by 1")
        .await
}

#[tokio::test]
async fn a_rejected_change_ends_the_row_that_its_item_has_left() {
    for policy in POLICIES {
        let mut play = Play::with(&mapping(policy)).await;
        play.rig.run("alter table seats add check (mood <> 9.9)").await;
        for rejected in REJECTED {
            for then in [Some("z"), None, Some("z away"), Some("x")] {
                let history = if policy == POLICIES[2] { ", seats_history" } else { "" };
                let tables = "truncate seats, toys, dynaurora.dead_letters";
                play.rig.run(&format!("{tables}{history}")).await;
                let what = format!("{policy} {rejected} {then:?}");
                applied(&mut play, sits("ada", 10, "x")).await;
                let letters = applied(&mut play, moves("ada", 20, "x", rejected)).await;
                assert_eq!(letters, ["open1"], "{what}");
                assert!(seats(&play).await.is_empty(), "{what}: {:?}", seats(&play).await);
                let letters = applied(&mut play, change("ada", 30, Some(rejected), then)).await;
                assert_eq!(letters, ["superseded1"], "{what}");
                let sits = then.filter(|then| !then.ends_with("away"));
                let sits: Vec<_> = sits.map(|seat| format!("{seat}=ada 1.5")).into_iter().collect();
                assert_eq!(seats(&play).await, sits, "{what}");
                if policy == POLICIES[2] {
                    let open = "select seat from seats_history where valid_to is null";
                    assert_eq!(play.texts(open).await.len(), sits.len(), "{what}");
                }
                let left = "select count(*)::text from toys where seat = 'x'";
                let kept = policy == POLICIES[1] || then == Some("x");
                assert_eq!(play.texts(left).await, [u8::from(kept).to_string()], "{what}");
            }
        }
    }
}

/// Where the key is the same, the last good row stays, as in every other table.
#[tokio::test]
async fn a_rejected_change_keeps_the_row_whose_key_it_keeps() {
    for rejected in ["x 1234.5", "x 9.9"] {
        let mut play = Play::with(&mapping(POLICIES[0])).await;
        play.rig.run("alter table seats add check (mood <> 9.9)").await;
        applied(&mut play, sits("ada", 10, "x 2.5")).await;
        applied(&mut play, moves("ada", 20, "x 2.5", rejected)).await;
        assert_eq!(seats(&play).await, ["x=ada 2.5"]);
        applied(&mut play, moves("ada", 30, rejected, "y 3.5")).await;
        assert_eq!(seats(&play).await, ["y=ada 3.5"]);
    }
}

/// A reject in a batch: what it leaves is ended, and what came before it in the batch is not there again.
#[tokio::test]
async fn a_refused_row_of_a_batch_takes_the_end_before_it_from_nobody() {
    let play = Play::with(&mapping(POLICIES[0])).await;
    play.rig.run("alter table seats add check (mood <> 9.9)").await;
    let changes = vec![
        sits("ada", 10, "x"),
        moves("ada", 20, "x", "y 9.9"),
        sits("bo", 15, "v"),
        moves("bo", 25, "v", "x"),
    ];
    let mut sealed = play.sealed(changes);
    apply_whole(&play.rig.sink, &mut sealed).await.unwrap();
    assert_eq!(seats(&play).await, ["x=bo 1.5"]);
    assert_eq!(sealed.rejected(), [("refused", 1)]);
}

/// An end that the database refuses as well leaves with its record, once.
#[tokio::test]
async fn an_end_that_is_refused_too_goes_with_its_record() {
    let mut play = Play::with(&mapping(POLICIES[0])).await;
    applied(&mut play, sits("ada", 10, "x")).await;
    play.rig
        .run(
            "alter table seats add check (mood <> 9.9); \
             create table wishes (seat text references seats); insert into wishes values ('x')",
        )
        .await;
    for (number, rejected) in [(20, "y 9.9"), (21, "y 1234.5")] {
        let before = play.rig.count("dynaurora.dead_letters").await;
        applied(&mut play, moves("ada", number, "x", rejected)).await;
        assert_eq!(seats(&play).await, ["x=ada 1.5"]);
        assert_eq!(play.rig.count("dynaurora.dead_letters").await, before + 1);
    }
}

#[tokio::test]
async fn a_load_beside_two_that_change_keys_ends_right() {
    // Each page may have been read before the exchange, or after it, and come before or late.
    const PAGES: [(&str, &str); 4] = [("x", "y"), ("x", "x"), ("y", "y"), ("y", "x")];
    for policy in POLICIES {
        let mut play = Play::with(&mapping(policy)).await;
        let cases = PAGES.into_iter().flat_map(|pages| [0, 1, 2].map(|late| (pages, late)));
        let cases = cases.flat_map(|case| ORDERS.map(|order| (case, order)));
        for (((page_a, page_b), late), order) in cases {
            play.rig.run("truncate seats, toys, dynaurora.claims").await;
            play.apply(vec![sits("ada", 900, "x"), sits("bo", 10, "y")]).await;
            play.begin().await;
            let both = [moves("ada", 910, "x", "y"), moves("bo", 20, "y", "x")];
            let pages = [scan("ada", page_a), scan("bo", page_b)];
            for page in pages.iter().skip(late) {
                play.apply(vec![page.clone()]).await;
            }
            play_in(&mut play, order, &both).await;
            for page in pages.iter().take(late) {
                play.apply(vec![page.clone()]).await;
            }
            let what = format!("{policy} {order:?} {page_a} {page_b} {late}");
            assert_eq!(seats(&play).await, ["x=bo 1.5", "y=ada 1.5"], "{what}");
            assert!(play.texts(HIDDEN).await.is_empty(), "{what}");
            play.end().await;
        }
    }
}

/// A backfill sweeps what it did not find, hidden or not, and a marked row stays its item's.
#[tokio::test]
async fn a_sweep_forgets_what_is_hidden_and_was_not_found() {
    for policy in &POLICIES[..2] {
        let mut play = Play::with(&mapping(policy)).await;
        play.apply(vec![sits("ada", 10, "x"), sits("cy", 12, "w")]).await;
        play.apply(vec![sits("bo", 11, "x")]).await;
        play.begin().await;
        play.apply(vec![scan("bo", "x")]).await;
        let sweep = Sweep {
            source: SOURCE.into(),
            generation: 2,
            tables: play.mapper.swept_tables(),
            spared: vec![],
            letters: vec![],
        };
        assert_eq!(play.rig.sink.sweep(&sweep).await.unwrap(), Swept::Rows(1));
        assert_eq!(play.rig.sink.sweep(&sweep).await.unwrap(), Swept::Done);
        assert_eq!(seats(&play).await, ["x=bo 1.5"]);
        assert!(play.texts(HIDDEN).await.is_empty(), "ada was not found");
        // A page that comes late finds its row marked.
        play.apply(vec![scan("cy", "w")]).await;
        let late =
            if *policy == POLICIES[1] { vec!["x=bo 1.5"] } else { vec!["w=cy 1.5", "x=bo 1.5"] };
        assert_eq!(seats(&play).await, late);
    }
}

/// Two workers apply the two changes at the same time.
#[tokio::test]
async fn two_workers_that_meet_at_one_key_lose_no_row() {
    let mut play = Play::with(&mapping(POLICIES[0])).await;
    play.rig.register(&["b"]).await;
    let (bob, mut lease) = (worker("bob"), play.rig.lease(&worker("bob"), "b").await);
    for round in 0..20 {
        let at = 10 + round * 10;
        let (one, other) = (format!("x{round}"), format!("y{round}"));
        play.apply(vec![sits("ada", at, &one), sits("bo", at + 1, &other)]).await;
        let mine = play.sealed(vec![moves("ada", at + 2, &one, &other)]).batch;
        let mut theirs = play.sealed(vec![moves("bo", at + 3, &other, &one)]).batch;
        theirs.fence.worker = bob.clone();
        theirs.fence.advances = vec![crate::rig::advance(&lease, round + 1)];
        lease = moved(&lease, round + 1);
        let (first, second) =
            tokio::join!(play.rig.sink.apply(&mine), play.rig.sink.apply(&theirs));
        first.unwrap();
        second.unwrap();
        play.went_on();
        assert_eq!(seats(&play).await, [format!("{one}=bo 1.5"), format!("{other}=ada 1.5")]);
        let gone = [leaves("ada", at + 4, &other), leaves("bo", at + 5, &one)];
        play.apply(gone.to_vec()).await;
        assert!(seats(&play).await.is_empty() && play.texts(HIDDEN).await.is_empty());
    }
}

/// A dead letter of an older daemon, which left the old row where it was.
#[tokio::test]
async fn a_retry_ends_the_row_that_the_item_has_left() {
    for (now, expected) in [
        (Some("z 2.5"), vec!["w=bo 1.5", "z=ada 2.5"]),
        (Some("x 2.5"), vec!["w=bo 1.5", "x=ada 2.5"]),
        (Some("z 1234.5"), vec!["w=bo 1.5"]),
        (Some("z away"), vec!["w=bo 1.5"]),
        (None, vec!["w=bo 1.5"]),
    ] {
        let mut play = Play::with(&mapping(POLICIES[0])).await;
        play.apply(vec![sits("ada", 10, "x"), sits("bo", 11, "w")]).await;
        let mut sealed = play.sealed(vec![moves("ada", 20, "x", "y 1234.5")]);
        sealed.batch.rows.units.clear();
        play.rig.apply(&sealed.batch).await.unwrap();
        assert_eq!(seats(&play).await, ["w=bo 1.5", "x=ada 1.5"]);
        let mut world = World::new(1);
        world.create_table("NorthPole", &["pk"], StreamView::NewAndOldImages);
        if let Some(now) = elf("ada", now) {
            world.put("NorthPole", now);
        }
        let context = context(&play, world).await;
        let id = "select id::text from dynaurora.dead_letters";
        let id = play.texts(id).await[0].parse().unwrap();
        let retried = retry(&context, id).await.unwrap().unwrap();
        assert_eq!(retried.resolved, now != Some("z 1234.5"), "{now:?} {retried:?}");
        assert_eq!(seats(&play).await, expected, "{now:?}");
    }
}

/// A retry reaches for the row of the stored image, which is another item's by now.
#[tokio::test]
async fn a_retry_ends_no_row_of_another_item() {
    let mut play = Play::with(&mapping(POLICIES[0])).await;
    play.apply(vec![sits("ada", 900, "x"), moves("ada", 910, "x", "y 1234.5")]).await;
    play.apply(vec![sits("bo", 10, "x")]).await;
    let mut world = World::new(1);
    world.create_table("NorthPole", &["pk"], StreamView::NewAndOldImages);
    world.put("NorthPole", elf("bo", Some("x")).unwrap());
    let context = context(&play, world).await;
    let id = "select id::text from dynaurora.dead_letters";
    let id = play.texts(id).await[0].parse().unwrap();
    assert!(retry(&context, id).await.unwrap().unwrap().resolved);
    assert_eq!(seats(&play).await, ["x=bo 1.5"]);
}

async fn context(
    play: &Play,
    world: World,
) -> Context<Parties<WorldSource, PostgresLedger, PostgresTarget, SystemClock>> {
    let pools = &play.rig.pools;
    let sides = Parties {
        items: WorldSource::new(Arc::new(Mutex::new(world)), "NorthPole"),
        ledger: PostgresLedger::new(Arc::clone(pools)),
        target: PostgresTarget::new(pools, &SOURCE.into(), play.mapper.tables()),
        clock: SystemClock,
    };
    let mapper = Arc::clone(&play.mapper);
    let subject = Subject { name: SOURCE.into(), mapper, max_rcu: None, seed: 1 };
    Context::open(sides, subject).await.unwrap()
}
