//! The part of `Source`'s contract that no emulator can show: shards that end and split, what is trimmed,
//! what expires, and calls that fail.

use std::collections::HashSet;
use std::time::Duration;

use dynaurora::engine::ports::{ShardIterator, Source, StreamView};
use dynaurora::engine::tail::listing::PAGE_RETRIES;
use dynaurora::error::ErrorKind;
use dynaurora::model::{PartitionId, Position};
use dynaurora::source::{ConnectOptions, DynamoSource, SourceOptions, connect};

use super::source::{
    InWorld, TABLE, at, drain, dynamo_source, key, letter, listed, over_http, shards,
};
use crate::rig::item;
use crate::world::{Fault, Operation, WorldError};

/// What a source says of a world that changes and fails, each case over an empty table.
macro_rules! cases {
    ($($how:tt)*) => {
        $crate::contract::tests! { source_faults [
            an_end_may_come_with_records_and_without
            children_are_found_and_hold_what_follows
            an_empty_page_is_no_end
            a_removal_by_the_service_is_told_apart
            failures_are_told_apart
            a_failing_page_of_a_listing_loses_no_progress
            old_iterators_expire_and_old_records_are_trimmed
            a_new_stream_has_a_new_name
            a_deleted_table_is_gone
        ] $($how)* }
    };
}
pub(crate) use cases;

pub async fn an_end_may_come_with_records_and_without<S: Source>(subject: &InWorld<S>) {
    for late in [0.0, 1.0] {
        let (shard, start) = shards(&subject.source).await.pop().unwrap();
        {
            let mut world = subject.world.lock().unwrap();
            world.faults.late_end = late;
            for child in 0..5 {
                world.delete(TABLE, &key(child));
                world.put(TABLE, letter(child, 1));
            }
            world.rollover(TABLE, &shard);
            world.advance(Duration::from_secs(1));
        }
        let from = at(&subject.source, &shard, start).await;
        let first = subject.source.read(&from).await.unwrap();
        assert!(!first.changes.is_empty());
        assert_eq!(first.end, late == 0.0);
        let (changes, last) = drain(&subject.source, from, usize::MAX, false).await;
        assert_eq!(changes.len(), first.changes.len());
        assert!(last.end);
        assert_eq!(last.next, Position::After(changes.last().unwrap().sequence));
    }
    subject.world.lock().unwrap().faults.late_end = 0.0;
}

pub async fn children_are_found_and_hold_what_follows<S: Source>(subject: &InWorld<S>) {
    let source = &subject.source;
    let stream = source.describe().await.unwrap().stream_arn.unwrap();
    for ignored in [false, true] {
        let (parent, _) = shards(source).await.pop().unwrap();
        {
            let mut world = subject.world.lock().unwrap();
            world.faults.ignores_shard_filter = ignored;
            world.split(TABLE, &parent);
            world.put(TABLE, letter(100, u32::from(ignored)));
            world.advance(Duration::from_secs(1));
        }
        let children = source.child_shards(&stream, &parent).await.unwrap();
        assert_eq!(children.len(), 2);
        assert!(children.iter().all(|child| child.parent.as_ref() == Some(&parent)));
        assert!(children.iter().all(|child| child.starting.is_some()));
        let mut found = 0;
        for child in &children {
            let from = at(source, &child.id, child.start()).await;
            found += source.read(&from).await.unwrap().changes.len();
        }
        // The key lies in one of two children of the first split, and perhaps not in the half split again.
        assert!(found == 1 || (ignored && found == 0), "{found}");
    }
    subject.world.lock().unwrap().faults.ignores_shard_filter = false;
}

pub async fn an_empty_page_is_no_end<S: Source>(subject: &InWorld<S>) {
    let (shard, start) = shards(&subject.source).await.remove(0);
    {
        let mut world = subject.world.lock().unwrap();
        world.put(TABLE, letter(1, 1));
        world.rollover(TABLE, &shard);
        world.order(Operation::Records, Fault::EmptyPage);
    }
    let from = at(&subject.source, &shard, start.clone()).await;
    let page = subject.source.read(&from).await.unwrap();
    assert!(page.changes.is_empty() && !page.end && page.iterator.is_some());
    assert_eq!(page.next, start);
    let (changes, last) = drain(&subject.source, from, usize::MAX, false).await;
    assert!(!changes.is_empty() && last.end);
}

