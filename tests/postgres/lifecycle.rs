//! Rows that outlive their items, and histories: what the mapping makes of changes, applied whole.

use dynaurora::apply::batch::{Filling, Label, Sealed};
use dynaurora::apply::page::{MappedPage, PageContext};
use dynaurora::apply::ports::{Applied, Phase};
use dynaurora::config::Config;
use dynaurora::engine::ports::{Lease, Page, Sweep, Swept, Target};
use dynaurora::mapping::Mapper;
use dynaurora::model::{
    Change, ChangeOp, EpochMillis, Generation, Position, SequenceNumber, WorkerId,
};
use dynaurora::postgres::repair::compare::compare;

use super::rig::Rig;
use crate::rig::{SOURCE, STREAM, item, moved, sequence, worker};

pub(super) const MAPPING: &str = r#"
    version = 1
    target.url = "postgres:///reads"
    [source.santa]
    table = "NorthPole"
    [source.santa.entity.letter]
    key       = { pk = "LETTER#{id}" }
    table     = "letters"
    where     = "attribute_not_exists(draft)"
    on_delete = "soft"
    history   = "letters_history"
    rest      = "extra"
    columns   = { id = "{id}", body = "body" }
    [source.santa.entity.letter.children.toys]
    from    = "toys"
    table   = "toys"
    columns = { nr = "@index", sku = "@value" }
"#;

pub(super) const LETTERS: &str = "select id || '=' || coalesce(body, '-') || ' ' || \
    coalesce(extract(epoch from deleted_at)::bigint::text, 'live') from letters order by id";
const TOYS: &str = "select id || nr || sku from toys order by 1";
/// `id#version op body from-to`, in the order of versions.
pub(super) const HISTORY: &str = "select id || '#' || \
    mod(dynaurora_version, 1e40)::bigint % 10000 || ' ' || op || ' ' || \
    coalesce(body, '-') || ' ' || extract(epoch from valid_from)::bigint || '-' || \
    coalesce(extract(epoch from valid_to)::bigint::text, '') \
    from letters_history order by id, dynaurora_version";

/// Where a history breaks its promise: times that fall, leave something out or lie over each other, and what
/// is open without a row of ours or the other way round.
const BROKEN: &str = "select 'times of ' || id || '#' || dynaurora_version from ( \
    select h.*, lag(valid_from) over own as before, lead(valid_from) over own as next \
    from letters_history h window own as (partition by id order by dynaurora_version)) h \
    where before > valid_from or valid_to is distinct from \
    case when op in ('remove', 'expire', 'filter', 'move') then valid_from else next end \
    union all select 'open ' || id || '=' || coalesce(body, '-') from ( \
    select id, body, extra from letters_history where valid_to is null except all \
    select id, body, extra from letters where deleted_at is null) o \
    union all select 'row ' || id || '=' || coalesce(body, '-') from ( \
    select id, body, extra from letters where deleted_at is null and dynaurora_version > 0 \
    except all select id, body, extra from letters_history where valid_to is null) r";

/// The number of the first record: those of loads are lower.
pub(super) const FIRST: u64 = 10_000;

/// A mapping's rows over a real server, batch by batch.
pub(super) struct Play {
    pub(super) rig: Rig,
    pub(super) mapper: std::sync::Arc<Mapper>,
    ann: WorkerId,
    lease: Lease,
    pub(super) generation: Generation,
    pub(super) backfilling: bool,
    /// Whether the batches are of the load itself.
    pub(super) loading: bool,
    /// Whether records come again, so that rows may be older than their histories.
    pub(super) replaying: bool,
}

impl Play {
    pub(super) async fn new() -> Self {
        Self::with(MAPPING).await
    }

    /// Plays the first source of a config.
    pub(super) async fn with(mapping: &str) -> Self {
        let config = Config::parse(mapping, "test", &[], std::iter::empty()).unwrap();
        let mapper = std::sync::Arc::clone(&config.sources[0].mapper);
        let rig = Rig::with_tables(mapper.tables()).await;
        rig.register(&["a"]).await;
        let ann = worker("ann");
        let lease = rig.lease(&ann, "a").await;
        Self {
            rig,
            mapper,
            ann,
            lease,
            generation: 1,
            backfilling: false,
            loading: false,
            replaying: false,
        }
    }

