//! One of three members of a key-value store in memory on the `omnipaxos` crate, over TCP: what `scripts/bench store` compares the
//! store's writes in memory with. The crate decides, elects and keeps the log; this program moves its bytes as the bare quorum does
//! (`../compare/quorum.rs`): one thread, and whatever has come together goes through the crate, and onto each connection, at once.
//!
//! Prints where it listens, reads the addresses of all three in a line, and prints `leads` when it does; ends with its input. The
//! first has the highest priority. A client's frame is a length, a number and a value; its answer a length and the number, sent
//! when the write is decided and applied. Members greet each other with a byte that is no client's.

use std::{
    collections::HashMap,
    io::{Read, Write},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use omnipaxos::{
    ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
    messages::Message,
    storage::{Entry, NoSnapshot},
    util::LogEntry,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::MissedTickBehavior,
};

/// The crate counts ticks; elections take ten of them, what is lost is sent again after a hundred.
const TICK: Duration = Duration::from_millis(10);

/// Bytes that are read at once, at least.
const READ: usize = 64 << 10;

/// What a member says first; a client's first byte is the high one of a length, 0.
const MEMBER: u8 = 0xff;

/// A write.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Put {
    /// The connection that asked, at the member that was asked.
    client: u32,
    member: u64,
    number: u64,
    key: u64,
    value: Bytes,
}

impl Entry for Put {
    type Snapshot = NoSnapshot;
}

/// What happens to a member.
enum Event {
    Client(u32, OwnedWriteHalf),
    /// Whole frames of a client, each as long as the first.
    Requests(u32, Bytes),
    /// What the crate of another member has sent.
    Messages(Vec<Message<Put>>),
    Tick,
}

struct Member {
    pid: u64,
    omnipaxos: OmniPaxos<Put, MemoryStorage<Put>>,
    peers: HashMap<u64, OwnedWriteHalf>,
    clients: HashMap<u32, OwnedWriteHalf>,
    values: HashMap<u64, Bytes>,
    applied: usize,
    leads: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let pid: u64 = std::env::args().nth(1).context("usage: omnipaxos-peer 1|2|3")?.parse()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let addresses: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if addresses.len() != 3 {
        bail!("three addresses, not {line:?}");
    }
    // whoever started it has gone
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let (tell, mut events) = mpsc::unbounded_channel();
    tokio::spawn(accept(listener, tell.clone()));
    tokio::spawn(ticks(tell));
    let mut member = Member::start(pid, &addresses).await?;
    while let Some(first) = events.recv().await {
        member.take(first)?;
        while let Ok(event) = events.try_recv() {
            member.take(event)?;
        }
        member.send().await?;
        member.answer().await;
        member.say_who_leads()?;
    }
    Ok(())
}

