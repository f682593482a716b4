//! The network between the processes, which the harness controls: every connection passes through a proxy of its link.
//!
//! There is one loopback listener for each ordered pair of nodes and for each pair of a client and a node. A node is told the
//! listeners of its own links as its peers' addresses. A connection is dialed by `from` to the listener and by the
//! proxy to where node `to` listens now; after that each direction is copied on its own, under the conditions of its link.
//!
//! | bytes | link whose conditions they obey |
//! |---|---|
//! | node a dials b, a -> b | (a, b) |
//! | node a dials b, b -> a (the answer to the handshake) | (b, a) |
//! | client c dials b, c -> b | (c, b) |
//! | client c dials b, b -> c | (b, c), which is [`Link::answers`] |
//!
//! [`Network::switch`] changes the [`Conditions`] of all links in one step: every read and write of the proxy happens under a
//! shared lock that a switch takes exclusively, so that no byte moves under a mixture of old and new rules.
//!
//! The proxy runs on a thread of its own, so that neither clients nor their recording delay it, and that stays awake for a
//! moment after each read. Whatever chance decides
//! is a hash ([`Draw`]) of seed, link, connection and frame.
//!
//! What a rule cannot do: bytes that were handed to the kernel for the receiver before the switch may be read by that
//! process after it, like a packet that had already arrived; and but for [`Connect::Refuse`], the dialer's kernel sees its
//! connection accepted, whatever the rule.

mod board;
mod connection;
mod delay;
mod frames;
mod kept;
mod link;
mod pump;
mod recording;
mod rule;
mod spin;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinSet,
};

use crate::{clock::Effective, panics};
use board::{Board, Ticket};
pub use board::{Sighting, Watch};
use connection::{Door, Shared, Targets, pass_on_panic};
pub use delay::{Delay, Draw};
use link::Way;
pub use link::{Endpoint, Link, LinkCounters};
use recording::Recording;
pub use rule::{Conditions, Connect, Deed, FrameFault, Kind, Match, Rule, Seen, Strikes};

/// What travels on the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Frames of 4 bytes of length and a content, like the store's; its messages are recognised.
    Frames,
    /// Frames of 4 bytes of length and a content of which nothing is known.
    Sealed,
    /// Anything. Nothing is ever taken out of the middle of a stream.
    Bytes,
}

/// The proxies of a cluster. Dropping it closes every listener and resets every connection.
pub struct Network {
    board: Arc<Board>,
    targets: Arc<Targets>,
    ways: BTreeMap<Link, Arc<Way>>,
    addresses: BTreeMap<Link, SocketAddr>,
    protocol: Protocol,
    /// Closed when the thread ends.
    ended: watch::Receiver<()>,
    thread: Mutex<Option<Running>>,
    /// Empty as long as the messages between nodes are not recorded.
    recording: Mutex<Option<Recording>>,
}

