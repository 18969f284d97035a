//! The sink room.
