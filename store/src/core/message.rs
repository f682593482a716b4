//! The messages between nodes.
//!
//! | message | from -> to | handled in | source |
//! |---|---|---|---|
//! | `Join`, `Table` | joining node <-> every node | `node` | bootstrap |
//! | `HeartbeatRequest`, `HeartbeatReply` | every node <-> every node | `node`, `election` | OmniPaxos, section 5.2 |
//! | `Leading` | new leader -> every node | `routing` | lookup table |
//! | `Forward`, `Forwarded` | entry node <-> leader | `routing` | |
//! | `Prepare` | leader -> follower | `paxos::follower` | Sequence Paxos, prepare phase |
//! | `Promise` | follower -> leader | `paxos::leader` | |
//! | `AcceptSync` | leader -> follower | `paxos::follower` | OmniPaxos, section 4.1.1 |
//! | `Accept` | leader -> follower | `paxos::follower` | Sequence Paxos, accept phase |
//! | `Accepted` | follower -> leader | `paxos::leader` | |
//! | `Decide` | leader -> follower | `paxos::follower` | |
//! | `PrepareReq` | recovering follower -> every replica | `replica` | OmniPaxos, section 4.1.3 |
//! | `Nack` | acceptor -> leader | `replica` | |
//! | `TakeOver` | leader -> its successor | `replica` | planned change of leaders |
//! | `Trimmed`, `FetchSnapshot`, `SnapshotPiece` | who lacks entries <-> who has only their effect | `replica::catching_up` | |
//! | `AcceptedByAll` | leader -> follower | `replica::trimming` | |
//! | `LeaseNack`, `LeaseExtend`, `LeaseGranted`, `LeaseRelease` | acceptor <-> leader | `replica`, `lease` | Raft dissertation, section 6.4 |
//!
//! Links are TCP connections: in order while a connection lasts, and possibly cut off at its end. A session number in
//! the messages of the accept phase makes what belongs to an earlier connection recognisable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    api::{Ballot, NodeId, Operation, PartitionId, Response, SessionTag},
    core::{LocalTime, entries::Entries, kv::Change, sessions::Expiry},
};

/// A message between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// "I have started and know of no lookup table."
    Join {
        /// Identity of the sender's disk.
        disk: u64,
    },
    /// The lookup table that the cluster has agreed on.
    Table(Table),
    /// "Are you there?"
    HeartbeatRequest {
        /// The sender's round.
        round: u64,
    },
    /// "I am, and this is how I see my groups."
    HeartbeatReply {
        /// The round of the request.
        round: u64,
        /// The groups that the sender replicates.
        groups: Vec<GroupStatus>,
    },
    /// "I lead this partition": the entry of the lookup table, which takes only higher ballots.
    Leading {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// A client's operation, from the node that the client asked.
    Forward {
        /// The sender's identity for it.
        id: ForwardId,
        /// The operation.
        operation: Operation,
        /// How much of the partition's log its client has seen.
        seen: u64,
        /// Its place in its client's session.
        session: Option<SessionTag>,
    },
    /// The answer to `Forward`.
    Forwarded {
        /// The identity in `Forward`.
        id: ForwardId,
        /// The answer.
        response: Response,
    },
    /// A message within a group.
    Group {
        /// The group.
        partition: PartitionId,
        /// The message.
        message: GroupMessage,
    },
}

/// Identity of a forwarded operation. Without the boot number, an answer to a request of an earlier life would be taken for
/// the answer to a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForwardId {
    /// Boot number of the node that forwards.
    pub boot: u64,
    /// Its count.
    pub number: u64,
}

/// Which nodes replicate which partitions: decided once by one node, durable before it is announced, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Table {
    /// The nodes that joined, with the identities of their disks.
    pub members: BTreeMap<NodeId, u64>,
    /// Digest of the configuration that the cluster was started with: a node that is told another does not take part.
    pub config: u64,
    /// The replicas of each partition, in the order of preference.
    pub replicas: BTreeMap<PartitionId, Vec<NodeId>>,
}

/// How a replica sees its group: the content of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub partition: PartitionId,
    /// The replica's own ballot.
    pub ballot: Ballot,
    /// The ballot of the leader that it follows.
    pub leader: Ballot,
    /// As the leader: it is connected to a quorum; else: it sees its leader, and that one is.
    pub happy: bool,
    /// It leads in the accept phase under `ballot`.
    pub leading: bool,
    /// Entries that it knows to be decided.
    pub decided: u64,
}