/// The thread of the proxies, which ends when `stop` is dropped.
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Network {
    /// Opens a listener on 127.0.0.1 for every ordered pair of `nodes` and every pair of `clients` and `nodes`, all links
    /// open, no node known to listen yet. Chance is drawn from `seed`. Also raises the process's limit on open files as far
    /// as it is allowed.
    pub async fn start(nodes: &[u64], clients: &[u64], protocol: Protocol, seed: u64) -> io::Result<Self> {
        raise_file_limit();
        let between = nodes
            .iter()
            .flat_map(|from| nodes.iter().map(|to| Link::between(*from, *to)))
            .filter(|link| link.from != link.to);
        let from_clients =
            clients.iter().flat_map(|client| nodes.iter().map(|node| Link::client(*client, *node)));
        let dialed: Vec<Link> = between.chain(from_clients).collect();
        let both = dialed.iter().flat_map(|link| [*link, link.backward()]);
        let ways: BTreeMap<Link, Arc<Way>> = both.map(|link| (link, Arc::new(Way::new(link)))).collect();
        let reads = Arc::new(Notify::new());
        let (board, targets) = (Arc::new(Board::default()), Arc::new(Targets::default()));
        let shared = |link: &Link| Shared {
            board: Arc::clone(&board),
            targets: Arc::clone(&targets),
            there: Arc::clone(&ways[link]),
            back: Arc::clone(&ways[&link.backward()]),
            protocol,
            seed,
            reads: Arc::clone(&reads),
        };
        let shared = dialed.iter().map(shared).collect();
        let (ends, ended) = watch::channel(());
        let (addresses, running) = Running::start(shared, Arc::clone(&reads), ends).await?;
        let (thread, recording) = (Mutex::new(Some(running)), Mutex::default());
        Ok(Self { board, targets, ways, addresses, protocol, ended, thread, recording })
    }

    /// From now on, records the frames of new connections between nodes in this folder of a run whose time 0 is `origin`. Where
    /// the protocol has no frames, nothing is recorded.
    pub fn record(&self, folder: &Path, origin: u64) -> io::Result<()> {
        if self.protocol == Protocol::Bytes {
            return Ok(());
        }
        let (recording, records) = Recording::start(folder, origin, self.links())?;
        for (link, record) in records {
            // one that has a record keeps it: whoever records twice gets a file that stays empty
            let _ = self.ways[&link].record.set(record);
        }
        *self.recording.lock().unwrap_or_else(PoisonError::into_inner) = Some(recording);
        Ok(())
    }

    /// Where `link.from` reaches node `link.to`. Panics when nobody dials on such a link.
    pub fn address(&self, link: Link) -> SocketAddr {
        *self.addresses.get(&link).unwrap_or_else(|| panic!("nobody dials on a link {link:?}"))
    }

    /// Where each client reaches each node.
    pub fn client_addresses(&self) -> BTreeMap<(u64, u64), SocketAddr> {
        let client = |(link, address): (&Link, &SocketAddr)| match (link.from, link.to) {
            (Endpoint::Client(client), Endpoint::Node(node)) => Some(((client, node), *address)),
            _ => None,
        };
        self.addresses.iter().filter_map(client).collect()
    }

    /// Where `node` reaches every other node, as its configuration wants it.
    pub fn peers_of(&self, node: u64) -> BTreeMap<u64, String> {
        let peer = |(link, address): (&Link, &SocketAddr)| match link.nodes() {
            Some((from, to)) if from == node => Some((to, address.to_string())),
            _ => None,
        };
        self.addresses.iter().filter_map(peer).collect()
    }

    /// Where each node reaches each other node.
    pub fn between_nodes(&self) -> BTreeMap<u64, BTreeMap<u64, SocketAddr>> {
        let mut between: BTreeMap<u64, BTreeMap<u64, SocketAddr>> = BTreeMap::new();
        for (link, address) in &self.addresses {
            if let Endpoint::Node(node) = link.to {
                let _ = between.entry(node).or_default();
            }
            if let Some((from, to)) = link.nodes() {
                between.entry(from).or_default().insert(to, *address);
            }
        }
        between
    }

    /// Every link of the network, in both directions.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        self.ways.keys().copied()
    }

    /// From now on, connections to `node` are dialed to `address`; with `None` they are accepted and reset.
    pub fn set_target(&self, node: u64, address: Option<SocketAddr>) {
        self.targets.set(node, address);
    }

    /// From now on, connections of other nodes to `node`, which has a target, are dialed to `address`.
    pub fn set_peer_target(&self, node: u64, address: SocketAddr) {
        self.targets.set_for_peers(node, address);
    }

    /// Where connections of clients to `node` are dialed now.
    pub fn target(&self, node: u64) -> Option<SocketAddr> {
        self.targets.get(node)
    }

    /// Puts these conditions into effect on the whole network in one step; links that are not listed are open. Returns when
    /// everything obeys: from the returned effective time on no byte passes a held link, every severed connection is reset,
    /// every new connection finds what it should. Panics when the network has no such link.
    pub async fn switch<C: Into<Conditions>>(&self, conditions: BTreeMap<Link, C>) -> Effective {
        for link in conditions.keys() {
            self.expect(*link);
        }
        let conditions: BTreeMap<Link, Conditions> =
            conditions.into_iter().map(|(link, conditions)| (link, conditions.into())).collect();
        let in_effect: BTreeMap<Link, Vec<u64>> = conditions
            .iter()
            .map(|(link, conditions)| (*link, conditions.frames.iter().map(|fault| fault.fault).collect()))
            .collect();
        let effective = self.board.switch(conditions).await;
        for (link, way) in &self.ways {
            let faults = in_effect.get(link).map(Vec::as_slice).unwrap_or_default();
            way.forget(|fault| faults.contains(&fault));
        }
        effective
    }

    /// Opens every link, in one step.
    pub async fn open(&self) -> Effective {
        self.switch(BTreeMap::<Link, Conditions>::new()).await
    }

    /// Looks out for the matching frame with this number, from 1, among those that are sent on any of `links` from when this
    /// returns: they count together. The look-out goes on across switches. Panics when the network has no such link.
    pub async fn watch(&self, links: &[Link], matching: Match, nth: u64) -> Watch {
        for link in links {
            self.expect(*link);
        }
        self.board.watch(links, matching, nth).await
    }

    /// The conditions in effect; links that are not listed are open.
    pub fn conditions(&self) -> BTreeMap<Link, Conditions> {
        self.board.conditions()
    }

    /// What has happened so far, by link: whatever a receiver can have read is counted.
    pub fn counters(&self) -> Vec<LinkCounters> {
        self.board.still(|| self.ways.iter().map(|(link, way)| way.counters.read(*link)).collect())
    }

    /// How many frames the fault of this number has struck so far.
    pub fn struck(&self, fault: u64) -> u64 {
        self.ways.values().map(|way| way.struck(fault)).sum()
    }

    /// Waits until every socket is closed: after a shutdown, or when the proxies have failed.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // nothing is ever sent: the end of it is what is waited for
        while ended.changed().await.is_ok() {}
    }

    /// Closes every listener and resets every connection. An error says that the proxies had failed before: what happened on
    /// the network since then was not what was asked for.
    pub async fn shutdown(&self) -> io::Result<()> {
        let running = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { stop, thread }) = running else { return Ok(()) };
        drop(stop);
        self.ended().await;
        let failed = |words: String| io::Error::other(format!("the proxy's thread panicked: {words}"));
        let joined = thread.join().map_err(|panic| failed(panics::words(&*panic)));
        let recording = self.recording.lock().unwrap_or_else(PoisonError::into_inner).take();
        // a run without its messages is one all the same, and the file says that its end is missing
        if let Some(Err(error)) = recording.map(Recording::finish) {
            tracing::warn!(%error, "the messages between nodes could not be recorded");
        }
        joined
    }

    fn expect(&self, link: Link) {
        assert!(self.ways.contains_key(&link), "the network has no link {link:?}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let running = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, thread }) = running {
            drop(stop);
            // an error says that it has panicked, which it has reported
            let _ = thread.join();
        }
    }
}