pub async fn a_removal_by_the_service_is_told_apart<S: Source>(subject: &InWorld<S>) {
    let record = {
        let mut world = subject.world.lock().unwrap();
        let n = r#"{"pk":{"S":"CHILD#7"},"sk":{"S":"OLD"},"at":{"N":"1"}}"#;
        world.put(TABLE, item(n));
        world.expire(TABLE, &item(n)).unwrap()
    };
    let from = at(&subject.source, &record.shard, Position::At(record.sequence)).await;
    let page = subject.source.read(&from).await.unwrap();
    assert!(page.changes[0].expired);
    assert_eq!(page.changes[0].sequence, record.sequence);
}

pub async fn failures_are_told_apart<S: Source>(subject: &InWorld<S>) {
    let cases = [
        (WorldError::LimitExceeded, ErrorKind::Throttled),
        (WorldError::Throughput, ErrorKind::Throttled),
        (WorldError::Internal, ErrorKind::Unavailable),
        (WorldError::Unreachable, ErrorKind::Unreachable),
        (WorldError::ExpiredIterator, ErrorKind::Expired),
        (WorldError::Trimmed, ErrorKind::Trimmed),
        (WorldError::NotFound, ErrorKind::Gone),
        (WorldError::Denied, ErrorKind::Denied),
        (WorldError::Invalid, ErrorKind::Unknown),
    ];
    let (shard, start) = shards(&subject.source).await.remove(0);
    let from = at(&subject.source, &shard, start).await;
    for (met, kind) in cases {
        for operation in [Operation::ShardIterator, Operation::Records] {
            let calls = subject.world.lock().unwrap().calls(operation);
            subject.world.lock().unwrap().order(operation, Fault::Fail(met));
            let error = subject.source.read(&from).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{}", error.chain());
            assert_eq!(error.code(), met.code());
            let now = subject.world.lock().unwrap().calls(operation);
            assert_eq!(now, calls + 1, "one call is one attempt");
        }
    }
    assert!(subject.source.read(&from).await.is_ok());
}

