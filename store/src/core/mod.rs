//! The pure core: the state machines of one node and of each of its groups.
//!
//! Nothing here reads a clock, opens a socket, draws a random number or iterates over a hash map. A driver calls
//! [`Node::handle`] for every input of a turn, with one reading of the clock that it took after the last input was
//! dequeued, then [`Node::finish_turn`] once, and carries out the [`Output`]s. The same core runs in a real node
//! ([`crate::node`]), in a simulator, in a model checker and in golden scripts.
//!
//! Within one turn a driver must write all trace events first, then start the persist, then send. A send or a reply that
//! names a persist leaves only once that persist is durable; sends to one peer that become free leave in their order.

pub mod detector;
pub mod durable;
pub mod election;
pub mod entries;
pub mod hosted;
pub mod invariants;
pub mod kv;
pub mod lease;
pub mod log;
pub mod message;
pub mod node;
pub mod paxos;
pub mod replica;
pub mod routing;
pub mod sessions;
pub mod trace;
pub mod transfer;

use std::{
    ops::{Add, Deref},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    api::{Ballot, NodeId, NodeStatus, Operation, PartitionId, Response, SessionTag, TransferError},
    config::{ClusterConfig, Mutant, StorageKind},
};
use durable::Record;
pub use message::Message;
pub use node::Node;
use trace::TraceEvent;

/// A reading of a node's own clock in nanoseconds; comparable only with readings of the same node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LocalTime(pub u64);

impl Add<Duration> for LocalTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }
}

impl LocalTime {
    /// Time since an earlier reading; zero when `earlier` is later (a clock that was set back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What never changes while a node runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Every node of the cluster, this one included, ascending.
    pub nodes: Vec<NodeId>,
    /// Identity of this node's disk.
    pub disk: u64,
    /// How often this node has started on that disk, from 1.
    pub boot: u64,
    /// The cluster.
    pub cluster: ClusterConfig,
    /// A planted bug.
    pub mutant: Option<Mutant>,
    /// Whether trace events are wanted.
    pub traced: bool,
}

impl Config {
    /// Every node but this one.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().copied().filter(|node| *node != self.node)
    }
}

/// Who waits for a reply on this node: a connection of the driver, and the client's number for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// The driver's number for the connection.
    pub connection: u64,
    /// The client's number for the request.
    pub request: u64,
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A message of a peer.
    Message {
        /// Who sent it.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// A new connection of a peer: messages on its earlier ones may be lost.
    Session {
        /// The peer.
        from: NodeId,
    },
    /// A client's operation.
    Request {
        /// Whom to answer.
        client: ClientId,
        /// The operation.
        operation: Operation,
        /// How much of the partition's log the client has seen.
        seen: u64,
        /// Its place in the client's session.
        session: Option<SessionTag>,
    },
    /// Somebody wants another replica to lead a partition.
    Transfer {
        /// Whom to answer.
        client: ClientId,
        /// The partition.
        partition: PartitionId,
        /// Who is to lead it.
        to: NodeId,
    },
    /// Everything up to this persist is durable.
    Persisted {
        /// Its number.
        number: u64,
    },
    /// A deadline may have passed.
    Tick,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Make these records durable, atomically and in order; then say [`Input::Persisted`]. At most one a turn.
    Persist {
        /// Its number: one more than the one before.
        number: u64,
        /// The records.
        records: Vec<Record>,
    },
    /// Send a message to a peer.
    Send {
        /// The peer.
        to: NodeId,
        /// The message.
        message: Message,
        /// The persist that must be durable first; 0: none.
        needs: u64,
    },
    /// Answer a client.
    Reply {
        /// Whom.
        client: ClientId,
        /// The answer.
        response: Response,
        /// The persist that must be durable first; 0: none.
        needs: u64,
    },
    /// Tell whoever asked for another leader what came of it: the new leader's ballot, or why not.
    Transferred {
        /// Whom.
        client: ClientId,
        /// What came of it.
        result: Result<Ballot, TransferError>,
    },
    /// Record a protocol event.
    Trace(TraceEvent),
    /// Clients are served from now on.
    Open,
    /// This node leads a partition, for whoever started it.
    Leading {
        /// The partition.
        partition: PartitionId,
        /// The ballot.
        ballot: Ballot,
    },
    /// This node leads a partition no longer.
    SteppedDown {
        /// The partition.
        partition: PartitionId,
        /// The ballot that it led under.
        ballot: Ballot,
    },
}

