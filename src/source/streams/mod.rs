//! Implements the port: tables, listings of shards, and pages of records.

pub(super) mod answer;
pub(super) mod records;

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{
    KeyType as KeyRole, ReturnConsumedCapacity, StreamViewType as TableView, TableDescription,
};
use aws_sdk_dynamodbstreams::types::{Shard, ShardFilter, ShardFilterType, ShardIteratorType};
use tokio::sync::OnceCell;

use crate::engine::ports::{
    ListingPage, Page, ReadFrom, ShardIterator, Source, StreamInfo, StreamView,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EpochMillis, Item, KeyType, PartitionId, Position, ShardListing};

use super::decode;
use super::errors::Rim;
use super::export::{Export, Exports};
use super::requests::counted;
use super::scan::{self, Scanner};
use answer::Answer;
use records::Records;

/// The most shards in one page of a listing (DescribeStream's own limit).
const LISTING_PAGE_SHARDS: i32 = 100;
/// The most pages to search for the children of one shard.
const CHILDREN_PAGES_MAX: u32 = 100;

/// How pages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceOptions {
    /// The most records in a page; the service takes 1 to 1000.
    pub page_records: i32,
    /// The most items in a page of a scan; by default a page holds 1 MB.
    pub scan_page_items: Option<i32>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self { page_records: 1000, scan_page_items: None }
    }
}

/// A table and its stream, read through the AWS SDK.
#[derive(Debug)]
pub struct DynamoSource {
    tables: aws_sdk_dynamodb::Client,
    streams: aws_sdk_dynamodbstreams::Client,
    rim: Rim,
    options: SourceOptions,
    key_attributes: OnceCell<Vec<String>>,
    exports: Exports,
}

impl DynamoSource {
    /// A source for this table; makes no calls yet. The config should come from [`super::connect()`], which
    /// sets timeouts and turns the SDK's own retries off.
    #[must_use]
    pub fn new(table: impl Into<Arc<str>>, config: &SdkConfig, options: SourceOptions) -> Self {
        let region = config.region().map(|region| region.as_ref());
        Self {
            tables: aws_sdk_dynamodb::Client::new(config),
            streams: aws_sdk_dynamodbstreams::Client::new(config),
            rim: Rim::new(table.into(), region, config.endpoint_url()),
            options,
            key_attributes: OnceCell::new(),
            exports: Exports::new(config, std::env::var("AWS_ENDPOINT_URL_S3").ok()),
        }
    }

    /// The same source with another S3 endpoint for exports.
    #[must_use]
    pub fn with_s3_endpoint(self, config: &SdkConfig, endpoint: impl Into<String>) -> Self {
        Self { exports: Exports::new(config, Some(endpoint.into())), ..self }
    }

    /// Opens an export in a folder or under `s3://BUCKET/PREFIX`: reads its manifest and checks that its
    /// files exist. `check_export` tells whether it belongs to this table.
    ///
    /// # Errors `Config`, with the problem, if it is not a complete full export in DynamoDB JSON; errors of
    /// S3 or the file system.
    pub async fn export(&self, locations: &[String]) -> Result<Export> {
        self.exports.open(locations).await
    }

    /// Whether the export may be used for this table's target now; the stream that holds its time.
    ///
    /// # Errors `Config` if it is of another table, of a recreated one, or of a time that the stream does not
    /// hold; errors of the service.
    pub async fn check_export(&self, export: &Export, now: EpochMillis) -> Result<Arc<str>> {
        let table = self.describe().await?;
        let stream = table.stream_arn.as_deref().unwrap_or_default();
        let request = self.streams.describe_stream().stream_arn(stream).limit(1).send();
        let output = request.await.map_err(|error| self.rim.error("DescribeStream", error))?;
        let enabled_at = output.stream_description.and_then(|told| told.creation_request_date_time);
        let enabled_at = enabled_at.and_then(|time| time.to_millis().ok());
        let unknown = || unexpected("stream description has no time of creation");
        export.check(&table, EpochMillis(enabled_at.ok_or_else(unknown)?), now)?;
        Ok(stream.into())
    }

    /// The item with this key, read consistently; `None` if it does not exist. The number is the read units
    /// used, if the service reports them.
    ///
    /// # Errors `Gone` if the table does not exist, and errors of any call.
    pub async fn item(&self, key: &Item) -> Result<(Option<Item>, Option<f64>)> {
        let mut request = self
            .tables
            .get_item()
            .table_name(self.rim.table())
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        for (name, value) in key.iter() {
            request = request.key(name, value.clone().into());
        }
        let output = request.send().await.map_err(|error| self.rim.error("GetItem", error))?;
        let units = output.consumed_capacity.and_then(|capacity| capacity.capacity_units);
        Ok((output.item.map(decode::table_item).transpose()?, units))
    }

