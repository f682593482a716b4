//! A bare quorum: what replication costs at least on this machine. A leader and two followers; every request goes to both
//! followers, and is answered as soon as two of the three have it: in memory, or in a file, with one sync for all that came
//! together. No elections, no ballots, no state: a crash would lose everything.

use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::mpsc as threads,
};

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

use crate::plain::{Part, REQUEST, listen};

/// Bytes that are read at once, at least.
const READ: usize = 64 << 10;

/// The three processes, the leader first.
pub fn start(folder: Option<&Path>) -> Result<Vec<Part>> {
    let path = |name: &str| folder.map(|folder| folder.join(name).to_string_lossy().into_owned());
    let part = |name: &str, followers: &[&str]| {
        let path = path(name);
        let path = path.iter().flat_map(|path| ["--sync", path]);
        let followers = followers.iter().flat_map(|address| ["--follower", address]);
        Part::start(&["quorum"].into_iter().chain(path).chain(followers).collect::<Vec<_>>())
    };
    let (first, second) = (part("first", &[])?, part("second", &[])?);
    Ok(vec![part("leader", &[&first.address, &second.address])?, first, second])
}

/// One of the processes: the one that has followers leads.
pub async fn serve(followers: Vec<String>, sync: Option<PathBuf>) -> Result<()> {
    let file = sync.map(File::create).transpose()?;
    let listener = listen().await?;
    if followers.is_empty() { follow(&listener, file).await } else { lead(listener, &followers, file).await }
}

/// Acknowledges each batch: a length, a number, its requests.
async fn follow(listener: &TcpListener, mut file: Option<File>) -> Result<()> {
    let (mut leader, _) = listener.accept().await?;
    leader.set_nodelay(true)?;
    let mut read = BytesMut::new();
    loop {
        read.reserve(READ);
        if leader.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let mut last = None;
        while let Some(head) = read.first_chunk::<12>() {
            let (length, number) = ((&head[..4]).get_u32() as usize, (&head[4..]).get_u64());
            let Some(requests) = read.get(12..12 + length) else { break };
            if let Some(file) = &mut file {
                file.write_all(requests)?;
            }
            read.advance(12 + length);
            last = Some(number);
        }
        if let (Some(file), Some(_)) = (&file, last) {
            file.sync_data()?;
        }
        if let Some(number) = last {
            leader.write_u64(number).await?;
        }
    }
}

/// What happens to the leader.
enum Event {
    Client(usize, OwnedWriteHalf),
    /// Whole requests of a client.
    Requests(usize, Bytes),
    /// All batches up to this one are with a member: 0 is the leader itself.
    Acknowledged(usize, u64),
}

/// The leader.
struct Leader {
    clients: Vec<OwnedWriteHalf>,
    followers: Vec<OwnedWriteHalf>,
    /// Where the leader's own file is written.
    log: Option<threads::Sender<(u64, Bytes)>>,
    number: u64,
    /// Up to which batch each member has everything.
    have: [u64; 3],
    /// Batches that await their quorum, with the answers to whom they belong.
    waiting: VecDeque<(u64, Vec<(usize, BytesMut)>)>,
}

async fn lead(listener: TcpListener, addresses: &[String], file: Option<File>) -> Result<()> {
    let (tell, mut events) = mpsc::unbounded_channel();
    let mut followers = Vec::new();
    for (member, address) in (1..).zip(addresses) {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        tokio::spawn(acknowledgements(member, read, tell.clone()));
        followers.push(write);
    }
    let log = file.map(|file| write_log(file, tell.clone()));
    tokio::spawn(accept(listener, tell));
    let mut leader =
        Leader { clients: Vec::new(), followers, log, number: 0, have: [0; 3], waiting: VecDeque::new() };
    while let Some(first) = events.recv().await {
        let mut batch = Batch::default();
        leader.take(first, &mut batch);
        while let Ok(event) = events.try_recv() {
            leader.take(event, &mut batch);
        }
        leader.replicate(batch).await?;
        leader.answer().await?;
    }
    Ok(())
}

/// What came together.
#[derive(Default)]
struct Batch {
    requests: BytesMut,
    answers: Vec<(usize, BytesMut)>,
}

impl Leader {
    fn take(&mut self, event: Event, batch: &mut Batch) {
        match event {
            Event::Client(number, write) => {
                assert_eq!(number, self.clients.len(), "they come in order");
                self.clients.push(write);
            }
            Event::Requests(client, requests) => {
                let mut answers = BytesMut::new();
                for request in requests.chunks(REQUEST) {
                    answers.put_u32(8);
                    answers.extend_from_slice(&request[4..12]);
                }
                batch.requests.extend_from_slice(&requests);
                batch.answers.push((client, answers));
            }
            Event::Acknowledged(member, number) => self.have[member] = number,
        }
    }

    async fn replicate(&mut self, batch: Batch) -> Result<()> {
        if batch.requests.is_empty() {
            return Ok(());
        }
        self.number += 1;
        let mut frame = BytesMut::with_capacity(12 + batch.requests.len());
        frame.put_u32(batch.requests.len() as u32);
        frame.put_u64(self.number);
        frame.extend_from_slice(&batch.requests);
        match &self.log {
            Some(log) => log.send((self.number, batch.requests.freeze())).context("the log has ended")?,
            None => self.have[0] = self.number,
        }
        for follower in &mut self.followers {
            follower.write_all(&frame).await?;
        }
        self.waiting.push_back((self.number, batch.answers));
        Ok(())
    }

    /// Answers what two of three have.
    async fn answer(&mut self) -> Result<()> {
        let mut have = self.have;
        have.sort_unstable();
        while let Some((_, answers)) = self.waiting.pop_front_if(|(number, _)| *number <= have[1]) {
            for (client, answers) in answers {
                // a client that has left wants no answer
                let _ = self.clients[client].write_all(&answers).await;
            }
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, tell: mpsc::UnboundedSender<Event>) {
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let (read, write) = stream.into_split();
        if tell.send(Event::Client(number, write)).is_err() {
            return;
        }
        tokio::spawn(requests(number, read, tell.clone()));
        number += 1;
    }
}

async fn requests(client: usize, mut from: OwnedReadHalf, tell: mpsc::UnboundedSender<Event>) {
    let mut read = BytesMut::new();
    loop {
        read.reserve(READ);
        let Ok(1..) = from.read_buf(&mut read).await else { return };
        let whole = read.len() / REQUEST * REQUEST;
        if whole > 0 && tell.send(Event::Requests(client, read.split_to(whole).freeze())).is_err() {
            return;
        }
    }
}

async fn acknowledgements(member: usize, mut from: OwnedReadHalf, tell: mpsc::UnboundedSender<Event>) {
    while let Ok(number) = from.read_u64().await {
        if tell.send(Event::Acknowledged(member, number)).is_err() {
            return;
        }
    }
}

/// Writes what waits, and syncs once for all of it.
fn write_log(mut file: File, tell: mpsc::UnboundedSender<Event>) -> threads::Sender<(u64, Bytes)> {
    let (log, waiting) = threads::channel::<(u64, Bytes)>();
    std::thread::spawn(move || -> std::io::Result<()> {
        while let Ok((mut last, requests)) = waiting.recv() {
            file.write_all(&requests)?;
            for (number, requests) in waiting.try_iter() {
                file.write_all(&requests)?;
                last = number;
            }
            file.sync_data()?;
            if tell.send(Event::Acknowledged(0, last)).is_err() {
                break;
            }
        }
        Ok(())
    });
    log
}
