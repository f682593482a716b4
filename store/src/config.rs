//! What a node is told before it starts: the cluster that it belongs to, its own place, and test options.
//!
//! One JSON file per node (`store node --config FILE`). Durations are in milliseconds.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::api::{Key, KeyType, NodeId, PartitionId};

/// Everything that one node is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// This node.
    pub node: NodeId,
    /// Where it listens, for nodes and clients alike; port 0 picks one, which the ready line reports.
    pub listen: String,
    /// Where it reaches every other node (under test: the proxy of that directed link).
    pub peers: BTreeMap<NodeId, String>,
    /// Its folder for durable state; made if missing.
    pub data: PathBuf,
    /// Where it appends trace events, one JSON object a line; none without.
    pub trace: Option<PathBuf>,
    /// Its clock before any control command.
    #[serde(default)]
    pub clock: ClockSkew,
    /// The cluster: the same for every node.
    pub cluster: ClusterConfig,
    /// What only tests ask for.
    #[serde(default)]
    pub test: TestOptions,
}

/// A cluster's static configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Name; nodes of another cluster are refused.
    pub name: String,
    /// The kind of keys.
    pub key_type: KeyType,
    /// The partitions in ascending order of their bounds.
    pub partitions: Vec<PartitionConfig>,
    /// How many nodes must have joined before the lookup table is made and clients are served.
    pub threshold: u64,
    /// Heartbeat period.
    pub heartbeat_ms: u64,
    /// Heartbeat periods without a reply after which a node is suspected: the election timeout is their product.
    pub missed_rounds: u64,
    /// Leader leases; none: every read goes through the log.
    pub lease: Option<LeaseConfig>,
    /// After how long a node gives up a forwarded request as indefinite.
    pub request_timeout_ms: u64,
    /// Where state is kept.
    pub storage: StorageKind,
    /// Values that keys hold before the first operation.
    #[serde(default)]
    pub preset: Vec<(Key, String)>,
}

/// One partition: the keys in `[lower, upper)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionConfig {
    /// Number, from 1.
    pub partition: PartitionId,
    /// First key; none: unbounded.
    pub lower: Option<Key>,
    /// First key above; none: unbounded.
    pub upper: Option<Key>,
    /// How many nodes replicate it.
    pub replication: u64,
    /// The nodes that replicate it; empty: chosen at bootstrap, round robin over the nodes that joined.
    #[serde(default)]
    pub replicas: Vec<NodeId>,
}

/// Leader leases (Raft dissertation, section 6.4, with bounded clock rates).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseConfig {
    /// How long a grant lasts on the grantor's clock (D). At most one election timeout.
    pub duration_ms: u64,
    /// Bound on how far a clock's rate may be from 1, in parts per million (rho).
    pub drift_ppm: u64,
}

/// Where a node keeps its log and promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// On disk, synced before it is acknowledged.
    Durable,
    /// In the process: a killed node stays dead, since it would come back without its promises.
    Memory,
}

/// How a node's clock differs from the machine's: `local = common * (1 + rate_ppm / 1e6) + offset`, anchored so that a
/// change of rate does not make the clock jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockSkew {
    /// Rate error in parts per million: 1000 means 0.1 % fast.
    #[serde(default)]
    pub rate_ppm: i64,
    /// Offset in milliseconds.
    #[serde(default)]
    pub offset_ms: i64,
}

/// What only tests ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestOptions {
    /// Keep batches in the process until they are synced, so that SIGKILL loses what was not.
    #[serde(default)]
    pub lose_unsynced: bool,
    /// A planted bug.
    #[serde(default)]
    pub mutant: Option<Mutant>,
}

