//! Decides what is read, mapped and applied when.

pub mod ports;
