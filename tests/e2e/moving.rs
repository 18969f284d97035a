//! Items that change their rows' keys with each other in one transaction, while daemons share the shards.

use std::sync::{Arc, Mutex};

use dynaurora::demo::santa::TABLE;
use dynaurora::engine::ports::{Clock, StreamView};
use dynaurora::model::{AttributeValue, Item};
use dynaurora::runtime::SystemClock;

use super::stage::{SOON_SECS, Setting, Stage, within};
use crate::world::{World, WorldServer};

/// A table whose key is no key of the item.
const SEATS: &str = r#"
[source.santa.entity.elf]
key = { pk = "ELF#{elf:int}", sk = "SEAT" }
table = "seats"
primary_key = ["seat"]
[source.santa.entity.elf.columns]
seat = "seat"
elf  = { from = "{elf}", type = "int" }
mood = { from = "mood", type = "numeric(3,1)" }
"#;
const ELVES: u32 = 100;
const ROUNDS: u32 = 6;

fn elf(elf: u32, seat: u32, mood: &str) -> Item {
    let text = |text: String| AttributeValue::S(text);
    [
        ("pk", text(format!("ELF#{elf}"))),
        ("sk", text("SEAT".to_owned())),
        ("seat", text(format!("seat {seat:03}"))),
        ("mood", AttributeValue::N(mood.to_owned())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

#[tokio::test]
async fn elves_that_change_seats_in_one_transaction_keep_them() {
    let mut world = World::new(29);
    world.set_now(SystemClock.wall());
    world.initial_shards = 4;
    world.create_table(TABLE, &["pk", "sk"], StreamView::NewAndOldImages);
    let server = WorldServer::start(Arc::new(Mutex::new(world)));
    let endpoint = Some(server.endpoint().to_owned());
    let stage = Stage::with(Setting { endpoint, more: SEATS, ..Setting::default() }).await;
    let (one, other) = (stage.ready_daemon().await, stage.ready_daemon().await);
    let mut seats: Vec<u32> = (0..ELVES).collect();
    let mut rng = fastrand::Rng::with_seed(7);
    for (number, seat) in (0..).zip(&seats) {
        server.world().put(TABLE, elf(number, *seat, "1.5"));
    }
    for round in 1..=ROUNDS {
        rng.shuffle(&mut seats);
        // All change at once, in any order, and some on the way to another mood than the column takes.
        let mut order: Vec<u32> = (0..ELVES).collect();
        rng.shuffle(&mut order);
        let mut world = server.world();
        for number in order {
            let seat = seats[number as usize];
            let mood = if round < ROUNDS && rng.u8(..10) == 0 { "1234.5" } else { "2.5" };
            world.put(TABLE, elf(number, seat, mood));
        }
        world.rotate(TABLE);
    }
    let expected: Vec<String> = {
        let mut rows: Vec<_> =
            (0..).zip(&seats).map(|(elf, seat)| (*seat, elf)).collect::<Vec<(u32, u32)>>();
        rows.sort_unstable();
        rows.iter().map(|(seat, elf)| format!("seat {seat:03} {elf} 2.5")).collect()
    };
    let sql = "select seat || ' ' || elf || ' ' || mood from seats order by seat";
    within(SOON_SECS, "each elf has the seat of the source", async || {
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&stage.pool).await.unwrap();
        (rows == expected).then_some(())
    })
    .await;
    assert_eq!(stage.number("select count(*) from dynaurora.hidden_rows").await, 0);
    let open = "select count(*) from dynaurora.dead_letters where state = 'open'";
    assert_eq!(stage.number(open).await, 0, "a later change of its item settles each");
    one.stop().await;
    other.stop().await;
}
