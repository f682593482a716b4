//! The recorded protocol events of one node: one JSON object a line, appended across restarts.
//!
//! Times inside events are nanoseconds on the node's own clock; each line carries one reading of both clocks, and a
//! `clock` event says how the two relate from there on.

use serde::{Deserialize, Serialize};

/// Who may lead: ordered by its fields in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Configuration of the group.
    pub config: u32,
    /// Grows with every take-over.
    pub number: u64,
    /// Configured preference.
    pub priority: u32,
    /// The node that leads.
    pub node: u64,
}

impl std::fmt::Display for Ballot {
    /// As answers in the history show it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}@n{}", self.config, self.number, self.priority, self.node)
    }
}

/// One line of a node's trace file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceLine {
    /// The node.
    pub node: u64,
    /// How often it has started on this disk, from 1.
    pub boot: u64,
    /// The machine's clock, `CLOCK_BOOTTIME`, in nanoseconds.
    pub common: u64,
    /// The node's clock at that reading, in nanoseconds.
    pub local: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: TraceEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        partition: u32,
        /// Its replicas; a quorum is more than half of them.
        replicas: Vec<u64>,
        /// The promise that its disk holds. What it granted to a higher ballot before a restart nobody was told of, since a
        /// grant leaves the node only after its promise is durable.
        promised: Ballot,
    },
    /// The node's election follows a new ballot.
    Elected {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node's promise rises to this ballot, its own or another's.
    Promised {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node grants the ballot's node the lease: it promises no other before `until`.
    Granted {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
        /// End on the local clock.
        until: u64,
    },
    /// The grant to this ballot is over before its time, since its holder gave it back.
    Released {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node holds the lease of its ballot until then, unless a later event says otherwise.
    Hold {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
        /// End on the local clock.
        until: u64,
    },
    /// The node has given up its hold.
    HoldEnded {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node leads: it has adopted a quorum's log under this ballot.
    Leading {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node leads no longer.
    SteppedDown {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
    },
    /// The node answered a read without the group.
    FastRead {
        /// The partition.
        partition: u32,
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
        partition: u32,
        /// The ballot under which it learnt it.
        ballot: Ballot,
        /// True when this node, as the leader, decided them; false when it was told.
        leading: bool,
        /// Log index of the first, from 1.
        first: u64,
        /// A hash of each entry's bytes.
        hashes: Vec<u64>,
    },
    /// A stop-sign was appended to the log: no fast read after it.
    StopSign {
        /// The partition.
        partition: u32,
        /// The ballot.
        ballot: Ballot,
        /// Its log index.
        index: u64,
    },
    /// The node's snapshot has moved on, and its log begins after `start`.
    Snapshot {
        /// The partition.
        partition: u32,
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
