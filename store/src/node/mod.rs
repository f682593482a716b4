//! The driver of the core on a real machine.

pub mod control;
pub mod wire;
