//! A cluster of three node processes on this machine, for whoever measures it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    ops::{Deref, DerefMut},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::{
    api::{KeyType, NodeId, PartitionId},
    client::Cluster,
    config::{
        ClockSkew, ClusterConfig, LeaseConfig, NodeConfig, PartitionConfig, Partitioning, ReadMode,
        RoutingMode, SESSION_IDLE_MS, StorageKind, TestOptions, TrimConfig,
    },
    directory::Directory,
    node::control::Notice,
};

/// How many nodes there are. Each replicates everything.
pub const NODES: NodeId = 3;

/// Name of the cluster.
pub const NAME: &str = "bench";

/// How long nodes may take to elect leaders.
const ELECTION: Duration = Duration::from_secs(20);

/// How long a node may take to say what the cluster is like.
const ANSWER: Duration = Duration::from_secs(5);

/// What the cluster is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Where state is kept.
    pub storage: StorageKind,
    /// Whether leaders answer reads under leases.
    pub leases: bool,
    /// Partitions, by hash.
    pub partitions: PartitionId,
}

/// A process; killed when dropped.
#[derive(Debug)]
pub struct Process(pub Child);

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running node.
#[derive(Debug)]
pub struct NodeProcess {
    /// The process.
    pub child: Process,
    /// Where it listens.
    pub address: String,
    /// It ends when this is closed.
    _stdin: Option<ChildStdin>,
}

/// Starts the nodes, node 1 first, as processes of `program`, which knows `node --config`; what they keep is in `folder`. Their
/// ports are found by binding, and kept until all are known.
pub async fn start(program: &Path, folder: &Path, shape: Shape) -> anyhow::Result<Vec<NodeProcess>> {
    std::fs::create_dir_all(folder)?;
    let mut listeners = BTreeMap::new();
    for node in 1..=NODES {
        listeners.insert(node, TcpListener::bind("127.0.0.1:0").await?);
    }
    let addresses: BTreeMap<NodeId, String> = listeners
        .iter()
        .map(|(node, listener)| Ok((*node, listener.local_addr()?.to_string())))
        .collect::<std::io::Result<_>>()?;
    drop(listeners);
    let mut nodes = Vec::new();
    for node in 1..=NODES {
        let config = NodeConfig {
            node,
            listen: addresses[&node].clone(),
            peers: addresses
                .iter()
                .filter(|(peer, _)| **peer != node)
                .map(|(k, v)| (*k, v.clone()))
                .collect(),
            data: folder.join(format!("node-{node}")),
            trace: None,
            clock: ClockSkew::default(),
            cluster: cluster(shape),
            test: TestOptions::default(),
        };
        let path = folder.join(format!("node-{node}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
        nodes.push(spawn(program, &path)?);
    }
    Ok(nodes)
}

fn spawn(program: &Path, config: &Path) -> anyhow::Result<NodeProcess> {
    let mut command = Command::new(program);
    command.args(["node", "--config"]).arg(config).env("RUST_LOG", "error");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = Process(child.with_context(|| format!("cannot start {}", program.display()))?);
    let stdin = child.stdin.take();
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().context("the node's output")?);
    lines.read_line(&mut line)?;
    let Notice::Listening { address, .. } = serde_json::from_str(&line).context("the node did not start")?
    else {
        anyhow::bail!("the node said {line} before it listened");
    };
    std::thread::spawn(move || drop(std::io::copy(&mut lines, &mut std::io::sink())));
    Ok(NodeProcess { child, address, _stdin: stdin })
}

fn cluster(shape: Shape) -> ClusterConfig {
    let partition = |partition| PartitionConfig {
        partition,
        lower: None,
        upper: None,
        replication: NODES,
        replicas: (1..=NODES).collect(),
    };
    ClusterConfig {
        name: NAME.to_owned(),
        key_type: KeyType::Integer,
        partitioning: Partitioning::Hash,
        partitions: (1..=shape.partitions).map(partition).collect(),
        threshold: NODES,
        heartbeat_ms: 100,
        missed_rounds: 10,
        lease: shape.leases.then_some(LeaseConfig { duration_ms: 1000, drift_ppm: 1000 }),
        request_timeout_ms: 5000,
        session_idle_ms: SESSION_IDLE_MS,
        storage: shape.storage,
        routing: RoutingMode::Forward,
        reads: ReadMode::Linearizable,
        trimming: TrimConfig::default(),
        preset: Vec::new(),
    }
}

/// What a node says of the cluster as soon as all its partitions have leaders.
pub async fn when_led(cluster: &str, addresses: &[String]) -> anyhow::Result<(Directory, String)> {
    let led = async {
        loop {
            let found = Cluster::look_up(cluster, addresses, ANSWER, |_| ()).await?;
            let partitions = &found.0.partitions;
            if !partitions.is_empty() && partitions.iter().all(|partition| partition.leader.is_some()) {
                return anyhow::Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let late = || format!("not every partition has a leader within {} s", ELECTION.as_secs());
    tokio::time::timeout(ELECTION, led).await.with_context(late)?
}
