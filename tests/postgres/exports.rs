//! An export's load begins only with the stream for which it was checked: over the real ledger, and a
//! world whose streams are enabled again.

use std::sync::{Arc, Mutex};

use dynaurora::engine::backfill::rewind::{self, DatedBackfill};
use dynaurora::engine::ports::{Clock, Ledger, Listing, Ports, Source, SourceIdentity, StreamView};
use dynaurora::error::ErrorKind;
use dynaurora::model::PartitionId;
use dynaurora::runtime::SystemClock;

use super::rig::{Rig, tables};
use crate::rig::{SOURCE, identity};
use crate::world::{World, WorldSource};

const TABLE: &str = "NorthPole";

#[tokio::test]
async fn a_stream_that_is_enabled_again_between_check_and_begin_begins_nothing() {
    let rig = Rig::with_tables(&tables()).await;
    let mut world = World::new(7);
    world.create_table(TABLE, &["pk", "sk"], StreamView::NewAndOldImages);
    let world = Arc::new(Mutex::new(world));
    let source = WorldSource::new(Arc::clone(&world), TABLE);
    let info = source.describe().await.unwrap();
    let stream_arn: Arc<str> = info.stream_arn.unwrap().into();
    let found = SourceIdentity {
        table_arn: info.table_arn,
        table_id: info.table_id,
        stream_arn: stream_arn.to_string(),
        ..identity()
    };
    rig.ledger.enrol(&found).await.unwrap();
    let shards = source.list_shards(&stream_arn, None).await.unwrap().shards;
    let listing = Listing { shards, complete: true };
    rig.ledger.register(SOURCE, &stream_arn, &listing).await.unwrap();

    // The export was checked for this stream.
    let load = |stream_arn: &Arc<str>| DatedBackfill {
        partitions: vec![PartitionId::new("file/0/-/s3://bucket/data/a.json.gz")],
        items: 0,
        as_of: SystemClock.wall(),
        stream_arn: Arc::clone(stream_arn),
        mapping: 1,
    };
    world.lock().unwrap().enable_stream(TABLE, StreamView::NewAndOldImages);
    let newest: Arc<str> = source.describe().await.unwrap().stream_arn.unwrap().into();
    let Rig { ledger, sink, pool, .. } = rig;
    let ports = Ports { source, ledger: ledger.clone(), sink, clock: SystemClock };
    let refused = rewind::begin(&ports, SOURCE.into(), 1, load(&stream_arn)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.to_string().contains("enabled again since the export"), "{refused}");
    assert!(refused.hint().unwrap().contains("make a new export"));
    let view = ledger.view(SOURCE).await.unwrap();
    assert_eq!((view.generation, view.backfill.active, view.gaps), (1, false, 0));
    assert_eq!(view.stream_arn, stream_arn, "the ledger is as it was");
    let gaps: i64 =
        sqlx::query_scalar("select count(*) from dynaurora.gaps").fetch_one(&pool).await.unwrap();
    assert_eq!(gaps, 0, "no gap passes for repaired");

    assert!(rewind::begin(&ports, SOURCE.into(), 1, load(&newest)).await.unwrap());
    let view = ledger.view(SOURCE).await.unwrap();
    assert_eq!((view.generation, view.stream_arn), (2, newest));
}