pub async fn a_failing_page_of_a_listing_loses_no_progress<S: Source>(subject: &InWorld<S>) {
    let stream = subject.source.describe().await.unwrap().stream_arn.unwrap();
    for _ in 0..2 {
        let (shard, _) = shards(&subject.source).await.pop().unwrap();
        let mut world = subject.world.lock().unwrap();
        world.split(TABLE, &shard);
        world.advance(Duration::from_secs(1));
    }
    let all = shards(&subject.source).await.len();
    assert_eq!(all, 5);
    {
        let mut world = subject.world.lock().unwrap();
        world.faults.listing_page_max = 2;
        world.order(Operation::DescribeStream, Fault::Pass);
        world.order(Operation::DescribeStream, Fault::Fail(WorldError::LimitExceeded));
    }
    assert_eq!(shards(&subject.source).await.len(), all, "a page is asked for again");
    {
        let mut world = subject.world.lock().unwrap();
        world.order(Operation::DescribeStream, Fault::Pass);
        for _ in 0..=PAGE_RETRIES {
            world.order(Operation::DescribeStream, Fault::Fail(WorldError::LimitExceeded));
        }
    }
    let partial = listed(&subject.source, &stream).await.unwrap();
    assert_eq!((partial.shards.len(), partial.complete), (2, false));
    // Page after page, each of them perhaps twice, every shard is listed, and once.
    subject.world.lock().unwrap().faults.repeated_page = 0.3;
    assert_eq!(shards(&subject.source).await.len(), all);
    {
        let mut world = subject.world.lock().unwrap();
        world.faults.repeated_page = 0.0;
        world.faults.listing_page_max = 100;
        world.order(Operation::DescribeStream, Fault::Fail(WorldError::Internal));
    }
    let error = listed(&subject.source, &stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

pub async fn old_iterators_expire_and_old_records_are_trimmed<S: Source>(subject: &InWorld<S>) {
    let source = &subject.source;
    let (old, old_start) = shards(source).await.remove(0);
    subject.world.lock().unwrap().rollover(TABLE, &old);
    let record = subject.world.lock().unwrap().put(TABLE, letter(200, 1)).unwrap();
    let from = at(source, &record.shard, Position::At(record.sequence)).await;
    let mut later = from.clone();
    later.iterator = source.read(&from).await.unwrap().iterator;
    assert!(later.iterator.is_some());
    subject.world.lock().unwrap().advance(Duration::from_secs(16 * 60));
    assert_eq!(source.read(&later).await.unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(source.read(&from).await.unwrap().changes.len(), 1);

    subject.world.lock().unwrap().advance(Duration::from_secs(24 * 60 * 60));
    let error = source.read(&from).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Trimmed, "{}", error.chain());
    let applied = at(source, &record.shard, Position::After(record.sequence)).await;
    assert!(source.read(&applied).await.is_ok(), "nothing after it was lost");
    let horizon = at(source, &record.shard, Position::Horizon).await;
    assert!(source.read(&horizon).await.is_ok(), "the horizon never reports a loss");
    // Whole shards go too, and a read that has an iterator of one learns it.
    let gone = at(source, &old, old_start).await;
    assert_eq!(source.read(&gone).await.unwrap_err().kind(), ErrorKind::Gone);
    assert!(shards(source).await.iter().all(|(shard, _)| *shard != old));
}

pub async fn a_new_stream_has_a_new_name<S: Source>(subject: &InWorld<S>) {
    let before = subject.source.describe().await.unwrap();
    let record = subject.world.lock().unwrap().put(TABLE, letter(300, 1)).unwrap();
    let from = at(&subject.source, &record.shard, Position::At(record.sequence)).await;
    subject.world.lock().unwrap().disable_stream(TABLE);
    let disabled = subject.source.describe().await.unwrap();
    assert!(!disabled.enabled);
    assert_eq!((&disabled.stream_arn, disabled.view), (&before.stream_arn, before.view));
    let page = subject.source.read(&from).await.unwrap();
    assert!(page.changes.len() == 1 && page.end, "a disabled stream closes and stays readable");

    subject.world.lock().unwrap().enable_stream(TABLE, StreamView::KeysOnly);
    let after = subject.source.describe().await.unwrap();
    assert_ne!(after.stream_arn, before.stream_arn);
    assert_eq!(after.table_id, before.table_id);
    assert_eq!(after.view, StreamView::KeysOnly);
    subject.world.lock().unwrap().put(TABLE, letter(300, 2));
    let (shard, start) = shards(&subject.source).await.remove(0);
    let page = subject.source.read(&at(&subject.source, &shard, start).await).await.unwrap();
    assert_eq!(page.changes.len(), 1);
    assert!(page.changes[0].new_image.is_none() && page.changes[0].old_image.is_none());
}

pub async fn a_deleted_table_is_gone<S: Source>(subject: &InWorld<S>) {
    let before = subject.source.describe().await.unwrap();
    subject.world.lock().unwrap().delete_table(TABLE);
    let error = subject.source.describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    subject.world.lock().unwrap().create_table(TABLE, &["pk", "sk"], StreamView::NewImage);
    let after = subject.source.describe().await.unwrap();
    assert_eq!(after.table_arn, before.table_arn);
    assert_ne!(after.table_id, before.table_id);
}

#[tokio::test]
async fn wide_sequence_numbers_survive_the_wire() {
    for digits in [21, 28, 39] {
        let subject = over_http().await;
        let stream = subject.source.describe().await.unwrap().stream_arn;
        {
            let mut world = subject.world.lock().unwrap();
            world.sequence_digits = digits;
            world.enable_stream(TABLE, StreamView::NewImage);
            world.put(TABLE, letter(1, 1));
            world.widen_sequence_numbers(TABLE);
            world.put(TABLE, letter(1, 2));
        }
        assert_ne!(subject.source.describe().await.unwrap().stream_arn, stream);
        let (shard, start) = shards(&subject.source).await.remove(0);
        let from = at(&subject.source, &shard, start).await;
        let (changes, _) = drain(&subject.source, from, 2, true).await;
        let widths: Vec<_> = changes.iter().map(|own| own.sequence.to_string().len()).collect();
        assert_eq!(widths, [digits, digits + 1]);
        assert!(changes[0].sequence < changes[1].sequence);
    }
}

/// A page of a listing has 100 shards at most.
#[tokio::test]
async fn a_listing_of_many_pages_is_read_to_its_end() {
    const SHARDS: usize = 250;
    let subject = over_http().await;
    {
        let mut world = subject.world.lock().unwrap();
        world.initial_shards = SHARDS;
        world.enable_stream(TABLE, StreamView::NewImage);
    }
    let calls = || subject.world.lock().unwrap().calls(Operation::DescribeStream);
    let before = calls();
    let listed = shards(&subject.source).await;
    assert_eq!(calls() - before, 3);
    let ids: HashSet<_> = listed.into_iter().map(|(shard, _)| shard).collect();
    assert_eq!(ids.len(), SHARDS);
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_unreachable_and_named() {
    // The port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let source = dynamo_source(&endpoint, SourceOptions::default()).await;
    let error = source.describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.chain());
    assert!(error.hint().unwrap().contains(&endpoint), "{:?}", error.hint());
    assert!(error.chain().contains("DescribeTable of table letters"), "{}", error.chain());
}

#[tokio::test]
async fn missing_credentials_are_denied_rather_than_unreachable() {
    let endpoint = Some("http://127.0.0.1:9".to_owned());
    let config = connect(&ConnectOptions { endpoint, ..ConnectOptions::default() }).await.unwrap();
    let nobody = aws_config::environment::EnvironmentVariableCredentialsProvider::new();
    let config = config
        .into_builder()
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
            nobody,
        ))
        .build();
    let source = DynamoSource::new(TABLE, &config, SourceOptions::default());
    let error = source.describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.chain());
    assert!(error.hint().unwrap().contains("aws sts get-caller-identity"));
}

