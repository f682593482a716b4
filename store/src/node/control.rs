//! What a tester says to a node over its standard input, and what a node says over its standard output: one JSON object
//! a line each. The node exits when its standard input closes, so that a dead tester leaves no orphans.

use serde::{Deserialize, Serialize};

use crate::{
    api::{Ballot, NodeId, PartitionId},
    config::ClockSkew,
};

/// A command to a running node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Run the clock with this skew from now on: a new rate applies from here (-1000000 ppm: the clock stands still), a new
    /// offset makes the clock jump.
    Clock(ClockSkew),
    /// The log's syncs go like this from now on.
    Disk(DiskFault),
    /// Die, as of SIGKILL, in the next write of the log: after its batches were written, before they are synced.
    DieInWrite,
}

/// What is wrong with a node's disk; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFault {
    /// No sync ends before this is taken back.
    pub stalled: bool,
    /// Each sync takes this much longer.
    pub slow_ms: u64,
}

/// A node's line on standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Notice {
    /// The node listens.
    Listening {
        /// The node.
        node: NodeId,
        /// `address:port`.
        address: String,
        /// How often it has started on this disk, from 1.
        boot: u64,
    },
    /// The lookup table is agreed on, clients are served.
    Open {
        /// The lookup table: replicas of each partition.
        table: Vec<(PartitionId, Vec<NodeId>)>,
    },
    /// This node leads a partition (phase Accept, and, with leases on, holding one).
    Leading {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// This node no longer leads.
    SteppedDown {
        /// The partition.
        partition: PartitionId,
        /// The ballot that it led under.
        ballot: Ballot,
    },
    /// An assertion of the core has failed, and the process ends: the protocol went wrong.
    GaveUp {
        /// What the assertion says, and where it stands.
        text: String,
    },
    /// A command has taken effect.
    Done {
        /// Which, counted from 1 over the process's life.
        command: u64,
    },
}
