//! The contract of `Source` before an emulator, as far as that goes: it has one shard that never ends,
//! ignores ARNs, trims nothing and expires nothing.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};
use dynaurora::demo::dynamodb::LocalDynamo;
use dynaurora::engine::ports::Source;
use dynaurora::error::ErrorKind;
use dynaurora::model::Item;
use dynaurora::source::{ConnectOptions, DynamoSource, SourceOptions, connect};

use super::source::{Subject, TABLE};

struct Emulated {
    source: DynamoSource,
    client: aws_sdk_dynamodb::Client,
    _server: LocalDynamo,
}

impl Emulated {
    async fn start() -> Self {
        let server = LocalDynamo::start().unwrap();
        let endpoint = Some(server.endpoint().to_owned());
        let options = ConnectOptions { endpoint, ..ConnectOptions::default() };
        let config = connect(&options).await.unwrap();
        let source = DynamoSource::new(TABLE, &config, SourceOptions::default());
        Self { source, client: aws_sdk_dynamodb::Client::new(&config), _server: server }
    }

    async fn with_table() -> Self {
        let subject = Self::start().await;
        subject.create_table().await;
        subject
    }

    async fn create_table(&self) {
        let mut request = self.client.create_table().table_name(TABLE);
        for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S);
            let element = KeySchemaElement::builder().attribute_name(name).key_type(kind);
            request = request
                .attribute_definitions(attribute.build().unwrap())
                .key_schema(element.build().unwrap());
        }
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewAndOldImages);
        request
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(stream.build().unwrap())
            .send()
            .await
            .unwrap();
    }
}

impl Subject for Emulated {
    type Source = DynamoSource;

    fn source(&self) -> &DynamoSource {
        &self.source
    }

    async fn put(&self, item: Item) {
        let mut request = self.client.put_item().table_name(TABLE);
        for (name, value) in item.iter() {
            request = request.item(name, AttributeValue::from(value.clone()));
        }
        request.send().await.unwrap();
    }

    async fn delete(&self, key: Item) {
        let mut request = self.client.delete_item().table_name(TABLE);
        for (name, value) in key.iter() {
            request = request.key(name, AttributeValue::from(value.clone()));
        }
        request.send().await.unwrap();
    }
}

// What is gone it does not say: it ignores ARNs.
super::tests! { source [
    a_table_is_described
    changes_arrive_whole_and_in_order
    a_scan_brings_every_item_once
] #[tokio::test] super::Emulated::with_table().await }

#[tokio::test]
async fn a_table_that_is_not_there_is_gone() {
    let subject = Emulated::start().await;
    let error = subject.source.describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.hint().unwrap().contains("aws dynamodb list-tables --region"));
}