    /// Begins a load: the next generation.
    pub(super) async fn begin(&mut self) {
        self.rig
            .run(
                "update dynaurora.sources set generation = generation + 1, backfilling = true; \
                 update dynaurora.partitions set generation = generation + 1; \
                 delete from dynaurora.claims",
            )
            .await;
        self.generation += 1;
        self.backfilling = true;
    }

    /// Ends it.
    pub(super) async fn end(&mut self) {
        self.rig.run("update dynaurora.sources set backfilling = false").await;
        (self.backfilling, self.replaying) = (false, false);
        self.keeps_its_promise().await;
    }

    /// Applies a page of the load.
    pub(super) async fn load(&mut self, changes: Vec<Change>) {
        self.loading = true;
        self.apply(changes).await;
        self.loading = false;
    }

    /// Fails where the history breaks its promise.
    pub(super) async fn keeps_its_promise(&self) {
        // Where rows name their items, each item has a line of versions of its own.
        let kept = |table: &dynaurora::mapping::spec::TableSpec| {
            table.history_of.is_some() && !table.names_items
        };
        if !self.mapper.tables().iter().any(kept) {
            return;
        }
        let broken = self.texts(BROKEN).await;
        let broken = broken.iter().filter(|own| !self.replaying || own.starts_with("times"));
        let broken: Vec<_> = broken.collect();
        assert!(broken.is_empty(), "{broken:?} {:#?}", self.texts(HISTORY).await);
    }

    /// The next batch, of these changes.
    pub(super) fn sealed(&self, changes: Vec<Change>) -> Sealed {
        let to = self.place() + 1;
        let page = Page {
            changes,
            next: Position::After(sequence(to)),
            iterator: None,
            end: false,
            consumed_capacity: None,
        };
        let keys: Vec<_> = self.mapper.tables().iter().map(|table| table.key_columns).collect();
        let context = PageContext {
            mapper: &self.mapper,
            tables: &keys,
            generation: self.generation,
            partition: &self.lease.partition,
        };
        let mut filling = Filling::default();
        filling.add(MappedPage::new(page, context).unwrap(), vec![], &self.lease, true);
        let label = Label {
            source: SOURCE.into(),
            stream_arn: STREAM.into(),
            generation: self.generation,
            worker: self.ann.clone(),
            backfilling: self.backfilling,
        };
        let mut sealed = filling.seal(label, &keys);
        if self.loading {
            sealed.batch.phase = Phase::OfBackfill;
        }
        sealed
    }

    fn place(&self) -> u64 {
        match self.lease.position {
            Position::After(at) => at.to_string().parse().unwrap(),
            _ => 0,
        }
    }

    /// The batch was applied.
    pub(super) fn went_on(&mut self) {
        self.lease = moved(&self.lease, self.place() + 1);
    }

    pub(super) async fn apply(&mut self, changes: Vec<Change>) -> Applied {
        let applied = self.apply_unmarked(changes).await;
        self.keeps_its_promise().await;
        applied
    }

    /// The same where the table marks no row.
    pub(super) async fn apply_unmarked(&mut self, changes: Vec<Change>) -> Applied {
        let batch = self.sealed(changes).batch;
        let applied = self.rig.apply(&batch).await.unwrap();
        self.went_on();
        applied
    }

    pub(super) async fn texts(&self, sql: &str) -> Vec<String> {
        self.rig.texts(sql).await.into_iter().flatten().collect()
    }
}

