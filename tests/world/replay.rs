//! A server of pages that costs next to nothing, so that a benchmark measures its client.
//!
//! A page is rendered once; serving one copies it and writes the record's number over the key and the
//! sequence number of each record. All else is the same in every record.

use std::ops::Range;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use dynaurora::engine::ports::Clock;
use dynaurora::runtime::SystemClock;

use super::server::Server;

/// The stream that every table of the server has.
pub const STREAM_ARN: &str =
    "arn:aws:dynamodb:us-east-1:000000000000:table/letters/stream/2025-12-01T06:00:00.000";
/// The time of every record, in seconds.
pub const WRITTEN_AT_SECS: u64 = 1_764_568_800;
/// What one item weighs as the service counts it: names and values, in bytes.
pub const ITEM_BYTES: usize = 500;

/// The most shards in one page of a listing, as the service has it.
const LISTED_MAX: usize = 100;
const KEY_DIGITS: usize = 12;
const SEQUENCE_DIGITS: usize = 21;
/// Stand where the digits go; no other text of a record contains them.
const KEY_MARK: &str = "kkkkkkkkkkkk";
const SEQUENCE_MARK: &str = "sssssssssssssssssssss";

/// Shards that each hold some full pages and then stay open without another record.
///
/// Any table name will do. Items have the keys `pk` (`CHILD#` and 12 digits, distinct over all shards) and
/// `sk` (`LETTER`), the texts `name`, `city` and `letter`, the numbers `age` and `written_at`, the flag
/// `good` and the list `wishes`; every record is an INSERT with its new image.
#[derive(Debug)]
pub struct ReplayServer {
    /// The URL for clients of both services.
    pub endpoint: String,
    _server: Server,
}

impl ReplayServer {
    /// Renders the page and starts serving.
    pub fn start(shards: usize, pages_per_shard: usize, records_per_page: usize) -> Self {
        Self::with(shards, pages_per_shard, records_per_page, Table::default())
    }

    /// The same with a table that can be scanned.
    pub fn with(
        shards: usize,
        pages_per_shard: usize,
        records_per_page: usize,
        table: Table,
    ) -> Self {
        assert!((1..=1000).contains(&records_per_page), "a page holds 1 to 1000 records");
        assert!((1..=9_999).contains(&shards), "a shard's number has four digits");
        let page = Page::render(records_per_page);
        let scanned = ScannedPage::render(records_per_page);
        let replay =
            Replay { shards, pages_per_shard, page, table, scanned, began_at: millis_now() };
        let replay = Arc::new(replay);
        let router = Router::new().fallback(answer).with_state(replay);
        let server = Server::start(router);
        Self { endpoint: server.endpoint.clone(), _server: server }
    }
}

/// What the table holds beside what its stream tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table {
    /// Pages of items, each as large as a page of records.
    pub pages: usize,
    /// Writes a second from now on, of items of their own, in the first shard.
    pub trickle_per_sec: u64,
}

struct Replay {
    shards: usize,
    pages_per_shard: usize,
    page: Page,
    table: Table,
    scanned: ScannedPage,
    began_at: u64,
}

/// A rendered page of items and the places of its keys, the last of which is where to go on.
struct ScannedPage {
    bytes: Vec<u8>,
    keys: Vec<usize>,
    items: usize,
    /// Where the key to go on with begins; what comes before it is a whole answer but for its last brace.
    last: usize,
}

impl ScannedPage {
    fn render(items: usize) -> Self {
        let item = record()["dynamodb"]["NewImage"].to_string();
        let (count, units) = (items, items.div_ceil(8));
        let items_text = vec![item; items].join(",");
        let mut text = format!(
            "{{\"Count\":{count},\"ScannedCount\":{count},\"Items\":[{items_text}],\
             \"ConsumedCapacity\":{{\"TableName\":\"letters\",\"CapacityUnits\":{units}}}"
        );
        let last = text.len();
        let key = json!({ "pk": { "S": format!("CHILD#{KEY_MARK}") }, "sk": { "S": "LETTER" } });
        text.push_str(&format!(",\"LastEvaluatedKey\":{key}}}"));
        let keys = text.match_indices(KEY_MARK).map(|(at, _)| at).collect();
        Self { bytes: text.into_bytes(), keys, items, last }
    }

    /// The table's page of this number; the last of its segment names no key to go on with.
    fn numbered(&self, page: usize, is_last: bool) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let first = page * self.items;
        for (index, key) in self.keys.iter().enumerate() {
            let number = first + index.min(self.items - 1);
            write_digits(&mut bytes[*key..*key + KEY_DIGITS], number);
        }
        if is_last {
            bytes.truncate(self.last);
            bytes.push(b'}');
        }
        bytes
    }
}

/// A rendered page and the places of its digits.
struct Page {
    bytes: Vec<u8>,
    places: Vec<Places>,
    next: Range<usize>,
}

struct Places {
    keys: [usize; 2],
    sequence: usize,
}

