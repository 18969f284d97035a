//! One suite for each port, run over every implementation, so that none of them drifts from the others.

mod source;
mod source_days;
#[cfg(feature = "demo")]
mod source_emulator;
mod source_faults;
