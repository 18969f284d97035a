//! Leases under real concurrency, on the database's clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dynaurora::engine::ports::{
    Backfills, Gap, GapReason, LeaseRequest, Ledger, Listing, NewBackfill, PartitionState,
};
use dynaurora::error::ErrorKind;
use dynaurora::model::{Epoch, PartitionId, WorkerId};
use dynaurora::postgres::ledger::PostgresLedger;
use dynaurora::postgres::session::{Pools, Settings};
use dynaurora::postgres::tables::PostgresSink;
use tokio::task::JoinSet;

use super::rig::{LEASE_TTL, Rig, letter, settings, shard, tables};
use crate::rig::{SOURCE, STREAM, batch, worker};

/// Renews, and tells what the worker then has.
async fn renew(rig: &Rig, who: &WorkerId) -> Vec<(PartitionId, Epoch)> {
    rig.ledger.renew(SOURCE, who, LEASE_TTL).await.unwrap();
    let rows = rig.ledger.view(SOURCE).await.unwrap().partitions.into_iter();
    let own = rows.filter(|row| row.owner.as_ref() == Some(who));
    own.map(|row| (row.id, row.epoch)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_never_get_one_lease_twice() {
    let rig = Rig::with_tables(&tables()).await;
    let names: Vec<String> = (0..60).map(|number| format!("shard-{number:03}")).collect();
    rig.register(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let ledger = PostgresLedger::new(Arc::clone(&rig.pools));
        let mut wanted: Vec<_> = names.iter().map(|name| PartitionId::new(name.as_str())).collect();
        wanted.rotate_left(number * 7);
        tasks.spawn(async move {
            let who = worker(&format!("worker-{number}"));
            let mut leases = Vec::new();
            for wanted in wanted.chunks(9) {
                let request = LeaseRequest {
                    source: SOURCE,
                    worker: &who,
                    generation: 1,
                    wanted,
                    lease_ttl: LEASE_TTL,
                };
                leases.extend(ledger.acquire(&request).await.unwrap());
            }
            leases
        });
    }
    let mut owners: BTreeMap<PartitionId, usize> = BTreeMap::new();
    while let Some(leases) = tasks.join_next().await {
        for lease in leases.unwrap() {
            assert_eq!(lease.epoch, 1);
            *owners.entry(lease.partition).or_default() += 1;
        }
    }
    assert_eq!(owners.len(), names.len());
    assert!(owners.values().all(|times| *times == 1), "{owners:?}");
}

#[tokio::test]
async fn a_lease_ends_by_the_databases_clock_and_the_thief_bumps_the_epoch() {
    let rig = Rig::new().await;
    let (ann, bob) = (worker("ann"), worker("bob"));
    let old = rig.lease(&ann, "a").await;
    assert!(rig.acquire(&bob, &["a"]).await.is_empty());
    assert_eq!(renew(&rig, &ann).await, [(old.partition.clone(), old.epoch)]);
    rig.expire_leases().await;
    let view = rig.ledger.view(SOURCE).await.unwrap();
    assert!(view.partitions.iter().all(|row| row.owner.is_none()), "past its end it is free");
    assert_eq!(renew(&rig, &ann).await, [(old.partition.clone(), old.epoch)], "nobody took it");
    rig.expire_leases().await;
    let new = rig.lease(&bob, "a").await;
    assert_eq!(new.epoch, old.epoch + 1);
    assert!(renew(&rig, &ann).await.is_empty());
    assert_eq!(renew(&rig, &bob).await, [(new.partition, new.epoch)]);
    let late = rig.apply(&batch(&ann, &old, 5, vec![letter("42", "late", 5)])).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(rig.count("letters").await, 0);
}

#[tokio::test]
async fn a_renewal_passes_a_batch_that_waits() {
    let rig = Rig::new().await;
    let few = Settings { apply_connections: 1, ..settings(&rig.url) };
    let pools = Arc::new(Pools::connect(few).await.unwrap());
    let sink = Arc::new(PostgresSink::new(Arc::clone(&pools), &tables()).unwrap());
    let ann = worker("ann");
    let lease = rig.lease(&ann, "a").await;
    let mut lock = rig.pool.begin().await.unwrap();
    sqlx::query("lock table letters").execute(&mut *lock).await.unwrap();
    let mut tasks = JoinSet::new();
    let waiting = batch(&ann, &lease, 5, vec![letter("42", "a train", 5)]);
    tasks.spawn(async move {
        use dynaurora::apply::ports::Sink;
        sink.apply(&waiting).await
    });
    let blocked = "select count(*) from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    loop {
        let blocked: i64 = sqlx::query_scalar(blocked).fetch_one(&rig.pool).await.unwrap();
        if blocked == 1 {
            break;
        }
    }
    let ledger = PostgresLedger::new(pools);
    ledger.renew(SOURCE, &ann, LEASE_TTL).await.unwrap();
    lock.rollback().await.unwrap();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(rig.count("letters").await, 1);
}

#[tokio::test]
async fn one_worker_of_many_leads_discovery() {
    let rig = Rig::with_tables(&tables()).await;
    rig.register(&[]).await;
    rig.run("update dynaurora.sources set listed_at = now() - interval '2 min'").await;
    let mut leaders = 0;
    for number in 0..5 {
        let who = worker(&format!("worker-{number}"));
        rig.ledger.renew(SOURCE, &who, LEASE_TTL).await.unwrap();
        let minute = Duration::from_secs(60);
        leaders +=
            u32::from(rig.ledger.lead_discovery(SOURCE, &who, minute, minute).await.unwrap());
    }
    assert_eq!(leaders, 1);
}

#[tokio::test]
async fn a_vanished_shard_is_lost_and_its_gap_stands_once() {
    let rig = Rig::new().await;
    let gap = Gap {
        reason: GapReason::Vanished,
        stream_arn: STREAM.to_owned(),
        partition: Some(PartitionId::new("a")),
        after: None,
        since: None,
    };
    for _ in 0..2 {
        rig.ledger.record_gap(SOURCE, 1, &gap, true).await.unwrap();
    }
    let view = rig.ledger.view(SOURCE).await.unwrap();
    assert_eq!((view.gaps, view.halted), (1, Some(GapReason::Vanished.into())));
    let states: Vec<_> = view.partitions.iter().map(|row| row.state).collect();
    assert_eq!(states, [PartitionState::Lost, PartitionState::Open]);
    assert!(rig.acquire(&worker("ann"), &["a"]).await.is_empty());
}

#[tokio::test]
async fn drained_shards_are_forgotten_once_unlisted_and_two_days_old() {
    let rig = Rig::with_tables(&tables()).await;
    rig.register(&["old", "young", "listed", "open"]).await;
    rig.run(
        "update dynaurora.partitions set state = 'drained' where partition <> 'open'; \
         update dynaurora.partitions set registered_at = now() - interval '3 days' \
         where partition <> 'young'",
    )
    .await;
    let listing = Listing { shards: vec![shard("listed")], complete: true };
    rig.ledger.register(SOURCE, STREAM, &listing).await.unwrap();
    let left = rig.texts("select partition from dynaurora.partitions order by 1").await;
    let left: Vec<_> = left.iter().flatten().collect();
    assert_eq!(left, ["listed", "open", "young"]);
}

/// What continues a drained shard is listed a day later or gone; before that it may only be late.
#[tokio::test]
async fn a_drained_shard_that_no_listing_has_for_a_day_is_continued() {
    let rig = Rig::with_tables(&tables()).await;
    rig.register(&["past", "late", "listed", "open"]).await;
    rig.run(
        "update dynaurora.partitions set state = 'drained' where partition <> 'open'; \
         update dynaurora.partitions set drained_at = now() - interval '25 hours' \
         where partition <> 'late'",
    )
    .await;
    let listing = Listing { shards: vec![shard("listed")], complete: true };
    rig.ledger.register(SOURCE, STREAM, &listing).await.unwrap();
    let continued = "select partition from dynaurora.partitions where continued";
    assert_eq!(rig.texts(continued).await, [Some("past".to_owned())]);
}

/// I6: the horizon never reports a loss, so time must.
#[tokio::test]
async fn i6_a_shard_that_nobody_read_from_its_horizon_for_a_day_is_overdue() {
    let rig = Rig::with_tables(&tables()).await;
    rig.register(&["a", "b"]).await;
    rig.run(
        "update dynaurora.partitions set registered_at = now() - interval '24 hours'; \
         update dynaurora.partitions set position = 'horizon' where partition = 'a'; \
         update dynaurora.sources set listed_at = now()",
    )
    .await;
    let overdue = async || -> Vec<bool> {
        let view = rig.ledger.view(SOURCE).await.unwrap();
        let shards = view.partitions.iter().filter(|row| row.id.is_shard());
        shards.map(|row| row.overdue).collect()
    };
    assert_eq!(overdue().await, [true, false]);
    let backfill = NewBackfill {
        source: SOURCE.into(),
        replaces: 1,
        stream: None,
        partitions: vec![PartitionId::new("scan/000-of-001")],
        items: None,
        rcu_max: None,
        mapping: None,
        rewind: None,
    };
    assert!(rig.ledger.begin_backfill(&backfill).await.unwrap());
    assert_eq!(overdue().await, [false, false], "what it held before is part of the load");
}

#[tokio::test]
async fn a_source_that_was_never_enrolled_is_an_error() {
    let rig = Rig::with_tables(&tables()).await;
    assert_eq!(rig.ledger.view("nobody").await.unwrap_err().kind(), ErrorKind::NotEnrolled);
    let listing = Listing { shards: vec![shard("a")], complete: true };
    let error = rig.ledger.register("nobody", STREAM, &listing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEnrolled);
    let error = rig.ledger.renew("nobody", &worker("ann"), LEASE_TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEnrolled);
    assert_eq!(rig.count("dynaurora.partitions").await, 0);
}

/// A fail-over to a server whose clock is behind must not let the dead live on for as long.
#[tokio::test]
async fn a_sign_of_life_from_a_time_to_come_counts_for_no_longer_than_a_lease() {
    let rig = Rig::with_tables(&tables()).await;
    rig.register(&["a"]).await;
    let (dead, ann) = (worker("dead"), worker("ann"));
    rig.lease(&dead, "a").await;
    let within = LEASE_TTL * 2;
    assert!(rig.ledger.lead_discovery(SOURCE, &dead, Duration::ZERO, within).await.unwrap());
    let ahead = |by: Duration| {
        format!(
            "update dynaurora.workers set seen_at = now() + interval '{0} s', \
             alive_until = now() + interval '{0} s' + interval '{1} s'; \
             update dynaurora.sources set listed_at = now() + interval '{0} s'",
            by.as_secs(),
            LEASE_TTL.as_secs()
        )
    };
    rig.run(&ahead(LEASE_TTL / 2)).await;
    assert!(rig.acquire(&ann, &["a"]).await.is_empty(), "clocks may differ a little");
    rig.run(&ahead(Duration::from_secs(3600))).await;
    assert_eq!(rig.ledger.view(SOURCE).await.unwrap().partitions[0].owner, None);
    assert_eq!(rig.acquire(&ann, &["a"]).await.len(), 1);
    let leads = rig.ledger.lead_discovery(SOURCE, &ann, Duration::from_secs(60), within).await;
    assert!(leads.unwrap(), "a listing of a time to come is no listing");
}
