//! Decides of recorded histories whether they are linearizable, or sequentially consistent, and of recorded traces whether
//! the leases were safe.
//!
//! The checker knows nothing of the store's code: [`history`] and [`trace`] are its own definitions of the two recorded
//! formats, so that the oracle is independent of what it judges.

pub mod budget;
pub mod compact;
mod explain;
pub mod formats;
pub mod general;
pub mod history;
pub mod judge;
pub mod lease_safety;
pub mod linearizability;
mod memo;
pub mod model;
pub mod sequential;
pub mod trace;
