//! What only whole node processes show: their disks, their sockets, and what they refuse.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use store::{
    api::{Key, KeyType, NodeId, Operation, PartitionStatus},
    client::Client,
    config::{
        ClockSkew, ClusterConfig, LeaseConfig, NodeConfig, PartitionConfig, Partitioning, ReadMode,
        RoutingMode, SESSION_IDLE_MS, StorageKind, TestOptions, TrimConfig,
    },
    node::{control::Notice, wire},
};

const NAME: &str = "processes";

fn cluster(nodes: NodeId) -> ClusterConfig {
    let partition = PartitionConfig {
        partition: 1,
        lower: None,
        upper: None,
        replication: nodes,
        replicas: (1..=nodes).collect(),
    };
    ClusterConfig {
        name: NAME.to_owned(),
        key_type: KeyType::Integer,
        partitioning: Partitioning::Range,
        partitions: vec![partition],
        threshold: nodes,
        heartbeat_ms: 50,
        missed_rounds: 10,
        lease: Some(LeaseConfig { duration_ms: 500, drift_ppm: 1000 }),
        request_timeout_ms: 2000,
        session_idle_ms: SESSION_IDLE_MS,
        storage: StorageKind::Durable,
        routing: RoutingMode::Forward,
        reads: ReadMode::Linearizable,
        trimming: TrimConfig::default(),
        preset: Vec::new(),
    }
}

/// Nodes that can be started on the same folders and addresses again.
struct Cluster {
    folder: tempfile::TempDir,
    addresses: BTreeMap<NodeId, String>,
    running: BTreeMap<NodeId, Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.running.keys().copied().collect::<Vec<_>>() {
            self.kill(node);
        }
    }
}

impl Cluster {
    /// The ports are found by binding them all at once, and let go.
    fn new(nodes: NodeId) -> Self {
        let bound: Vec<_> =
            (1..=nodes).map(|node| (node, TcpListener::bind("127.0.0.1:0").expect("a port"))).collect();
        let address = |listener: &TcpListener| listener.local_addr().expect("an address").to_string();
        let addresses = bound.iter().map(|(node, listener)| (*node, address(listener))).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, addresses, running: BTreeMap::new() }
    }

    /// Starts a node and waits until it listens; what it says on standard error when it ends before that.
    fn start(&mut self, node: NodeId, cluster: &ClusterConfig) -> Result<(), String> {
        let config = self.folder.path().join(format!("node-{node}.json"));
        self.configure(node, cluster, &config);
        let mut child = Command::new(env!("CARGO_BIN_EXE_store"))
            .arg("node")
            .arg("--config")
            .arg(config)
            .env("RUST_LOG", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output"));
        let listens = |line: &str| matches!(serde_json::from_str(line), Ok(Notice::Listening { .. }));
        let mut line = String::new();
        while !listens(&line) {
            line.clear();
            lines.read_line(&mut line).expect("its output can be read");
            if line.is_empty() {
                let mut said = String::new();
                child.stderr.take().expect("its log").read_to_string(&mut said).expect("its log can be read");
                let code = child.wait().expect("it has ended").code();
                return Err(format!("exit code {code:?}: {said}"));
            }
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        self.running.insert(node, child);
        Ok(())
    }

    fn configure(&self, node: NodeId, cluster: &ClusterConfig, path: &Path) {
        let mut peers = self.addresses.clone();
        let listen = peers.remove(&node).expect("a known node");
        let config = NodeConfig {
            node,
            listen,
            peers,
            data: self.folder.path().join(format!("data-{node}")),
            trace: None,
            clock: ClockSkew::default(),
            cluster: cluster.clone(),
            test: TestOptions::default(),
        };
        std::fs::write(path, serde_json::to_vec(&config).expect("JSON"))
            .expect("the configuration is written");
    }

    fn kill(&mut self, node: NodeId) {
        let mut child = self.running.remove(&node).expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Asks until it is answered.
    async fn put(&self, node: NodeId, key: i64, value: &str) {
        loop {
            if let Ok(mut client) = Client::connect(&self.addresses[&node], NAME).await
                && let Ok(_) =
                    client.call(Operation::Put { key: Key::Integer(key), value: value.into() }).await
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A node that does not lead.
    async fn follower(&self) -> NodeId {
        for node in self.running.keys() {
            if self.group(*node).await.is_some_and(|group| group.role == "follower") {
                return *node;
            }
        }
        panic!("who has no leader has answered nobody")
    }

    async fn group(&self, node: NodeId) -> Option<PartitionStatus> {
        let mut client = Client::connect(&self.addresses[&node], NAME).await.ok()?;
        client.status().await.ok()?.partitions.into_iter().next()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(20), future).await };
    runtime.block_on(limited).expect("done within 20 s")
}

/// One message brings a follower up to date, and it may be longer than any frame of a client.
#[test]
fn a_log_suffix_above_the_frame_limit_still_brings_a_follower_up_to_date() {
    let config = cluster(3);
    let mut nodes = Cluster::new(3);
    (1..=3).for_each(|node| nodes.start(node, &config).expect("it starts"));
    block_on(async {
        nodes.put(1, 0, "first").await;
        let follower = nodes.follower().await;
        nodes.kill(follower);
        let value = "x".repeat(1 << 20);
        let enough = wire::MAX_FRAME as i64 / (1 << 20) + 1;
        let alive = if follower == 1 { 2 } else { 1 };
        for key in 1..=enough {
            nodes.put(alive, key, &value).await;
        }
        nodes.start(follower, &config).expect("it starts");
        loop {
            let group = nodes.group(follower).await;
            if group
                .is_some_and(|group| group.log_length > enough as u64 && group.decided == group.log_length)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// What all nodes must be told alike is agreed on when the cluster is made, and stays with the data.
#[test]
fn a_node_that_is_told_another_lease_or_other_partitions_than_its_data_belong_to_does_not_start() {
    let config = cluster(1);
    let mut nodes = Cluster::new(1);
    nodes.start(1, &config).expect("it starts");
    block_on(nodes.put(1, 1, "one"));
    nodes.kill(1);
    let mut other_lease = config.clone();
    other_lease.lease = Some(LeaseConfig { duration_ms: 400, drift_ppm: 1000 });
    let mut no_lease = config.clone();
    no_lease.lease = None;
    let mut other_bounds = config.clone();
    other_bounds.partitions[0].upper = Some(Key::Integer(100));
    for other in [other_lease, no_lease, other_bounds] {
        let refusal = nodes.start(1, &other).expect_err("it is another cluster's");
        assert!(refusal.starts_with("exit code Some(4)"), "{refusal}");
        assert!(refusal.contains("was started with another configuration"), "{refusal}");
    }
    nodes.start(1, &config).expect("with the first configuration it starts again");
}