/// A message within a group. Indices count entries from the start of the log: `length` 3 means entries 1 to 3.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupMessage {
    /// "Promise to accept nothing below this ballot, and tell me what you have that I lack."
    Prepare {
        /// The leader's ballot.
        ballot: Ballot,
        /// Number of this session between leader and follower, fresh for each synchronisation.
        session: u64,
        /// The leader's decided index.
        decided: u64,
        /// The ballot of the leader's last accepted entry.
        accepted_ballot: Ballot,
        /// Length of the leader's log.
        length: u64,
        /// The leader's clock before it sent this: the lease counts from here.
        sent_at: LocalTime,
    },
    /// "I promise."
    Promise {
        /// The ballot of the Prepare.
        ballot: Ballot,
        /// Its session.
        session: u64,
        /// The ballot of the follower's last accepted entry.
        accepted_ballot: Ballot,
        /// Length of the follower's log.
        length: u64,
        /// The follower's decided index.
        decided: u64,
        /// What the follower has beyond the leader; none when the leader's log is as recent.
        suffix: Option<Suffix>,
        /// `sent_at` of the Prepare when the follower has granted the lease with this promise; none when it has only
        /// repeated its promise, since it no longer takes the leader for connected to a quorum.
        granted: Option<LocalTime>,
    },
    /// "Your log is to become this": the first message of the accept phase of a session.
    AcceptSync {
        /// The leader's ballot.
        ballot: Ballot,
        /// The session.
        session: u64,
        /// Accepted ballot and length in the promise that this answers: a follower whose log is another by now (it
        /// restarted, and an old connection delivers late) must not act on it.
        basis: (Ballot, u64),
        /// What replaces the follower's log from there on.
        suffix: Suffix,
        /// The leader's decided index.
        decided: u64,
    },
    /// "Append these."
    Accept {
        /// The leader's ballot.
        ballot: Ballot,
        /// The session.
        session: u64,
        /// Number of this message in the session, from 1, shared with Decide.
        sequence: u64,
        /// The entries, which follow what the follower has.
        suffix: Suffix,
        /// The leader's decided index.
        decided: u64,
    },
    /// "All up to here is durable."
    Accepted {
        /// The leader's ballot.
        ballot: Ballot,
        /// The session.
        session: u64,
        /// Length of the follower's log.
        length: u64,
    },
    /// "All up to here is decided."
    Decide {
        /// The leader's ballot.
        ballot: Ballot,
        /// The session.
        session: u64,
        /// Number of this message in the session.
        sequence: u64,
        /// The decided index.
        decided: u64,
    },
    /// "I missed something: prepare me anew."
    PrepareReq {
        /// The ballot that the sender has promised.
        promised: Ballot,
    },
    /// "I have promised a higher ballot."
    Nack {
        /// That ballot.
        promised: Ballot,
    },
    /// "I may not promise you: another holds my grant."
    LeaseNack {
        /// The ballot of the Prepare.
        ballot: Ballot,
        /// Who holds it.
        holder: NodeId,
        /// How long it still runs on the sender's clock, nanoseconds.
        remaining: u64,
    },
    /// "Grant me the lease for longer."
    LeaseExtend {
        /// The leader's ballot.
        ballot: Ballot,
        /// The leader's clock before it sent this.
        sent_at: LocalTime,
    },
    /// "Granted."
    LeaseGranted {
        /// The leader's ballot.
        ballot: Ballot,
        /// `sent_at` of the LeaseExtend.
        sent_at: LocalTime,
    },
    /// "I hold the lease of this ballot no longer, and never will again."
    LeaseRelease {
        /// The ballot.
        ballot: Ballot,
    },
    /// "I have released the lease of this ballot and given it up: lead in my place."
    TakeOver {
        /// The ballot.
        ballot: Ballot,
    },
    /// "What you lack is gone from my log: fetch what it came to." Instead of a Promise, or of an AcceptSync.
    Trimmed {
        /// The leader's ballot.
        ballot: Ballot,
        /// The session.
        session: u64,
        /// How many entries are gone.
        start: u64,
    },
    /// "What has changed since I last applied an entry? The next piece."
    FetchSnapshot {
        /// The ballot that the sender has promised.
        ballot: Ballot,
        /// Number of this request, which the piece repeats.
        number: u64,
        /// Entries that the sender has applied: it needs no key that none after them has changed.
        since: u64,
        /// The snapshot of which it has pieces; 0: none yet.
        index: u64,
        /// How many changes of it the sender has.
        offset: u64,
    },
    /// A part of a snapshot.
    SnapshotPiece {
        /// The ballot of the request.
        ballot: Ballot,
        /// Its number.
        number: u64,
        /// What it is relative to.
        since: u64,
        /// Number of the last entry that the snapshot reflects.
        index: u64,
        /// How many changes come before these.
        offset: u64,
        /// The changes, in their order.
        changed: Vec<Change>,
        /// Whether they are the last.
        last: bool,
    },
    /// "All members have these entries, decided, as far as is known: keep them for nobody."
    AcceptedByAll {
        /// The leader's ballot.
        ballot: Ballot,
        /// How many entries.
        length: u64,
    },
}

/// Entries with the place where they belong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Suffix {
    /// Length of the log before them.
    pub start: u64,
    /// The entries.
    pub entries: Entries,
}

impl Suffix {
    /// Length of the log with them.
    pub fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }
}

/// An entry of a group's log. New kinds are added at the end, so that old logs stay readable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// An operation.
    Command(Command),
    /// The last entry of a configuration.
    StopSign(StopSign),
    /// Sessions that were idle expire.
    Expiry(Expiry),
}

impl Entry {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let command = match self {
            Self::Command(command) => command,
            Self::StopSign(_) => return 64,
            Self::Expiry(expiry) => return 64 + 16 * expiry.sessions.len(),
        };
        32 + command.operation.key().weight() + command.operation.values()
    }
}

/// An operation as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Command {
    /// Who proposed it.
    pub id: ProposalId,
    /// The operation.
    pub operation: Operation,
    /// Of a write: its place in its client's session.
    pub session: Option<SessionTag>,
}

/// Identity of a proposal: no two have the same (SP1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProposalId {
    /// The leader that proposed it.
    pub node: NodeId,
    /// Its boot number.
    pub boot: u64,
    /// Its count.
    pub number: u64,
}

/// Ends a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StopSign {
    /// The next configuration.
    pub config: u32,
    /// Its members.
    pub members: Vec<NodeId>,
}
