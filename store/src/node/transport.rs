//! Connections: one that this node dials for each peer, and those that peers and clients dial.
//!
//! A connection between nodes carries messages in one direction, from whoever dialed. While a peer cannot be reached its
//! messages are dropped: the protocol's sessions notice. What is ready when a task wakes is written with one call.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::codec::Framed;

use super::{
    outgoing::Outgoing,
    wire::{self, Handshake, Role, Verdict, WRITE},
};
use crate::{
    api::{ClientReply, ClientRequest, NodeId},
    core::Message,
};

/// Frames that are taken from one connection at once, at most.
const AT_ONCE: usize = 64;

/// Room for what is read at once from a client, of which there may be thousands, and from a peer.
const ROOM_OF_CLIENTS: usize = 8 << 10;
const ROOM_OF_PEERS: usize = 64 << 10;

/// How long a peer may take to answer a handshake.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// How long to wait before a peer is dialed again; when it has refused, twice as long each time, up to this.
const REDIAL: Duration = Duration::from_millis(20);
const REDIAL_REFUSED: Duration = Duration::from_secs(5);

/// Who this node says that it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its cluster.
    pub cluster: String,
    /// Its number.
    pub node: NodeId,
    /// Its disk.
    pub disk: u64,
    /// How often it has started on that disk.
    pub boot: u64,
    /// Digest of the cluster's configuration.
    pub config: u64,
}

/// What connections bring.
#[derive(Debug)]
pub enum Event {
    /// A peer has connected and waits to be accepted.
    Peer {
        /// The peer.
        from: NodeId,
        /// Its disk.
        disk: u64,
        /// Its boot number, and which of its dials in that life this is.
        dialed: (u64, u64),
        /// Number of the connection.
        connection: u64,
        /// Takes the verdict: the reason of a refusal, if it is one.
        verdict: oneshot::Sender<Option<String>>,
    },
    /// Messages on a peer's connection, in their order.
    Messages {
        /// The peer.
        from: NodeId,
        /// Number of the connection.
        connection: u64,
        /// The messages.
        messages: Vec<Message>,
    },
    /// A client has connected.
    Client {
        /// Number of the connection.
        connection: u64,
        /// Where its replies go.
        replies: Arc<Outgoing<ClientReply>>,
        /// The connection ends when this is dropped.
        open: oneshot::Sender<()>,
    },
    /// A client asks, for one thing after the other.
    Requests {
        /// Number of the connection.
        connection: u64,
        /// The requests.
        requests: Vec<ClientRequest>,
    },
    /// A client is gone.
    Gone {
        /// Number of the connection.
        connection: u64,
    },
}

/// The way to every peer.
#[derive(Debug)]
pub struct Peers(BTreeMap<NodeId, Arc<Outgoing<Message>>>);

impl Peers {
    /// Dials every peer and goes on doing so.
    pub fn dial(peers: &BTreeMap<NodeId, String>, identity: &Identity) -> Self {
        let start = |(node, address): (&NodeId, &String)| {
            let messages = Arc::new(Outgoing::default());
            tokio::spawn(keep_connected(*node, address.clone(), identity.clone(), Arc::clone(&messages)));
            (*node, messages)
        };
        Self(peers.iter().map(start).collect())
    }

    /// Sends a message, or drops it when too many wait.
    pub fn send(&self, to: NodeId, message: Message) {
        if let Some(messages) = self.0.get(&to) {
            // what is missing is a broken link, which the protocol survives
            let _ = messages.add(message);
        }
    }
}

async fn keep_connected(to: NodeId, address: String, identity: Identity, messages: Arc<Outgoing<Message>>) {
    let (mut wait, mut told) = (REDIAL, None);
    for dial in 1.. {
        match connect(to, dial, &address, &identity).await {
            Ok(stream) => {
                tracing::info!(peer = to, "connected");
                (wait, told) = (REDIAL, None);
                let error = write_messages(stream, &messages).await;
                tracing::info!(peer = to, %error, "connection lost");
            }
            Err(NoConnection::Failed(error)) => {
                tracing::debug!(peer = to, error, "cannot connect");
                wait = REDIAL;
            }
            Err(NoConnection::Refused(reason)) => {
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(peer = to, address, reason, "the peer refuses this node");
                    told = Some(reason);
                }
                wait = (wait * 2).min(REDIAL_REFUSED);
            }
        }
        tokio::time::sleep(wait).await;
        // what was added while the link was down belongs to no session
        messages.clear();
    }
}