    /// An iterator after the newest record of a shard, only for watching: storing what it reads needs a
    /// position instead.
    ///
    /// # Errors `Gone` if the shard does not exist, and errors of any call.
    pub async fn latest(&self, stream_arn: &str, shard: &PartitionId) -> Result<ShardIterator> {
        let request = self
            .streams
            .get_shard_iterator()
            .stream_arn(stream_arn)
            .shard_id(shard.as_str())
            .shard_iterator_type(ShardIteratorType::Latest);
        let output =
            request.send().await.map_err(|error| self.rim.error("GetShardIterator", error))?;
        let iterator = output.shard_iterator;
        iterator.map(ShardIterator).ok_or_else(|| unexpected("shard iterator is missing"))
    }

    /// The table's key attributes with their types, the partition key first.
    ///
    /// # Errors
    /// `Gone` when the table does not exist, `Unknown` for a type that no key attribute can have, and what
    /// any call can meet.
    pub async fn key_schema(&self) -> Result<Vec<(String, KeyType)>> {
        typed_keys(&self.describe_table().await?)
    }

    async fn describe_table(&self) -> Result<TableDescription> {
        let request = self.tables.describe_table().table_name(self.rim.table());
        let output =
            request.send().await.map_err(|error| self.rim.error("DescribeTable", error))?;
        output.table.ok_or_else(|| unexpected("table description is missing"))
    }

    /// The key attributes' names, requested once: they never change under the same table id.
    async fn key_attributes(&self) -> Result<&[String]> {
        let ask = async || -> Result<_> { Ok(key_attributes(&self.describe_table().await?)) };
        Ok(self.key_attributes.get_or_try_init(ask).await?)
    }

    /// The view of a disabled stream, which its table no longer describes. A day later the stream itself is
    /// gone, though the table still names it; then the view carries nothing.
    async fn stream_view(&self, stream_arn: &str) -> Result<StreamView> {
        let request = self.streams.describe_stream().stream_arn(stream_arn).limit(1);
        let outcome = request.send().await.map_err(|error| self.rim.error("DescribeStream", error));
        let output = match outcome {
            Err(error) if error.kind() == ErrorKind::Gone => return Ok(StreamView::KeysOnly),
            outcome => outcome?,
        };
        let view = output.stream_description.and_then(|stream| stream.stream_view_type);
        view_of(view.as_ref().map_or("nothing", |view| view.as_str()))
    }

    async fn page(
        &self,
        stream_arn: &str,
        after: Option<&PartitionId>,
        filter: Option<ShardFilter>,
    ) -> Result<ListingPage> {
        let output = self
            .streams
            .describe_stream()
            .stream_arn(stream_arn)
            .limit(LISTING_PAGE_SHARDS)
            .set_exclusive_start_shard_id(after.map(ToString::to_string))
            .set_shard_filter(filter)
            .send()
            .await
            .map_err(|error| self.rim.error("DescribeStream", error))?;
        let missing = || unexpected("stream description is missing");
        let stream = output.stream_description.ok_or_else(missing)?;
        let shards = stream.shards.unwrap_or_default();
        let shards = shards.into_iter().map(listing).collect::<Result<_>>()?;
        let next = stream.last_evaluated_shard_id.filter(|id| !id.is_empty());
        Ok(ListingPage { shards, next: next.map(PartitionId::new) })
    }

    async fn iterator(&self, from: &ReadFrom) -> Result<String> {
        let (kind, number) = match &from.position {
            Position::Horizon => (ShardIteratorType::TrimHorizon, None),
            Position::At(number) => (ShardIteratorType::AtSequenceNumber, Some(number)),
            Position::After(number) => (ShardIteratorType::AfterSequenceNumber, Some(number)),
            other => return Err(unexpected(format!("position {other} is invalid for a shard"))),
        };
        let request = self
            .streams
            .get_shard_iterator()
            .stream_arn(&*from.stream_arn)
            .shard_id(from.partition.as_str())
            .shard_iterator_type(kind)
            .set_sequence_number(number.map(ToString::to_string));
        let output =
            request.send().await.map_err(|error| self.rim.error("GetShardIterator", error))?;
        output.shard_iterator.ok_or_else(|| unexpected("shard iterator is missing"))
    }

