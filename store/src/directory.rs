//! What a client must know of a cluster to use it. Any node that lives tells it, so one address is enough to begin with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    api::{Ballot, Key, KeyType, NodeId, PartitionId},
    config::{PartitionConfig, Partitioning, RoutingMode},
};

/// A cluster as one of its nodes knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    /// The node that tells.
    pub node: NodeId,
    /// A node that it does not suspect, for this client to ask first: another one for each client in turn.
    pub entry: NodeId,
    /// The kind of keys.
    pub key_type: KeyType,
    /// What a node does with an operation that another node leads.
    pub routing: RoutingMode,
    /// Where the telling node reaches the others. Where it is itself the client knows.
    pub peers: BTreeMap<NodeId, String>,
    /// Nodes that it suspects.
    pub suspected: Vec<NodeId>,
    /// How a key finds its partition.
    pub partitioning: Partitioning,
    /// The partitions, in the order of the configuration.
    pub partitions: Vec<Entry>,
}

/// A partition in a [`Directory`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which keys it holds.
    pub config: PartitionConfig,
    /// The nodes that replicate it; none as long as the cluster is starting.
    pub replicas: Vec<NodeId>,
    /// Its leader, as far as is known: the highest ballot that has announced itself.
    pub leader: Option<Ballot>,
}

impl Directory {
    /// The node that the `turn`-th client is to ask first, of all that are not suspected.
    pub fn entry(
        node: NodeId,
        peers: impl Iterator<Item = NodeId>,
        suspected: &[NodeId],
        turn: u64,
    ) -> NodeId {
        let mut alive: Vec<NodeId> = peers.filter(|peer| !suspected.contains(peer)).chain([node]).collect();
        alive.sort_unstable();
        alive[(turn % alive.len() as u64) as usize]
    }

    /// The partition that holds `key`, if any.
    pub fn partition_of(&self, key: &Key) -> Option<PartitionId> {
        self.partitioning.place(key, self.partitions.iter().map(|entry| &entry.config))
    }

    /// Every node with its address, where the telling one was reached at `address`.
    pub fn addresses(&self, address: &str) -> BTreeMap<NodeId, String> {
        let own = (self.node, address.to_owned());
        self.peers.iter().map(|(node, address)| (*node, address.clone())).chain([own]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_handed_the_nodes_that_are_not_suspected_in_turn() {
        let handed = |suspected: &[NodeId]| -> Vec<NodeId> {
            (0..4).map(|turn| Directory::entry(2, [1, 3].into_iter(), suspected, turn)).collect()
        };
        assert_eq!(handed(&[]), [1, 2, 3, 1]);
        assert_eq!(handed(&[1]), [2, 3, 2, 3]);
        assert_eq!(handed(&[1, 3]), [2, 2, 2, 2], "who tells is alive");
    }
}
