//! A partitioned, replicated, linearizable key-value store: leader-based Sequence Paxos per partition, ballot leader
//! election, and leader leases that let a leader answer reads on its own.
//!
//! [`core`] is pure: no clock, no sockets, no randomness. [`node`] drives it on a real machine. [`api`] is what clients
//! see, [`config`] what a node is told before it starts. [`assertions`] tells what the core itself gives up over. [`load`]
//! measures, [`local`] starts what is measured.

pub mod api;
pub mod assertions;
pub mod client;
pub mod cluster_file;
pub mod config;
pub mod connections;
pub mod core;
pub mod directory;
mod encoding;
pub mod errand;
pub mod load;
pub mod local;
pub mod node;
pub mod overview;
pub mod pipeline;
pub mod routes;
mod value;
