//! A sample of a table's items, from all over it.

use std::sync::Arc;

use crate::engine::ports::{ReadFrom, Source};
use crate::error::Result;
use crate::model::{Item, PartitionId, Position, Segment};

/// Segments of the sampled table, so that the sample comes from all parts of it.
const SEGMENTS: u32 = 16;

/// About this many items, from all parts of the table.
///
/// # Errors
/// As the service answers.
pub async fn sample(dynamo: &impl Source, most: usize) -> Result<Vec<Item>> {
    let mut segments: Vec<u32> = (0..SEGMENTS).collect();
    fastrand::shuffle(&mut segments);
    let each = most.div_ceil(SEGMENTS as usize);
    let mut items = Vec::new();
    for index in segments {
        let partition = Segment { index, total: SEGMENTS }.partition();
        items.extend(segment(dynamo, partition, each).await?);
    }
    Ok(items)
}

/// Up to `each` items of one segment.
async fn segment(dynamo: &impl Source, partition: PartitionId, each: usize) -> Result<Vec<Item>> {
    let stream_arn: Arc<str> = "".into();
    let mut from = ReadFrom { stream_arn, partition, position: Position::Start, iterator: None };
    let mut items = Vec::new();
    loop {
        let page = dynamo.read(&from).await?;
        items.extend(page.changes.into_iter().filter_map(|change| change.new_image));
        if page.end || items.len() >= each {
            items.truncate(each);
            return Ok(items);
        }
        from.position = page.next;
    }
}