    async fn read_shard(&self, from: &ReadFrom) -> Result<Page> {
        let iterator = match &from.iterator {
            Some(ShardIterator(iterator)) => iterator.clone(),
            None => self.iterator(from).await?,
        };
        let request = self.streams.get_records().shard_iterator(iterator);
        let answer = Answer::default();
        request
            .limit(self.options.page_records)
            .customize()
            .interceptor(answer.clone())
            .send()
            .await
            .map_err(|error| self.rim.error("GetRecords", error))?;
        let bytes = answer.bytes(&self.rim, "GetRecords").await?.into_bytes();
        let Records { changes, next_iterator } = records::read(&bytes)?;
        let next = changes.last().map(|change| Position::After(change.sequence));
        let iterator = next_iterator.map(ShardIterator);
        Ok(Page {
            changes,
            next: next.unwrap_or_else(|| from.position.clone()),
            end: iterator.is_none(),
            iterator,
            consumed_capacity: None,
        })
    }
}

/// The port: each question counts as one request to AWS, by the operation that it comes down to.
impl Source for DynamoSource {
    async fn describe(&self) -> Result<StreamInfo> {
        counted("DescribeTable", self.described()).await
    }

    async fn list_shards(
        &self,
        stream_arn: &str,
        after: Option<&PartitionId>,
    ) -> Result<ListingPage> {
        counted("DescribeStream", self.page(stream_arn, after, None)).await
    }

    async fn child_shards(
        &self,
        stream_arn: &str,
        parent: &PartitionId,
    ) -> Result<Vec<ShardListing>> {
        counted("DescribeStream", self.children(stream_arn, parent)).await
    }

    async fn read(&self, from: &ReadFrom) -> Result<Page> {
        match from.partition {
            // A file may lie anywhere, and where it lies on S3 it takes many requests at once.
            PartitionId::File(_) => self.page_at(from).await,
            PartitionId::Shard(_) | PartitionId::Segment(..) => {
                counted("GetRecords", self.page_at(from)).await
            }
        }
    }

    fn stream_remedy(&self, table: &StreamInfo) -> Option<String> {
        Some(stream_remedy(table))
    }
}

impl DynamoSource {
    async fn described(&self) -> Result<StreamInfo> {
        let table = self.describe_table().await?;
        let specified = table.stream_specification.as_ref();
        let view = specified.and_then(|stream| stream.stream_view_type.as_ref());
        let view = match (view.map(TableView::as_str), table.latest_stream_arn.as_deref()) {
            (Some(view), _) => view_of(view)?,
            (None, Some(stream)) => self.stream_view(stream).await?,
            (None, None) => StreamView::KeysOnly,
        };
        Ok(StreamInfo {
            enabled: specified.is_some_and(|stream| stream.stream_enabled),
            view,
            key_attributes: key_attributes(&table),
            items: table.item_count.and_then(|items| u64::try_from(items).ok()),
            stream_arn: table.latest_stream_arn,
            table_arn: table.table_arn.ok_or_else(|| unexpected("table ARN is missing"))?,
            table_id: table.table_id.ok_or_else(|| unexpected("table id is missing"))?,
        })
    }

