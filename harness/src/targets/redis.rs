//! Redis: node 1 is the primary, the others are its replicas, each behind a link of its own. A replica is asked like any node:
//! it answers reads from what it has, and refuses to write.
//!
//! It is also the example of how little a target takes (see `README.md`).

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use checker::history::Function;
use futures::future::BoxFuture;
use store::api::NodeId;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    Client, Launch, Listens, Pipes, Place, Says, Target, answered, only_asking, reserved, until_ready,
};
use crate::history_writer::{Ended, Finished};

/// The first of the nodes, which alone writes.
const PRIMARY: NodeId = 1;

/// How long a node that starts may take to say whether it serves clients.
const PATIENCE: Duration = Duration::from_millis(500);

/// Swaps if the value is the expected one (an empty list of these: if there is none); otherwise returns what it is.
const SWAP: &str = "local seen = redis.call('GET', KEYS[1]) \
                    if seen == (ARGV[2] or false) then return redis.call('SET', KEYS[1], ARGV[1]) end \
                    return {seen}";

/// A primary and its replicas.
#[derive(Debug)]
pub struct Redis {
    bin: String,
    run_dir: PathBuf,
    /// Where each node listens, and the sockets that keep these ports.
    nodes: BTreeMap<NodeId, (SocketAddr, TcpSocket)>,
    /// Where each replica reaches the primary.
    primary: BTreeMap<NodeId, SocketAddr>,
}

impl Redis {
    /// Nodes that are each this program; `peers` says where each reaches the others.
    pub fn new(
        bin: &str,
        run_dir: &Path,
        peers: &BTreeMap<NodeId, BTreeMap<NodeId, SocketAddr>>,
    ) -> io::Result<Self> {
        let mut nodes = BTreeMap::new();
        for node in peers.keys() {
            let port = reserved()?;
            nodes.insert(*node, (port.local_addr()?, port));
        }
        let primary = peers.iter().filter_map(|(node, links)| Some((*node, *links.get(&PRIMARY)?))).collect();
        Ok(Self { bin: bin.to_owned(), run_dir: run_dir.to_owned(), nodes, primary })
    }
}

impl Target for Redis {
    fn launch(&self, node: NodeId) -> io::Result<Launch> {
        let (data, address) = (self.data(node), self.nodes[&node].0);
        std::fs::create_dir_all(&data)?;
        let (dir, port) = (data.to_string_lossy().into_owned(), address.port().to_string());
        let flags =
            ["--bind", "127.0.0.1", "--port", &port, "--dir", &dir, "--save", "", "--appendonly", "yes"];
        let sync = ["--appendfsync", "always", "--repl-diskless-sync-delay", "0"];
        let mut command: Vec<String> =
            [&[self.bin.as_str()], &flags[..], &sync].concat().into_iter().map(str::to_owned).collect();
        if let Some(primary) = self.primary.get(&node) {
            let (ip, port) = (primary.ip().to_string(), primary.port().to_string());
            command.extend(["--replicaof".to_owned(), ip, port]);
        }
        Ok(Launch {
            command,
            listens: Some(Listens { peers: address, clients: address }),
            ..Launch::default()
        })
    }

    fn follow(&self, pipes: Pipes, says: Says) -> BoxFuture<'static, ()> {
        let address = self.nodes[&says.node()].0;
        // it says LOADING while it reads its disk
        until_ready(pipes, says, move || async move {
            matches!(timeout(PATIENCE, Line::open(address)).await, Ok(Ok(_)))
        })
    }

    fn clients(&self, addresses: BTreeMap<NodeId, SocketAddr>, numbers: &[u64]) -> Vec<Box<dyn Client>> {
        let addresses = Arc::new(addresses);
        let client = |_: &u64| -> Box<dyn Client> {
            Box::new(RedisClient { addresses: Arc::clone(&addresses), lines: BTreeMap::new() })
        };
        numbers.iter().map(client).collect()
    }

    fn data(&self, node: NodeId) -> PathBuf {
        self.run_dir.join("data").join(format!("node-{node}"))
    }
}

/// A client with a connection to each node that it has asked.
struct RedisClient {
    addresses: Arc<BTreeMap<NodeId, SocketAddr>>,
    lines: BTreeMap<NodeId, Line>,
}

