//! Who sends to whom, and what has happened between them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// A node, by its number.
    Node(u64),
    /// A client, by its number.
    Client(u64),
}

/// A directed link: what `from` sends to `to`. Between two nodes each direction is dialed by its sender; between a client
/// and a node the client dials, and the link from the node to the client carries the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// The sender.
    pub from: Endpoint,
    /// The receiver.
    pub to: Endpoint,
}

impl Link {
    /// The link from node `from` to node `to`.
    pub fn between(from: u64, to: u64) -> Self {
        Self { from: Endpoint::Node(from), to: Endpoint::Node(to) }
    }

    /// What `client` sends to `node`.
    pub fn client(client: u64, node: u64) -> Self {
        Self { from: Endpoint::Client(client), to: Endpoint::Node(node) }
    }

    /// What `node` answers to `client`.
    pub fn answers(node: u64, client: u64) -> Self {
        Self::client(client, node).backward()
    }

    /// The link in the opposite direction, which bytes obey that travel back on a connection of this link.
    #[must_use]
    pub fn backward(self) -> Self {
        Self { from: self.to, to: self.from }
    }

    /// The two nodes, sender first, of a link between nodes.
    pub fn nodes(self) -> Option<(u64, u64)> {
        match (self.from, self.to) {
            (Endpoint::Node(from), Endpoint::Node(to)) => Some((from, to)),
            _ => None,
        }
    }
}

/// What has happened on one directed link since the start. Bytes and frames count on the link in whose direction they
/// travel, connections on the link whose sender dialed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// The link.
    pub link: Link,
    /// Connections that were accepted.
    pub connections: u64,
    /// Bytes that were written to the receiver.
    pub bytes: u64,
    /// Frames that began; none are counted where the protocol is not known.
    pub frames: u64,
    /// How often this direction of a connection was stopped, a new connection kept silent, or a frame kept.
    pub held: u64,
    /// Frames, reads where the protocol is not known, and ends that were made to travel for a while.
    pub delayed: u64,
    /// Frames that were dropped.
    pub dropped: u64,
    /// Frames that were sent twice.
    pub duplicated: u64,
    /// Frames that others were let past.
    pub reordered: u64,
    /// Connections that a rule ended or did not let begin.
    pub severed: u64,
    /// Connections that were reset because the node did not listen.
    pub refused: u64,
}

/// The counters of one link while they count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: Counter,
    pub(super) bytes: Counter,
    pub(super) frames: Counter,
    pub(super) held: Counter,
    pub(super) delayed: Counter,
    pub(super) dropped: Counter,
    pub(super) duplicated: Counter,
    pub(super) reordered: Counter,
    pub(super) severed: Counter,
    pub(super) refused: Counter,
}

/// Only ever grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Counts `many` more; returns how many there were before.
    pub(super) fn add(&self, many: u64) -> u64 {
        self.0.fetch_add(many, Ordering::Relaxed)
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The counters of `link` as they are now.
    pub(super) fn read(&self, link: Link) -> LinkCounters {
        LinkCounters {
            link,
            connections: self.connections.read(),
            bytes: self.bytes.read(),
            frames: self.frames.read(),
            held: self.held.read(),
            delayed: self.delayed.read(),
            dropped: self.dropped.read(),
            duplicated: self.duplicated.read(),
            reordered: self.reordered.read(),
            severed: self.severed.read(),
            refused: self.refused.read(),
        }
    }
}
