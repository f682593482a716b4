//! Who is what among real processes, by what they say.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use store::{
    api::{NodeId, NodeStatus, PartitionId},
    client::Client,
};
use tokio::time;

use super::{Member, Scene, State, suits};
use crate::{
    cluster::Cluster,
    plan::Plan,
    proxy::{Link, Network},
    workload::{FaultSpec, Target},
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
        self.scene(target, answered).await.resolve(target, order, |_| true)
    }

    /// The same, for a fault: only nodes to which it can be done.
    pub async fn resolve_for(
        &self,
        spec: &FaultSpec,
        order: &[NodeId],
        answered: &BTreeMap<String, NodeId>,
    ) -> Vec<NodeId> {
        let fit = |node| suits(spec, self.state(node));
        let nodes = self.scene(&spec.target, answered).await.resolve(&spec.target, order, fit);
        nodes.into_iter().filter(|node| fit(*node)).collect()
    }

    /// What a node is like.
    pub(super) fn state(&self, node: NodeId) -> State {
        State { running: self.cluster.is_running(node), paused: self.cluster.is_paused(node) }
    }

    /// Who leads a partition.
    pub fn leader(&self, partition: PartitionId) -> Option<NodeId> {
        self.cluster.leader(partition).map(|(node, _)| node)
    }

    /// Asks a partition's leader to hand over; true when the successor leads.
    pub(super) async fn transfer(&self, partition: PartitionId, to: NodeId) -> bool {
        let Some(leader) = self.leader(partition).filter(|leader| *leader != to) else { return false };
        let address = self.network.address(Link::client(OBSERVER, leader)).to_string();
        let transfer = async {
            let mut client = Client::connect(&address, &self.plan.cluster.name).await?;
            client.transfer_leader(partition, to).await
        };
        // the leader answers within two election timeouts
        let limit = PATIENCE + self.plan.cluster.election_timeout() * 2;
        matches!(time::timeout(limit, transfer).await, Ok(Ok(_)))
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

    /// Who is what. Nodes are asked only when the target makes it necessary.
    async fn scene(&self, target: &Target, answered: &BTreeMap<String, NodeId>) -> Scene {
        let leaders = self.cluster.leaders().into_iter().map(|(partition, (node, _))| (partition, node));
        let mut scene =
            Scene { leaders: leaders.collect(), groups: BTreeMap::new(), answered: answered.clone() };
        for config in &self.plan.cluster.partitions {
            let members = config.replicas.iter().map(|node| (*node, Member::default()));
            scene.groups.insert(config.partition, members.collect());
        }
        let (partition, asks) = match target {
            Target::LeaseHolder(partition) | Target::Lagging(partition) => (*partition, true),
            Target::Follower(partition)
            | Target::Followers(partition)
            | Target::Minority(Some(partition))
            | Target::Majority(Some(partition)) => (*partition, false),
            _ => return scene,
        };
        let group = scene.groups.entry(partition).or_default();
        if asks || group.is_empty() {
            for status in self.statuses().await {
                let Some(of) = status.partitions.iter().find(|group| group.partition == partition) else {
                    continue;
                };
                let holds = of.hold_ms.is_some_and(|left| left > 0);
                group.insert(status.node, Member { holds, decided: Some(of.decided) });
            }
        }
        scene
    }
}