/// Why a peer was not connected.
enum NoConnection {
    /// It could not be reached, or has not answered.
    Failed(String),
    /// It has answered that it does not want to.
    Refused(String),
}

impl<E: ToString> From<E> for NoConnection {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

async fn connect(
    to: NodeId,
    dial: u64,
    address: &str,
    identity: &Identity,
) -> Result<TcpStream, NoConnection> {
    let dial = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut framed = Framed::new(stream, wire::frames());
        let (cluster, node) = (identity.cluster.clone(), identity.node);
        let Identity { disk, boot, config, .. } = *identity;
        let role = Role::Node { node, to, disk, boot, dial, config };
        let hello = wire::encode(&Handshake { version: wire::VERSION, cluster, role });
        framed.send(hello).await?;
        let frame = framed.next().await.ok_or("closed")??;
        match wire::decode::<Verdict>(&frame)? {
            Verdict::Welcome { .. } => Ok(framed.into_inner()),
            Verdict::Refused { reason } => Err(NoConnection::Refused(reason)),
        }
    };
    timeout(HANDSHAKE, dial).await.unwrap_or_else(|_| Err("no answer to the handshake".into()))
}

/// Writes messages until the connection breaks; its error.
async fn write_messages(stream: TcpStream, messages: &Outgoing<Message>) -> std::io::Error {
    let (mut read, write) = stream.into_split();
    tokio::select! {
        error = write_all(write, messages) => error,
        // a peer sends nothing here: whatever happens on this half is its end
        end = read.read_u8() => end.err().unwrap_or_else(|| std::io::ErrorKind::ConnectionReset.into()),
    }
}

/// Writes what is added until the connection breaks; its error.
async fn write_all<T: Serialize>(mut write: OwnedWriteHalf, outgoing: &Outgoing<T>) -> std::io::Error {
    let mut out = Vec::new();
    loop {
        outgoing.take(&mut out).await;
        if let Err(error) = write.write_all(&out).await {
            return error;
        }
        out.clear();
        // one that was very long is no reason to keep its room
        out.shrink_to(2 * WRITE);
    }
}

/// Accepts connections for as long as the node lives.
pub async fn listen(listener: TcpListener, identity: Identity, events: mpsc::Sender<Event>) {
    let refusals = Arc::new(Refusals::default());
    for connection in 1.. {
        match listener.accept().await {
            Ok((stream, _)) => {
                let refusals = Arc::clone(&refusals);
                tokio::spawn(serve(stream, connection, identity.clone(), events.clone(), refusals));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(REDIAL).await;
            }
        }
    }
}

/// The refusals that were logged lately: who is refused dials again and again, for the same reason.
#[derive(Debug, Default)]
struct Refusals(Mutex<BTreeSet<String>>);

/// More reasons than a cluster has.
const REASONS: usize = 64;

impl Refusals {
    fn log(&self, reason: String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&reason) {
            return;
        }
        tracing::warn!(reason, "connection refused");
        if known.len() == REASONS {
            known.clear();
        }
        known.insert(reason);
    }
}

async fn serve(
    stream: TcpStream,
    connection: u64,
    identity: Identity,
    events: mpsc::Sender<Event>,
    refusals: Arc<Refusals>,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut framed = Framed::new(stream, wire::frames());
    let hello = match timeout(HANDSHAKE, framed.next()).await {
        Ok(Some(Ok(frame))) => wire::decode::<Handshake>(&frame),
        Ok(Some(Err(error))) => return tracing::warn!(%error, "connection closed before its handshake"),
        Ok(None) | Err(_) => return,
    };
    let verdict = match &hello {
        Ok(hello) => judge(hello, connection, &identity, &events).await,
        Err(error) => Some(format!("not a handshake: {error}")),
    };
    let answer = match &verdict {
        None => Verdict::Welcome { node: identity.node },
        Some(reason) => Verdict::Refused { reason: reason.clone() },
    };
    if framed.send(wire::encode(&answer)).await.is_err() {
        return;
    }
    match (verdict, hello.map(|hello| hello.role)) {
        (None, Ok(Role::Client)) => serve_client(framed, connection, events).await,
        (None, Ok(Role::Node { node, .. })) => read_messages(framed, node, connection, events).await,
        (reason, _) => refusals.log(reason.unwrap_or_default()),
    }
}

