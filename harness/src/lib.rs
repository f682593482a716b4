//! Starts real clusters, breaks them on purpose, records everything and has it checked.

#[macro_use]
mod terminal;

pub mod campaign;
pub mod cli;
pub mod clock;
pub mod cluster;
mod export;
pub mod generator;
pub mod history_writer;
mod inspect;
pub mod leaders;
mod messages;
pub mod nemesis;
mod panics;
pub mod plan;
mod progress;
pub mod proxy;
mod recorded;
pub mod replay;
pub mod report;
pub mod results;
pub mod retention;
pub mod run;
mod runs;
pub mod script;
pub mod selftest;
mod serve;
pub mod shrink;
pub mod sim;
pub mod stall;
pub mod statements;
pub mod targets;
pub mod worker;
pub mod workload;
