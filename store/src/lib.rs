//! A partitioned, replicated, linearizable key-value store: leader-based Sequence Paxos per partition, ballot leader
//! election, and leader leases that let a leader answer reads on its own.
//!
//! [`core`] is pure: no clock, no sockets, no randomness. [`node`] drives it on a real machine. [`api`] is what clients
//! see, [`config`] what a node is told before it starts.

pub mod api;
pub mod client;
pub mod config;
pub mod core;
pub mod node;
pub mod routes;
