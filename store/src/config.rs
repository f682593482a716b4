//! What a node is told before it starts: the cluster that it belongs to, its own place, and test options.
//!
//! One JSON file per node (`store node --config FILE`). Durations are in milliseconds.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::api::{Key, KeyType, NodeId, Operation, PartitionId};

/// What partitions with their bounds and replicas may take: one answer to a client names them all.
const MOST_PARTITION_BYTES: usize = 2 << 20;

/// The longest log that may be kept for those that lag: one message carries it, with room for what is not decided yet.
pub const MOST_LOG_BYTES: u64 = 256 << 20;

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
    /// How a key finds its partition.
    #[serde(default, skip_serializing_if = "Partitioning::is_default")]
    pub partitioning: Partitioning,
    /// The partitions: of ranges in ascending order of their bounds.
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
    /// A client's session that has written nothing for so long expires.
    #[serde(default = "default_session_idle_ms")]
    pub session_idle_ms: u64,
    /// Where state is kept.
    pub storage: StorageKind,
    /// What a node does with an operation that another node leads.
    #[serde(default)]
    pub routing: RoutingMode,
    /// Who answers reads.
    #[serde(default)]
    pub reads: ReadMode,
    /// When a replica trims its log.
    #[serde(default)]
    pub trimming: TrimConfig,
    /// Values that keys hold before the first operation.
    #[serde(default)]
    pub preset: Vec<(Key, String)>,
}

/// How a key finds its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partitioning {
    /// By the bounds of the partitions.
    #[default]
    Range,
    /// By a hash of the key, modulo the number of partitions: FNV-1a (64 bits) of the eight bytes of an integer, the most
    /// significant one first, or of the bytes of a text. The remainder is a position in the list of partitions, which have no
    /// bounds.
    Hash,
}

impl Partitioning {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The partition that holds `key`, if any.
    pub fn place<'a>(
        self,
        key: &Key,
        mut partitions: impl ExactSizeIterator<Item = &'a PartitionConfig>,
    ) -> Option<PartitionId> {
        let found = match self {
            Self::Range => partitions.find(|partition| partition.contains(key)),
            Self::Hash => {
                let count = partitions.len() as u64;
                let position = hash(key).checked_rem(count)?;
                partitions.nth(position as usize)
            }
        };
        found.map(|partition| partition.partition)
    }
}

/// The same number for a key everywhere and always.
pub(crate) fn hash(key: &Key) -> u64 {
    match key {
        Key::Integer(number) => fnv_1a(&number.to_be_bytes()),
        Key::String(text) => fnv_1a(text.as_bytes()),
    }
}

/// One partition: by range the keys in `[lower, upper)`.
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

/// When a replica makes a snapshot and trims its log. A snapshot writes the keys that have changed since the one before, at
/// most as much as the log between them: so what is written is at most doubled.
///
/// The partitions of a cluster share these bytes, in equal parts of at least 64 KiB: so what a node keeps, and begins each segment
/// of its log on disk with, is about the same however many partitions it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrimConfig {
    /// Bytes of entries that are applied from one snapshot to the next; in memory 16 KiB at the most, unless none are
    /// kept beyond it.
    pub snapshot_after_bytes: u64,
    /// Bytes of entries that are kept, beyond the snapshot, for members that lag behind. Who lags more is sent the keys.
    pub keep_log_bytes: u64,
}

impl Default for TrimConfig {
    fn default() -> Self {
        Self { snapshot_after_bytes: 4 << 20, keep_log_bytes: 16 << 20 }
    }
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

/// What a node does with a client's operation for a partition that another node leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingMode {
    /// It hands the operation to the leader, and waits for one while none is known.
    #[default]
    Forward,
    /// It refuses, at once, and says who leads: the client asks there.
    Redirect,
}