impl Member {
    async fn start(pid: u64, addresses: &[String]) -> Result<Self> {
        let config = OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id: 1,
                nodes: vec![1, 2, 3],
                flexible_quorum: None,
            },
            server_config: ServerConfig {
                pid,
                election_tick_timeout: 10,
                leader_priority: u32::from(pid == 1),
                ..ServerConfig::default()
            },
        };
        let omnipaxos = config.build(MemoryStorage::default())?;
        let mut peers = HashMap::new();
        for (other, address) in (1..).zip(addresses).filter(|(other, _)| *other != pid) {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_u8(MEMBER).await?;
            peers.insert(other, stream.into_split().1);
        }
        let (clients, values) = (HashMap::new(), HashMap::new());
        Ok(Self { pid, omnipaxos, peers, clients, values, applied: 0, leads: false })
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Client(client, write) => {
                self.clients.insert(client, write);
            }
            Event::Requests(client, mut requests) => {
                while !requests.is_empty() {
                    let length = requests.get_u32() as usize;
                    let number = requests.get_u64();
                    let value = requests.split_to(length - 8);
                    // as many keys as the store is asked for; which one makes no difference to a map
                    let put = Put { client, member: self.pid, number, key: number % 1000, value };
                    if self.omnipaxos.append(put).is_err() {
                        bail!("an entry was refused");
                    }
                }
            }
            Event::Messages(messages) => messages.into_iter().for_each(|m| self.omnipaxos.handle_incoming(m)),
            Event::Tick => self.omnipaxos.tick(),
        }
        Ok(())
    }

    /// What the crate wants sent, on one write for each member.
    async fn send(&mut self) -> Result<()> {
        let mut messages = Vec::new();
        self.omnipaxos.take_outgoing_messages(&mut messages);
        let mut frames: HashMap<u64, Vec<u8>> = HashMap::new();
        for message in messages {
            let frame = frames.entry(message.get_receiver()).or_default();
            let begins = frame.len();
            frame.put_u32(0);
            *frame = postcard::to_extend(&message, std::mem::take(frame))?;
            let length = (frame.len() - begins - 4) as u32;
            frame[begins..begins + 4].copy_from_slice(&length.to_be_bytes());
        }
        for (receiver, frame) in frames {
            self.peers.get_mut(&receiver).context("nobody has this number")?.write_all(&frame).await?;
        }
        Ok(())
    }

    /// Applies what is decided, and answers who has asked here.
    async fn answer(&mut self) {
        if self.omnipaxos.get_decided_idx() <= self.applied {
            return;
        }
        let decided = self.omnipaxos.read_decided_suffix(self.applied).unwrap_or_default();
        self.applied += decided.len();
        let mut answers: HashMap<u32, BytesMut> = HashMap::new();
        for entry in decided {
            let LogEntry::Decided(put) = entry else { continue };
            if put.member == self.pid {
                let answer = answers.entry(put.client).or_default();
                answer.put_u32(8);
                answer.put_u64(put.number);
            }
            self.values.insert(put.key, put.value);
        }
        for (client, answers) in answers {
            let Some(write) = self.clients.get_mut(&client) else { continue };
            if write.write_all(&answers).await.is_err() {
                self.clients.remove(&client);
            }
        }
    }

    fn say_who_leads(&mut self) -> Result<()> {
        let leads = self.omnipaxos.get_current_leader() == Some((self.pid, true));
        if leads && !self.leads {
            writeln!(std::io::stdout(), "leads")?;
        }
        self.leads = leads;
        Ok(())
    }
}

async fn ticks(tell: mpsc::UnboundedSender<Event>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while tell.send(Event::Tick).is_ok() {
        ticks.tick().await;
    }
}

async fn accept(listener: TcpListener, tell: mpsc::UnboundedSender<Event>) {
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_ok() {
            tokio::spawn(serve(number, stream, tell.clone()));
            number += 1;
        }
    }
}

/// A connection, of whoever it is.
async fn serve(number: u32, stream: TcpStream, tell: mpsc::UnboundedSender<Event>) {
    let (mut from, write) = stream.into_split();
    let mut read = BytesMut::new();
    let Ok(1..) = from.read_buf(&mut read).await else { return };
    let ended = if read[0] == MEMBER {
        read.advance(1);
        messages(from, read, &tell).await
    } else {
        if tell.send(Event::Client(number, write)).is_err() {
            return;
        }
        requests(number, from, read, &tell).await
    };
    if let Err(error) = ended {
        eprintln!("connection {number}: {error:#}");
    }
}

async fn messages(
    mut from: OwnedReadHalf,
    mut read: BytesMut,
    tell: &mpsc::UnboundedSender<Event>,
) -> Result<()> {
    loop {
        let mut messages = Vec::new();
        while let Some(length) = whole(&read) {
            read.advance(4);
            messages.push(postcard::from_bytes(&read.split_to(length))?);
        }
        if !messages.is_empty() {
            tell.send(Event::Messages(messages))?;
        }
        read.reserve(READ);
        if from.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
}

async fn requests(
    client: u32,
    mut from: OwnedReadHalf,
    mut read: BytesMut,
    tell: &mpsc::UnboundedSender<Event>,
) -> Result<()> {
    loop {
        let mut end = 0;
        while let Some(length) = whole(&read[end..]) {
            end += 4 + length;
        }
        if end > 0 {
            tell.send(Event::Requests(client, read.split_to(end).freeze()))?;
        }
        read.reserve(READ);
        if from.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
}

/// How long the first frame is, if all of it is here.
fn whole(read: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*read.first_chunk()?) as usize;
    (read.len() >= 4 + length).then_some(length)
}
