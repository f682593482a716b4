//! The way of a node's messages between its standard input and output and the network.
//!
//! A connection carries frames (a length of 4 bytes, a message), the first of which says who dials. What a node sends to
//! another travels on one connection that its bridge dials when there is something to send; what is on its way when that
//! breaks is lost, and so is what cannot be dialed. A client dials a node, and is answered on the same connection.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::api::NodeId;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{ChildStdin, ChildStdout},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{
    message::Message,
    name,
    services::{Services, is_service},
};
use crate::{
    panics,
    targets::{Pipes, Says, accepted},
};

/// Messages that wait for a node, for a link or for a client: more of them are lost, or wait themselves.
const QUEUE: usize = 4096;

/// The longest message.
pub(super) const LONGEST: usize = 4 << 20;

/// How much of a line is quoted.
const QUOTED: usize = 200;

/// The sender of the message that starts a node.
const STARTER: &str = "c0";

/// Who dials: the first frame of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) from: String,
    /// How many connections it has dialed here before: answers take the last one, in whatever order they arrive.
    pub(super) number: u64,
}

/// A connection.
pub(super) type Line = Framed<TcpStream, LengthDelimitedCodec>;

/// Frames on a stream.
pub(super) fn framed(stream: TcpStream) -> Line {
    // fails only on a socket that is dead already, which its first use reports
    let _ = stream.set_nodelay(true);
    Framed::new(stream, LengthDelimitedCodec::builder().max_frame_length(LONGEST).new_codec())
}

/// One process's way to the network.
pub(super) struct Bridge {
    says: Says,
    name: String,
    /// What others send to the node: they wait if it does not read.
    to_node: mpsc::Sender<Bytes>,
    /// What it causes itself: whoever reads what it prints never waits for it to read.
    to_itself: mpsc::UnboundedSender<Bytes>,
    /// What goes to each other node.
    peers: BTreeMap<String, mpsc::Sender<Bytes>>,
    /// What goes to each client that has dialed.
    clients: Arc<Clients>,
    services: Arc<Services>,
    /// It has answered to its start.
    started: bool,
    /// Everything that goes on beside; it ends with the bridge.
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Clients(Mutex<BTreeMap<String, (u64, mpsc::Sender<Bytes>)>>);

impl Bridge {
    /// Starts the node, and carries its messages until it prints no more or something that is no message.
    pub(super) async fn carry(
        says: Says,
        pipes: Pipes,
        nodes: Vec<NodeId>,
        peers: BTreeMap<NodeId, SocketAddr>,
        services: Arc<Services>,
    ) {
        let Pipes { input: Some(input), output } = pipes else { return };
        let own = name(says.node());
        let mut tasks = JoinSet::new();
        let (to_node, for_node) = mpsc::channel(QUEUE);
        let (to_itself, from_itself) = mpsc::unbounded_channel();
        tasks.spawn(write_lines(input, for_node, from_itself));
        let mut links = BTreeMap::new();
        for (peer, address) in peers {
            let (sender, messages) = mpsc::channel(QUEUE);
            tasks.spawn(send_all(own.clone(), address, messages));
            links.insert(name(peer), sender);
        }
        let node_ids: Vec<String> = nodes.into_iter().map(name).collect();
        let body = json!({ "type": "init", "msg_id": 1, "node_id": own, "node_ids": node_ids });
        let init = Message { src: STARTER.to_owned(), dest: own.clone(), body };
        // an error says that the node has ended
        let _ = to_itself.send(init.line());
        let clients = Arc::default();
        let started = false;
        let bridge =
            Self { says, name: own, to_node, to_itself, peers: links, clients, services, started, tasks };
        bridge.read_lines(output).await;
    }

    async fn read_lines(mut self, output: ChildStdout) {
        let mut output = BufReader::new(output);
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut output).take(LONGEST as u64);
            let mut reading = pin!(limited.read_until(b'\n', &mut line));
            let read = loop {
                tokio::select! {
                    read = &mut reading => break read,
                    Some(ended) = self.tasks.join_next() => panics::pass_on(ended),
                }
            };
            if !read.is_ok_and(|read| read > 0) {
                return;
            }
            // a node that is killed may have printed half a line
            if line.pop_if(|last| *last == b'\n').is_none() && line.len() < LONGEST {
                return;
            }
            if let Err(words) = self.take(&line).await {
                return self.says.broke(words);
            }
        }
    }

    /// Sends on what the node has printed; an error says why that is no message.
    async fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let shown = || {
            let quoted = &line[..line.len().min(QUOTED)];
            format!("{:?}", String::from_utf8_lossy(quoted))
        };
        let message: Message = serde_json::from_slice(line)
            .map_err(|error| format!("printed a line that is no message: {}: {error}", shown()))?;
        // a node that hands a client's request on to another, or to a service, may leave it the client's
        let handed_on =
            is_client(&message.src) && (self.peers.contains_key(&message.dest) || is_service(&message.dest));
        if message.src != self.name && !handed_on {
            return Err(format!("printed a message that is not from {}: {}", self.name, shown()));
        }
        if message.dest == STARTER {
            return self.started(&message).await;
        }
        let known = match self.services.answer(&message) {
            Some(answer) => self.send(&answer.dest, answer.line()),
            None => self.send(&message.dest, Bytes::copy_from_slice(line)),
        };
        if known {
            Ok(())
        } else {
            Err(format!("sent a message to {:?}, whom nobody knows: {}", message.dest, shown()))
        }
    }

    /// Sends a message on its way; false: there is nobody of this name.
    fn send(&self, dest: &str, message: Bytes) -> bool {
        if dest == self.name {
            // an error says that the node has ended
            let _ = self.to_itself.send(message);
        } else if let Some(peer) = self.peers.get(dest) {
            // too many wait: this one is lost, as messages may be
            let _ = peer.try_send(message);
        } else if is_client(dest) {
            // its connection may be gone
            if let Some(client) = self.clients.of(dest) {
                let _ = client.try_send(message);
            }
        } else {
            return false;
        }
        true
    }

    /// The node's answer to its start: from now on others reach it.
    async fn started(&mut self, answer: &Message) -> Result<(), String> {
        if answer.kind() != "init_ok" {
            return Err(format!("answered to init with {}", answer.body));
        }
        if std::mem::replace(&mut self.started, true) {
            return Err(format!("answered to init a second time: {}", answer.body));
        }
        let failed = |error: io::Error| format!("could not be given a socket: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        self.tasks.spawn(accept_all(listener, self.to_node.clone(), Arc::clone(&self.clients)));
        self.says.listening(address);
        self.says.open();
        Ok(())
    }
}