/// Who answers reads, and what they promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// The leader, under its lease or through the log: reads are linearizable.
    #[default]
    Linearizable,
    /// Any replica, from what it has applied, as soon as that is as much as the client has seen. Each partition is
    /// sequentially consistent: all its operations have one order, that of the log, in which the operations of each client
    /// stand as it asked them; reads may be older than what other clients have been told. Writes stay linearizable.
    Local,
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
    /// Die, as of SIGKILL, in the middle of starting on a disk: what is on it was read, the new boot's number is written and not yet
    /// synced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub die_in_recovery: bool,
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
    /// A leader that hands over keeps its hold, and goes on answering reads until it ends (tikv 1593).
    LeaseKeptAcrossTransfer,
    /// A leader whose log begins too late for a follower sends what it has, as if that were all (omnipaxos 0.2.4).
    TrimmedSentAsWhole,
    /// A fetch does not end when its snapshot is there, or the log is longer already: what still comes replaces it (camunda 6092).
    LateSnapshotTruncates,
    /// A snapshot's index becomes durable before its keys (etcd 13766).
    SnapshotIndexBeforeKeys,
    /// A leader does not look whether a session's write was carried out already: a client that asks again writes again.
    SessionForgotten,
    /// A snapshot that is handed to another leaves the sessions out, so that it does not know what was carried out.
    SessionsNotInSnapshot,
    /// A promise of an earlier ballot of the same leader, which comes late, is counted for the present one (little-raft 44).
    StalePromiseCounted,
    /// A follower cuts its log at its own decided index, wherever the entries that it is sent begin.
    CutAtOwnDecided,
    /// Half of an even number of replicas is a quorum: (N+1)/2, rounded down.
    QuorumOfHalf,
    /// A leader takes over the decided index of a promise that comes late (omnipaxos 172).
    DecidedOfLatePromise,
    /// A follower acknowledges entries before they are durable.
    AcceptedNotDurable,
    /// A holder counts its lease from when the grant came, not from when it was asked for.
    LeaseFromReplyTime,
    /// A holder counts the grants of one replica less than a quorum.
    HoldByMinority,
    /// An acceptor counts its grant by the holder's clock (nebula 2723).
    GrantByHoldersClock,
    /// An acceptor promises another although its grant runs.
    AcceptorIgnoresGrant,
    /// A leader answers reads alone although there are no leases.
    ReadsWithoutLease,
    /// A leader refuses a swap by what it has applied, without asking anybody.
    SwapRefusedAlone,
    /// A node that hands a write on to the leader forgets its place in its client's session.
    ForwardDropsSession,
    /// Control: decides by counting who has an entry, not by sorting lengths.
    ControlDecideByCounting,
    /// Control: sends every Prepare twice.
    ControlPrepareTwice,
    /// Control: acknowledges every entry twice.
    ControlAcceptedTwice,
    /// Control: a new leader tells everybody of itself twice.
    ControlLeadingToldTwice,
    /// Control: a fast read passes writes of this leader that wait in its log: who asked for them was not answered.
    ControlReadPastOwnWrites,
}

