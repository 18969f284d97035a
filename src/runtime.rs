//! The only real clock, the only signals.
