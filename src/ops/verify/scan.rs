//! Reads the source, or a sample of it, in parallel segments.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::context::Context;
use crate::engine::ports::ReadFrom;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Change, Position, Segment};
use crate::ops::ports::Sides;

/// The most segments of a scan (the service's limit).
const SEGMENTS_MAX: f64 = 1_000_000.0;

/// The segments to read: all, or a random sample of many smaller ones.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    segments: Vec<Segment>,
    /// Their share of the table.
    pub(crate) part: f64,
}

impl Share {
    /// The whole table in this many segments.
    pub(crate) fn whole(segments: u32) -> Self {
        let total = segments.max(1);
        let segments = (0..total).map(|index| Segment { index, total }).collect();
        Self { segments, part: 1.0 }
    }

    /// About this share of the table. The service assigns items to segments by a hash of their partition key,
    /// so a few of many segments are a fair sample, and the others cost nothing.
    pub(crate) fn sample(part: f64, segments: u32, random: &mut fastrand::Rng) -> Self {
        let wanted = segments.max(1);
        let total = (f64::from(wanted) / part).ceil().clamp(f64::from(wanted), SEGMENTS_MAX);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to 1,000,000"
        )]
        let total = total as u32;
        let mut indices: Vec<u32> = (0..total).collect();
        random.shuffle(&mut indices);
        indices.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        let segments: Vec<_> = indices.into_iter().map(|index| Segment { index, total }).collect();
        Self { segments, part: f64::from(wanted.min(total)) / f64::from(total) }
    }

    /// Whether it is the whole table.
    pub(crate) fn is_whole(&self) -> bool {
        self.part >= 1.0
    }
}

/// Starts reading; pages arrive in a small channel. The tasks end when the set is dropped.
pub(crate) fn start<S: Sides>(
    context: &Arc<Context<S>>,
    share: &Share,
    readers: u32,
) -> (mpsc::Receiver<Result<Vec<Change>>>, JoinSet<()>) {
    let readers = readers.max(1).min(u32::try_from(share.segments.len()).unwrap_or(u32::MAX));
    let (send, receive) = mpsc::channel(usize::try_from(readers).unwrap_or(1));
    let left = Arc::new(Mutex::new(share.segments.clone()));
    let mut tasks = JoinSet::new();
    for _ in 0..readers {
        let (context, left, send) = (Arc::clone(context), Arc::clone(&left), send.clone());
        tasks.spawn(async move {
            loop {
                let next = left.lock().await.pop();
                let Some(segment) = next else { return };
                if let Err(error) = read(&context, segment, &send).await {
                    // The receiver may be gone; then nobody needs the error.
                    drop(send.send(Err(error)).await);
                    return;
                }
            }
        });
    }
    (receive, tasks)
}

async fn read<S: Sides>(
    context: &Context<S>,
    segment: Segment,
    send: &mpsc::Sender<Result<Vec<Change>>>,
) -> Result<()> {
    let mut from = ReadFrom {
        stream_arn: "".into(),
        partition: segment.partition(),
        position: Position::Start,
        iterator: None,
    };
    loop {
        let page = context.page(&from).await?;
        let (end, next) = (page.end, page.next);
        send.send(Ok(page.changes))
            .await
            .map_err(|_| Error::new(ErrorKind::Unavailable, "the scan was abandoned"))?;
        if end {
            return Ok(());
        }
        from.position = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_some_small_segments() {
        let mut random = fastrand::Rng::with_seed(7);
        let sample = Share::sample(0.01, 4, &mut random);
        assert_eq!(sample.segments.len(), 4);
        assert!(sample.segments.iter().all(|segment| segment.total == 400));
        assert!((sample.part - 0.01).abs() < 1e-9 && !sample.is_whole());
        assert!(Share::sample(1.0, 4, &mut random).is_whole() && Share::whole(0).is_whole());
        assert_eq!(Share::sample(1e-9, 1, &mut random).segments[0].total, 1_000_000);
    }
}