impl Page {
    fn render(records: usize) -> Self {
        let record = record().to_string();
        let keys: Vec<_> = record.match_indices(KEY_MARK).map(|(at, _)| at).collect();
        let keys: [usize; 2] =
            keys.try_into().expect("the key stands in the keys and in the image");
        let sequence = record.find(SEQUENCE_MARK).expect("a sequence number");
        let next = iterator(0, 0);
        let mut text = format!("{{\"NextShardIterator\":\"{next}\",\"Records\":[");
        let next = text.find(&next).map(|at| at..at + next.len()).expect("the iterator");
        let mut places = Vec::with_capacity(records);
        for index in 0..records {
            if index > 0 {
                text.push(',');
            }
            let at = text.len();
            places.push(Places { keys: keys.map(|key| at + key), sequence: at + sequence });
            text.push_str(&record);
        }
        text.push_str("]}");
        Self { bytes: text.into_bytes(), places, next }
    }

    /// The page with the numbers of its records, which go on from `page * records`.
    fn numbered(&self, shard: usize, page: usize, pages_per_shard: usize) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[self.next.clone()].copy_from_slice(iterator(shard, page + 1).as_bytes());
        let first = page * self.places.len();
        let shard_first = shard * pages_per_shard * self.places.len();
        for (index, places) in self.places.iter().enumerate() {
            let record = first + index;
            for key in places.keys {
                write_digits(&mut bytes[key..key + KEY_DIGITS], shard_first + record);
            }
            let number = &mut bytes[places.sequence..places.sequence + SEQUENCE_DIGITS];
            number[0] = b'1';
            write_digits(&mut number[1..5], shard);
            write_digits(&mut number[5..], record);
        }
        bytes
    }
}

fn write_digits(place: &mut [u8], mut number: usize) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

/// The text that opens a page; of the same length for every page.
fn iterator(shard: usize, page: usize) -> String {
    format!("replay/{shard:04}/{page:012}")
}

/// The number of a shard's record: its first digits are the shard's, so that shards share no number.
fn sequence(shard: usize, record: usize) -> String {
    format!("1{shard:04}{record:016}")
}

fn record() -> Value {
    let keys = json!({ "pk": { "S": format!("CHILD#{KEY_MARK}") }, "sk": { "S": "LETTER" } });
    let mut image = json!({
        "name": { "S": "Astrid Kristiansen" },
        "city": { "S": "Longyearbyen" },
        "age": { "N": "7" },
        "good": { "BOOL": true },
        "written_at": { "N": WRITTEN_AT_SECS.to_string() },
        "wishes": { "L": [{ "S": "a sled" }, { "S": "a book about polar bears" }] },
        "letter": { "S": "" },
    });
    let object = image.as_object_mut().expect("an object");
    object.extend(keys.as_object().expect("an object").clone());
    let item = serde_json::from_value(image.clone()).expect("an item");
    let rest = ITEM_BYTES.checked_sub(super::values::item_bytes(&item)).expect("a small item");
    let letter: String = "Dear Santa, I was good. ".chars().cycle().take(rest).collect();
    image["letter"]["S"] = json!(letter);
    json!({
        "awsRegion": "us-east-1",
        "eventID": "00000000000000000000000000000000",
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "eventVersion": "1.1",
        "dynamodb": {
            "ApproximateCreationDateTime": WRITTEN_AT_SECS,
            "Keys": keys,
            "NewImage": image,
            "SequenceNumber": SEQUENCE_MARK,
            "SizeBytes": ITEM_BYTES,
            "StreamViewType": "NEW_IMAGE",
        },
    })
}

async fn answer(State(replay): State<Arc<Replay>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let operation = target.and_then(|target| target.split_once('.')).map(|(_, name)| name);
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let body = match operation {
        Some("GetRecords") => records(&replay, &request),
        Some("GetShardIterator") => shard_iterator(&replay, &request),
        Some("DescribeStream") => stream(&replay, &request),
        Some("DescribeTable") => Some(table(&replay, &request)),
        Some("Scan") => scan(&replay, &request),
        _ => None,
    };
    let kind = [(header::CONTENT_TYPE, "application/x-amz-json-1.0")];
    match body {
        Some(body) => (kind, body).into_response(),
        None => {
            let error = json!({ "__type": "ValidationException", "message": "not in the replay" });
            (StatusCode::BAD_REQUEST, kind, error.to_string()).into_response()
        }
    }
}

/// The pages of a segment are every so-manieth of the table's.
fn scan(replay: &Replay, request: &Value) -> Option<Vec<u8>> {
    let number = |field: &str| usize::try_from(request[field].as_u64()?).ok();
    let (segment, segments) = (number("Segment")?, number("TotalSegments")?);
    let start = request["ExclusiveStartKey"]["pk"]["S"].as_str();
    let page = match start.and_then(|key| key.strip_prefix("CHILD#")) {
        Some(key) => key.parse::<usize>().ok()? / replay.scanned.items + segments,
        None => segment,
    };
    if page >= replay.table.pages {
        return Some(json!({ "Count": 0, "Items": [] }).to_string().into_bytes());
    }
    Some(replay.scanned.numbered(page, page + segments >= replay.table.pages))
}

