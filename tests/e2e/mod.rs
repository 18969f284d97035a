//! The whole product: the real binary as its own process, real signals, a real Postgres, and DynamoDB as
//! an emulator or as a world of our own behind HTTP. A test that fails shows the logs of its daemons.

mod backfill;
mod chaos;
mod commands;
mod daemon;
mod dead_letters;
mod export;
mod export_s3;
mod failover;
mod first_steps;
mod fleet;
mod fold;
mod freshness;
mod gaps;
mod halt;
mod infer;
mod kill;
mod loads;
mod mapping;
mod misfits;
mod moving;
mod nested;
mod outage;
mod pooler;
pub(crate) mod proxy;
mod refusals;
mod rules;
mod shared;
mod sharing;
mod stage;
mod stop;
mod streams;
mod tap;
mod tls;
mod values;
mod verify;
mod writers;
