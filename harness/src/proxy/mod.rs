//! The network between the processes, which the harness controls: every connection passes through a proxy of its link.
//!
//! There is one loopback listener for each directed link: for each ordered pair of nodes and for each pair of a client and
//! a node. A node is told the listeners of its own links as its peers' addresses. A connection is dialed by `from` to
//! the listener and by the proxy to where node `to` listens now; after that each direction is copied on its own.
//!
//! | bytes | link whose rule they obey |
//! |---|---|
//! | node a dials b, a -> b | (a, b) |
//! | node a dials b, b -> a (the answer to the handshake) | (b, a) |
//! | client c dials b, both directions | (c, b) |
//!
//! [`Network::switch`] changes the rules of all links in one step: every read and write of the proxy happens under a shared
//! lock that a switch takes exclusively, so that no byte moves under a mixture of old and new rules.
//!
//! Apart from its rule, a link has a [`Delay`], for which bytes travel in the proxy.
//!
//! What a rule cannot do: bytes that were handed to the kernel for the receiver before the switch may be read by that
//! process after it, like a packet that had already arrived; and the dialer's kernel sees its connection accepted, whatever
//! the rule.

mod board;
mod connection;
mod delay;
mod kept;
mod pump;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinSet};

use crate::clock::Effective;
use board::Board;
use connection::{Shared, Targets};
pub use delay::Delay;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// A node, by its number.
    Node(u64),
    /// A client, by its number.
    Client(u64),
}

/// A directed link: what `from` sends to node `to`. A client's link stands for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// The sender, who dials.
    pub from: Endpoint,
    /// The receiving node.
    pub to: u64,
}

impl Link {
    /// The link from node `from` to node `to`.
    pub fn between(from: u64, to: u64) -> Self {
        Self { from: Endpoint::Node(from), to }
    }

    /// The link of `client` with node `to`.
    pub fn client(client: u64, to: u64) -> Self {
        Self { from: Endpoint::Client(client), to }
    }

    /// The link that bytes obey which travel back on a connection of this link.
    #[must_use]
    pub fn backward(self) -> Self {
        match self.from {
            Endpoint::Node(from) => Self::between(self.to, from),
            Endpoint::Client(_) => self,
        }
    }
}

/// What happens to the bytes of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// They pass.
    #[default]
    Open,
    /// They are kept and pass in order once the link is open again. New connections are accepted and stay silent.
    Hold,
    /// Connections of the link are reset, new ones are accepted and reset. On a connection that was dialed against the
    /// link (from `to`), the first thing that would travel back resets it; what its dialer sends passes until then.
    Sever,
}

/// What has happened on one link since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// The link.
    pub link: Link,
    /// Connections that were accepted.
    pub connections: u64,
    /// Bytes that passed from the dialer to the node.
    pub forward_bytes: u64,
    /// Bytes that passed from the node to the dialer.
    pub backward_bytes: u64,
    /// How often a hold stopped a direction of a connection, or kept a new connection silent.
    pub held: u64,
    /// Connections that [`Rule::Sever`] reset or refused.
    pub severed: u64,
    /// Connections that were reset because the node did not listen.
    pub refused: u64,
}

/// The proxies of a cluster. Dropping it closes every listener and resets every connection.
pub struct Network {
    board: Arc<Board>,
    targets: Arc<Targets>,
    links: BTreeMap<Link, Proxy>,
    listeners: Mutex<JoinSet<()>>,
}

struct Proxy {
    address: SocketAddr,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    forward_bytes: AtomicU64,
    backward_bytes: AtomicU64,
    held: AtomicU64,
    severed: AtomicU64,
    refused: AtomicU64,
}

impl Network {
    /// Opens a listener on 127.0.0.1 for every ordered pair of `nodes` and every pair of `clients` and `nodes`, all links
    /// open, no node known to listen yet. Also raises the process's limit on open files as far as it is allowed.
    pub async fn start(nodes: &[u64], clients: &[u64]) -> io::Result<Self> {
        raise_file_limit();
        let between = nodes
            .iter()
            .flat_map(|from| nodes.iter().map(|to| Link::between(*from, *to)))
            .filter(|link| link.from != Endpoint::Node(link.to));
        let from_clients =
            clients.iter().flat_map(|client| nodes.iter().map(|node| Link::client(*client, *node)));
        let board = Arc::new(Board::new());
        let targets = Arc::new(Targets::default());
        let mut links = BTreeMap::new();
        let mut listeners = JoinSet::new();
        for link in between.chain(from_clients) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let counters = Arc::new(Counters::default());
            links.insert(link, Proxy { address: listener.local_addr()?, counters: Arc::clone(&counters) });
            let shared = Shared { link, board: Arc::clone(&board), targets: Arc::clone(&targets), counters };
            listeners.spawn(connection::accept_all(listener, shared));
        }
        Ok(Self { board, targets, links, listeners: Mutex::new(listeners) })
    }

    /// Where `link.from` reaches node `link.to`. Panics when the network has no such link.
    pub fn address(&self, link: Link) -> SocketAddr {
        self.links.get(&link).unwrap_or_else(|| panic!("the network has no link {link:?}")).address
    }

    /// Where `node` reaches every other node, as its configuration wants it.
    pub fn peers_of(&self, node: u64) -> BTreeMap<u64, String> {
        self.links
            .iter()
            .filter(|(link, _)| link.from == Endpoint::Node(node))
            .map(|(link, proxy)| (link.to, proxy.address.to_string()))
            .collect()
    }

    /// Every link of the network.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        self.links.keys().copied()
    }

    /// From now on, connections to `node` are dialed to `address`; with `None` they are accepted and reset.
    pub fn set_target(&self, node: u64, address: Option<SocketAddr>) {
        self.targets.set(node, address);
    }

    /// Puts `rules` into effect on the whole network in one step; links that are not listed are open. Returns when every
    /// connection obeys: from the returned effective time on no byte passes a held link, and every severed connection
    /// is reset. Panics when a rule is for a link that the network does not have.
    pub async fn switch(&self, rules: BTreeMap<Link, Rule>) -> Effective {
        for link in rules.keys() {
            assert!(self.links.contains_key(link), "the network has no link {link:?}");
        }
        self.board.switch(rules).await
    }

    /// From now on, what is sent on each of these links travels as long as said, drawn from `seed`; what is sent on other links
    /// does not. Independent of the rules: bytes that are held go on travelling. Panics when the network has no such link.
    pub fn set_delays(&self, seed: u64, delays: BTreeMap<Link, Delay>) {
        for link in delays.keys() {
            assert!(self.links.contains_key(link), "the network has no link {link:?}");
        }
        self.board.set_delays(seed, delays);
    }

    /// The rules in effect; links that are not listed are open.
    pub fn rules(&self) -> BTreeMap<Link, Rule> {
        self.board.rules()
    }

    /// What has happened so far, by link.
    pub fn counters(&self) -> Vec<LinkCounters> {
        self.links.iter().map(|(link, proxy)| proxy.counters.read(*link)).collect()
    }

    /// Closes every listener and resets every connection.
    pub async fn shutdown(&self) {
        let mut listeners =
            std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        listeners.shutdown().await;
    }
}

impl Counters {
    fn read(&self, link: Link) -> LinkCounters {
        LinkCounters {
            link,
            connections: self.connections.load(Ordering::Relaxed),
            forward_bytes: self.forward_bytes.load(Ordering::Relaxed),
            backward_bytes: self.backward_bytes.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
            severed: self.severed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// A connection through the proxy costs two descriptors here, and common soft limits are low.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        tracing::warn!(?limit, "could not raise the limit on open files");
    }
}