impl RedisClient {
    async fn ask(&mut self, node: NodeId, function: &Function) -> Ended {
        let mut line = match self.lines.remove(&node) {
            Some(line) => line,
            None => match Line::open(self.addresses[&node]).await {
                Ok(line) => line,
                Err(error) => return Ended::Fail(format!("node {node} could not be reached: {error}")),
            },
        };
        let key = function.key().to_string();
        let command: Vec<&str> = match function {
            Function::Get { .. } => vec!["GET", &key],
            Function::Put { value, .. } => vec!["SET", &key, value],
            Function::Delete { .. } => vec!["DEL", &key],
            Function::Cas { expected, new, .. } => {
                ["EVAL", SWAP, "1", &key, new].into_iter().chain(expected.as_deref()).collect()
            }
        };
        let answer = match line.ask(&command).await {
            Ok(answer) => answer,
            Err(error) => return Ended::Info(format!("the connection broke: {error}")),
        };
        self.lines.insert(node, line);
        let (returned, swapped) = match (function, answer) {
            (Function::Get { .. }, Answer::Value(value)) => (value, None),
            (Function::Cas { .. }, Answer::Value(seen)) => (seen, Some(false)),
            (Function::Cas { .. }, Answer::Done) => (None, Some(true)),
            (Function::Put { .. } | Function::Delete { .. }, Answer::Done) => (None, None),
            // a replica writes nothing, and neither does who loads
            (_, Answer::Error(words)) if words.starts_with("READONLY") || words.starts_with("LOADING") => {
                return Ended::Fail(words);
            }
            (_, Answer::Error(words)) => return Ended::Info(words),
            _ => return Ended::Info("an answer that means nothing here".to_owned()),
        };
        answered(node, returned, swapped)
    }
}

impl Client for RedisClient {
    fn call<'a>(
        &'a mut self,
        place: Place,
        function: &'a Function,
        limit: Duration,
    ) -> BoxFuture<'a, Finished> {
        only_asking(place, |node| async move {
            let asked = timeout(limit, self.ask(node, function)).await;
            asked.unwrap_or_else(|_| Ended::Info("no answer in time".to_owned()))
        })
    }
}

/// A connection.
struct Line(BufReader<TcpStream>);

/// What is answered, as far as it is asked for here.
enum Answer {
    Done,
    /// A value, or that there is none.
    Value(Option<String>),
    Error(String),
}

impl Line {
    /// A connection on which the node has answered: whoever dials a dead one has reached the proxy alone.
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut line = Self(BufReader::new(stream));
        match line.ask(&["PING"]).await? {
            Answer::Done => Ok(line),
            Answer::Error(words) => Err(io::Error::other(words)),
            Answer::Value(_) => Err(io::Error::other("it did not say PONG")),
        }
    }

    /// Asks, as RESP has it: an array of texts with their lengths.
    async fn ask(&mut self, command: &[&str]) -> io::Result<Answer> {
        let texts = command.iter().map(|text| format!("${}\r\n{text}\r\n", text.len()));
        let text = format!("*{}\r\n", command.len()) + &texts.collect::<String>();
        self.0.write_all(text.as_bytes()).await?;
        let mut head = self.head().await?;
        // what a swap saw comes alone in a list, so that it is told apart from OK; nothing in it is an empty list
        if head == "*1" {
            head = self.head().await?;
        }
        match head.split_at_checked(1) {
            Some(("+" | ":", _)) => Ok(Answer::Done),
            Some(("-", words)) => Ok(Answer::Error(words.to_owned())),
            Some(("$", "-1") | ("*", "0")) => Ok(Answer::Value(None)),
            Some(("$", length)) => {
                let length: usize = length.parse().map_err(io::Error::other)?;
                let mut value = vec![0; length + 2];
                self.0.read_exact(&mut value).await?;
                value.truncate(length);
                String::from_utf8(value).map(|value| Answer::Value(Some(value))).map_err(io::Error::other)
            }
            _ => Err(io::Error::other(format!("{head:?} is no answer"))),
        }
    }

    async fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        if self.0.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(head.trim_end().to_owned())
    }
}
