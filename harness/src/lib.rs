//! Starts real clusters, breaks them on purpose, records everything and has it checked.

pub mod clock;
pub mod generator;
pub mod history_writer;
pub mod plan;
pub mod workload;
