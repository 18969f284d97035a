//! What only the real server can show.

mod cluster;