impl Mutant {
    /// Whether it changes code, but not behaviour.
    pub fn is_control(self) -> bool {
        matches!(
            self,
            Self::ControlDecideByCounting
                | Self::ControlPrepareTwice
                | Self::ControlAcceptedTwice
                | Self::ControlLeadingToldTwice
                | Self::ControlReadPastOwnWrites
        )
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
        ensure!(self.request_timeout_ms > 0, "request_timeout_ms must be above 0");
        ensure!(
            self.session_idle_ms >= 4,
            "session_idle_ms is {}: it must be 4 or more, since it is looked at four times in it",
            self.session_idle_ms
        );
        ensure!(
            (1..=MOST_LOG_BYTES).contains(&self.trimming.snapshot_after_bytes),
            "snapshot_after_bytes is {}: from 1 to {MOST_LOG_BYTES}, since one message carries what no snapshot covers",
            self.trimming.snapshot_after_bytes
        );
        ensure!(
            self.trimming.keep_log_bytes <= MOST_LOG_BYTES,
            "keep_log_bytes is {}: one message carries what is kept, at most {MOST_LOG_BYTES} bytes",
            self.trimming.keep_log_bytes
        );
        ensure!(self.threshold > 0, "threshold is 0: a cluster opens when one node or more have joined");
        ensure!(!self.partitions.is_empty(), "a cluster needs a partition");
        let bytes: usize = self.partitions.iter().map(PartitionConfig::weight).sum();
        ensure!(
            bytes <= MOST_PARTITION_BYTES,
            "{} partitions with their bounds take {bytes} bytes, and clients are told of them in one frame of which they may \
             take {MOST_PARTITION_BYTES}",
            self.partitions.len()
        );
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
            partition.check(self)?;
        }
        if self.partitioning == Partitioning::Hash {
            let bounded = self
                .partitions
                .iter()
                .find(|partition| partition.lower.is_some() || partition.upper.is_some());
            if let Some(PartitionConfig { partition, .. }) = bounded {
                bail!(
                    "partition {partition} has bounds, which hash partitioning has no use for: leave them out"
                );
            }
        }
        let ranges = || self.partitions.iter().filter(|_| self.partitioning == Partitioning::Range);
        for (before, after) in ranges().zip(ranges().skip(1)) {
            let ascending = matches!((&before.upper, &after.lower), (Some(end), Some(start)) if end <= start);
            ensure!(
                ascending,
                "partitions {} and {} overlap or stand in the wrong order: list them in the order of their keys, each \
                 with `lower` at or above the `upper` of the one before",
                before.partition,
                after.partition
            );
        }
        for (key, value) in &self.preset {
            let held = key.key_type() == self.key_type && self.partition_of(key).is_some();
            ensure!(held, "no partition holds the preset key {key}");
            let put = Operation::Put { key: key.clone(), value: value.as_str().into() };
            put.fits().map_err(|error| anyhow!("a preset key cannot be written: {error}"))?;
        }
        Ok(())
    }

    /// A digest of everything that the nodes of a cluster must be told alike. Each trims its log as it likes: there the digest has
    /// what was once the default.
    pub fn digest(&self) -> u64 {
        let trimming = TrimConfig { snapshot_after_bytes: 1 << 20, keep_log_bytes: 16 << 20 };
        let text = serde_json::to_string(&Self { trimming, ..self.clone() });
        fnv_1a(text.expect("a configuration can be written as JSON").as_bytes())
    }

    /// What each partition may take of the bytes that all share.
    pub fn trimming_of_each(&self) -> TrimConfig {
        let partitions = (self.partitions.len() as u64).max(1);
        let part = |bytes: u64| (bytes / partitions).max(bytes.min(LEAST_PART));
        let TrimConfig { snapshot_after_bytes, keep_log_bytes } = self.trimming;
        TrimConfig { snapshot_after_bytes: part(snapshot_after_bytes), keep_log_bytes: part(keep_log_bytes) }
    }

    /// The partition that holds `key`, if any.
    pub fn partition_of(&self, key: &Key) -> Option<PartitionId> {
        self.partitioning.place(key, self.partitions.iter())
    }
}

/// Of bytes that partitions share, each may take so many, if there are as many.
const LEAST_PART: u64 = 64 << 10;

/// A client that was cut off for a minute still learns what became of its write.
pub const SESSION_IDLE_MS: u64 = 60_000;

fn default_session_idle_ms() -> u64 {
    SESSION_IDLE_MS
}

/// The hash of Fowler, Noll and Vo: a digest is kept on disk, so it must come out the same whichever compiler built the node,
/// which the standard library's hash does not promise.
fn fnv_1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