/// What was written since the iterator's record, each dated as it was.
fn trickle(replay: &Replay, from: usize) -> Vec<u8> {
    let rate = replay.table.trickle_per_sec;
    let due = millis_now().saturating_sub(replay.began_at) * rate / 1000;
    let due = usize::try_from(due).unwrap_or(usize::MAX).min(from + 1000).max(from);
    let template = record();
    let written = (from..due).map(|number| {
        let mut record = template.clone();
        let own = format!("CHILD#9{number:011}");
        let body = &mut record["dynamodb"];
        body["Keys"]["pk"]["S"] = json!(own);
        body["NewImage"]["pk"]["S"] = json!(own);
        body["SequenceNumber"] = json!(sequence(0, number));
        let after_millis = u64::try_from(number).unwrap_or(0) * 1000 / rate;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 52 bits")]
        let at_secs = (replay.began_at + after_millis) as f64 / 1000.0;
        body["ApproximateCreationDateTime"] = json!(at_secs);
        record
    });
    let records: Vec<Value> = written.collect();
    json!({ "NextShardIterator": iterator(0, due), "Records": records }).to_string().into_bytes()
}

fn millis_now() -> u64 {
    u64::try_from(SystemClock.wall().0).unwrap_or(0)
}

fn records(replay: &Replay, request: &Value) -> Option<Vec<u8>> {
    let mut parts = request["ShardIterator"].as_str()?.strip_prefix("replay/")?.split('/');
    let shard: usize = parts.next()?.parse().ok()?;
    let page: usize = parts.next()?.parse().ok()?;
    if shard == 0 && replay.table.trickle_per_sec > 0 {
        return Some(trickle(replay, page));
    }
    if page < replay.pages_per_shard {
        return Some(replay.page.numbered(shard, page, replay.pages_per_shard));
    }
    let next = iterator(shard, replay.pages_per_shard);
    Some(json!({ "NextShardIterator": next, "Records": [] }).to_string().into_bytes())
}

fn shard_iterator(replay: &Replay, request: &Value) -> Option<Vec<u8>> {
    let shard: usize = request["ShardId"].as_str()?.rsplit('-').next()?.parse().ok()?;
    let record = || request["SequenceNumber"].as_str()?.get(5..)?.parse::<usize>().ok();
    // In a shard that trickles the iterator counts records.
    let trickles = shard == 0 && replay.table.trickle_per_sec > 0;
    let records_per_page = if trickles { 1 } else { replay.page.places.len() };
    let page = match request["ShardIteratorType"].as_str()? {
        "TRIM_HORIZON" => 0,
        "AT_SEQUENCE_NUMBER" => record()? / records_per_page,
        "AFTER_SEQUENCE_NUMBER" => (record()? + 1) / records_per_page,
        _ => return None,
    };
    Some(json!({ "ShardIterator": iterator(shard, page) }).to_string().into_bytes())
}

fn stream(replay: &Replay, request: &Value) -> Option<Vec<u8>> {
    let id = |shard: usize| format!("shardId-00000001764568800000-{shard:08}");
    let first = match request["ExclusiveStartShardId"].as_str() {
        Some(last) => last.rsplit('-').next()?.parse::<usize>().ok()? + 1,
        None => 0,
    };
    let end = replay.shards.min(first + LISTED_MAX);
    let shard = |shard: usize| {
        json!({
            "ShardId": id(shard),
            "SequenceNumberRange": { "StartingSequenceNumber": sequence(shard, 0) },
        })
    };
    let mut description = json!({
        "StreamArn": STREAM_ARN,
        "StreamStatus": "ENABLED",
        "StreamViewType": "NEW_IMAGE",
        "Shards": (first..end).map(shard).collect::<Vec<_>>(),
    });
    if end < replay.shards {
        description["LastEvaluatedShardId"] = json!(id(end - 1));
    }
    Some(json!({ "StreamDescription": description }).to_string().into_bytes())
}

fn table(replay: &Replay, request: &Value) -> Vec<u8> {
    let name = request["TableName"].as_str().unwrap_or_default();
    let key = |name: &str, kind: &str| json!({ "AttributeName": name, "KeyType": kind });
    let table = json!({
        "TableName": name,
        "TableArn": "arn:aws:dynamodb:us-east-1:000000000000:table/letters",
        "TableId": "00000000-0000-4000-8000-000000000000",
        "TableStatus": "ACTIVE",
        "ItemCount": replay.table.pages * replay.scanned.items,
        "KeySchema": [key("pk", "HASH"), key("sk", "RANGE")],
        "LatestStreamArn": STREAM_ARN,
        "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_IMAGE" },
    });
    json!({ "Table": table }).to_string().into_bytes()
}
