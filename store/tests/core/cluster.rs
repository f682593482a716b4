//! The cluster of golden scripts and property tests.

use store::{
    api::{KeyType, NodeId},
    config::{
        ClusterConfig, LeaseConfig, PartitionConfig, Partitioning, ReadMode, RoutingMode, SESSION_IDLE_MS,
        StorageKind, TrimConfig,
    },
};

/// One partition of text keys on all nodes; a heartbeat period of 50 ms, an election timeout of 300 ms and a lease of 300 ms.
pub fn one_partition(nodes: NodeId) -> ClusterConfig {
    let partition = PartitionConfig {
        partition: 1,
        lower: None,
        upper: None,
        replication: nodes,
        replicas: (1..=nodes).collect(),
    };
    ClusterConfig {
        name: "golden".to_owned(),
        key_type: KeyType::String,
        partitioning: Partitioning::Range,
        partitions: vec![partition],
        threshold: nodes,
        heartbeat_ms: 50,
        missed_rounds: 6,
        lease: Some(LeaseConfig { duration_ms: 300, drift_ppm: 10_000 }),
        request_timeout_ms: 1000,
        session_idle_ms: SESSION_IDLE_MS,
        storage: StorageKind::Durable,
        routing: RoutingMode::Forward,
        reads: ReadMode::Linearizable,
        trimming: TrimConfig::default(),
        preset: Vec::new(),
    }
}
