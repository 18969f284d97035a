//! What happened, for people and machines.

pub mod events;
