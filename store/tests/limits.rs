//! What clients do wrong, and what a node bears: a real node process, dialed by hand. Each ends at most the connection that did
//! it, with a line in the log; everybody else is served on.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use store::{
    api::{
        ClientReply, ClientRequest, Key, MAX_KEY, MAX_VALUES, Operation, Outcome, ReplyBody, RequestBody,
        StoreError, Value,
    },
    client::{Client, ClientError},
    node::{
        control::Notice,
        wire::{self, Handshake, Role, Verdict},
    },
    pipeline::Pipeline,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_util::codec::Framed;

const NAME: &str = "limits";

/// A cluster of one node.
struct Node {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().expect("the node can be killed");
        self.child.wait().expect("the node ends");
    }
}

impl Node {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_store"))
            .args(["node", "--id", "1", "--listen", "127.0.0.1:0", "--name", NAME, "--memory"])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let mut notices = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        notices.read_line(&mut line).expect("its output can be read");
        let Ok(Notice::Listening { address, .. }) = serde_json::from_str(&line) else {
            panic!("it said {line} before it listened")
        };
        std::thread::spawn(move || std::io::copy(&mut notices, &mut std::io::sink()));
        let log = Arc::new(Mutex::new(String::new()));
        let (kept, mut errors) = (Arc::clone(&log), child.stderr.take().expect("its log"));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = errors.read(&mut piece) {
                kept.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..read]));
            }
        });
        Self { child, address, log }
    }

    /// Waits until the log has a line with this in it.
    async fn logs(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.log.lock().expect("no panic").contains(text) {
            let log = self.log.lock().expect("no panic").clone();
            assert!(Instant::now() < deadline, "no line says '{text}': {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Memory that the process holds, bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells");
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
    }

    async fn put(&self, key: i64, value: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut client = Client::connect(&self.address, NAME).await.expect("it listens");
            match client.call(Operation::Put { key: Key::Integer(key), value: value.into() }).await {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A connection of a client that has been let in.
    async fn welcome(&self) -> Framed<TcpStream, wire::Frames> {
        let stream = TcpStream::connect(&self.address).await.expect("it listens");
        let mut connection = Framed::new(stream, wire::frames());
        let hello = Handshake { version: wire::VERSION, cluster: NAME.to_owned(), role: Role::Client };
        connection.send(wire::encode(&hello)).await.expect("sent");
        let frame = connection.next().await.expect("an answer").expect("a frame");
        assert!(matches!(wire::decode(&frame), Ok(Verdict::Welcome { node: 1 })));
        connection
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_mins(1), future).await };
    runtime.block_on(limited).expect("done within 60 s")
}

/// Whether the node ends a connection, in order or not.
async fn is_closed(connection: &mut Framed<TcpStream, wire::Frames>) -> bool {
    connection.next().await.is_none_or(|end| end.is_err())
}

#[test]
fn a_frame_that_is_too_long_or_makes_no_sense_ends_its_connection_only() {
    let node = Node::start();
    block_on(async {
        node.put(1, "one").await;
        let mut innocent = Client::connect(&node.address, NAME).await.expect("it listens");
        let mut malformed = node.welcome().await;
        malformed.send(Bytes::from(vec![0xff; 20])).await.expect("sent");
        assert!(is_closed(&mut malformed).await);
        node.logs("client's connection closed: malformed frame").await;

        // four bytes that announce more than any frame may have: nothing is set aside for it
        let mut long = node.welcome().await;
        let length = (wire::MAX_FRAME as u32 + 1).to_be_bytes();
        long.get_mut().write_all(&length).await.expect("sent");
        assert!(is_closed(&mut long).await);
        node.logs("is longer than").await;

        let stream = TcpStream::connect(&node.address).await.expect("it listens");
        let mut babble = Framed::new(stream, wire::frames());
        babble.get_mut().write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
        assert!(is_closed(&mut babble).await);
        node.logs("connection closed before its handshake").await;

        let answer = innocent.call(Operation::Get { key: Key::Integer(1) }).await.expect("it is served on");
        assert_eq!(answer.version, 1);
    });
}

/// It never leaves a client of ours, and a node that is asked by another one refuses it: either way it certainly has not happened,
/// and whoever shares the connection is served on.
#[test]
fn an_operation_that_is_too_long_is_refused_and_the_longest_that_fits_is_read_as_it_was_written() {
    let node = Node::start();
    let key = || Key::Integer(1);
    let text = |bytes| Value::from("x".repeat(bytes));
    let put = |value: &Value| Operation::Put { key: key(), value: Value::clone(value) };
    let bytes = MAX_VALUES as u64 + 1;
    let too_long = [
        (put(&text(MAX_VALUES + 1)), StoreError::ValuesTooLong { bytes }),
        (
            Operation::Cas { key: key(), expected: Some(text(MAX_VALUES)), new: text(1) },
            StoreError::ValuesTooLong { bytes },
        ),
        (
            Operation::Get { key: Key::String("x".repeat(MAX_KEY + 1)) },
            StoreError::KeyTooLong { bytes: MAX_KEY as u64 + 1 },
        ),
    ];
    block_on(async {
        let longest = text(MAX_VALUES);
        node.put(1, &longest).await;
        let shared = Pipeline::new(Client::connect(&node.address, NAME).await.expect("it listens"));
        let mut raw = node.welcome().await;
        for (id, (operation, refusal)) in (1..).zip(too_long) {
            let error = shared.call(operation.clone(), 0).await.expect_err("too long");
            assert!(matches!(&error, ClientError::Store(error) if *error == refusal), "{error}");
            assert!(error.is_definite());
            if matches!(refusal, StoreError::KeyTooLong { .. }) {
                continue;
            }
            let body = RequestBody::Operation { operation, seen: 0, session: None };
            raw.send(wire::encode(&ClientRequest { id, body })).await.expect("sent");
            let reply = raw.next().await.expect("an answer").expect("a frame");
            let reply: ClientReply = wire::decode(&reply).expect("a reply");
            assert_eq!(reply, ClientReply { id, body: ReplyBody::Operation(Err(refusal)) });
        }
        let answer = shared.call(Operation::Get { key: key() }, 0).await.expect("it is served on");
        assert_eq!((answer.version, answer.outcome), (1, Outcome::Value(Some(longest))));
    });
}

/// Half-open from the first byte on: nobody says hello.
#[test]
fn a_connection_without_a_handshake_is_closed() {
    let node = Node::start();
    block_on(async {
        let mut silent = TcpStream::connect(&node.address).await.expect("it listens");
        let mut nothing = [0; 1];
        assert_eq!(silent.read(&mut nothing).await.expect("closed in order"), 0);
    });
}

#[test]
fn a_thousand_idle_connections_cost_little_and_keep_nobody_waiting() {
    let node = Node::start();
    block_on(async {
        node.put(1, "one").await;
        let before = node.memory();
        let mut idle = Vec::new();
        for _ in 0..1000 {
            idle.push(node.welcome().await);
        }
        node.put(2, "two").await;
        let each = node.memory().saturating_sub(before) / 1000;
        println!("an idle connection costs {each} bytes");
        assert!(each < 64 << 10, "an idle connection costs {each} bytes");
    });
}

/// It asks again and again for a value of a megabyte and reads nothing: at most the queue of its replies waits, whose values are
/// shared, and what is written at once.
#[test]
fn a_client_that_does_not_read_its_replies_is_dropped_before_they_fill_the_memory() {
    let node = Node::start();
    block_on(async {
        node.put(1, &"x".repeat(1 << 20)).await;
        let before = node.memory();
        let mut deaf = node.welcome().await;
        for id in 1..=20_000 {
            let body = RequestBody::Operation {
                operation: Operation::Get { key: Key::Integer(1) },
                seen: 0,
                session: None,
            };
            // it may be dropped before it has asked all
            if deaf.send(wire::encode(&ClientRequest { id, body })).await.is_err() {
                break;
            }
        }
        node.logs("client dropped: it does not read its replies").await;
        let more = node.memory().saturating_sub(before) >> 20;
        println!("it cost {more} MiB at its end");
        assert!(more < 64, "it cost {more} MiB");
        node.put(2, "two").await;
    });
}