impl PartitionConfig {
    /// About how many bytes it takes to tell of it.
    fn weight(&self) -> usize {
        let bounds = self.lower.iter().chain(&self.upper).map(Key::weight);
        64 + 16 * self.replicas.len() + bounds.sum::<usize>()
    }

    fn check(&self, cluster: &ClusterConfig) -> anyhow::Result<()> {
        let number = self.partition;
        let same = cluster.partitions.iter().filter(|other| other.partition == number).count();
        ensure!(number > 0, "a partition has number 0: number them from 1");
        ensure!(same == 1, "partition {number} is there {same} times: give each a number of its own");
        for bound in self.lower.iter().chain(&self.upper) {
            ensure!(
                bound.key_type() == cluster.key_type,
                "partition {number} is bounded by {bound}, which is no {:?} key",
                cluster.key_type
            );
        }
        if let (Some(lower), Some(upper)) = (&self.lower, &self.upper) {
            ensure!(lower < upper, "partition {number} is empty: {lower} is not below {upper}");
        }
        let copies = self.replicas.len() as u64;
        ensure!(self.replication > 0, "partition {number} needs a replica");
        ensure!(
            copies == 0 || copies == self.replication,
            "partition {number} names {copies} replicas, not {}",
            self.replication
        );
        ensure!(
            copies > 0 || self.replication <= cluster.threshold,
            "partition {number} wants {} replicas, but only {} nodes are waited for",
            self.replication,
            cluster.threshold
        );
        for (position, node) in self.replicas.iter().enumerate() {
            ensure!(
                !self.replicas[..position].contains(node),
                "partition {number} names node {node} twice: its replicas live on different nodes"
            );
        }
        Ok(())
    }

    /// Whether `key` lies in `[lower, upper)`.
    pub fn contains(&self, key: &Key) -> bool {
        self.lower.as_ref().is_none_or(|lower| lower <= key)
            && self.upper.as_ref().is_none_or(|upper| key < upper)
    }
}

impl fmt::Display for PartitionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.lower, &self.upper) {
            (None, None) => f.write_str("all"),
            (None, Some(upper)) => write!(f, "below {upper}"),
            (Some(lower), None) => write!(f, "from {lower}"),
            (Some(lower), Some(upper)) => write!(f, "[{lower}, {upper})"),
        }
    }
}

