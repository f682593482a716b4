//! etcd beside the store: three members, and a client that costs as little as the one of the store.
//!
//! The client speaks gRPC by hand, just as much of HTTP/2 as etcd's answers to GET and PUT need. A client library would take a
//! tenth of the two processors that etcd shares with it, which would make the store look better than it is; etcd's JSON gateway
//! costs it far more than that. Header fields are indexed as any client does, so a request has some ten bytes of them. Of headers
//! in answers only the end of the stream matters: an answer that is an error carries no message, and so is counted as unknown.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BufMut, BytesMut};
use store::{
    load::{Asked, Keys, Kind, Link, Protocol, Request, Verdict, value_of, value_shows},
    local::Process,
    node::clock::machine_time,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::VALUE;

/// How long the members may take to elect a leader.
const ELECTION: u64 = 30_000_000_000;

/// The members.
#[derive(Debug)]
pub struct Etcd {
    pub version: String,
    pub members: Vec<Member>,
}

/// A member.
#[derive(Debug)]
pub struct Member {
    pub child: Process,
    pub address: SocketAddr,
}

impl Etcd {
    /// Starts three members of this program with everything at its default, on the same disk as the store.
    pub fn start(program: &Path, folder: &Path) -> Result<Self> {
        let output = Command::new(program).arg("--version").output()?;
        let version = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        let bound = || TcpListener::bind("127.0.0.1:0");
        let (clients, peers) = ([bound()?, bound()?, bound()?], [bound()?, bound()?, bound()?]);
        let url = |listener: &TcpListener| Ok(format!("http://{}", listener.local_addr()?));
        let peer_urls = peers.iter().map(url).collect::<std::io::Result<Vec<_>>>()?;
        let addresses = clients.iter().map(TcpListener::local_addr).collect::<std::io::Result<Vec<_>>>()?;
        drop((clients, peers));
        let named: Vec<String> =
            (1..).zip(&peer_urls).map(|(number, url)| format!("m{number}={url}")).collect();
        let mut members = Vec::new();
        for (number, (address, peer)) in (1..).zip(addresses.into_iter().zip(&peer_urls)) {
            let child = Command::new(program)
                .args(["--name", &format!("m{number}"), "--log-level", "error"])
                .args(["--initial-cluster-state", "new", "--initial-cluster", &named.join(",")])
                .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
                .args(["--listen-client-urls", &format!("http://{address}")])
                .args(["--advertise-client-urls", &format!("http://{address}")])
                .args([PathBuf::from("--data-dir"), folder.join(format!("etcd-{number}"))])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            members.push(Member { child: Process(child), address });
        }
        Ok(Self { version, members })
    }

    /// Which member leads, as soon as one does.
    pub async fn leader(&self) -> Result<usize> {
        let deadline = machine_time() + ELECTION;
        loop {
            if let Some(leader) =
                self.members.iter().position(|member| leads(member.address).unwrap_or(false))
            {
                return Ok(leader);
            }
            ensure!(machine_time() < deadline, "etcd has elected no leader within 30 s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether a member says that it leads.
fn leads(address: SocketAddr) -> Result<bool> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "POST /v3/maintenance/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let json = answer.find("{\"").zip(answer.rfind('}')).context("no status")?;
    let status: serde_json::Value = serde_json::from_str(&answer[json.0..=json.1])?;
    Ok(status["leader"].is_string() && status["leader"] == status["header"]["member_id"])
}

/// A connection of gRPC.
#[derive(Debug)]
pub struct Grpc {
    authority: String,
    /// Header fields that the server knows by number, in the order in which it learned them.
    known: Vec<(u8, String)>,
    /// What answers said that have not ended.
    said: Vec<(u64, Verdict)>,
    /// Bytes of data since the window was opened last.
    received: u32,
}

/// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Flags of frames.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// How far the window is opened.
const WINDOW: u32 = 1 << 30;

/// Fields of the static table.
const AUTHORITY: u8 = 1;
const POST: u8 = 3;
const PATH: u8 = 4;
const HTTP: u8 = 6;
const CONTENT_TYPE: u8 = 31;

/// The first field that is not in the static table.
const FIRST_KNOWN: usize = 62;

impl Grpc {
    /// Connects to a member.
    pub async fn connect(address: SocketAddr, keys: Keys) -> Result<Link<Self>> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut out, SETTINGS, 0, 0, &[]);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        stream.write_all(&out).await?;
        let authority = address.to_string();
        let protocol = Self { authority, known: Vec::new(), said: Vec::new(), received: 0 };
        Ok(Link { stream, read: BytesMut::new(), protocol, keys })
    }

    /// Writes a header field, by its number if the server knows it.
    fn field(&mut self, name: u8, value: &str, out: &mut Vec<u8>) {
        if let Some(place) = self.known.iter().position(|(known, text)| *known == name && text == value) {
            return out.put_u8(0x80 | (FIRST_KNOWN + self.known.len() - 1 - place) as u8);
        }
        out.put_u8(0x40 | name);
        if name == 0 {
            put_text(out, "te");
        }
        put_text(out, value);
        self.known.push((name, value.to_owned()));
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127, "one byte holds the length");
    out.put_u8(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.extend_from_slice(payload);
}

/// A field of bytes in a protobuf message; numbers and lengths here take one byte, or two.
fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.put_u8(number << 3 | 2);
    assert!(bytes.len() < 1 << 14, "two bytes hold the length");
    if bytes.len() >= 1 << 7 {
        out.put_u8(bytes.len() as u8 | 0x80);
        out.put_u8((bytes.len() >> 7) as u8);
    } else {
        out.put_u8(bytes.len() as u8);
    }
    out.extend_from_slice(bytes);
}

/// The first field of bytes with this number in a protobuf message of varints and bytes.
fn bytes_in(mut message: &[u8], number: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = varint(&mut message)?;
        if tag & 7 == 2 {
            let (bytes, rest) = message.split_at_checked(value as usize)?;
            if tag >> 3 == number {
                return Some(bytes);
            }
            message = rest;
        } else if tag & 7 != 0 {
            return None;
        }
    }
    None
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn key_of(request: Request) -> String {
    format!("key-{:08}", request.key)
}

/// What the message of an answer says.
fn judge(request: Request, data: &[u8]) -> Result<Verdict, String> {
    let Some((prefix, message)) = data.split_first_chunk::<5>() else {
        return Err("a message in pieces".to_owned());
    };
    if (&prefix[1..]).get_u32() as usize != message.len() {
        return Err("a message in pieces".to_owned());
    }
    let right = match request.kind {
        // the pair (2), its value (5)
        Kind::Get => bytes_in(message, 2)
            .and_then(|pair| bytes_in(pair, 5))
            .is_some_and(|value| value_shows(value, request.key, VALUE)),
        // the header (1)
        Kind::Put | Kind::Cas => bytes_in(message, 1).is_some(),
    };
    Ok(if right {
        Verdict::Right { fast: false, elsewhere: false }
    } else {
        Verdict::Wrong(format!("{} was answered {message:?}", key_of(request)))
    })
}

impl Protocol for Grpc {
    fn ask(&mut self, id: u64, request: Request, out: &mut Vec<u8>) {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, key_of(request).as_bytes());
        let path = match request.kind {
            Kind::Get => "/etcdserverpb.KV/Range",
            Kind::Put => {
                put_bytes(&mut message, 2, value_of(request.key, VALUE).as_bytes());
                "/etcdserverpb.KV/Put"
            }
            Kind::Cas => unreachable!("compare-and-swap is not compared"),
        };
        let mut headers = Vec::new();
        headers.put_u8(0x80 | POST);
        headers.put_u8(0x80 | HTTP);
        self.field(PATH, path, &mut headers);
        let authority = self.authority.clone();
        self.field(AUTHORITY, &authority, &mut headers);
        self.field(CONTENT_TYPE, "application/grpc", &mut headers);
        self.field(0, "trailers", &mut headers);
        let stream = u32::try_from(2 * id + 1).expect("fewer than a thousand million requests");
        frame(out, HEADERS, END_HEADERS, stream, &headers);
        let mut data = Vec::with_capacity(5 + message.len());
        data.put_u8(0);
        data.put_u32(message.len() as u32);
        data.extend_from_slice(&message);
        frame(out, DATA, END_STREAM, stream, &data);
    }

    fn answer(
        &mut self,
        read: &mut BytesMut,
        out: &mut Vec<u8>,
        asked: &Asked,
    ) -> Result<Option<(u64, Verdict)>, String> {
        while let Some(head) = read.first_chunk::<9>() {
            let length = (&head[..3]).get_uint(3) as usize;
            let (kind, flags, stream) = (head[3], head[4], (&head[5..]).get_u32());
            if read.len() < 9 + length {
                return Ok(None);
            }
            read.advance(9);
            let payload = read.split_to(length);
            let id = u64::from(stream / 2);
            match kind {
                DATA => {
                    self.received += length as u32;
                    if self.received > WINDOW / 2 {
                        frame(out, WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
                        self.received = 0;
                    }
                    let request = asked.request(id).ok_or("an answer to what was not asked")?;
                    self.said.push((id, judge(request, &payload)?));
                }
                SETTINGS if flags & ACK == 0 => frame(out, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(out, PING, ACK, 0, &payload),
                GOAWAY => return Err("etcd ends the connection".to_owned()),
                RST_STREAM => return Ok(Some((id, Verdict::Unknown("the stream was reset".to_owned())))),
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                let said = self.said.iter().position(|(said, _)| *said == id);
                let verdict = said.map(|place| self.said.swap_remove(place).1);
                return Ok(Some((id, verdict.unwrap_or_else(|| Verdict::Unknown("an error".to_owned())))));
            }
        }
        Ok(None)
    }
}
