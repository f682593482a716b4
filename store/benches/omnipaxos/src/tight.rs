//! The crate in the bare quorum's loop (`../../compare/quorum.rs`): one thread, and whatever has come together goes through the crate,
//! and onto each connection, at once. So it shows how far the crate can be driven.

use std::collections::HashMap;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use omnipaxos::{
    OmniPaxos,
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
};

use crate::{Decided, Leads, MEMBER, config, dial, meet, ticks};

/// Bytes that are read at once, at least.
const READ: usize = 64 << 10;

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
    decided: Decided,
    leads: Leads,
}

/// A member's whole life.
pub async fn run(pid: u64) -> Result<()> {
    let (listener, addresses) = meet().await?;
    let (tell, mut events) = mpsc::unbounded_channel();
    tokio::spawn(accept(listener, tell.clone()));
    tokio::spawn(tick(tell));
    let mut member = Member {
        pid,
        omnipaxos: config(pid).build(MemoryStorage::default())?,
        peers: dial(pid, &addresses).await?,
        clients: HashMap::new(),
        values: HashMap::new(),
        decided: Decided::default(),
        leads: Leads::default(),
    };
    while let Some(first) = events.recv().await {
        member.take(first)?;
        while let Ok(event) = events.try_recv() {
            member.take(event)?;
        }
        member.send().await?;
        member.answer().await;
        if member.leads.0
            && let Some(to) = member.decided.trim_to()
        {
            member.omnipaxos.trim(Some(to)).ok().context("the log was not trimmed")?;
        }
        member.leads.look(member.omnipaxos.get_current_leader(), pid)?;
    }
    Ok(())
}

impl Member {
    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Client(client, write) => {
                self.clients.insert(client, write);
            }
            Event::Requests(client, mut requests) => {
                self.leads.required()?;
                while !requests.is_empty() {
                    let length = requests.get_u32() as usize;
                    let number = requests.get_u64();
                    // a copy, so that the log does not keep what was read
                    let value = Bytes::copy_from_slice(&requests.split_to(length - 8));
                    // as many keys as the store is asked for; which one makes no difference to a map
                    let put = Put { client, member: self.pid, number, key: number % 1000, value };
                    self.omnipaxos.append(put).ok().context("an entry was refused")?;
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
        if self.omnipaxos.get_decided_idx() <= self.decided.applied {
            return;
        }
        let decided = self.omnipaxos.read_decided_suffix(self.decided.applied).unwrap_or_default();
        self.decided.applied += decided.len();
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
}

async fn tick(tell: mpsc::UnboundedSender<Event>) {
    let mut ticks = ticks();
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
