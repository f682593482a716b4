//! What clients and nodes say to one another about operations: keys, operations, answers and errors.
//!
//! The one rule that matters most is [`StoreError::is_definite`]: an error is definite only when the operation certainly
//! did not and will not happen. Everything else is indefinite, and a tester must count such an operation as "maybe".

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::directory::Directory;
pub use crate::value::Value;

/// Number of a node, from 1.
pub type NodeId = u64;

/// Number of a partition, from 1.
pub type PartitionId = u32;

/// The longest key, in bytes: the storage engine names what it stores by it.
pub const MAX_KEY: usize = 32 << 10;

/// Bytes of the values that one operation names, at most: what is asked and what is answered are a frame each.
pub const MAX_VALUES: usize = 4_000_000;

/// A key of the store. One cluster uses one of the two kinds, and partition bounds compare in that kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// Compared as a number: 9 < 10.
    Integer(i64),
    /// Compared as bytes: "10" < "9".
    String(String),
}

/// The kind of a cluster's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// [`Key::Integer`].
    Integer,
    /// [`Key::String`].
    String,
}

impl Key {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Integer(_) => 8,
            Self::String(text) => text.len(),
        }
    }

    /// The kind of this key.
    pub fn key_type(&self) -> KeyType {
        match self {
            Self::Integer(_) => KeyType::Integer,
            Self::String(_) => KeyType::String,
        }
    }
}

impl KeyType {
    /// Reads a key of this kind from text; `None` when the text is no such key.
    pub fn parse(self, text: &str) -> Option<Key> {
        match self {
            Self::Integer => text.parse().ok().map(Key::Integer),
            Self::String => Some(Key::String(text.to_owned())),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::String(text) => text.fmt(f),
        }
    }
}

/// A ballot of leader election: who may lead, totally ordered in the order of its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Configuration of the group; 0 until reconfiguration exists.
    pub config: u32,
    /// Grows with every take-over; 0 only in [`Ballot::BOTTOM`].
    pub number: u64,
    /// Configured preference among nodes that take over at once.
    pub priority: u32,
    /// The node that would lead; breaks ties.
    pub node: NodeId,
}

impl Ballot {
    /// Below every ballot that a node can announce.
    pub const BOTTOM: Self = Self { config: 0, number: 0, priority: 0, node: 0 };
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}@n{}", self.config, self.number, self.priority, self.node)
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// Read a key.
    Get {
        /// The key.
        key: Key,
    },
    /// Write a key.
    Put {
        /// The key.
        key: Key,
        /// Its new value.
        value: Value,
    },
    /// Write `new` if the key holds `expected`.
    Cas {
        /// The key.
        key: Key,
        /// What the key must hold; `None` means that it must be absent.
        expected: Option<Value>,
        /// Its new value.
        new: Value,
    },
    /// Remove a key; removing an absent key succeeds.
    Delete {
        /// The key.
        key: Key,
    },
    /// Open a session in the partition that holds a key; the key does not change. [`Answer::index`] names the session.
    OpenSession {
        /// The key.
        key: Key,
    },
}

/// The place of a write in its client's session: however often a partition is asked for it, it is carried out at most once, and
/// all who ask get the first verdict. A session has one write in flight at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionTag {
    /// The session: index of the entry that opened it.
    pub session: u64,
    /// Number of the write: higher than that of every earlier one of the session.
    pub sequence: u64,
}

impl Operation {
    /// The key that the operation is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Get { key }
            | Self::Put { key, .. }
            | Self::Cas { key, .. }
            | Self::Delete { key }
            | Self::OpenSession { key } => key,
        }
    }

    /// Bytes of the values that it names.
    pub fn values(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            Self::Cas { expected, new, .. } => new.len() + expected.as_ref().map_or(0, |value| value.len()),
            Self::Get { .. } | Self::Delete { .. } | Self::OpenSession { .. } => 0,
        }
    }

    /// Whether a node takes it, as far as its length tells.
    pub fn fits(&self) -> Result<(), StoreError> {
        let (key, values) = (self.key().weight(), self.values());
        if key > MAX_KEY {
            return Err(StoreError::KeyTooLong { bytes: key as u64 });
        }
        if values > MAX_VALUES {
            return Err(StoreError::ValuesTooLong { bytes: values as u64 });
        }
        Ok(())
    }

    /// True for an operation that cannot change the store.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get { .. })
    }

    /// True for the operation that opens a session.
    pub fn opens_session(&self) -> bool {
        matches!(self, Self::OpenSession { .. })
    }
}