#[tokio::test]
async fn an_item_is_read_as_it_is_now() {
    let subject = over_http().await;
    assert_eq!(subject.source.item(&key(1)).await.unwrap().0, None);
    subject.world.lock().unwrap().put(TABLE, letter(1, 5));
    assert_eq!(subject.source.item(&key(1)).await.unwrap().0, Some(letter(1, 5)));
}

#[tokio::test]
async fn a_stream_disabled_long_ago_does_not_hide_the_table() {
    let subject = over_http().await;
    let before = subject.source.describe().await.unwrap();
    subject.world.lock().unwrap().disable_stream(TABLE);
    let gone = Fault::Fail(WorldError::NotFound);
    subject.world.lock().unwrap().order(Operation::DescribeStream, gone);
    let after = subject.source.describe().await.unwrap();
    assert_eq!((after.table_id, after.enabled), (before.table_id, false));
}

#[tokio::test]
async fn an_iterator_that_is_none_is_refused() {
    let subject = over_http().await;
    let (shard, start) = shards(&subject.source).await.remove(0);
    let mut from = at(&subject.source, &shard, start).await;
    from.iterator = Some(ShardIterator("no iterator".to_owned()));
    let error = subject.source.read(&from).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    from.iterator = None;
    from.partition = PartitionId::new("shardId-00000000000000000000-00000000");
    assert_eq!(subject.source.read(&from).await.unwrap_err().kind(), ErrorKind::Gone);
    from.position = Position::Line(3);
    let error = subject.source.read(&from).await.unwrap_err();
    assert_eq!(error.to_string(), "position line:3 is invalid for a shard");
}
