//! Starts real clusters, breaks them on purpose, records everything and has it checked.

pub mod cli;
pub mod run;
pub mod plan;
pub mod workload;
pub mod generator;
pub mod worker;
pub mod leaders;
pub mod script;
pub mod nemesis;
pub mod cluster;
pub mod proxy;
pub mod clock;
pub mod stall;
pub mod history_writer;
pub mod results;
pub mod report;
