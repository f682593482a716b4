//! The recorded history: one JSON object a line, in the order of time, written while the run goes on.
//!
//! Operations follow Jepsen's semantics: an `invoke`, then at most one completion by the same process: `ok`, `fail`
//! (definitely did not happen) or `info` (unknown: it may happen at any later time, or never). After `info` a client goes
//! on under a new process number. Times are nanoseconds since the run began, on one monotonic clock.

mod operations;
mod quick;
mod read;

pub use operations::{Moment, Operation};
pub use read::{History, HistoryError, Truncated};
pub(crate) use read::{column_of, without_place};

use serde::{Deserialize, Serialize};

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// The first line.
    Header(Header),
    /// An operation is invoked or completes.
    Op(Op),
    /// A fault was injected or healed.
    Nemesis(Nemesis),
    /// A phase of the run began.
    Phase(Phase),
}

/// What the history is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Name of the workload.
    pub workload: String,
    /// Seed of the run.
    pub seed: u64,
    /// Reading of the machine's clock (`CLOCK_BOOTTIME`, nanoseconds) at time 0: joins history and traces.
    pub origin: u64,
    /// Values that keys held before the first operation; keys that are not listed were absent.
    pub initial: Vec<(Key, String)>,
    /// Which partition holds which keys, where that is recorded.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub partitions: Vec<Range>,
    /// How a key finds its partition.
    #[serde(skip_serializing_if = "Partitioning::is_range", default)]
    pub partitioning: Partitioning,
}

/// How a key finds its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partitioning {
    /// By the bounds of the partitions.
    #[default]
    Range,
    /// By the hash of the key, modulo the number of partitions: the position in the list of them. The hash is FNV-1a, 64 bits,
    /// of an integer's eight bytes, the most significant one first, or of a text's bytes.
    Hash,
}

impl Partitioning {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_range(&self) -> bool {
        *self == Self::Range
    }
}

/// The keys of a partition: those in `[lower, upper)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The partition.
    pub partition: u32,
    /// Its first key; `None`: unbounded.
    pub lower: Option<Key>,
    /// The first key above it; `None`: unbounded.
    pub upper: Option<Key>,
}

impl Header {
    /// The partition that holds a key, if it is recorded.
    pub fn partition_of(&self, key: &Key) -> Option<u32> {
        if self.partitioning == Partitioning::Hash {
            let position = key.digest().checked_rem(self.partitions.len() as u64)?;
            return Some(self.partitions[position as usize].partition);
        }
        let holds = |range: &&Range| {
            range.lower.as_ref().is_none_or(|lower| lower <= key)
                && range.upper.as_ref().is_none_or(|upper| key < upper)
        };
        self.partitions.iter().find(holds).map(|range| range.partition)
    }
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Key {
    /// An integer.
    Integer(i64),
    /// A text.
    String(String),
}

impl Key {
    /// FNV-1a, as [`Partitioning::Hash`] says.
    fn digest(&self) -> u64 {
        let fnv = |bytes: &[u8]| {
            let mut hash = 14_695_981_039_346_656_037_u64;
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
            }
            hash
        };
        match self {
            Self::Integer(number) => fnv(&number.to_be_bytes()),
            Self::String(text) => fnv(text.as_bytes()),
        }
    }
}

/// An operation is invoked or completes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// When.
    pub time: u64,
    /// Logical process: one operation at a time.
    pub process: u64,
    /// The client that runs it; survives `info`.
    pub client: u64,
    /// The node that the client asked: the first one at invocation, the last one at completion.
    pub node: u64,
    /// Invocation or completion.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What was asked; the same in invocation and completion.
    #[serde(flatten)]
    pub function: Function,
    /// What came back; only in `ok`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub result: Option<OpResult>,
    /// Why it did not succeed; only in `fail` and `info`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// What the client met before the last node that it asked; only in completions. At all nodes before the last one the
    /// operation certainly did not happen.
    #[serde(skip_serializing_if = "Trip::is_straight", default)]
    pub trip: Trip,
}

/// What an operation met on its way from node to node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// Times that a node named the leader and the client went there.
    pub redirects: u64,
    /// Times that a node could not be reached.
    pub gone: u64,
    /// Times that a node knew of no leader to go to.
    pub leaderless: u64,
    /// Times that a replica had not applied as much as the client had seen.
    #[serde(default)]
    pub behind: u64,
    /// Times that it was not known whether it had happened, and the client asked for it again in its session.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Trip {
    /// True when the first node that was asked was the last one.
    pub fn is_straight(&self) -> bool {
        *self == Self::default()
    }
}

/// Invocation or completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Asked.
    Invoke,
    /// Answered.
    Ok,
    /// Definitely did not happen.
    Fail,
    /// Unknown.
    Info,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Function {
    /// Read.
    Get {
        /// The key.
        key: Key,
    },
    /// Write.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: String,
    },
    /// Compare and swap.
    Cas {
        /// The key.
        key: Key,
        /// What the key must hold; `null`: absent. It must be there.
        #[serde(deserialize_with = "Option::deserialize")]
        expected: Option<String>,
        /// The new value.
        new: String,
    },
    /// Remove.
    Delete {
        /// The key.
        key: Key,
    },
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpResult {
    /// GET: the value read; CAS that did not swap: the value seen; `null`: absent. Also `null` for PUT, DELETE and a CAS
    /// that swapped. It must be there.
    #[serde(deserialize_with = "Option::deserialize")]
    pub returned: Option<String>,
    /// CAS only: whether it swapped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub swapped: Option<bool>,
    /// Version of the key that the answer reflects.
    pub version: u64,
    /// Length of the partition's log that the answer reflects: up to the operation's own entry, or, for a read without one,
    /// as much as the node had applied. `None`: not recorded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index: Option<u64>,
    /// The node that answered: the leader, unless the read was local.
    pub leader: u64,
    /// Its ballot, as text.
    pub ballot: String,
    /// A read that the leader answered without the group.
    pub fast: bool,
    /// A read that a replica answered from what it had applied, whoever led.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub local: bool,
}

/// A fault was injected or healed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nemesis {
    /// When it was in effect.
    pub time: u64,
    /// When it was asked for.
    pub requested: u64,
    /// Number of the fault: its beginning and its end share it.
    pub fault: u64,
    /// True at its beginning, false at its end (healed, restarted, resumed).
    pub begins: bool,
    /// What: `kill`, `pause`, `isolate`, …
    pub action: String,
    /// The target as the workload names it: `leader(1)`, `node 3`.
    pub target: String,
    /// The nodes that it came down to.
    pub nodes: Vec<u64>,
    /// What the workload calls this fault, if it has a name for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Its place in the plan's list of faults, from 1; none: a step asked for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub planned: Option<u64>,
    /// How much it has struck so far, where that is counted: messages of `frame-…`, nodes that `kill-during-…` caught in the act,
    /// faults that `release` ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub struck: Option<u64>,
    /// It does not last: a wipe, a reset, a fault that found nobody. No end follows.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub instant: bool,
}

/// A phase of the run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// When.
    pub time: u64,
    /// Its name: `boot`, `warm-up`, `faults`, `heal`, `final-reads`, `end`.
    pub name: String,
}

impl Function {
    /// The key that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Get { key } | Self::Put { key, .. } | Self::Cas { key, .. } | Self::Delete { key } => key,
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::String(text) => write!(f, "{text}"),
        }
    }
}

impl Kind {
    /// The word that stands for it in a history.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}
