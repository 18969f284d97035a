//! The demo room.

pub mod dynamodb;
