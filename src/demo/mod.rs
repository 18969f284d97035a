//! The demo room.

pub mod postgres;
