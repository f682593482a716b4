//! Who leads which partition, as far as the harness knows: what nodes have announced and what answers have shown.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use checker::history::Key;
use store::{
    api::{NodeId, PartitionId},
    config::ClusterConfig,
};

use crate::workload::store_key;

/// The clients' common guess of who leads.
#[derive(Debug)]
pub struct Leaders {
    cluster: ClusterConfig,
    known: Mutex<BTreeMap<PartitionId, NodeId>>,
}

impl Leaders {
    /// Nobody is known to lead.
    pub fn new(cluster: ClusterConfig) -> Self {
        Self { cluster, known: Mutex::default() }
    }

    /// A node says that it leads.
    pub fn announced(&self, partition: PartitionId, leader: NodeId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, leader);
    }

    /// An answer about `key` came from this leader.
    pub fn answered(&self, key: &Key, leader: NodeId) {
        self.announced(self.partition_of(key), leader);
    }

    /// The partition that holds `key`; 0: none does.
    pub fn partition_of(&self, key: &Key) -> PartitionId {
        self.cluster.partition_of(&store_key(key)).unwrap_or_default()
    }

    /// Where a client that wants the leader asks for `key`: at node 1 as long as nobody is known.
    pub fn entry(&self, key: &Key) -> NodeId {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&self.partition_of(key)).copied().unwrap_or(1)
    }
}