/// What became of an operation that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// GET: the value, `None` when the key is absent.
    Value(Option<Value>),
    /// PUT: written.
    Written,
    /// CAS: the key held what was expected and holds the new value now.
    Swapped,
    /// CAS: the key held something else, and is unchanged.
    NotSwapped {
        /// What it held, `None` when absent.
        seen: Option<Value>,
    },
    /// DELETE: the key is absent now.
    Deleted,
    /// A session is open.
    Opened,
}

impl Outcome {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Value(value) | Self::NotSwapped { seen: value } => {
                value.as_ref().map_or(0, |value| value.len())
            }
            Self::Written | Self::Swapped | Self::Deleted | Self::Opened => 0,
        }
    }
}

/// The answer to an operation that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// What became of it.
    pub outcome: Outcome,
    /// Log index (from 1) of the last write of the key that the answer reflects, deletions included; 0 when the key was
    /// never written since the cluster started.
    pub version: u64,
    /// Length of the log that the answer reflects: up to the operation's own entry, or, for a read that has none, as much as
    /// the node had applied.
    pub index: u64,
    /// The node that answered: the leader, unless the read was local.
    pub leader: NodeId,
    /// The ballot that it led under; of a local read the one that the replica has promised.
    pub ballot: Ballot,
    /// True for a read that the leader answered under its lease, without the group.
    pub fast: bool,
    /// True for a read that a replica answered from what it had applied, whoever leads. Never together with `fast`.
    pub local: bool,
}

/// Why an operation was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum StoreError {
    /// The cluster is still starting.
    #[error("the cluster is not ready: {joined} of {threshold} nodes have joined")]
    NotReady {
        /// Nodes heard of so far.
        joined: u64,
        /// Nodes needed.
        threshold: u64,
    },
    /// The node that was asked does not lead the key's partition, and does not hand the request on.
    #[error("not the leader of partition {partition}: {}", leader.map_or_else(|| "it knows of none, an election may be in progress".to_owned(), |ballot| format!("node {} leads it under {ballot}", ballot.node)))]
    NotLeader {
        /// The key's partition.
        partition: PartitionId,
        /// Who leads it, as far as the node knows: the highest ballot that has announced itself, if its node is alive and
        /// another than the one that was asked.
        leader: Option<Ballot>,
    },
    /// No leader of the key's partition was known, or none that lives, for as long as the node waits: timed out.
    #[error("timed out: partition {partition} had no leader within {waited_ms} ms")]
    NoLeader {
        /// The key's partition.
        partition: PartitionId,
        /// How long the operation waited, in milliseconds.
        waited_ms: u64,
    },
    /// A replica that answers reads itself has not applied as much of the log as the client has seen.
    #[error(
        "partition {partition} has applied {applied} entries here, fewer than the {seen} that were seen, for {waited_ms} ms"
    )]
    Behind {
        /// The key's partition.
        partition: PartitionId,
        /// Entries that the replica has applied.
        applied: u64,
        /// Entries that the client has seen.
        seen: u64,
        /// How long the operation waited, in milliseconds.
        waited_ms: u64,
    },
    /// No partition holds the key.
    #[error("key {key} lies outside every partition")]
    OutOfRange {
        /// The key.
        key: Key,
    },
    /// The key is longer than a node keeps.
    #[error("the key has {bytes} bytes, and at most {MAX_KEY} are kept")]
    KeyTooLong {
        /// Its bytes.
        bytes: u64,
    },
    /// The key is of the other kind than the cluster's.
    #[error("this cluster's keys are of type {expected:?}")]
    WrongKeyType {
        /// The cluster's kind.
        expected: KeyType,
    },
    /// The write's session is not open. This attempt was not carried out; an earlier one may have been.
    #[error("session {session} has expired, or was never open: the write was not carried out this time")]
    SessionExpired {
        /// The session.
        session: u64,
    },
    /// A later write of the session was carried out. This attempt was not; an earlier one may have been.
    #[error(
        "write {sequence} of session {session} comes after write {last}: it was not carried out this time"
    )]
    OutOfSequence {
        /// The session.
        session: u64,
        /// The write's number.
        sequence: u64,
        /// The number of the last write.
        last: u64,
    },
    /// The partition has as many sessions as it keeps.
    #[error("{at_most} sessions are open, and no more are kept: wait until some have expired")]
    TooManySessions {
        /// So many are kept.
        at_most: u64,
    },
    /// The operation was handed to the group, and this node cannot tell what became of it.
    #[error("the outcome is unknown: {reason}")]
    Indefinite {
        /// Why, in words.
        reason: String,
    },
    /// The write was carried out, and it is not known any more what came of it.
    #[error("it was carried out before, and what came of it was too long to be remembered")]
    Forgotten,
    /// So much waits to be decided, or for a leader, that nothing more is taken.
    #[error("operations of {bytes} bytes are under way or wait already: ask again later")]
    Busy {
        /// About how many bytes.
        bytes: u64,
    },
    /// The values that the operation names are longer than a node takes.
    #[error("the values have {bytes} bytes, and at most {MAX_VALUES} are taken at once")]
    ValuesTooLong {
        /// Their bytes.
        bytes: u64,
    },
}