impl Running {
    /// Starts the thread; returns where each link is dialed.
    async fn start(
        links: Vec<Shared>,
        reads: Arc<Notify>,
        ends: watch::Sender<()>,
    ) -> io::Result<(BTreeMap<Link, SocketAddr>, Self)> {
        let (stop, stopping) = oneshot::channel();
        let (tell, started) = oneshot::channel();
        let body = move || {
            // dropped last, also by a panic
            let _ends = ends;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = serve(links, tell, stopping) => {}
                        () = spin::stay_awake(&reads) => {}
                    }
                }),
                // an error says that nobody waits for it
                Err(error) => drop(tell.send(Err(error))),
            }
        };
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(body)?;
        let addresses = started.await.map_err(|_| io::Error::other("the proxy's thread has ended"))??;
        Ok((addresses, Self { stop, thread }))
    }
}

/// The life of the proxy's thread.
async fn serve(
    links: Vec<Shared>,
    tell: oneshot::Sender<io::Result<BTreeMap<Link, SocketAddr>>>,
    mut stopping: oneshot::Receiver<()>,
) {
    let mut listeners = JoinSet::new();
    let mut open = |shared: Shared| {
        let door = Door::new()?;
        let (link, address) = (shared.there.link, door.address());
        // before anybody can switch: a switch does not wait for whom it does not know
        let ticket = Ticket::new(&shared.board, link);
        listeners.spawn(connection::accept_all(door, shared, ticket));
        Ok((link, address))
    };
    let addresses = links.into_iter().map(&mut open).collect::<io::Result<_>>();
    let failed = addresses.is_err();
    if tell.send(addresses).is_err() || failed {
        return;
    }
    loop {
        tokio::select! {
            biased;
            // both an order and the end of whoever could give it
            _ = &mut stopping => break,
            Some(ended) = listeners.join_next() => pass_on_panic(ended),
        }
    }
    listeners.shutdown().await;
}

/// A connection through the proxy costs two descriptors here, a listener two, and common soft limits are low.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        tracing::warn!(?limit, "could not raise the limit on open files");
    }
}
