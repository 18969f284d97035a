//! Santa's Workshop: children and their letters in a single-table design, written, changed and deleted
//! through the real SDK.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};

use crate::engine::ports::Clock;
use crate::error::{Error, ErrorKind, Result};

/// The table of the worked example.
pub const TABLE: &str = "NorthPole";
/// The plain table beside it.
pub const REINDEER: &str = "Reindeer";

const NAMES: [&str; 8] = ["Noor", "Émile", "Aiko", "Wanjiru", "Mateo", "Freya", "李雷", "O'Brien"];
const CITIES: [(&str, &str); 5] =
    [("Rovaniemi", "FI"), ("Nuuk", "GL"), ("Kyoto", "JP"), ("Nairobi", "KE"), ("Lima", "PE")];
const TEAM: [&str; 9] =
    ["Dasher", "Dancer", "Prancer", "Vixen", "Comet", "Cupid", "Donner", "Blitzen", "Rudolf"];
const TOYS: [&str; 6] = ["train", "kite", "robot", "yo-yo", "puzzle", "teddy \"Max\""];

/// Creates the table of the children and their letters, with its stream.
///
/// # Errors
/// When the service refuses.
pub async fn create_table(client: &Client) -> Result<()> {
    create(client, TABLE, &[("pk", KeyType::Hash), ("sk", KeyType::Range)]).await
}

/// Creates the table of the reindeer, with its stream, and harnesses them.
///
/// # Errors
/// When the service refuses.
pub async fn create_reindeer(client: &Client) -> Result<()> {
    create(client, REINDEER, &[("id", KeyType::Hash)]).await?;
    for (number, name) in (1..).zip(TEAM) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut request = client
            .put_item()
            .table_name(REINDEER)
            .item("id", text(name))
            .item("harness", AttributeValue::N(number.to_string()))
            .item("leads", AttributeValue::Bool(name == "Rudolf"));
        if name == "Rudolf" {
            request = request.item("nose", map([("colour", text("red"))]));
        }
        request.send().await.map_err(|error| failed("harness a reindeer", error))?;
    }
    Ok(())
}

async fn create(client: &Client, table: &str, keys: &[(&str, KeyType)]) -> Result<()> {
    let invalid =
        |error| Error::new(ErrorKind::Unknown, "describe a table of the demo").with_source(error);
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages)
        .build()
        .map_err(invalid)?;
    let mut request = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .stream_specification(stream);
    for (name, role) in keys {
        let key = KeySchemaElement::builder().attribute_name(*name).key_type(role.clone());
        let attribute = AttributeDefinition::builder()
            .attribute_name(*name)
            .attribute_type(ScalarAttributeType::S);
        request = request
            .key_schema(key.build().map_err(invalid)?)
            .attribute_definitions(attribute.build().map_err(invalid)?);
    }
    let created = request.send().await;
    created.map_err(|error| failed(&format!("create the table {table}"), error))?;
    Ok(())
}

/// What has been written so far.
#[derive(Debug, Default)]
pub struct Written {
    /// New items.
    pub inserts: AtomicU64,
    /// Changed items.
    pub updates: AtomicU64,
    /// Deleted items.
    pub deletes: AtomicU64,
}