impl StoreError {
    /// True when what was asked certainly did not happen and never will. This table is the only place that says so. Of a
    /// write that was asked for several times in a session it speaks of one time only.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::NotReady { .. }
            | Self::NotLeader { .. }
            | Self::NoLeader { .. }
            | Self::Behind { .. }
            | Self::OutOfRange { .. }
            | Self::KeyTooLong { .. }
            | Self::ValuesTooLong { .. }
            | Self::Busy { .. }
            | Self::WrongKeyType { .. }
            | Self::SessionExpired { .. }
            | Self::OutOfSequence { .. }
            | Self::TooManySessions { .. } => true,
            Self::Indefinite { .. } | Self::Forgotten => false,
        }
    }
}

/// Why a partition's leader was not changed, or it cannot be said whether it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum TransferError {
    /// The cluster has no such partition.
    #[error("there is no partition {partition}")]
    NoPartition {
        /// What was asked for.
        partition: PartitionId,
    },
    /// The node that was asked does not lead the partition.
    #[error("the node that was asked does not lead: {}", leader.map_or_else(|| "it knows of no leader, an election may be in progress".to_owned(), |ballot| format!("node {} does, under {ballot}", ballot.node)))]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<Ballot>,
    },
    /// The node does not replicate the partition.
    #[error("node {to} does not replicate the partition: nodes {replicas:?} do")]
    NoReplica {
        /// Who was to lead.
        to: NodeId,
        /// Who can.
        replicas: Vec<NodeId>,
    },
    /// The leader has not heard of the node for a while.
    #[error("the leader suspects node {to} of being dead or cut off")]
    Suspected {
        /// Who was to lead.
        to: NodeId,
    },
    /// The node lacks too much of the log, and did not catch up while the leader waited for it.
    #[error("node {to} lags too far behind: {}, and at most {at_most} may be under way to it", entries.map_or_else(|| "it is being brought up to date".to_owned(), |entries| format!("{entries} entries")))]
    Lags {
        /// Who was to lead.
        to: NodeId,
        /// Entries that it lacks; none: nobody knows yet.
        entries: Option<u64>,
        /// Entries that it may lack.
        at_most: u64,
    },
    /// Another change is under way.
    #[error("the partition is being handed to node {to} just now")]
    UnderWay {
        /// To whom.
        to: NodeId,
    },
    /// The node did not get up to date: the leader leads on.
    #[error("node {to} did not come up to date within {waited_ms} ms: the leader leads on")]
    TooSlow {
        /// Who was to lead.
        to: NodeId,
        /// How long the leader waited.
        waited_ms: u64,
    },
    /// Another node than the one that was asked for leads now.
    #[error("node {} leads instead, under {leader}", leader.node)]
    Elsewhere {
        /// Its ballot.
        leader: Ballot,
    },
    /// The leader has let go, and nobody has announced itself: an election follows.
    #[error("the leader has let go, but no successor has announced itself within {waited_ms} ms")]
    NoSuccessor {
        /// How long it waited.
        waited_ms: u64,
    },
}