    async fn children(&self, stream_arn: &str, parent: &PartitionId) -> Result<Vec<ShardListing>> {
        let filter =
            ShardFilter::builder().r#type(ShardFilterType::ChildShards).shard_id(parent.as_str());
        let (filter, mut after) = (Some(filter.build()), None);
        let mut children: Vec<ShardListing> = Vec::new();
        // A service that does not know the filter lists all shards, and pages may repeat.
        for _ in 0..CHILDREN_PAGES_MAX {
            let page = self.page(stream_arn, after.as_ref(), filter.clone()).await?;
            for shard in page.shards.into_iter().filter(|own| own.parent.as_ref() == Some(parent)) {
                if children.iter().all(|known| known.id != shard.id) {
                    children.push(shard);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(children);
            }
        }
        Err(unexpected(format!(
            "the children of {parent} need more than {CHILDREN_PAGES_MAX} pages"
        )))
    }

    async fn page_at(&self, from: &ReadFrom) -> Result<Page> {
        let segment = match from.partition {
            PartitionId::Shard(_) => return self.read_shard(from).await,
            PartitionId::Segment(_, segment) => segment,
            PartitionId::File(_) => {
                return self.exports.read(from, self.key_attributes().await?).await;
            }
        };
        let scanner = Scanner {
            client: &self.tables,
            rim: &self.rim,
            key_attributes: self.key_attributes().await?,
            limit: self.options.scan_page_items,
        };
        scan::read(scanner, segment, from).await
    }
}

fn listing(shard: Shard) -> Result<ShardListing> {
    let id = shard.shard_id.ok_or_else(|| unexpected("shard without an id"))?;
    let starting = shard.sequence_number_range.and_then(|range| range.starting_sequence_number);
    Ok(ShardListing {
        id: PartitionId::new(id),
        parent: shard.parent_shard_id.filter(|id| !id.is_empty()).map(PartitionId::new),
        starting: starting.as_deref().map(decode::number).transpose()?,
    })
}

/// The names of the key attributes, the partition key first.
fn key_attributes(table: &TableDescription) -> Vec<String> {
    let mut schema: Vec<_> = table.key_schema().iter().collect();
    schema.sort_by_key(|element| *element.key_type() != KeyRole::Hash);
    schema.into_iter().map(|element| element.attribute_name().to_owned()).collect()
}

/// The key attributes with their types, the partition key first.
fn typed_keys(table: &TableDescription) -> Result<Vec<(String, KeyType)>> {
    let typed = |name: String| {
        let mut known = table.attribute_definitions().iter();
        let own = known.find(|definition| definition.attribute_name() == name);
        let key_type = match own.map(|definition| definition.attribute_type().as_str()) {
            Some("S") => KeyType::S,
            Some("N") => KeyType::N,
            Some("B") => KeyType::B,
            Some(other) => {
                let what = format!("key attribute {name} has the unknown type {other}");
                return Err(unexpected(what));
            }
            None => return Err(unexpected(format!("key attribute {name} has no type"))),
        };
        Ok((name, key_type))
    };
    key_attributes(table).into_iter().map(typed).collect()
}

/// The view by its name, which both services share.
fn view_of(name: &str) -> Result<StreamView> {
    match name {
        "NEW_AND_OLD_IMAGES" => Ok(StreamView::NewAndOldImages),
        "NEW_IMAGE" => Ok(StreamView::NewImage),
        "OLD_IMAGE" => Ok(StreamView::OldImage),
        "KEYS_ONLY" => Ok(StreamView::KeysOnly),
        other => Err(unexpected(format!("stream has the unknown view type {other}"))),
    }
}

/// The commands that give a table a stream with both images.
fn stream_remedy(info: &StreamInfo) -> String {
    let table = info.table_arn.rsplit('/').next().unwrap_or(&info.table_arn);
    let update = format!("aws dynamodb update-table --table-name {table} --stream-specification");
    let enable = format!("{update} StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES");
    if info.stream_arn.is_none() || !info.enabled {
        return enable;
    }
    format!(
        "the view type of a stream cannot be changed: disable the stream ({update} \
         StreamEnabled=false), then {enable}"
    )
}

fn unexpected(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unknown, what)
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::{AttributeDefinition, KeySchemaElement, ScalarAttributeType};

    use super::*;

    /// A table with a key of these attributes; those without a type are not defined.
    fn table(keys: &[(&str, KeyRole, Option<&str>)]) -> TableDescription {
        let mut table = TableDescription::builder();
        for (name, role, kind) in keys {
            let element = KeySchemaElement::builder().attribute_name(*name).key_type(role.clone());
            table = table.key_schema(element.build().unwrap());
            if let Some(kind) = kind {
                let definition = AttributeDefinition::builder().attribute_name(*name);
                let definition = definition.attribute_type(ScalarAttributeType::from(*kind));
                table = table.attribute_definitions(definition.build().unwrap());
            }
        }
        table.build()
    }

    #[test]
    fn the_partition_key_comes_first_with_its_type() {
        let table = table(&[("at", KeyRole::Range, Some("N")), ("id", KeyRole::Hash, Some("B"))]);
        let keys = typed_keys(&table).unwrap();
        assert_eq!(keys, [("id".to_owned(), KeyType::B), ("at".to_owned(), KeyType::N)]);
    }

    #[test]
    fn a_key_of_an_unknown_type_is_an_error_that_names_both() {
        let error = typed_keys(&table(&[("id", KeyRole::Hash, Some("BOOL"))])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert_eq!(error.to_string(), "key attribute id has the unknown type BOOL");
        let error = typed_keys(&table(&[("id", KeyRole::Hash, None)])).unwrap_err();
        assert_eq!(error.to_string(), "key attribute id has no type");
    }
}