/// The records of the turn that is going on, and the number of the last persist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    issued: u64,
    records: Vec<Record>,
    /// Something was recorded in this turn.
    begun: bool,
    /// Something will be recorded before the turn ends.
    expected: bool,
}

impl Journal {
    /// Number of the persist that covers everything recorded so far; 0: nothing was.
    pub fn covering(&self) -> u64 {
        if self.begun || self.expected { self.issued + 1 } else { self.issued }
    }

    /// Ends a turn: the records to persist, with their number.
    pub fn take(&mut self) -> Option<Output> {
        assert!(self.begun || !self.expected, "what was announced to be persisted is");
        self.expected = false;
        if !std::mem::take(&mut self.begun) {
            return None;
        }
        self.issued += 1;
        // the next turn will have about as many
        let next = Vec::with_capacity(self.records.len());
        Some(Output::Persist { number: self.issued, records: std::mem::replace(&mut self.records, next) })
    }
}

/// The configuration and the one reading of the clock that a turn has.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Static configuration.
    pub config: &'a Config,
    /// The clock, read after the last input of the turn was dequeued.
    pub now: LocalTime,
}

/// What every step of a turn needs: its moment, and where records and outputs go.
pub struct Turn<'a> {
    moment: Moment<'a>,
    journal: &'a mut Journal,
    out: &'a mut Vec<Output>,
}

impl<'a> Deref for Turn<'a> {
    type Target = Moment<'a>;

    fn deref(&self) -> &Moment<'a> {
        &self.moment
    }
}

impl<'a> Turn<'a> {
    /// A step of a turn.
    pub fn new(moment: Moment<'a>, journal: &'a mut Journal, out: &'a mut Vec<Output>) -> Self {
        Self { moment, journal, out }
    }

    /// The moment alone, for what only looks.
    pub fn moment(&self) -> Moment<'a> {
        self.moment
    }

    /// Has a record made durable with this turn's persist. In memory none is made: nobody would ever read it.
    pub fn persist(&mut self, record: impl FnOnce() -> Record) {
        self.journal.begun = true;
        if self.has_disk() {
            self.journal.records.push(record());
        }
    }

    /// Whether what is recorded outlives the process.
    pub fn has_disk(&self) -> bool {
        self.config.cluster.storage == StorageKind::Durable
    }

    /// Announces a record that this turn will persist at its end.
    pub fn will_persist(&mut self) {
        self.journal.expected = true;
    }

    /// Number of the persist that covers everything recorded so far.
    pub fn covering(&self) -> u64 {
        self.journal.covering()
    }

    /// Sends at once.
    pub fn send(&mut self, to: NodeId, message: Message) {
        self.out.push(Output::Send { to, message, needs: 0 });
    }

    /// Sends once everything recorded so far is durable.
    pub fn send_durable(&mut self, to: NodeId, message: Message) {
        let needs = self.covering();
        self.out.push(Output::Send { to, message, needs });
    }

    /// Sends once a given persist is durable.
    pub fn send_after(&mut self, to: NodeId, message: Message, needs: u64) {
        self.out.push(Output::Send { to, message, needs });
    }

    /// Sends to every other node at once.
    pub fn send_to_all(&mut self, message: &Message) {
        for node in self.config.others() {
            self.send(node, message.clone());
        }
    }

    /// Sends to every other node once everything recorded so far is durable.
    pub fn send_to_all_durable(&mut self, message: &Message) {
        for node in self.config.others() {
            self.send_durable(node, message.clone());
        }
    }

    /// Answers a client of this node at once.
    pub fn reply(&mut self, client: ClientId, response: Response) {
        self.out.push(Output::Reply { client, response, needs: 0 });
    }

    /// Records a protocol event, if anyone wants it.
    pub fn trace(&mut self, event: impl FnOnce() -> TraceEvent) {
        if self.moment.config.traced {
            self.out.push(Output::Trace(event()));
        }
    }

    /// Whether a planted bug is in force.
    pub fn has(&self, mutant: Mutant) -> bool {
        self.moment.config.mutant == Some(mutant)
    }

    /// Says that a planted bug has changed what happens.
    pub fn reached(&mut self, mutant: Mutant) {
        self.trace(|| TraceEvent::MutantReached { name: format!("{mutant:?}") });
    }

    /// Tells whoever started the node.
    pub fn announce(&mut self, output: Output) {
        self.out.push(output);
    }
}

/// What a node tells about itself; [`Node::status`] makes it.
pub type Status = NodeStatus;
