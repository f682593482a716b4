//! Which nodes a role comes down to at this moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use store::{
    api::{NodeId, NodeStatus, PartitionId},
    client::Client,
};
use tokio::time;

use crate::{
    cluster::Cluster,
    plan::Plan,
    proxy::{Link, Network},
    workload::Target,
};

/// The client number under which the harness itself asks nodes for their status.
pub const OBSERVER: u64 = 0;

/// How long a node may take to say how it is.
const PATIENCE: Duration = Duration::from_millis(300);

/// Knows the nodes' roles, by what they say.
pub struct Roles {
    plan: Arc<Plan>,
    network: Arc<Network>,
    cluster: Arc<Cluster>,
}

impl Roles {
    /// Roles in this cluster.
    pub fn new(plan: Arc<Plan>, network: Arc<Network>, cluster: Arc<Cluster>) -> Self {
        Self { plan, network, cluster }
    }

    /// The nodes that a target comes down to; none when the role is vacant. Among several, `order` decides.
    pub async fn resolve(
        &self,
        target: &Target,
        order: &[NodeId],
        answered: &BTreeMap<String, NodeId>,
    ) -> Vec<NodeId> {
        match target {
            Target::Node(node) => vec![*node],
            Target::All => self.plan.node_ids(),
            Target::Random => order.iter().take(1).copied().collect(),
            Target::Leader(partition) => self.leader(*partition).into_iter().collect(),
            Target::LeaseHolder(partition) => self.lease_holder(*partition).await.into_iter().collect(),
            Target::Follower(partition) => {
                self.followers(*partition, order).await.into_iter().take(1).collect()
            }
            Target::Followers(partition) => self.followers(*partition, order).await,
            Target::Answered(step) => answered.get(step).copied().into_iter().collect(),
        }
    }

    /// Who leads a partition.
    pub fn leader(&self, partition: PartitionId) -> Option<NodeId> {
        self.cluster.leader(partition).map(|(node, _)| node)
    }

    /// How every node sees itself; those that do not answer in time are left out.
    pub async fn statuses(&self) -> Vec<NodeStatus> {
        let ask = |node: NodeId| async move {
            let address = self.network.address(Link::client(OBSERVER, node)).to_string();
            let status = async {
                let mut client = Client::connect(&address, &self.plan.cluster.name).await.ok()?;
                client.status().await.ok()
            };
            time::timeout(PATIENCE, status).await.ok().flatten()
        };
        futures::future::join_all(self.plan.node_ids().into_iter().map(ask))
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    async fn lease_holder(&self, partition: PartitionId) -> Option<NodeId> {
        let holds = |status: &NodeStatus| {
            status
                .partitions
                .iter()
                .any(|group| group.partition == partition && group.hold_ms.is_some_and(|left| left > 0))
        };
        self.statuses().await.iter().find(|status| holds(status)).map(|status| status.node)
    }

    /// A follower needs a leader: without one, there are no followers either.
    async fn followers(&self, partition: PartitionId, order: &[NodeId]) -> Vec<NodeId> {
        let Some(leader) = self.leader(partition) else { return Vec::new() };
        let planned = self.plan.cluster.partitions.iter().find(|config| config.partition == partition);
        let mut replicas = planned.map(|config| config.replicas.clone()).unwrap_or_default();
        if replicas.is_empty() {
            let replicates =
                |status: &NodeStatus| status.partitions.iter().any(|group| group.partition == partition);
            replicas = self
                .statuses()
                .await
                .iter()
                .filter(|status| replicates(status))
                .map(|status| status.node)
                .collect();
        }
        order.iter().copied().filter(|node| *node != leader && replicas.contains(node)).collect()
    }
}