/// A change of the letter `id` with this number past the first, which is its time too.
fn change(op: ChangeOp, id: &str, number: u64, image: Option<&str>) -> Change {
    let key = format!(r#""pk":{{"S":"LETTER#{id}"}}"#);
    Change {
        op,
        sequence: if op == ChangeOp::Scan {
            SequenceNumber::ZERO
        } else {
            sequence(FIRST + number)
        },
        keys: item(&format!("{{{key}}}")),
        new_image: image.map(|image| item(&format!("{{{key},{image}}}"))),
        old_image: None,
        changed_at: (op != ChangeOp::Scan)
            .then(|| EpochMillis(i64::try_from(number).unwrap() * 1000)),
        expired: false,
        bytes: 0,
    }
}

pub(super) fn put(id: &str, number: u64, body: &str) -> Change {
    let image = format!(r#""body":{{"S":"{body}"}},"toys":{{"L":[{{"S":"kite"}}]}}"#);
    change(ChangeOp::Modify, id, number, Some(&image))
}

fn draft(id: &str, number: u64) -> Change {
    change(ChangeOp::Modify, id, number, Some(r#""draft":{"BOOL":true}"#))
}

pub(super) fn scan(id: &str, body: &str) -> Change {
    change(ChangeOp::Scan, id, 0, Some(&format!(r#""body":{{"S":"{body}"}}"#)))
}

pub(super) fn remove(id: &str, number: u64) -> Change {
    change(ChangeOp::Remove, id, number, None)
}

#[tokio::test]
async fn a_soft_delete_marks_the_row_and_a_later_change_clears_it() {
    let mut play = Play::new().await;
    play.apply(vec![put("1", 5, "a"), put("2", 6, "b")]).await;
    let applied = play.apply(vec![remove("1", 8), remove("3", 9)]).await;
    assert_eq!((applied.tables[0].deleted, applied.tables[0].superseded), (1, 1));
    // The row stays, with what hangs on it; of a row that is not there nothing stays.
    assert_eq!(play.texts(LETTERS).await, ["1=a 8", "2=b live"]);
    assert_eq!(play.texts(TOYS).await, ["10kite", "20kite"]);
    let live =
        |id: &str, body: &str| [Some(id), Some(body), Some("{}"), None].into_iter().collect();
    let found = compare(&play.rig.pool, play.mapper.tables(), 0, &[live("2", "b")]).await;
    assert_eq!(found.unwrap().unexpected, 0, "what is marked is of no item");
    let toys = [[Some("2"), Some("0"), Some("kite")].into_iter().collect()];
    let found = compare(&play.rig.pool, play.mapper.tables(), 1, &toys).await.unwrap();
    assert_eq!((found.missing, found.unexpected), (0, 0));

    play.apply(vec![put("1", 10, "again")]).await;
    assert_eq!(play.texts(LETTERS).await, ["1=again live", "2=b live"]);
    // I1: what is older than the mark, or than the row, changes nothing.
    play.apply(vec![remove("2", 12)]).await;
    play.apply(vec![put("2", 11, "old"), remove("1", 9)]).await;
    assert_eq!(play.texts(LETTERS).await, ["1=again live", "2=b 12"]);
}

#[tokio::test]
async fn a_soft_delete_in_the_same_batch_marks_the_newest_row() {
    let mut play = Play::new().await;
    play.apply(vec![put("1", 5, "a")]).await;
    play.apply(vec![put("1", 6, "b"), remove("1", 7), put("2", 8, "c"), remove("2", 9)]).await;
    assert_eq!(play.texts(LETTERS).await, ["1=b 7", "2=c 9"]);
    play.apply(vec![put("1", 10, "d"), remove("1", 11), put("1", 12, "e"), draft("2", 13)]).await;
    assert_eq!(play.texts(LETTERS).await, ["1=e live", "2=c 13"]);
}

#[tokio::test]
async fn a_scan_page_raises_nothing_from_a_soft_delete() {
    let mut play = Play::new().await;
    play.backfilling = true;
    play.apply(vec![put("1", 5, "a")]).await;
    // I9: the one row is marked, the other is as soon as it is there.
    play.apply(vec![remove("1", 8), remove("2", 9)]).await;
    play.apply(vec![scan("1", "late"), scan("2", "late"), scan("3", "new")]).await;
    assert_eq!(play.texts(LETTERS).await, ["1=a 8", "2=late 9", "3=new live"]);
    let history = play.texts(HISTORY).await;
    assert_eq!(history[..2], ["1#5 modify a 5-8", "1#8 remove - 8-8"]);
    // A page that comes too late is no version; what it brings is one, known from now on.
    assert_eq!(history.len(), 3);
    assert!(history[2].starts_with("3#0 scan new ") && history[2].ends_with('-'), "{history:?}");
    play.apply(vec![put("3", 20, "newer")]).await;
    let history = play.texts(HISTORY).await;
    assert!(history[3].starts_with("3#20 modify newer 20-"), "{history:?}");
    // The stream's time is before the scan's: the scanned version was valid for no time at all before it.
    let from_to: Vec<&str> = history[2].rsplit(' ').next().unwrap().split('-').collect();
    assert_eq!(from_to[0], from_to[1]);
}

#[tokio::test]
async fn a_history_keeps_every_version_of_one_batch_and_of_many() {
    let mut play = Play::new().await;
    let applied = play
        .apply(vec![put("1", 5, "a"), put("1", 6, "b"), remove("1", 8), put("1", 9, "c")])
        .await;
    assert_eq!(applied.tables[2].upserted, 4);
    let first = ["1#5 modify a 5-6", "1#6 modify b 6-8", "1#8 remove - 8-8", "1#9 modify c 9-"];
    assert_eq!(play.texts(HISTORY).await, first);
    play.apply(vec![put("1", 11, "d")]).await;
    let history = play.texts(HISTORY).await;
    assert_eq!(history[3..], ["1#9 modify c 9-11", "1#11 modify d 11-"]);
}

#[tokio::test]
async fn a_replay_adds_nothing_to_a_history() {
    let mut play = Play::new().await;
    let all = || {
        vec![put("1", 5, "a"), draft("1", 6), put("1", 7, "b"), remove("1", 9), put("1", 10, "c")]
    };
    play.apply(all()).await;
    let first = play.texts(HISTORY).await;
    assert_eq!(first[1], "1#6 filter - 6-6");
    // The same records in other batches: nothing is new, and nothing changes its times.
    for (from, to) in [(0, 5), (0, 2), (2, 4), (1, 5)] {
        let some = all().drain(from..to).collect();
        let applied = play.apply(some).await;
        assert_eq!(applied.tables[2].upserted, 0);
        assert_eq!(play.texts(HISTORY).await, first);
    }
    play.apply(vec![remove("1", 12)]).await;
    assert_eq!(play.texts(HISTORY).await[4..], ["1#10 modify c 10-12", "1#12 remove - 12-12"]);
}

#[tokio::test]
async fn an_end_is_kept_only_behind_what_it_ends() {
    let mut play = Play::new().await;
    // A draft never had a row, and what is gone twice ends once.
    play.apply(vec![draft("1", 3), draft("1", 4), remove("1", 5), remove("2", 6)]).await;
    assert!(play.texts(HISTORY).await.is_empty());
    play.apply(vec![put("1", 7, "a")]).await;
    play.apply(vec![draft("1", 8)]).await;
    play.apply(vec![draft("1", 9), remove("1", 10)]).await;
    assert_eq!(play.texts(HISTORY).await, ["1#7 modify a 7-8", "1#8 filter - 8-8"]);
}

#[tokio::test]
async fn times_that_run_backwards_leave_no_row_that_ends_before_it_began() {
    let mut play = Play::new().await;
    let early = Change { changed_at: Some(EpochMillis(3_000)), ..put("1", 6, "b") };
    play.apply(vec![put("1", 5, "a"), early]).await;
    play.apply(vec![put("1", 7, "c")]).await;
    let expected = ["1#5 modify a 5-5", "1#6 modify b 5-7", "1#7 modify c 7-"];
    assert_eq!(play.texts(HISTORY).await, expected);
}

#[tokio::test]
async fn a_sweep_marks_what_a_load_did_not_find() {
    let mut play = Play::new().await;
    play.apply(vec![put("1", 5, "a"), put("2", 6, "b"), put("3", 7, "c"), remove("2", 8)]).await;
    play.begin().await;
    play.apply(vec![scan("3", "c")]).await;
    play.rig.run("insert into letters (id, extra) values ('by hand', '{}')").await;
    let sweep = Sweep {
        source: SOURCE.into(),
        generation: 2,
        tables: play.mapper.swept_tables(),
        spared: vec![],
        letters: vec![],
    };
    assert_eq!(play.rig.sink.stale(&sweep).await.unwrap().rows, 1);
    assert_eq!(play.rig.sink.sweep(&sweep).await.unwrap(), Swept::Rows(1));
    assert_eq!(play.rig.sink.sweep(&sweep).await.unwrap(), Swept::Done);
    let live = "select id from letters where deleted_at is null order by id";
    assert_eq!(play.texts(live).await, ["3", "by hand"], "what others wrote is theirs");
    assert_eq!(play.rig.count("letters").await, 4, "the marked rows stay");
    assert_eq!(play.rig.count("toys").await, 2, "and what hangs on them");
    let current = "select id || op from letters_history where valid_to is null order by id";
    assert_eq!(play.texts(current).await, ["3modify"]);
    let swept = "select op from letters_history where id = '1' order by dynaurora_version";
    assert_eq!(play.texts(swept).await, ["modify", "remove"]);
    // I9: a page that comes late, and a second sweep, change nothing.
    play.apply(vec![scan("1", "late")]).await;
    assert_eq!(play.texts(live).await, ["3", "by hand"]);
    assert_eq!(play.texts(current).await, ["3modify"]);
}
