//! What an operator asks for beside the running engine, over ports, so that the simulator runs it too.

pub mod ports;
pub mod retry;
pub mod verify;
