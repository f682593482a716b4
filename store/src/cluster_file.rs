//! A cluster as people write it down: one TOML file for all its nodes, or the same things as flags.
//!
//! ```toml
//! name = "store"            # nodes and clients of another name are refused
//! partitions = 3            # by hash; by range where `split_at` says where ranges begin
//! replication = 3           # nodes that replicate each partition; 3 or, with fewer nodes, all
//! data = "data"             # node N keeps its state in data/node-N
//! preset = { 1 = "one" }    # values that keys hold before the first operation
//!
//! [nodes]                   # where each node listens, for the others and for clients
//! 1 = "127.0.0.1:7001"
//! 2 = "127.0.0.1:7002"
//! 3 = "127.0.0.1:7003"
//!
//! [lease]                   # or `lease = "off"`
//! duration_ms = 1000
//! drift_ppm = 1000
//! ```
//!
//! Everything but `[nodes]` may be left out. All nodes must be given the same: they refuse one another otherwise.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::{
    api::{Key, KeyType, NodeId},
    config::{
        ClockSkew, ClusterConfig, LeaseConfig, NodeConfig, PartitionConfig, Partitioning, ReadMode,
        RoutingMode, SESSION_IDLE_MS, StorageKind, TestOptions, TrimConfig,
    },
};

/// A cluster's description.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// Its name.
    #[serde(default = "default_name")]
    pub name: String,
    /// Where each node listens.
    pub nodes: BTreeMap<NodeId, String>,
    /// The kind of keys.
    #[serde(default = "default_key_type")]
    pub key_type: KeyType,
    /// How many partitions there are; 1, or as many as `split_at` makes.
    pub partitions: Option<u64>,
    /// Whether keys are found by hash or by range.
    pub partitioning: Option<Partitioning>,
    /// First keys of all ranges but the first one, ascending.
    #[serde(default)]
    pub split_at: Vec<WrittenKey>,
    /// Nodes that replicate each partition.
    pub replication: Option<u64>,
    /// Nodes that must have joined before clients are served; all of them.
    pub threshold: Option<u64>,
    /// Heartbeat period.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// Heartbeat periods without an answer after which a node is suspected.
    #[serde(default = "default_missed_rounds")]
    pub missed_rounds: u64,
    /// Leader leases.
    #[serde(default)]
    pub lease: Lease,
    /// After how long a node gives up a request.
    #[serde(default = "default_request_timeout_ms")]
    pub request_timeout_ms: u64,
    /// A client's session that has written nothing for so long expires.
    #[serde(default = "default_session_idle_ms")]
    pub session_idle_ms: u64,
    /// Where state is kept.
    #[serde(default = "default_storage")]
    pub storage: StorageKind,
    /// What a node does with an operation that another one leads.
    #[serde(default = "default_routing")]
    pub routing: RoutingMode,
    /// Who answers reads.
    #[serde(default)]
    pub reads: ReadMode,
    /// When a replica trims its log.
    #[serde(default)]
    pub trimming: TrimConfig,
    /// The folder of all nodes' state: node N has a folder `node-N` in it.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// Values that keys hold before the first operation.
    #[serde(default)]
    pub preset: BTreeMap<String, String>,
}

/// A key as a file has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum WrittenKey {
    /// An integer.
    Integer(i64),
    /// A text.
    Text(String),
}

/// Leader leases as a file has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Lease {
    /// As long as the election timeout, for clocks whose rates are within 0.1 % of real time.
    #[default]
    Usual,
    /// `lease = "off"`.
    Off(Off),
    /// In numbers.
    On(LeaseConfig),
}

/// The word `off`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Off {
    /// No leases.
    Off,
}

fn default_name() -> String {
    "store".to_owned()
}

fn default_key_type() -> KeyType {
    KeyType::Integer
}

fn default_heartbeat_ms() -> u64 {
    100
}

fn default_missed_rounds() -> u64 {
    10
}

fn default_session_idle_ms() -> u64 {
    SESSION_IDLE_MS
}

fn default_request_timeout_ms() -> u64 {
    5000
}

fn default_storage() -> StorageKind {
    StorageKind::Durable
}

/// Clients that people use find the leader themselves.
fn default_routing() -> RoutingMode {
    RoutingMode::Redirect
}

