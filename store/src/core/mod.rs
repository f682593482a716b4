//! The pure core: state machines of one node and of each of its groups, driven from outside.

pub mod trace;
