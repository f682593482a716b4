//! Starts real clusters, breaks them on purpose, records everything and has it checked.

pub mod workload;
