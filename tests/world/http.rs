//! The world's face for the real SDK: DynamoDB's and DynamoDB Streams' JSON protocol over HTTP.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dynaurora::engine::ports::{StreamInfo, StreamView};
use dynaurora::model::{ChangeOp, Item, PartitionId, SequenceNumber};
use serde_json::{Value, json};

use super::server::Server;
use super::{IteratorType, Record, RecordsPage, ScanRequest, ShardsPage, World, WorldError};

/// A world that listens.
#[derive(Debug)]
pub struct WorldServer {
    server: Server,
    world: Arc<Mutex<World>>,
}

impl WorldServer {
    /// Starts serving; the world stays reachable through [`WorldServer::world`].
    pub fn start(world: Arc<Mutex<World>>) -> Self {
        let router = Router::new().fallback(answer).with_state(Arc::clone(&world));
        Self { server: Server::start(router), world }
    }

    /// The URL for clients of both services.
    pub fn endpoint(&self) -> &str {
        &self.server.endpoint
    }

    /// The world, to write to and to move on.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("the world is whole")
    }
}

type Answer = Result<Value, WorldError>;

async fn answer(
    State(world): State<Arc<Mutex<World>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let operation = target.and_then(|target| target.split_once('.')).map(|(_, name)| name);
    let signed = headers.contains_key(header::AUTHORIZATION);
    let request = serde_json::from_slice::<Value>(&body);
    let outcome = match (operation, request) {
        _ if !signed => Err(WorldError::Denied),
        (Some(operation), Ok(request)) => {
            let mut world = world.lock().expect("the world is whole");
            dispatch(&mut world, operation, &request)
        }
        _ => Err(WorldError::Invalid),
    };
    match outcome {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(error) => refusal(error),
    }
}

fn dispatch(world: &mut World, operation: &str, request: &Value) -> Answer {
    match operation {
        "DescribeTable" => {
            let name = text(request, "TableName")?;
            world.describe_table(name).map(|info| table(name, &info))
        }
        "DescribeStream" => describe_stream(world, request),
        "GetShardIterator" => shard_iterator(world, request),
        "GetRecords" => {
            let limit = request["Limit"].as_u64().unwrap_or(1000);
            let limit = usize::try_from(limit).map_err(|_| WorldError::Invalid)?;
            world.get_records(text(request, "ShardIterator")?, limit).map(|page| records(&page))
        }
        "Scan" => scan(world, request),
        "PutItem" => {
            world.put(known_table(world, request)?.as_str(), item(&request["Item"])?);
            Ok(json!({}))
        }
        "DeleteItem" => {
            world.delete(known_table(world, request)?.as_str(), &item(&request["Key"])?);
            Ok(json!({}))
        }
        "GetItem" => {
            let name = known_table(world, request)?;
            let found = world.item(&name, &item(&request["Key"])?);
            Ok(found.map_or_else(|| json!({}), |item| json!({ "Item": item })))
        }
        "BatchWriteItem" => batch_write(world, request),
        _ => Err(WorldError::Invalid),
    }
}

fn describe_stream(world: &mut World, request: &Value) -> Answer {
    let arn = text(request, "StreamArn")?;
    let partition = |value: &Value| value.as_str().map(PartitionId::new);
    let after = partition(&request["ExclusiveStartShardId"]);
    let filter = &request["ShardFilter"];
    let children_of = match filter["Type"].as_str() {
        None => None,
        Some("CHILD_SHARDS") => Some(partition(&filter["ShardId"]).ok_or(WorldError::Invalid)?),
        Some(_) => return Err(WorldError::Invalid),
    };
    let page = world.describe_stream(arn, after.as_ref(), children_of.as_ref())?;
    let ShardsPage { enabled, view, shards, last_evaluated } = page;
    let shards: Vec<_> = shards
        .into_iter()
        .map(|shard| {
            let mut range = json!({ "StartingSequenceNumber": shard.starting.to_string() });
            if let Some(ending) = shard.ending {
                range["EndingSequenceNumber"] = json!(ending.to_string());
            }
            let mut listed = json!({ "ShardId": shard.id.as_str(), "SequenceNumberRange": range });
            if let Some(parent) = shard.parent {
                listed["ParentShardId"] = json!(parent.as_str());
            }
            listed
        })
        .collect();
    let mut description = json!({
        "StreamArn": arn,
        "StreamStatus": if enabled { "ENABLED" } else { "DISABLED" },
        "StreamViewType": view_name(view),
        "Shards": shards,
    });
    if let Some(last) = last_evaluated {
        description["LastEvaluatedShardId"] = json!(last.as_str());
    }
    Ok(json!({ "StreamDescription": description }))
}

fn shard_iterator(world: &mut World, request: &Value) -> Answer {
    let number = || {
        let number = text(request, "SequenceNumber")?;
        SequenceNumber::parse(number).ok_or(WorldError::Invalid)
    };
    let at = match text(request, "ShardIteratorType")? {
        "TRIM_HORIZON" => IteratorType::Horizon,
        "AT_SEQUENCE_NUMBER" => IteratorType::At(number()?),
        "AFTER_SEQUENCE_NUMBER" => IteratorType::After(number()?),
        _ => return Err(WorldError::Invalid),
    };
    let shard = PartitionId::new(text(request, "ShardId")?);
    let iterator = world.shard_iterator(text(request, "StreamArn")?, &shard, at)?;
    Ok(json!({ "ShardIterator": iterator }))
}