/// The reason to refuse a connection, if there is one.
async fn judge(
    hello: &Handshake,
    connection: u64,
    identity: &Identity,
    events: &mpsc::Sender<Event>,
) -> Option<String> {
    if hello.version != wire::VERSION {
        return Some(format!("wire version {} is not {}", hello.version, wire::VERSION));
    }
    if hello.cluster != identity.cluster {
        return Some(format!("this is cluster '{}', not '{}'", identity.cluster, hello.cluster));
    }
    let Role::Node { node, to, disk, boot, dial, config } = hello.role else { return None };
    if to != identity.node {
        return Some(format!("this is node {}, not node {to}", identity.node));
    }
    if config != identity.config {
        return Some(format!("node {node} is configured for another cluster than node {to}"));
    }
    let (verdict, answer) = oneshot::channel();
    events.send(Event::Peer { from: node, disk, dialed: (boot, dial), connection, verdict }).await.ok()?;
    answer.await.unwrap_or_else(|_| Some("the node is stopping".to_owned()))
}

async fn read_messages(
    accepted: Framed<TcpStream, wire::Frames>,
    from: NodeId,
    connection: u64,
    events: mpsc::Sender<Event>,
) {
    let parts = accepted.into_parts();
    let mut frames =
        Incoming { stream: parts.io, read: parts.read_buf, longest: wire::MAX_MESSAGE, room: ROOM_OF_PEERS };
    loop {
        let (messages, next) = frames.receive().await;
        if !messages.is_empty() && events.send(Event::Messages { from, connection, messages }).await.is_err()
        {
            return;
        }
        match next {
            Next::More => {}
            Next::Ended => return,
            Next::Malformed(error) => {
                return tracing::warn!(peer = from, error, "connection closed: malformed frame");
            }
        }
    }
}

/// Frames that come on a connection. All that a reading brought is decoded at once, where it lies: the loop is woken once for it,
/// and a frame costs no handle of its own.
struct Incoming<S> {
    stream: S,
    read: BytesMut,
    /// The longest frame that is borne.
    longest: usize,
    /// Bytes that are read at once, at least.
    room: usize,
}

/// What a connection has behind the frames that came.
enum Next {
    More,
    Ended,
    Malformed(String),
}

impl<S: AsyncRead + Unpin> Incoming<S> {
    /// What has come, at least one frame unless the connection has ended.
    async fn receive<T: DeserializeOwned>(&mut self) -> (Vec<T>, Next) {
        let mut came = Vec::new();
        loop {
            while came.len() < AT_ONCE {
                match wire::take(&mut self.read, self.longest) {
                    Ok(Some(value)) => came.push(value),
                    Ok(None) => break,
                    Err(error) => return (came, Next::Malformed(error)),
                }
            }
            if !came.is_empty() {
                return (came, Next::More);
            }
            self.read.reserve(wire::lacking(&self.read).clamp(self.room, WRITE));
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) if self.read.is_empty() => return (came, Next::Ended),
                Ok(0) => return (came, Next::Malformed("it ends within a frame".to_owned())),
                Ok(_) => {}
                Err(error) => return (came, Next::Malformed(error.to_string())),
            }
        }
    }
}

async fn serve_client(
    accepted: Framed<TcpStream, wire::Frames>,
    connection: u64,
    events: mpsc::Sender<Event>,
) {
    // a client may have sent requests behind its handshake
    let parts = accepted.into_parts();
    let (stream, write) = parts.io.into_split();
    let frames = Incoming { stream, read: parts.read_buf, longest: wire::MAX_FRAME, room: ROOM_OF_CLIENTS };
    let replies = Arc::new(Outgoing::default());
    let (open, closed) = oneshot::channel();
    if events.send(Event::Client { connection, replies: Arc::clone(&replies), open }).await.is_err() {
        return;
    }
    let mut writer = tokio::spawn(async move { write_all(write, &replies).await });
    tokio::select! {
        () = read_requests(frames, connection, &events) => {}
        // it is given up, or takes no more answers: what it still asks is not read
        _ = closed => {}
        _ = &mut writer => {}
    }
    let _ = events.send(Event::Gone { connection }).await;
    writer.abort();
}

async fn read_requests(mut frames: Incoming<OwnedReadHalf>, connection: u64, events: &mpsc::Sender<Event>) {
    loop {
        let (requests, next) = frames.receive().await;
        if !requests.is_empty() && events.send(Event::Requests { connection, requests }).await.is_err() {
            return;
        }
        match next {
            Next::More => {}
            Next::Ended => return,
            Next::Malformed(error) => {
                return tracing::warn!(connection, error, "client's connection closed: malformed frame");
            }
        }
    }
}
