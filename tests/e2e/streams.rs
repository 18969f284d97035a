//! Streams that begin, end and change while a daemon reads them, and a target that goes back in time.

use dynaurora::demo::santa::TABLE;
use dynaurora::engine::ports::StreamView;

use super::gaps::{Scene, is_halted, profile};
use super::stage::{SOON_SECS, within};

/// A position that is not durable before a first record arrives would begin behind what was written here.
#[tokio::test]
async fn what_follows_a_stream_without_records_is_read_by_the_next_daemon() {
    let scene = Scene::start().await;
    let daemon = scene.stage.ready_daemon().await;
    daemon.kill().await;
    scene.put(1, "Noor");
    scene.put(2, "Ole");
    let daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_disabled_is_read_to_its_end() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    let mut daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor")]).await;
    {
        let mut world = scene.world.lock().unwrap();
        world.put(TABLE, profile(2, Some("Ole")));
        world.disable_stream(TABLE);
    }
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
    within(SOON_SECS, "every shard is drained", async || {
        daemon.still_runs();
        let ledger = scene.stage.ledger().await;
        ledger.iter().all(|shard| shard.state == "drained").then_some(())
    })
    .await;
    assert!(scene.gaps().await.is_empty(), "nothing is lost");
    // What is written now is in no stream: it is not ready, and says what to do.
    within(SOON_SECS, "readiness says that the stream has ended", async || {
        let (code, body) = daemon.get("/readyz").await?;
        let told = ["is disabled", "StreamEnabled=true", "dynaurora backfill"];
        (code == 503 && told.iter().all(|own| body.contains(own))).then_some(())
    })
    .await;
    daemon.says("the stream has ended").await;
    let (alive, _) = daemon.get("/livez").await.unwrap();
    assert_eq!(alive, 200, "a restart would not help");
    daemon.stop().await;
    let ended = scene.stage.command(&["run", "--backfill", "never"]).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("is disabled"), "{ended:?}");

    // What was written while there was no stream is in none.
    scene.put(3, "Pia");
    scene.world.lock().unwrap().enable_stream(TABLE, StreamView::NewAndOldImages);
    let mut daemon = scene.stage.daemon();
    is_halted(&mut daemon, "disabled and enabled again").await;
    daemon.stop().await;
}

/// A stream that carries keys alone cannot feed a mapping, whenever it takes another one's place.
#[tokio::test]
async fn a_stream_of_another_view_halts_a_daemon_that_runs() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    let mut daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor")]).await;
    daemon.readyz(200).await;
    scene.world.lock().unwrap().enable_stream(TABLE, StreamView::KeysOnly);
    scene.put(2, "Ole");
    let halted = daemon.says("source halted").await;
    let reason = halted["reason"].as_str().unwrap();
    assert!(reason.contains("does not carry new images"), "{reason}");
    assert!(reason.contains("aws dynamodb update-table"), "{reason}");
    daemon.readyz(503).await;
    scene.shows(&[(1, "Noor")]).await;
    daemon.still_runs();
}

/// Credentials expire and come back, and so do rights; a daemon that halted would need a person at night.
#[tokio::test]
async fn refusals_of_the_service_are_waited_out_and_told() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    let mut daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor")]).await;
    daemon.readyz(200).await;
    for (fault, word) in [("denied", "sts get-caller-identity"), ("invalid", "ValidationException")]
    {
        let set = |share| {
            let faults = &mut scene.world.lock().unwrap().faults;
            *(if fault == "denied" { &mut faults.denied } else { &mut faults.invalid }) = share;
        };
        set(1.0);
        scene.put(2, fault);
        within(SOON_SECS, "readiness says why", async || {
            daemon.still_runs();
            let (code, body) = daemon.get("/readyz").await?;
            (code == 503 && body.contains(word)).then_some(())
        })
        .await;
        set(0.0);
        scene.shows(&[(1, "Noor"), (2, fault)]).await;
        daemon.readyz(200).await;
    }
    assert_eq!(daemon.logged("source halted").len(), 0);
    daemon.stop().await;
}

/// Every table as it is now, beside them.
const SAVE: &str = "\
    create schema saved; \
    do $$ declare t record; begin \
        for t in select schemaname as s, tablename as n from pg_tables \
            where schemaname in ('public', 'dynaurora') loop \
            execute format('create table saved.%I as table %I.%I', t.s || '.' || t.n, t.s, t.n); \
        end loop; end $$";

/// Every table as it was then. The server computes generated columns itself.
const RESTORE: &str = "\
    set session_replication_role = replica; \
    do $$ declare t record; columns text; begin \
        for t in select schemaname as s, tablename as n from pg_tables \
            where schemaname in ('public', 'dynaurora') loop \
            select string_agg(quote_ident(column_name), ', ') into columns \
                from information_schema.columns \
                where table_schema = t.s and table_name = t.n and is_generated = 'NEVER'; \
            execute format('delete from %I.%I', t.s, t.n); \
            execute format( \
                'insert into %I.%I (%s) overriding system value select %s from saved.%I', \
                t.s, t.n, columns, columns, t.s || '.' || t.n); \
        end loop; end $$; \
    reset session_replication_role";

/// Rows and positions are of one database, so they go back together.
#[tokio::test]
async fn a_target_restored_to_an_earlier_time_catches_up() {
    let scene = Scene::start().await;
    scene.put(1, "Noor");
    scene.put(2, "Ole");
    let daemon = scene.stage.daemon();
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
    daemon.stop().await;
    scene.stage.run(SAVE).await;
    scene.put(1, "Noor the second");
    scene.delete(2);
    scene.put(3, "Pia");
    let expected = [(1, "Noor the second"), (3, "Pia")];
    let daemon = scene.stage.daemon();
    scene.shows(&expected).await;
    daemon.stop().await;
    scene.stage.run(RESTORE).await;
    scene.shows(&[(1, "Noor"), (2, "Ole")]).await;
    let mut daemon = scene.stage.daemon();
    scene.shows(&expected).await;
    daemon.readyz(200).await;
    assert!(scene.gaps().await.is_empty());
    daemon.stop().await;
}
