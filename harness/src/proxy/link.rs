//! Who sends to whom, and what has happened between them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::recording::LinkRecord;

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

/// What the connections of one directed link share.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) link: Link,
    pub(super) counters: Counters,
    /// Matching frames so far, by the fault that counts them.
    matched: Mutex<BTreeMap<u64, u64>>,
    /// Frames that faults have struck, also those that have ended.
    struck: Mutex<BTreeMap<u64, u64>>,
    /// Until when the bytes that were sent off so far occupy the link's bandwidth.
    busy: Mutex<Option<Instant>>,
    /// What is recorded of its frames; empty: nothing is.
    pub(super) record: OnceLock<Arc<LinkRecord>>,
}

impl Way {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            counters: Counters::default(),
            matched: Mutex::default(),
            struck: Mutex::default(),
            busy: Mutex::default(),
            record: OnceLock::new(),
        }
    }

    /// Counts a frame that matches; returns its number, from 1.
    pub(super) fn count(&self, fault: u64) -> u64 {
        let mut matched = self.matched.lock().unwrap_or_else(PoisonError::into_inner);
        let count = matched.entry(fault).or_default();
        *count += 1;
        *count
    }

    /// A fault has struck a frame.
    pub(super) fn strike(&self, fault: u64) {
        *self.struck.lock().unwrap_or_else(PoisonError::into_inner).entry(fault).or_default() += 1;
    }

    /// How many frames a fault has struck.
    pub(super) fn struck(&self, fault: u64) -> u64 {
        self.struck.lock().unwrap_or_else(PoisonError::into_inner).get(&fault).copied().unwrap_or_default()
    }

    /// Forgets the matches of faults that have ended.
    pub(super) fn forget(&self, in_effect: impl Fn(u64) -> bool) {
        let mut matched = self.matched.lock().unwrap_or_else(PoisonError::into_inner);
        matched.retain(|fault, _| in_effect(*fault));
    }

    /// When so many bytes have passed at this bandwidth, behind those that were sent off before.
    pub(super) fn occupy(&self, bytes: usize, bandwidth: u64, now: Instant) -> Instant {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = Duration::from_secs_f64(bytes as f64 / bandwidth.max(1) as f64);
        let until = busy.unwrap_or(now).max(now) + takes;
        *busy = Some(until);
        until
    }
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
