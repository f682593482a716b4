//! What a node tells about its protocol, so that a checker that knows nothing of this code can judge it.
//!
//! A trace event is written before the messages that it explains leave the node. Times inside events are on the node's
//! own clock, in nanoseconds; the driver adds the same reading of both clocks to each line, and a `clock` event whenever
//! the relation between the two changes.

use serde::Serialize;

use crate::api::{Ballot, NodeId, PartitionId};

/// One line of a node's trace file.
#[derive(Clone, Debug, Serialize)]
pub struct TraceLine<'a> {
    /// The node.
    pub node: NodeId,
    /// How often it has started on this disk, from 1.
    pub boot: u64,
    /// The machine's clock, CLOCK_BOOTTIME, in nanoseconds.
    pub common: u64,
    /// The node's clock at that reading, in nanoseconds.
    pub local: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: &'a TraceEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TraceEvent {
    /// The process has started; grants of an earlier boot may still run.
    Started {
        /// Length of a lease grant in nanoseconds of a local clock; 0 without leases.
        lease: u64,
        /// Bound on a clock's rate error, parts per million.
        drift_ppm: u64,
    },
    /// From here on `local = base_local + (common - base_common) * (1 + rate_ppm / 1e6)`.
    Clock {
        /// Common clock at the anchor.
        base_common: u64,
        /// Local clock at the anchor.
        base_local: u64,
        /// Rate error in parts per million.
        rate_ppm: i64,
    },
    /// The node replicates this partition: told when it starts, and when it learns of it.
    Group {
        /// The partition.
        partition: PartitionId,
        /// Its replicas; a quorum is more than half of them.
        replicas: Vec<NodeId>,
        /// The promise that its disk holds. What it granted to a higher ballot before a restart nobody was told of, since a
        /// grant leaves the node only after its promise is durable.
        promised: Ballot,
    },
    /// The node's election follows a new ballot.
    Elected {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node's promise rises to this ballot, its own or another's.
    Promised {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node grants the ballot's node the lease: it promises no other before `until`.
    Granted {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
        /// End on the local clock.
        until: u64,
    },
    /// The grant to this ballot is over before its time, since its holder gave it back.
    Released {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node holds the lease of its ballot until then, unless a later event says otherwise.
    Hold {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
        /// End on the local clock.
        until: u64,
    },
    /// The node has given up its hold.
    HoldEnded {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node leads: it has adopted a quorum's log under this ballot.
    Leading {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node leads no longer.
    SteppedDown {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node answered a read without the group.
    FastRead {
        /// The partition.
        partition: PartitionId,
        /// The ballot that it led under.
        ballot: Ballot,
        /// The key, as text.
        key: String,
        /// When the request arrived, local clock.
        received: u64,
        /// The reading of the local clock that the decision used.
        checked: u64,
        /// The end of the hold at that reading, local clock.
        expiry: u64,
        /// Version of the value that was read.
        version: u64,
        /// Number of entries applied.
        applied: u64,
    },
    /// The node knows these entries to be decided.
    Decided {
        /// The partition.
        partition: PartitionId,
        /// The ballot under which it learnt it.
        ballot: Ballot,
        /// True when this node, as the leader, decided them; false when it was told.
        leading: bool,
        /// Log index of the first, from 1.
        first: u64,
        /// A hash of each entry's bytes.
        hashes: Vec<u64>,
    },
    /// The node's log ends in a stop-sign from here on: no fast read after it.
    StopSign {
        /// The partition.
        partition: PartitionId,
        /// The ballot under which it was appended, or adopted with the log.
        ballot: Ballot,
        /// Its log index.
        index: u64,
    },
    /// The node's snapshot has moved on, and its log begins after `start`.
    Snapshot {
        /// The partition.
        partition: PartitionId,
        /// Number of the last entry that it reflects.
        index: u64,
        /// How many entries at the beginning of the log are gone.
        start: u64,
        /// Another node has sent it: what lies between is decided, and the node tells of it no more.
        fetched: bool,
    },
    /// A planted bug has changed what happened.
    MutantReached {
        /// Its name.
        name: String,
    },
}