fn default_data() -> PathBuf {
    PathBuf::from("data")
}

impl ClusterFile {
    /// A cluster of these nodes, everything else as it is when nothing is said.
    pub fn of(nodes: BTreeMap<NodeId, String>) -> Self {
        Self {
            name: default_name(),
            nodes,
            key_type: default_key_type(),
            partitions: None,
            partitioning: None,
            split_at: Vec::new(),
            replication: None,
            threshold: None,
            heartbeat_ms: default_heartbeat_ms(),
            missed_rounds: default_missed_rounds(),
            lease: Lease::Usual,
            request_timeout_ms: default_request_timeout_ms(),
            session_idle_ms: SESSION_IDLE_MS,
            storage: default_storage(),
            routing: default_routing(),
            reads: ReadMode::default(),
            trimming: TrimConfig::default(),
            data: default_data(),
            preset: BTreeMap::new(),
        }
    }

    /// Reads a file; an error says where it is wrong.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// What node `id` is told.
    pub fn node(&self, id: NodeId) -> anyhow::Result<NodeConfig> {
        let mut peers = self.nodes.clone();
        let Some(listen) = peers.remove(&id) else {
            let known: Vec<_> = self.nodes.keys().map(ToString::to_string).collect();
            bail!("there is no node {id}: the nodes are {}", known.join(", "));
        };
        let config = NodeConfig {
            node: id,
            listen,
            peers,
            data: self.data.join(format!("node-{id}")),
            trace: None,
            clock: ClockSkew::default(),
            cluster: self.cluster()?,
            test: TestOptions::default(),
        };
        config.check()?;
        Ok(config)
    }

    fn cluster(&self) -> anyhow::Result<ClusterConfig> {
        let nodes = self.nodes.len() as u64;
        let preset = |(key, value): (&String, &String)| {
            let parsed = self.key_type.parse(key);
            let key = parsed.with_context(|| format!("preset key '{key}' is no integer"))?;
            Ok((key, value.clone()))
        };
        Ok(ClusterConfig {
            name: self.name.clone(),
            key_type: self.key_type,
            partitioning: self.partitioning(),
            partitions: self.partitions()?,
            threshold: self.threshold.unwrap_or(nodes),
            heartbeat_ms: self.heartbeat_ms,
            missed_rounds: self.missed_rounds,
            lease: match self.lease {
                Lease::Off(Off::Off) => None,
                Lease::On(lease) => Some(lease),
                Lease::Usual => {
                    Some(LeaseConfig { duration_ms: self.heartbeat_ms * self.missed_rounds, drift_ppm: 1000 })
                }
            },
            request_timeout_ms: self.request_timeout_ms,
            session_idle_ms: self.session_idle_ms,
            storage: self.storage,
            routing: self.routing,
            reads: self.reads,
            trimming: self.trimming,
            preset: self.preset.iter().map(preset).collect::<anyhow::Result<_>>()?,
        })
    }

    /// By hash, where there are several partitions and nobody says where ranges begin.
    fn partitioning(&self) -> Partitioning {
        let several = self.partitions.is_some_and(|count| count > 1) && self.split_at.is_empty();
        self.partitioning.unwrap_or(if several { Partitioning::Hash } else { Partitioning::Range })
    }

    fn partitions(&self) -> anyhow::Result<Vec<PartitionConfig>> {
        let bounds =
            self.split_at.iter().map(|key| key.typed(self.key_type)).collect::<anyhow::Result<Vec<_>>>()?;
        let count = self.partitions.unwrap_or(bounds.len() as u64 + 1);
        ensure!((1..=4096).contains(&count), "{count} partitions: write a number from 1 to 4096");
        match self.partitioning() {
            Partitioning::Range => ensure!(
                count == bounds.len() as u64 + 1,
                "{count} ranges of keys need {} bounds in `split_at`, not {}; or say `partitioning = \"hash\"`",
                count - 1,
                bounds.len()
            ),
            Partitioning::Hash => {
                ensure!(
                    bounds.is_empty(),
                    "`split_at` is for ranges: with hash partitioning say only how many"
                );
            }
        }
        let replication = self.replication.unwrap_or_else(|| 3.min(self.nodes.len() as u64));
        let range = |index: usize| PartitionConfig {
            partition: index as u32 + 1,
            lower: index.checked_sub(1).and_then(|before| bounds.get(before).cloned()),
            upper: bounds.get(index).cloned(),
            replication,
            replicas: Vec::new(),
        };
        Ok((0..count as usize).map(range).collect())
    }
}

