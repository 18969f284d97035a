//! Santa's elves at work while a scenario plays.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use dynaurora::demo::santa::{Elf, Metronome, TABLE, Written};
use dynaurora::runtime::SystemClock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;

/// The most writes in one request.
const BATCH_MAX: usize = 25;

/// Enough for pages of some hundred records, and no more than a daemon built for tests keeps up with.
const BATCHES_PER_SEC: f64 = 30.0;

/// Elves that write until they are told to stop.
pub(super) struct Writers {
    written: Arc<Written>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Writers {
    /// So many elves, each at most this many writes a second.
    pub(super) fn start(stage: &Stage, elves: u64, seed: u64, per_sec: f64) -> Self {
        let mut own =
            Self { written: Arc::default(), stop: CancellationToken::new(), tasks: JoinSet::new() };
        for number in 0..elves {
            let mut elf = Elf::new(stage.client.clone(), SystemClock, number, seed);
            let mut metronome = Metronome::new(&SystemClock, per_sec);
            let (written, stop) = (Arc::clone(&own.written), own.stop.clone());
            own.tasks.spawn(async move {
                while !stop.is_cancelled() {
                    metronome.tick(&SystemClock).await;
                    elf.write(&written).await.unwrap();
                }
            });
        }
        own
    }

    /// One more, who brings new children by the dozen: large pages make large transactions.
    pub(super) fn bring_many(&mut self, stage: &Stage, seed: u64) {
        let mut metronome = Metronome::new(&SystemClock, BATCHES_PER_SEC);
        let (client, stop) = (stage.client.clone(), self.stop.clone());
        let written = Arc::clone(&self.written);
        let mut random = fastrand::Rng::with_seed(seed);
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                metronome.tick(&SystemClock).await;
                let mut children: Vec<u32> = (0..BATCH_MAX).map(|_| random.u32(0..2_000)).collect();
                children.sort_unstable();
                children.dedup();
                let count = children.len() as u64;
                let puts = children.into_iter().map(|child| put(child, random.u32(..)));
                let request = client.batch_write_item().request_items(TABLE, puts.collect());
                let answer = request.send().await.unwrap();
                assert!(answer.unprocessed_items().is_none_or(HashMap::is_empty));
                written.inserts.fetch_add(count, Ordering::Relaxed);
            }
        });
    }

    /// Waits for the last writes, and answers how many there were.
    pub(super) async fn stop(mut self) -> u64 {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        self.written.total()
    }
}

fn put(child: u32, name: u32) -> WriteRequest {
    let text = |text: String| AttributeValue::S(text);
    let put = PutRequest::builder()
        .item("pk", text(format!("CHILD#many-{child}")))
        .item("sk", text("PROFILE".to_owned()))
        .item("name", text(format!("Noor {name}")))
        .build();
    WriteRequest::builder().put_request(put.unwrap()).build()
}
