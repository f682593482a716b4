//! A cluster that a client knows by the address of one live node.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{Client, ClientError, ClientEvent, ClusterClient, Done, Place};
use crate::{
    api::{Ballot, NodeId, Operation, PartitionId, StoreError, TransferError},
    config::RoutingMode,
    directory::Directory,
    routes::{Entry, Trip},
};

/// A client that has been told by a live node who else is there, which keys are where, and whom to ask first. It follows
/// redirects, and asks another node when one is gone or knows of no leader.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    addresses: BTreeMap<NodeId, String>,
    directory: Directory,
    client: ClusterClient,
}

impl Cluster {
    /// Joins the named cluster by the first of these addresses that answers within `limit`. `told` hears of those that do
    /// not.
    pub async fn join(
        name: &str,
        seeds: &[String],
        limit: Duration,
        told: impl FnMut(&ClientEvent),
    ) -> Result<Self, ClientError> {
        let (directory, address) = Self::look_up(name, seeds, limit, told).await?;
        // where nodes forward, too, this client goes on where one cannot be reached
        let addresses = directory.addresses(&address);
        let client = ClusterClient::new(name, addresses.clone(), RoutingMode::Redirect);
        Ok(Self { name: name.to_owned(), addresses, directory, client })
    }

    /// The same client with sessions: what may have happened it asks for again, until it is told what came of it or its time is
    /// up. Each write happens once all the same.
    #[must_use]
    pub fn exactly_once(self) -> Self {
        Self { client: self.client.exactly_once(), ..self }
    }

    /// What the first of these addresses that answers within `limit` says of the cluster, and that address.
    pub async fn look_up(
        name: &str,
        seeds: &[String],
        limit: Duration,
        mut told: impl FnMut(&ClientEvent),
    ) -> Result<(Directory, String), ClientError> {
        let deadline = Instant::now() + limit;
        let mut last = ClientError::Refused("no address of a node was given".to_owned());
        for (position, address) in seeds.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            // enough is left for those that have not been tried
            let patience = left / (seeds.len() - position) as u32;
            match Client::connect_within(patience, address, name).await {
                Ok(mut client) => match tokio::time::timeout(patience, client.directory()).await {
                    Ok(Ok(directory)) => return Ok((directory, address.clone())),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = ClientError::NoAnswer,
                },
                Err(error) => last = error,
            }
            // one that refuses is there
            if let Some(next) = seeds.get(position + 1)
                && !matches!(last, ClientError::Refused(_))
            {
                let place = |address: &String| Place { node: None, address: address.clone() };
                told(&ClientEvent::Gone { node: place(address), next: place(next) });
            }
        }
        Err(last)
    }

    /// What the cluster is like, as a node told it when this client joined.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Has `to` lead a partition; its ballot. The present leader is looked for at the entry node and where that one says.
    pub async fn transfer_leader(
        &mut self,
        (partition, to): (PartitionId, NodeId),
        limit: Duration,
        mut told: impl FnMut(&ClientEvent),
    ) -> Result<Ballot, ClientError> {
        let deadline = Instant::now() + limit;
        let mut at = self.directory.entry;
        loop {
            let address = self.address(at)?;
            let asked =
                async { Client::connect(&address, &self.name).await?.transfer_leader(partition, to).await };
            let result = tokio::time::timeout_at(deadline, asked).await.unwrap_or(Err(ClientError::NoAnswer));
            let Err(ClientError::Transfer(TransferError::NotLeader { leader: Some(leader) })) = result else {
                return result;
            };
            // a node that is named and does not lead names another one, or none
            let from = Place { node: Some(at), address };
            at = leader.node;
            let leader = Place { node: Some(at), address: self.address(at)? };
            told(&ClientEvent::Redirected { from, leader });
        }
    }

    fn address(&self, node: NodeId) -> Result<String, ClientError> {
        let address = self.addresses.get(&node).cloned();
        address.ok_or_else(|| ClientError::Refused(format!("node {node} has no address")))
    }

    /// Carries out one operation within `limit`: at most once, with sessions exactly once if it is answered. `told` hears why another node is asked.
    pub async fn call(
        &mut self,
        operation: &Operation,
        limit: Duration,
        told: impl FnMut(&ClientEvent),
    ) -> Done {
        let entry = Entry::Leader(self.directory.entry);
        let key = operation.key();
        if let Some(partition) = self.directory.partition_of(key) {
            return self.client.call((partition, entry), operation, limit, told).await;
        }
        let error = StoreError::OutOfRange { key: key.clone() };
        Done { result: Err(error.into()), node: self.directory.entry, trip: Trip::default() }
    }
}