impl Written {
    /// All writes.
    #[must_use]
    pub fn total(&self) -> u64 {
        [&self.inserts, &self.updates, &self.deletes]
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

/// One of Santa's elves: writes the letters of its own children, one write after the other.
#[derive(Debug)]
pub struct Elf<C> {
    client: Client,
    clock: C,
    random: fastrand::Rng,
    number: u64,
    children: u64,
    /// Child number to the letters that are live.
    live: HashMap<u64, Vec<u64>>,
    /// The same children in an order that can be drawn from.
    order: Vec<u64>,
}

enum Op {
    Insert,
    Update,
    Delete,
}

impl<C: Clock> Elf<C> {
    /// The `number`-th elf; elves of different numbers never touch one another's items.
    #[must_use]
    pub fn new(client: Client, clock: C, number: u64, seed: u64) -> Self {
        Self {
            client,
            clock,
            random: fastrand::Rng::with_seed(seed ^ (number << 32)),
            number,
            children: 0,
            live: HashMap::new(),
            order: Vec::new(),
        }
    }

    /// Makes one write: a new child or letter, a change, or a deletion.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn write(&mut self, written: &Written) -> Result<()> {
        let op = match (self.order.len(), self.random.u32(0..100)) {
            (0..4, _) | (_, 0..22) => self.new_child().await?,
            (_, 22..45) => self.letter(None).await?,
            (_, 45..70) => self.change_child().await?,
            (_, 70..85) => self.change_letter().await?,
            _ => self.delete().await?,
        };
        let count = match op {
            Op::Insert => &written.inserts,
            Op::Update => &written.updates,
            Op::Delete => &written.deletes,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn new_child(&mut self) -> Result<Op> {
        self.children += 1;
        let child = self.children;
        self.put_child(child).await?;
        self.live.insert(child, Vec::new());
        self.order.push(child);
        Ok(Op::Insert)
    }

    async fn change_child(&mut self) -> Result<Op> {
        let child = self.any_child();
        if self.random.bool() {
            self.put_child(child).await?;
            return Ok(Op::Update);
        }
        let score = format!("{}.{:02}", self.random.i32(-99..100), self.random.u32(0..100));
        let now = self.clock.wall().0;
        self.client
            .update_item()
            .table_name(TABLE)
            .key("pk", self.pk(child))
            .key("sk", AttributeValue::S("PROFILE".to_owned()))
            .update_expression("SET score = :s, upd = :u REMOVE aliases")
            .expression_attribute_values(":s", map([("naughty", AttributeValue::N(score))]))
            .expression_attribute_values(":u", AttributeValue::N(now.to_string()))
            .send()
            .await
            .map_err(|error| failed("update a child", error))?;
        Ok(Op::Update)
    }

    async fn put_child(&mut self, child: u64) -> Result<()> {
        let random = &mut self.random;
        let name = format!("{} {child}", random.choice(NAMES).unwrap_or("Noor"));
        let (city, country) = random.choice(CITIES).unwrap_or(("Rovaniemi", "FI"));
        let born =
            format!("20{:02}-{:02}-{:02}", random.u8(10..24), random.u8(1..13), random.u8(1..29));
        let mut put = self
            .client
            .put_item()
            .table_name(TABLE)
            .item("pk", self.pk(child))
            .item("sk", AttributeValue::S("PROFILE".to_owned()))
            .item("name", AttributeValue::S(name))
            .item(
                "address",
                map([
                    ("city", AttributeValue::S(city.to_owned())),
                    ("country", AttributeValue::S(country.to_owned())),
                ]),
            )
            .item(
                "score",
                map([("naughty", AttributeValue::N(self.random.u8(0..100).to_string()))]),
            )
            .item("born", AttributeValue::S(born))
            .item("upd", AttributeValue::N(self.clock.wall().0.to_string()))
            .item("chimney", AttributeValue::Bool(self.random.bool()));
        if self.random.bool() {
            let aliases = vec!["little star".to_owned(), format!("elf's friend {child}")];
            put = put.item("aliases", AttributeValue::Ss(aliases));
        }
        put.send().await.map_err(|error| failed("put a child", error))?;
        Ok(())
    }

    async fn letter(&mut self, again: Option<(u64, u64)>) -> Result<Op> {
        let (child, letter) = again.unwrap_or_else(|| {
            let child = self.any_child();
            (child, self.random.u64(0..1_000_000))
        });
        let known = self.live.entry(child).or_default();
        let op = if known.contains(&letter) { Op::Update } else { Op::Insert };
        if matches!(op, Op::Insert) {
            known.push(letter);
        }
        let toys = (0..self.random.usize(0..5))
            .map(|_| {
                let sku = self.random.choice(TOYS).unwrap_or("train").to_owned();
                let qty = AttributeValue::N(self.random.u8(1..4).to_string());
                let mut toy = vec![("sku", AttributeValue::S(sku))];
                if self.random.bool() {
                    toy.push(("qty", qty));
                }
                map(toy)
            })
            .collect();
        let status = if self.random.bool() { "P" } else { "D" };
        let pages = AttributeValue::N(self.random.u8(1..9).to_string());
        self.client
            .put_item()
            .table_name(TABLE)
            .item("pk", self.pk(child))
            .item("sk", Self::sk(letter))
            .item("sentAt", AttributeValue::S("2026-12-01T08:00:00Z".to_owned()))
            .item("status", AttributeValue::S(status.to_owned()))
            .item("toys", AttributeValue::L(toys))
            .item("meta", map([("pages", pages)]))
            .send()
            .await
            .map_err(|error| failed("put a letter", error))?;
        Ok(op)
    }

    async fn change_letter(&mut self) -> Result<Op> {
        let child = self.any_child();
        let letter = self.live.get(&child).and_then(|letters| letters.last().copied());
        self.letter(letter.map(|letter| (child, letter))).await
    }

    async fn delete(&mut self) -> Result<Op> {
        let index = self.random.usize(0..self.order.len());
        let child = self.order[index];
        let sk = match self.live.entry(child).or_default().pop() {
            Some(letter) => Self::sk(letter),
            None => {
                self.order.swap_remove(index);
                self.live.remove(&child);
                AttributeValue::S("PROFILE".to_owned())
            }
        };
        self.client
            .delete_item()
            .table_name(TABLE)
            .key("pk", self.pk(child))
            .key("sk", sk)
            .send()
            .await
            .map_err(|error| failed("delete an item", error))?;
        Ok(Op::Delete)
    }

    fn any_child(&mut self) -> u64 {
        self.order[self.random.usize(0..self.order.len())]
    }

    fn pk(&self, child: u64) -> AttributeValue {
        AttributeValue::S(format!("CHILD#{}-{child}", self.number))
    }

    fn sk(letter: u64) -> AttributeValue {
        AttributeValue::S(format!("LETTER#2026#{letter:06}"))
    }
}

/// Waits so that writes come evenly at `per_sec`.
#[derive(Debug)]
pub struct Metronome {
    next: tokio::time::Instant,
    every: Duration,
}

impl Metronome {
    /// Ticks `per_sec` times a second from now on.
    #[must_use]
    pub fn new(clock: &impl Clock, per_sec: f64) -> Self {
        Self { next: clock.now(), every: Duration::from_secs_f64(1.0 / per_sec) }
    }

    /// Waits for the next tick; a late caller does not wait, but may not catch up in a burst.
    pub async fn tick(&mut self, clock: &impl Clock) {
        self.next = (self.next + self.every).max(clock.now());
        clock.sleep_until(self.next).await;
    }
}

fn map<'a>(entries: impl IntoIterator<Item = (&'a str, AttributeValue)>) -> AttributeValue {
    AttributeValue::M(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn failed(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, what).with_source(error)
}
