//! The whole system on one machine: local servers, and Santa's letters being written.

pub mod compare;
pub mod dynamodb;
pub mod lag;
pub mod postgres;
pub mod santa;
