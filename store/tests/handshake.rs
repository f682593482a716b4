//! Whom a node lets in: a real node process, dialed by hand.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use store::{
    api::{ClientReply, ClientRequest, Key, KeyType, Operation, ReplyBody, RequestBody, StoreError},
    config::{
        ClockSkew, ClusterConfig, NodeConfig, PartitionConfig, Partitioning, ReadMode, RoutingMode,
        SESSION_IDLE_MS, StorageKind, TestOptions, TrimConfig,
    },
    core::{Message, message::Table},
    node::{
        control::Notice,
        wire::{self, Handshake, Role, Verdict},
    },
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;

struct Node {
    child: Child,
    /// What it says.
    notices: BufReader<ChildStdout>,
    address: String,
    digest: u64,
    _folder: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().expect("the node can be killed");
        self.child.wait().expect("the node ends");
    }
}

/// Node 1 of two; the other is nowhere.
fn start() -> Node {
    start_with_peer_at("127.0.0.1:1")
}

fn start_with_peer_at(peer: &str) -> Node {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let partition =
        PartitionConfig { partition: 1, lower: None, upper: None, replication: 2, replicas: vec![1, 2] };
    let cluster = ClusterConfig {
        name: "handshake".to_owned(),
        key_type: KeyType::Integer,
        partitioning: Partitioning::Range,
        partitions: vec![partition],
        threshold: 2,
        heartbeat_ms: 50,
        missed_rounds: 5,
        lease: None,
        request_timeout_ms: 500,
        session_idle_ms: SESSION_IDLE_MS,
        storage: StorageKind::Durable,
        routing: RoutingMode::Forward,
        reads: ReadMode::Linearizable,
        trimming: TrimConfig::default(),
        preset: Vec::new(),
    };
    let digest = cluster.digest();
    let config = NodeConfig {
        node: 1,
        listen: "127.0.0.1:0".to_owned(),
        peers: BTreeMap::from([(2, peer.to_owned())]),
        data: folder.path().join("data"),
        trace: None,
        clock: ClockSkew::default(),
        cluster,
        test: TestOptions::default(),
    };
    let path = folder.path().join("node.json");
    std::fs::write(&path, serde_json::to_vec(&config).expect("JSON")).expect("the configuration is written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_store"))
        .arg("node")
        .arg("--config")
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the node starts");
    let notices = BufReader::new(child.stdout.take().expect("its output"));
    let mut node = Node { child, notices, address: String::new(), digest, _folder: folder };
    match node.says() {
        Some(Notice::Listening { address, .. }) => node.address = address,
        other => panic!("it said {other:?} before it listened"),
    }
    node
}

impl Node {
    /// What it says next; none: it has ended.
    fn says(&mut self) -> Option<Notice> {
        let mut line = String::new();
        let read = self.notices.read_line(&mut line).expect("its output can be read");
        (read > 0).then(|| serde_json::from_str(&line).expect("a notice"))
    }
}

type Connection = Framed<TcpStream, wire::Frames>;

async fn say(node: &Node, version: u16, cluster: &str, role: Role) -> (Connection, Verdict) {
    let stream = TcpStream::connect(&node.address).await.expect("it listens");
    let mut connection = Framed::new(stream, wire::frames());
    let hello = Handshake { version, cluster: cluster.to_owned(), role };
    connection.send(wire::encode(&hello)).await.expect("sent");
    let frame = connection.next().await.expect("an answer").expect("a frame");
    let verdict = wire::decode(&frame).expect("a verdict");
    (connection, verdict)
}

fn peer(node: &Node, to: u64, boot: u64, dial: u64) -> Role {
    Role::Node { node: 2, to, disk: 5, boot, dial, config: node.digest }
}

fn refusal(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Refused { reason } => reason,
        Verdict::Welcome { .. } => panic!("it was let in"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(20), future).await };
    runtime.block_on(limited).expect("the node answers within 20 s")
}

#[test]
fn whoever_means_another_version_cluster_node_or_configuration_is_refused_with_the_reason() {
    let node = start();
    block_on(async {
        let (_, verdict) = say(&node, wire::VERSION + 1, "handshake", Role::Client).await;
        assert_eq!(refusal(&verdict), format!("wire version {} is not {}", wire::VERSION + 1, wire::VERSION));
        let (_, verdict) = say(&node, wire::VERSION, "other", Role::Client).await;
        assert_eq!(refusal(&verdict), "this is cluster 'handshake', not 'other'");
        let (_, verdict) = say(&node, wire::VERSION, "handshake", peer(&node, 3, 1, 1)).await;
        assert_eq!(refusal(&verdict), "this is node 1, not node 3");
        let role = Role::Node { node: 2, to: 1, disk: 5, boot: 1, dial: 1, config: node.digest + 1 };
        let (_, verdict) = say(&node, wire::VERSION, "handshake", role).await;
        assert_eq!(refusal(&verdict), "node 2 is configured for another cluster than node 1");
    });
}