/// Planted bugs, chosen at run time, so that the checks can be shown to find them. Each changes a line or two, and tells in
/// the trace when it has changed what happened. The controls change code, but not behaviour: they must stay green.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mutant {
    /// A holder counts its lease as if every clock ran at the same rate (tikv 964).
    LeaseWithoutDriftMargin,
    /// A leader that was deposed goes on answering reads from its own state (hashicorp/raft 108).
    DeposedLeaderServesReads,
    /// Messages and replies that need a persist leave before it is synced (etcd 14370, nats 7564). In the node's driver.
    AcknowledgeBeforeSync,
    /// A new leader adopts a log of the highest accepted ballot, whatever its length.
    AdoptByBallotOnly,
    /// A new leader adopts the longest log, whatever its ballot.
    AdoptByLengthOnly,
    /// A new leader does not raise its own accepted ballot when it adopts (a line that the published course text omits).
    AcceptedBallotNotSet,
    /// A promise leaves before it is durable (robustmq 2039).
    PromiseNotDurable,
    /// A promise that is repeated is counted again (xraft 27).
    PromiseCountedTwice,
    /// An AcceptSync of an earlier session is acted upon.
    StaleAcceptSync,
    /// A candidate promises itself although its own grant to another still runs.
    CandidateIgnoresOwnGrant,
    /// A restarted acceptor forgets that it may have granted the lease.
    RestartForgetsGrant,
    /// A new leader answers reads before the log that it adopted is applied (etcd 7331, tikv 9239).
    FastReadBeforeAdoptedSuffix,
    /// A leader counts its own log before it is durable.
    LeaderCountsUnsynced,
    /// A ballot is announced before it is durable, and may be used again after a restart (phxpaxos 145).
    AnnouncedNotDurable,
    /// A replica takes over only when it is connected to all others, not to a quorum: no election while one is dead.
    ElectionNeedsAll,
    /// Control: decides by counting who has an entry, not by sorting lengths.
    ControlDecideByCounting,
    /// Control: sends every Prepare twice.
    ControlPrepareTwice,
}

impl Mutant {
    /// Whether it changes code, but not behaviour.
    pub fn is_control(self) -> bool {
        matches!(self, Self::ControlDecideByCounting | Self::ControlPrepareTwice)
    }
}

impl ClusterConfig {
    /// Heartbeat period.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// Time after which a silent node is suspected, while the period has not been lengthened.
    pub fn election_timeout(&self) -> Duration {
        self.heartbeat() * self.missed_rounds as u32
    }

    /// Refuses what no cluster can run with.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.heartbeat_ms > 0 && self.missed_rounds > 0,
            "heartbeat_ms and missed_rounds must be above 0"
        );
        ensure!(!self.partitions.is_empty(), "a cluster needs a partition");
        if let Some(lease) = self.lease {
            let limit = self.heartbeat_ms * self.missed_rounds;
            ensure!(
                lease.duration_ms > 0 && lease.duration_ms <= limit,
                "a lease of {} ms is not within the election timeout of {limit} ms",
                lease.duration_ms
            );
            ensure!(lease.drift_ppm < 1_000_000, "drift_ppm must be below 1000000");
        }
        for partition in &self.partitions {
            let copies = partition.replicas.len() as u64;
            ensure!(partition.replication > 0, "partition {} needs a replica", partition.partition);
            ensure!(
                copies == 0 || copies == partition.replication,
                "partition {} names {copies} replicas, not {}",
                partition.partition,
                partition.replication
            );
            ensure!(
                copies > 0 || partition.replication <= self.threshold,
                "partition {} wants {} replicas, but only {} nodes are waited for",
                partition.partition,
                partition.replication,
                self.threshold
            );
        }
        Ok(())
    }

    /// A digest of everything that the nodes of a cluster must be told alike.
    pub fn digest(&self) -> u64 {
        let text = serde_json::to_string(self).expect("a configuration can be written as JSON");
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }

    /// The partition that holds `key`, if any.
    pub fn partition_of(&self, key: &Key) -> Option<PartitionId> {
        self.partitions.iter().find(|partition| partition.contains(key)).map(|partition| partition.partition)
    }
}

impl PartitionConfig {
    /// Whether `key` lies in `[lower, upper)`.
    pub fn contains(&self, key: &Key) -> bool {
        self.lower.as_ref().is_none_or(|lower| lower <= key)
            && self.upper.as_ref().is_none_or(|upper| key < upper)
    }
}

impl NodeConfig {
    /// Reads a configuration file; an error says where it is wrong.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        config.cluster.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }
}
