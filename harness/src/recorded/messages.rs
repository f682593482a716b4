//! Messages between nodes, as far as a run records them: simulated runs that are kept do, real ones do not.

use serde::{Deserialize, Serialize};

/// The file of a run's folder that holds them.
pub(crate) const FILE: &str = "messages.json";

/// A message from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// When it was sent, in nanoseconds of the history.
    pub(crate) sent: u64,
    /// When it arrived; none: it never did.
    pub(crate) arrived: Option<u64>,
    /// Who sent it.
    pub(crate) from: u64,
    /// To whom.
    pub(crate) to: u64,
    /// The partition that it is about; none: the whole node.
    pub(crate) partition: Option<u32>,
    /// What it says, in short.
    pub(crate) text: String,
}