/// A hello may be long under way, and arrive after its sender has given up and dialed again.
#[test]
fn a_late_hello_does_not_displace_the_connection_that_was_dialed_after_it() {
    let node = start();
    block_on(async {
        let (_second, verdict) = say(&node, wire::VERSION, "handshake", peer(&node, 1, 1, 2)).await;
        assert_eq!(verdict, Verdict::Welcome { node: 1 });
        let (_, verdict) = say(&node, wire::VERSION, "handshake", peer(&node, 1, 1, 1)).await;
        assert_eq!(refusal(&verdict), "node 2 has dialed again since");
        let (_, verdict) = say(&node, wire::VERSION, "handshake", peer(&node, 1, 2, 1)).await;
        assert_eq!(verdict, Verdict::Welcome { node: 1 }, "a new life begins to count anew");
    });
}

/// PL2 and FIFO beyond one connection: once a peer has dialed anew, its earlier connection delivers nothing any more.
#[test]
fn what_an_earlier_connection_still_brings_is_dropped() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let node = start_with_peer_at(&listener.local_addr().expect("an address").to_string());
        // node 1 answers on the connection that it dials
        let (stream, _) = listener.accept().await.expect("node 1 dials");
        let mut answers = Framed::new(stream, wire::frames());
        answers.next().await.expect("a hello").expect("a frame");
        answers.send(wire::encode(&Verdict::Welcome { node: 2 })).await.expect("sent");
        let ask = |round| wire::encode(&Message::HeartbeatRequest { round });
        let (mut first, verdict) = say(&node, wire::VERSION, "handshake", peer(&node, 1, 1, 1)).await;
        assert_eq!(verdict, Verdict::Welcome { node: 1 });
        first.send(ask(101)).await.expect("sent");
        assert_eq!(next_answer(&mut answers).await, 101);
        let (mut second, verdict) = say(&node, wire::VERSION, "handshake", peer(&node, 1, 1, 2)).await;
        assert_eq!(verdict, Verdict::Welcome { node: 1 });
        // node 1 reads all of the first connection before it closes it for the frame that is none
        first.send(ask(102)).await.expect("sent");
        first.send(Bytes::from(vec![0xff; 20])).await.expect("sent");
        assert!(first.next().await.is_none_or(|end| end.is_err()), "the first connection is closed");
        second.send(ask(103)).await.expect("sent");
        assert_eq!(next_answer(&mut answers).await, 103, "request 102 came too late");
    });
}

/// The round of the next request that node 1 answers.
async fn next_answer(answers: &mut Connection) -> u64 {
    loop {
        let frame = answers.next().await.expect("node 1 lives").expect("a frame");
        if let Message::HeartbeatReply { round, .. } = wire::decode(&frame).expect("a message") {
            return round;
        }
    }
}

#[test]
fn a_client_is_told_how_many_nodes_have_joined_even_if_it_asks_behind_its_handshake() {
    let node = start();
    block_on(async {
        let stream = TcpStream::connect(&node.address).await.expect("it listens");
        let mut connection = Framed::new(stream, wire::frames());
        let hello = Handshake { version: wire::VERSION, cluster: "handshake".to_owned(), role: Role::Client };
        let body = RequestBody::Operation {
            operation: Operation::Get { key: Key::Integer(1) },
            seen: 0,
            session: None,
        };
        connection.feed(wire::encode(&hello)).await.expect("fed");
        connection.send(wire::encode(&ClientRequest { id: 9, body })).await.expect("sent");
        connection.next().await.expect("a verdict").expect("a frame");
        let frame = connection.next().await.expect("a reply").expect("a frame");
        let reply: ClientReply = wire::decode(&frame).expect("a reply");
        let expected = ReplyBody::Operation(Err(StoreError::NotReady { joined: 1, threshold: 2 }));
        assert_eq!((reply.id, reply.body), (9, expected));
    });
}

/// Messages of peers are believed; by an impossible one an assertion of the core fails, and the node says so before it ends.
#[test]
fn a_core_that_gives_up_says_over_what() {
    let mut node = start();
    let table = |other: u64| Table {
        members: BTreeMap::from([(1, 1), (2, other)]),
        config: node.digest,
        replicas: BTreeMap::from([(1, vec![1, 2])]),
    };
    let tables = [table(5), table(6)];
    block_on(async {
        let (mut connection, verdict) = say(&node, wire::VERSION, "handshake", peer(&node, 1, 1, 1)).await;
        assert_eq!(verdict, Verdict::Welcome { node: 1 });
        for table in tables {
            connection.send(wire::encode(&Message::Table(table))).await.expect("sent");
        }
        assert!(connection.next().await.is_none_or(|end| end.is_err()), "the node is gone");
    });
    let mut last = None;
    while let Some(said) = node.says() {
        last = Some(said);
    }
    let Some(Notice::GaveUp { text }) = last else { panic!("its last words are {last:?}") };
    assert!(text.contains("store/src/core/node.rs"), "{text}");
    assert!(text.contains("there is one lookup table in a cluster's life"), "{text}");
    assert_eq!(node.child.wait().expect("it has ended").signal(), Some(6), "it aborts");
}