fn is_client(name: &str) -> bool {
    name.strip_prefix('c').is_some_and(|rest| rest.parse::<u64>().is_ok())
}

impl Clients {
    fn of(&self, name: &str) -> Option<mpsc::Sender<Bytes>> {
        let clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(name).map(|(_, answers)| answers.clone())
    }

    /// From now on this is where the client is answered, unless it has dialed again since.
    fn dialed(&self, Hello { from, number }: Hello, answers: mpsc::Sender<Bytes>) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.get(&from).is_none_or(|(last, _)| *last <= number) {
            clients.insert(from, (number, answers));
        }
    }
}

/// Writes messages to the node, until it takes no more.
async fn write_lines(
    mut input: ChildStdin,
    mut from_others: mpsc::Receiver<Bytes>,
    mut from_itself: mpsc::UnboundedReceiver<Bytes>,
) {
    loop {
        let line = tokio::select! {
            biased;
            line = from_itself.recv() => line,
            line = from_others.recv() => line,
        };
        let Some(line) = line else { return };
        let mut whole = BytesMut::with_capacity(line.len() + 1);
        whole.extend_from_slice(&line);
        whole.extend_from_slice(b"\n");
        if input.write_all(&whole).await.is_err() {
            return;
        }
    }
}

/// Sends messages to another node, each on the connection that there is, or on a new one.
async fn send_all(own: String, address: SocketAddr, mut messages: mpsc::Receiver<Bytes>) {
    let mut line: Option<Line> = None;
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            () = until_broken(&mut line) => {
                line = None;
                continue;
            }
        };
        let Some(message) = message else { return };
        if line.is_none() {
            line = dial(&own, 0, address).await.ok();
        }
        if let Some(there) = &mut line
            && there.send(message).await.is_err()
        {
            line = None;
        }
    }
}

/// Waits until a connection is at its end; what comes on it is an acknowledgement of the dialing, and nothing else.
async fn until_broken(line: &mut Option<Line>) {
    match line {
        Some(line) => while let Some(Ok(_)) = line.next().await {},
        None => std::future::pending().await,
    }
}

/// Connects, and says who dials.
pub(super) async fn dial(own: &str, number: u64, address: SocketAddr) -> io::Result<Line> {
    let mut line = framed(TcpStream::connect(address).await?);
    let hello = serde_json::to_vec(&Hello { from: own.to_owned(), number })?;
    line.send(Bytes::from(hello)).await?;
    Ok(line)
}

/// Takes connections of the network for as long as the node lives.
async fn accept_all(listener: TcpListener, to_node: mpsc::Sender<Bytes>, clients: Arc<Clients>) {
    let mut lines = JoinSet::new();
    loop {
        tokio::select! {
            (stream, _) = accepted(&listener) => {
                lines.spawn(serve(framed(stream), to_node.clone(), Arc::clone(&clients)));
            }
            Some(ended) = lines.join_next() => panics::pass_on(ended),
        }
    }
}

/// One connection: the dialer is acknowledged, what it sends goes to the node, and a client's answers come back.
async fn serve(mut line: Line, to_node: mpsc::Sender<Bytes>, clients: Arc<Clients>) {
    let Some(Ok(first)) = line.next().await else { return };
    let Ok(hello) = serde_json::from_slice::<Hello>(&first) else { return };
    if line.send(first.freeze()).await.is_err() {
        return;
    }
    let (answers, mut answered) = mpsc::channel(QUEUE);
    if hello.from.starts_with('c') {
        clients.dialed(hello, answers.clone());
    }
    loop {
        tokio::select! {
            message = line.next() => {
                let Some(Ok(message)) = message else { return };
                if to_node.send(message.freeze()).await.is_err() {
                    return;
                }
            }
            Some(answer) = answered.recv() => {
                if line.send(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}
