//! What people ask for: dead letters, gaps, freshness, grants.

pub mod dead_letters;
pub mod freshness;
pub mod gaps;
pub mod grants;
pub mod sources;
