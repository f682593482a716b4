//! Built as omnipaxos-kv is, the key-value store of the crate's authors: tasks that read and write one connection each, frames of
//! `tokio-util`, queues between them and one server task, which takes a hundred messages at once. Keys and values are strings.
//! What differs is the encoding (postcard, since bincode is not maintained), the frames of clients, which are the bench's, and that the
//! log is trimmed.

use std::collections::HashMap;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use omnipaxos::{
    OmniPaxos,
    messages::Message,
    storage::{Entry, NoSnapshot},
    util::LogEntry,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender},
};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::{Decided, Leads, MEMBER, config, dial, meet, ticks};

/// Messages that are taken at once, and that wait between tasks.
const BATCH: usize = 100;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Command {
    client: u64,
    coordinator: u64,
    id: u64,
    key: String,
    value: String,
}

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

/// What clients' connections bring.
enum FromClient {
    Connected(UnboundedSender<u64>),
    Put { id: u64, key: String, value: String },
}

struct Server {
    pid: u64,
    omnipaxos: OmniPaxos<Command, MemoryStorage<Command>>,
    peers: HashMap<u64, UnboundedSender<Message<Command>>>,
    clients: HashMap<u64, UnboundedSender<u64>>,
    database: HashMap<String, String>,
    decided: Decided,
    outgoing: Vec<Message<Command>>,
    leads: Leads,
}

/// A member's whole life.
pub async fn run(pid: u64) -> Result<()> {
    let (listener, addresses) = meet().await?;
    let (tell_cluster, mut cluster) = mpsc::channel(BATCH);
    let (tell_clients, mut clients) = mpsc::channel(BATCH);
    tokio::spawn(accept(listener, tell_cluster, tell_clients));
    let mut peers = HashMap::new();
    for (other, write) in dial(pid, &addresses).await? {
        let (queue, messages) = mpsc::unbounded_channel();
        tokio::spawn(write_all(write, messages, |message: &Message<Command>| {
            postcard::to_stdvec(message).expect("a message can be encoded").into()
        }));
        peers.insert(other, queue);
    }
    let mut server = Server {
        pid,
        omnipaxos: config(pid).build(MemoryStorage::default())?,
        peers,
        clients: HashMap::new(),
        database: HashMap::new(),
        decided: Decided::default(),
        outgoing: Vec::new(),
        leads: Leads::default(),
    };
    let (mut from_cluster, mut from_clients) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut ticks = ticks();
    loop {
        tokio::select! {
            _ = ticks.tick() => server.omnipaxos.tick(),
            _ = cluster.recv_many(&mut from_cluster, BATCH) => {
                for message in from_cluster.drain(..) {
                    server.omnipaxos.handle_incoming(message);
                    server.apply_decided()?;
                }
            }
            _ = clients.recv_many(&mut from_clients, BATCH) => {
                for (client, message) in from_clients.drain(..) {
                    server.take(client, message)?;
                }
            }
        }
        if server.leads.0
            && let Some(to) = server.decided.trim_to()
        {
            server.omnipaxos.trim(Some(to)).ok().context("the log was not trimmed")?;
        }
        server.send()?;
        server.leads.look(server.omnipaxos.get_current_leader(), pid)?;
    }
}

impl Server {
    fn take(&mut self, client: u64, message: FromClient) -> Result<()> {
        match message {
            FromClient::Connected(answers) => drop(self.clients.insert(client, answers)),
            FromClient::Put { id, key, value } => {
                self.leads.required()?;
                let command = Command { client, coordinator: self.pid, id, key, value };
                self.omnipaxos.append(command).ok().context("an entry was refused")?;
            }
        }
        Ok(())
    }

    fn apply_decided(&mut self) -> Result<()> {
        let (decided, applied) = (self.omnipaxos.get_decided_idx(), self.decided.applied);
        if decided <= applied {
            return Ok(());
        }
        let entries = self.omnipaxos.read_decided_suffix(applied).context("what is decided is there")?;
        self.decided.applied = decided;
        for entry in entries {
            let LogEntry::Decided(Command { client, coordinator, id, key, value }) = entry else { continue };
            self.database.insert(key, value);
            if coordinator == self.pid
                && let Some(answers) = self.clients.get(&client)
            {
                // a client that has left wants no answer
                let _ = answers.send(id);
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        self.omnipaxos.take_outgoing_messages(&mut self.outgoing);
        for message in self.outgoing.drain(..) {
            let peer = self.peers.get(&message.get_receiver()).context("nobody has this number")?;
            peer.send(message).ok().context("a member has gone")?;
        }
        Ok(())
    }
}

async fn accept(
    listener: TcpListener,
    cluster: Sender<Message<Command>>,
    clients: Sender<(u64, FromClient)>,
) -> Result<()> {
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (cluster, clients) = (cluster.clone(), clients.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(number, stream, cluster, clients).await {
                eprintln!("connection {number}: {error:#}");
            }
        });
    }
    Ok(())
}

/// A connection, of whoever it is.
async fn serve(
    number: u64,
    stream: TcpStream,
    cluster: Sender<Message<Command>>,
    clients: Sender<(u64, FromClient)>,
) -> Result<()> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(());
    }
    let (mut read, write) = stream.into_split();
    if first == [MEMBER] {
        read.read_u8().await?;
        return read_all(read, cluster, |frame| Ok(postcard::from_bytes(&frame)?)).await;
    }
    let (answers, written) = mpsc::unbounded_channel();
    clients.send((number, FromClient::Connected(answers))).await?;
    tokio::spawn(write_all(write, written, |id: &u64| Bytes::copy_from_slice(&id.to_be_bytes())));
    let put = |mut frame: BytesMut| {
        let id = frame.get_u64();
        // as many keys as the store is asked for; which one makes no difference to a map
        let (key, value) = ((id % 1000).to_string(), String::from_utf8(frame.to_vec())?);
        Ok((number, FromClient::Put { id, key, value }))
    };
    read_all(read, clients, put).await
}

async fn read_all<T>(read: OwnedReadHalf, to: Sender<T>, decode: impl Fn(BytesMut) -> Result<T>) -> Result<()>
where
    T: Send + Sync + 'static,
{
    let mut chunks = FramedRead::new(read, LengthDelimitedCodec::new()).ready_chunks(BATCH);
    while let Some(frames) = chunks.next().await {
        for frame in frames {
            to.send(decode(frame?)?).await?;
        }
    }
    Ok(())
}

async fn write_all<T>(
    write: OwnedWriteHalf,
    mut messages: UnboundedReceiver<T>,
    encode: impl Fn(&T) -> Bytes,
) {
    let mut frames = FramedWrite::new(write, LengthDelimitedCodec::new());
    let mut taken = Vec::with_capacity(BATCH);
    while messages.recv_many(&mut taken, BATCH).await > 0 {
        for message in taken.drain(..) {
            if frames.feed(encode(&message)).await.is_err() {
                return;
            }
        }
        if SinkExt::<Bytes>::flush(&mut frames).await.is_err() {
            return;
        }
    }
}