impl WrittenKey {
    fn typed(&self, key_type: KeyType) -> anyhow::Result<Key> {
        match (self, key_type) {
            (Self::Integer(number), KeyType::Integer) => Ok(Key::Integer(*number)),
            (Self::Text(text), KeyType::String) => Ok(Key::String(text.clone())),
            (Self::Integer(number), KeyType::String) => {
                bail!("the bound {number} is no text: put it in quotes, or say `key_type = \"integer\"`")
            }
            (Self::Text(text), KeyType::Integer) => {
                bail!("the bound '{text}' is no integer: write a number, or say `key_type = \"string\"`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "[nodes]\n1 = \"a:1\"\n2 = \"b:2\"\n3 = \"c:3\"\n";

    fn node(above: &str) -> anyhow::Result<NodeConfig> {
        toml::from_str::<ClusterFile>(&format!("{above}\n{NODES}"))?.node(2)
    }

    fn refusal(above: &str) -> String {
        format!("{:#}", node(above).expect_err("it is refused"))
    }

    #[test]
    fn a_list_of_nodes_is_a_cluster() {
        let config = node("").expect("nothing is wrong");
        assert_eq!((config.node, config.listen.as_str()), (2, "b:2"));
        assert_eq!(config.peers, BTreeMap::from([(1, "a:1".to_owned()), (3, "c:3".to_owned())]));
        assert_eq!(config.data, PathBuf::from("data/node-2"));
        let cluster = &config.cluster;
        assert_eq!((cluster.threshold, cluster.partitions.len()), (3, 1));
        assert_eq!((cluster.partitions[0].replication, cluster.partitioning), (3, Partitioning::Range));
        assert_eq!(cluster.lease, Some(LeaseConfig { duration_ms: 1000, drift_ppm: 1000 }));
        let same = ClusterFile::of(toml::from_str::<ClusterFile>(NODES).expect("TOML").nodes);
        assert_eq!(same.node(2).expect("nothing is wrong"), config, "flags alone come to the same");
    }

    #[test]
    fn partitions_are_by_hash_or_between_bounds() {
        let hash = node("partitions = 4\nreplication = 2").expect("nothing is wrong").cluster;
        assert_eq!((hash.partitioning, hash.partitions.len()), (Partitioning::Hash, 4));
        assert_eq!(hash.partitions[3].replication, 2);
        let range = node("split_at = [10, 20]\nlease = \"off\"").expect("nothing is wrong").cluster;
        let shown: Vec<_> = range.partitions.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["below 10", "[10, 20)", "from 20"]);
        assert_eq!((range.partitioning, range.lease), (Partitioning::Range, None));
        assert_eq!(
            refusal("partitions = 4\npartitioning = \"range\""),
            "4 ranges of keys need 3 bounds in `split_at`, not 0; or say `partitioning = \"hash\"`"
        );
        assert!(refusal("split_at = [10]\npartitioning = \"hash\"").starts_with("`split_at` is for ranges"));
        assert!(refusal("split_at = [\"m\"]").starts_with("the bound 'm' is no integer"));
        assert!(refusal("split_at = [20, 10]").contains("is empty: 20 is not below 10"));
        assert!(refusal("partitions = 0").starts_with("0 partitions"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        assert!(refusal("lease = \"on\"").contains("line 1, column 9"));
        assert!(refusal("replicas = 3").contains("unknown field `replicas`"));
        assert!(refusal("replication = 4").contains("wants 4 replicas, but only 3 nodes are waited for"));
        assert_eq!(refusal("preset = { one = \"1\" }"), "preset key 'one' is no integer");
        let file = toml::from_str::<ClusterFile>(NODES).expect("TOML");
        assert_eq!(
            format!("{:#}", file.node(4).expect_err("nobody")),
            "there is no node 4: the nodes are 1, 2, 3"
        );
    }
}