fn records(page: &RecordsPage) -> Value {
    let records: Vec<_> = page.records.iter().map(|own| record(own, page.view)).collect();
    let mut answer = json!({ "Records": records });
    if let Some(next) = &page.next_iterator {
        answer["NextShardIterator"] = json!(next);
    }
    answer
}

fn record(record: &Record, view: StreamView) -> Value {
    let change = record.change(view);
    let mut body = json!({
        "ApproximateCreationDateTime": record.seconds(),
        "Keys": change.keys,
        "SequenceNumber": change.sequence.to_string(),
        "SizeBytes": change.bytes,
        "StreamViewType": view_name(view),
    });
    for (name, image) in [("NewImage", change.new_image), ("OldImage", change.old_image)] {
        if let Some(image) = image {
            body[name] = json!(image);
        }
    }
    let mut whole = json!({
        "awsRegion": "us-east-1",
        "dynamodb": body,
        "eventID": format!("{}/{}", record.shard, record.sequence),
        "eventName": match record.op {
            ChangeOp::Modify => "MODIFY",
            ChangeOp::Remove => "REMOVE",
            ChangeOp::Insert | ChangeOp::Scan => "INSERT",
        },
        "eventSource": "aws:dynamodb",
        "eventVersion": "1.1",
    });
    if record.expired {
        let service = json!({ "Type": "Service", "PrincipalId": "dynamodb.amazonaws.com" });
        whole["userIdentity"] = service;
    }
    whole
}

fn scan(world: &mut World, request: &Value) -> Answer {
    let start = match &request["ExclusiveStartKey"] {
        Value::Null => None,
        key => Some(item(key)?),
    };
    let limit = request["Limit"].as_u64().map(usize::try_from).transpose();
    let asked = ScanRequest {
        segment: request["Segment"].as_u64().unwrap_or(0),
        segments: request["TotalSegments"].as_u64().unwrap_or(1),
        start,
        limit: limit.map_err(|_| WorldError::Invalid)?,
        consistent: request["ConsistentRead"].as_bool().unwrap_or(false),
    };
    let name = text(request, "TableName")?;
    let page = world.scan(name, &asked)?;
    let mut answer = json!({ "Count": page.items.len(), "Items": page.items });
    if let Some(key) = page.last_key {
        answer["LastEvaluatedKey"] = json!(key);
    }
    if matches!(request["ReturnConsumedCapacity"].as_str(), Some("TOTAL" | "INDEXES")) {
        let units = json!({ "TableName": name, "CapacityUnits": page.consumed });
        answer["ConsumedCapacity"] = units;
    }
    Ok(answer)
}

fn batch_write(world: &mut World, request: &Value) -> Answer {
    let tables = request["RequestItems"].as_object().ok_or(WorldError::Invalid)?;
    for (name, writes) in tables {
        if !world.has_table(name) {
            return Err(WorldError::NotFound);
        }
        for write in writes.as_array().ok_or(WorldError::Invalid)? {
            if let Some(put) = write.get("PutRequest") {
                world.put(name, item(&put["Item"])?);
            } else {
                world.delete(name, &item(&write["DeleteRequest"]["Key"])?);
            }
        }
    }
    Ok(json!({ "UnprocessedItems": {} }))
}

fn table(name: &str, info: &StreamInfo) -> Value {
    let schema: Vec<_> = info
        .key_attributes
        .iter()
        .zip(["HASH", "RANGE"])
        .map(|(name, kind)| json!({ "AttributeName": name, "KeyType": kind }))
        .collect();
    let mut table = json!({
        "TableName": name,
        "TableArn": info.table_arn,
        "TableId": info.table_id,
        "TableStatus": "ACTIVE",
        "KeySchema": schema,
    });
    if let Some(arn) = &info.stream_arn {
        table["LatestStreamArn"] = json!(arn);
        table["LatestStreamLabel"] = json!(arn.rsplit('/').next());
    }
    // The service drops the specification of a disabled stream and keeps its ARN.
    if info.enabled {
        let view = view_name(info.view);
        table["StreamSpecification"] = json!({ "StreamEnabled": true, "StreamViewType": view });
    }
    json!({ "Table": table })
}

fn known_table(world: &World, request: &Value) -> Result<String, WorldError> {
    let name = text(request, "TableName")?;
    if world.has_table(name) { Ok(name.to_owned()) } else { Err(WorldError::NotFound) }
}

fn text<'a>(request: &'a Value, name: &str) -> Result<&'a str, WorldError> {
    request[name].as_str().ok_or(WorldError::Invalid)
}

fn item(value: &Value) -> Result<Item, WorldError> {
    serde_json::from_value(value.clone()).map_err(|_| WorldError::Invalid)
}

fn view_name(view: StreamView) -> &'static str {
    match view {
        StreamView::KeysOnly => "KEYS_ONLY",
        StreamView::NewImage => "NEW_IMAGE",
        StreamView::OldImage => "OLD_IMAGE",
        StreamView::NewAndOldImages => "NEW_AND_OLD_IMAGES",
    }
}

fn refusal(error: WorldError) -> Response {
    let Some(code) = error.code() else {
        // The answer breaks off in the middle, as when the connection is lost.
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let parts = [Ok(Bytes::from_static(b"{\"Records\":[")), Err(lost)];
        let body = Body::from_stream(futures_util::stream::iter(parts));
        return body.into_response();
    };
    let status = match error {
        WorldError::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
    json_response(status, &json!({ "__type": kind, "message": "the world says so" }))
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/x-amz-json-1.0")];
    (status, kind, value.to_string()).into_response()
}
