//! Reading the stream: which shards there are, who reads which, and how fresh that makes the target.

pub(crate) mod children;
pub mod discovery;
pub mod freshness;
pub mod lease;
pub mod leases;
pub mod lineage;
pub mod listing;