impl TransferError {
    /// True when the request certainly has changed nothing.
    pub fn leader_is_unchanged(&self) -> bool {
        match self {
            Self::NoPartition { .. }
            | Self::NotLeader { .. }
            | Self::NoReplica { .. }
            | Self::Suspected { .. }
            | Self::Lags { .. }
            | Self::UnderWay { .. }
            | Self::TooSlow { .. } => true,
            Self::Elsewhere { .. } | Self::NoSuccessor { .. } => false,
        }
    }
}

/// What a client gets for an operation.
pub type Response = Result<Answer, StoreError>;

/// A client's frame to a node, after the handshake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientRequest {
    /// Chosen by the client, unique on its connection; the reply carries it.
    pub id: u64,
    /// What is asked.
    pub body: RequestBody,
}

/// What a client's frame asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RequestBody {
    /// An operation on the store.
    Operation {
        /// The operation.
        operation: Operation,
        /// The highest [`Answer::index`] that the client was given in the key's partition: no local read shows it less.
        seen: u64,
        /// Of a write: its place in a session. Reads need none, and it changes nothing about them.
        session: Option<SessionTag>,
    },
    /// How the node sees itself and its groups.
    Status,
    /// What the cluster is like, and whom to ask first.
    Directory,
    /// Another replica is to lead a partition: for its leader.
    TransferLeader {
        /// The partition.
        partition: PartitionId,
        /// Who is to lead it.
        to: NodeId,
    },
}

/// A node's frame to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientReply {
    /// The request's `id`.
    pub id: u64,
    /// The answer.
    pub body: ReplyBody,
}

/// What a node's frame to a client says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplyBody {
    /// To [`RequestBody::Operation`].
    Operation(Response),
    /// To [`RequestBody::Status`].
    Status(NodeStatus),
    /// To [`RequestBody::Directory`].
    Directory(Directory),
    /// To [`RequestBody::TransferLeader`]: the new leader's ballot.
    Transferred(Result<Ballot, TransferError>),
}

/// How a node sees itself and its groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// How often it has started on this disk.
    pub boot: u64,
    /// True once clients are served.
    pub open: bool,
    /// Nodes heard of at bootstrap.
    pub joined: u64,
    /// Nodes that its failure detector suspects now.
    pub suspected: Vec<NodeId>,
    /// The partitions that it replicates.
    pub partitions: Vec<PartitionStatus>,
}

/// How a node sees one of its groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: PartitionId,
    /// The ballot that its election follows.
    pub elected: Ballot,
    /// The ballot that it has promised.
    pub promised: Ballot,
    /// `leader`, `preparing`, `follower`, `recovering` or `catching up`.
    pub role: String,
    /// Remaining lease hold of this node, in milliseconds of its own clock; `None` without a hold.
    pub hold_ms: Option<u64>,
    /// Entries at the beginning of its log that are gone, since a snapshot covers them.
    pub log_start: u64,
    /// Entries in its log, those that are gone included.
    pub log_length: u64,
    /// Entries that it knows to be decided.
    pub decided: u64,
}
