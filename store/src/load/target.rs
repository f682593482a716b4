//! A running cluster as a load sees it: who leads which keys.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, ensure};

use super::{Keys, Kind, Length, Link, Load, Mix, Outcome, Pace, StoreProtocol, run, store::key_of};
use crate::{
    api::{KeyType, NodeId},
    local::when_led,
};

/// Operations in flight on the connection to each leader while keys get their values.
const FILLING: usize = 64;

/// How long a node may take to answer while keys get their values.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster, its leaders, and the keys that are asked.
#[derive(Clone, Debug)]
pub struct Target {
    cluster: String,
    key_type: KeyType,
    value_size: usize,
    /// Address and keys of each node that leads a partition with keys.
    leaders: BTreeMap<NodeId, (String, Arc<[i64]>)>,
    /// Partitions that it has.
    pub partitions: usize,
}

impl Target {
    /// Finds the leaders of so many keys in the cluster that has a node at one of these addresses.
    pub async fn find(
        cluster: &str,
        addresses: &[String],
        keys: u64,
        value_size: usize,
    ) -> anyhow::Result<Self> {
        let (directory, address) = when_led(cluster, addresses).await?;
        let places = directory.addresses(&address);
        let leader_of: BTreeMap<_, _> = directory
            .partitions
            .iter()
            .filter_map(|entry| Some((entry.config.partition, entry.leader?.node)))
            .collect();
        let mut keys_of: BTreeMap<NodeId, Vec<i64>> = BTreeMap::new();
        for key in 0..keys as i64 {
            let named = key_of(key, directory.key_type);
            let partition = directory
                .partition_of(&named)
                .with_context(|| format!("key {named} lies outside every partition of this cluster"))?;
            keys_of.entry(leader_of[&partition]).or_default().push(key);
        }
        let mut leaders = BTreeMap::new();
        for (node, keys) in keys_of {
            let address = places.get(&node).with_context(|| format!("node {node} has no address"))?;
            leaders.insert(node, (address.clone(), keys.into()));
        }
        let (cluster, key_type) = (cluster.to_owned(), directory.key_type);
        Ok(Self { cluster, key_type, value_size, leaders, partitions: directory.partitions.len() })
    }

    /// The nodes that are asked.
    pub fn leaders(&self) -> Vec<NodeId> {
        self.leaders.keys().copied().collect()
    }

    /// So many connections, to all leaders in turn, each asking its leader's keys at random.
    pub async fn links(&self, connections: usize) -> anyhow::Result<Vec<Link<StoreProtocol>>> {
        ensure!(
            connections >= self.leaders.len(),
            "nodes {:?} lead partitions: at least {} connections are needed to ask all of them",
            self.leaders(),
            self.leaders.len()
        );
        let mut links = Vec::new();
        for (number, (node, (_, keys))) in self.leaders.iter().cycle().take(connections).enumerate() {
            links.push(self.link(*node, Keys::random(Arc::clone(keys), number as u64)).await?);
        }
        Ok(links)
    }

    /// Writes all keys, so that each holds its value.
    pub async fn fill(&self) -> anyhow::Result<()> {
        let mut links = Vec::new();
        for (node, (_, keys)) in &self.leaders {
            links.push(self.link(*node, Keys::share(Arc::clone(keys), (0, 1))).await?);
        }
        let load = Load {
            depth: FILLING,
            pace: Pace::Closed,
            length: Length::Operations(u64::MAX),
            mix: Mix::only(Kind::Put),
            patience: PATIENCE,
        };
        check(&run(links, load).await?).context("not every key could be written beforehand")
    }

    async fn link(&self, node: NodeId, keys: Keys) -> anyhow::Result<Link<StoreProtocol>> {
        let (address, _) = &self.leaders[&node];
        let protocol = StoreProtocol { key_type: self.key_type, value_size: self.value_size, node };
        Ok(protocol.connect(address, &self.cluster, keys).await?)
    }
}

/// An error if anything that was asked was not answered as it must be.
pub fn check(outcome: &Outcome) -> anyhow::Result<()> {
    let counts = outcome.counts();
    ensure!(
        counts.right == counts.asked,
        "of {} operations {} were answered wrongly, {} failed, {} were not answered: {}",
        counts.asked,
        counts.wrong,
        counts.failed,
        counts.unknown,
        outcome.complaints.join("; ")
    );
    Ok(())
}