impl NodeConfig {
    /// Reads a configuration file; an error says where it is wrong.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        config.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    /// Refuses what no node can run with.
    pub fn check(&self) -> anyhow::Result<()> {
        self.cluster.check()?;
        ensure!(self.node > 0 && !self.peers.contains_key(&0), "a node has number 0: number them from 1");
        ensure!(
            !self.peers.contains_key(&self.node),
            "node {} is among its own peers: `peers` names all others",
            self.node
        );
        let nodes = self.peers.len() as u64 + 1;
        ensure!(
            self.cluster.threshold <= nodes,
            "threshold is {}, but there are only {nodes} nodes: the cluster would never open",
            self.cluster.threshold
        );
        for partition in &self.cluster.partitions {
            for replica in &partition.replicas {
                ensure!(
                    *replica == self.node || self.peers.contains_key(replica),
                    "partition {} names node {replica} as a replica, which is neither this node nor among `peers`",
                    partition.partition
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: PartitionId, lower: Option<i64>, upper: Option<i64>) -> PartitionConfig {
        let (lower, upper) = (lower.map(Key::Integer), upper.map(Key::Integer));
        PartitionConfig { partition, lower, upper, replication: 2, replicas: vec![1, 2] }
    }

    /// Node 1 of two, with the keys below 10 and those from 10 on in partitions of their own.
    fn good() -> NodeConfig {
        let cluster = ClusterConfig {
            name: "config".to_owned(),
            key_type: KeyType::Integer,
            partitioning: Partitioning::Range,
            partitions: vec![partition(1, None, Some(10)), partition(2, Some(10), None)],
            threshold: 2,
            heartbeat_ms: 50,
            missed_rounds: 6,
            lease: Some(LeaseConfig { duration_ms: 300, drift_ppm: 1000 }),
            request_timeout_ms: 1000,
            session_idle_ms: SESSION_IDLE_MS,
            storage: StorageKind::Durable,
            routing: RoutingMode::Forward,
            reads: ReadMode::Linearizable,
            trimming: TrimConfig::default(),
            preset: vec![(Key::Integer(3), "three".to_owned())],
        };
        NodeConfig {
            node: 1,
            listen: "127.0.0.1:0".to_owned(),
            peers: BTreeMap::from([(2, "127.0.0.1:1".to_owned())]),
            data: PathBuf::from("data"),
            trace: None,
            clock: ClockSkew::default(),
            cluster,
            test: TestOptions::default(),
        }
    }

    /// What a configuration with one mistake is refused with.
    fn refusal(mistake: impl FnOnce(&mut NodeConfig)) -> String {
        let mut config = good();
        mistake(&mut config);
        config.check().expect_err("it is refused").to_string()
    }

    #[test]
    fn a_good_configuration_passes() {
        good().check().expect("nothing is wrong");
    }

    #[test]
    fn impossible_nodes_are_refused() {
        let zero = "a node has number 0: number them from 1";
        assert_eq!(
            refusal(|config| {
                config.node = 0;
                config.cluster.partitions.iter_mut().for_each(|partition| partition.replicas = vec![0, 2]);
            }),
            zero
        );
        assert_eq!(refusal(|config| drop(config.peers.insert(0, "127.0.0.1:2".to_owned()))), zero);
        assert_eq!(
            refusal(|config| drop(config.peers.insert(1, "127.0.0.1:2".to_owned()))),
            "node 1 is among its own peers: `peers` names all others"
        );
        assert!(refusal(|config| config.cluster.threshold = 0).starts_with("threshold is 0"));
        assert_eq!(
            refusal(|config| config.cluster.threshold = 3),
            "threshold is 3, but there are only 2 nodes: the cluster would never open"
        );
    }

    #[test]
    fn a_session_that_idles_too_short_is_refused() {
        assert_eq!(
            refusal(|config| config.cluster.session_idle_ms = 3),
            "session_idle_ms is 3: it must be 4 or more, since it is looked at four times in it"
        );
        let mut config = good();
        config.cluster.session_idle_ms = 4;
        config.check().expect("four is enough");
    }

    #[test]
    fn impossible_replicas_are_refused() {
        let replicas = |replicas: &[NodeId]| {
            let replicas = replicas.to_vec();
            refusal(|config| config.cluster.partitions[1].replicas = replicas)
        };
        assert_eq!(replicas(&[2, 2]), "partition 2 names node 2 twice: its replicas live on different nodes");
        assert_eq!(
            replicas(&[1, 7]),
            "partition 2 names node 7 as a replica, which is neither this node nor among `peers`"
        );
        assert_eq!(replicas(&[1]), "partition 2 names 1 replicas, not 2");
    }

    #[test]
    fn impossible_partitions_are_refused() {
        let partitions = |partitions: [PartitionConfig; 2]| {
            refusal(|config| config.cluster.partitions = partitions.into())
        };
        let twice = partitions([partition(1, None, Some(10)), partition(1, Some(10), None)]);
        assert_eq!(twice, "partition 1 is there 2 times: give each a number of its own");
        let zero = partitions([partition(0, None, Some(10)), partition(1, Some(10), None)]);
        assert_eq!(zero, "a partition has number 0: number them from 1");
        let empty = partitions([partition(1, Some(10), Some(10)), partition(2, Some(10), None)]);
        assert_eq!(empty, "partition 1 is empty: 10 is not below 10");
        for bounds in [
            [(None, Some(10)), (Some(9), None)],
            [(None, None), (Some(10), None)],
            [(Some(10), None), (None, Some(10))],
            [(Some(10), Some(20)), (Some(0), Some(10))],
            [(None, Some(10)), (None, Some(20))],
        ] {
            let [one, two] = bounds;
            let said = partitions([partition(1, one.0, one.1), partition(2, two.0, two.1)]);
            assert!(said.starts_with("partitions 1 and 2 overlap or stand in the wrong order"), "{said}");
        }
        assert_eq!(
            refusal(|config| config.cluster.partitions[0].upper = Some(Key::String("m".to_owned()))),
            "partition 1 is bounded by m, which is no Integer key"
        );
        assert_eq!(
            refusal(|config| config.cluster.partitions[0].lower = Some(Key::Integer(5))),
            "no partition holds the preset key 3"
        );
        assert_eq!(
            refusal(|config| config.cluster.preset[0].1 = "x".repeat(4_000_001)),
            "a preset key cannot be written: the values have 4000001 bytes, and at most 4000000 are taken at once"
        );
    }

    #[test]
    fn keys_are_dealt_to_partitions_by_a_hash_that_never_changes() {
        let unbounded = |number| PartitionConfig { replicas: Vec::new(), ..partition(number, None, None) };
        let partitions = || (1..=3).map(unbounded).collect();
        let cluster =
            ClusterConfig { partitioning: Partitioning::Hash, partitions: partitions(), ..good().cluster };
        cluster.check().expect("nothing is wrong");
        let place = |key: Key| cluster.partition_of(&key).expect("every key has a place");
        let places: Vec<_> = (0..12).map(|number| place(Key::Integer(number))).collect();
        assert_eq!(places, [2, 1, 3, 2, 1, 3, 2, 1, 1, 3, 2, 1], "data that is on disks was placed by these");
        assert_eq!(place(Key::String("foobar".to_owned())), (0x8594_4171_f739_67e8_u64 % 3) as u32 + 1);
        let share = |number| (0..3000).filter(|key| place(Key::Integer(*key)) == number).count();
        for partition in 1..=3 {
            assert!((900..=1100).contains(&share(partition)), "partition {partition}: {}", share(partition));
        }
        let mut bounded = good();
        bounded.cluster.partitioning = Partitioning::Hash;
        let refusal = bounded.check().expect_err("bounds mean nothing").to_string();
        assert!(refusal.starts_with("partition 1 has bounds"), "{refusal}");
    }

    #[test]
    fn partitions_share_the_bytes_of_their_logs() {
        let of_each = |snapshot_after_bytes, partitions| {
            let mut cluster = good().cluster;
            cluster.trimming.snapshot_after_bytes = snapshot_after_bytes;
            cluster.partitions = vec![cluster.partitions[0].clone(); partitions];
            cluster.trimming_of_each().snapshot_after_bytes
        };
        assert_eq!(of_each(4 << 20, 1), 4 << 20);
        assert_eq!(of_each(4 << 20, 16), 256 << 10);
        assert_eq!(of_each(4 << 20, 1000), LEAST_PART, "so small that it is not worth a snapshot");
        assert_eq!(of_each(300, 16), 300, "who asks for less than that gets it");
        assert_eq!(of_each(300, 0), 300);
    }

    /// FNV-1a as its authors publish it: the digest is kept on disk.
    #[test]
    fn the_digest_is_the_same_whichever_compiler_built_the_node() {
        let cluster = ClusterConfig { name: "a".to_owned(), ..good().cluster };
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_ne!(cluster.digest(), good().cluster.digest());
        assert_eq!(cluster.digest(), 6_141_511_273_747_214_030, "of a cluster that has data already");
        let trimming = TrimConfig { snapshot_after_bytes: 1, keep_log_bytes: 2 };
        let trims_otherwise = ClusterConfig { trimming, ..cluster.clone() };
        assert_eq!(trims_otherwise.digest(), cluster.digest(), "each trims its log as it likes");
    }
}
