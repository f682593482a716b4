//! Connections to the nodes of a cluster, of one client or of several that share them: each is made when it is needed, and
//! again when it has ended or was given up.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time;

use crate::{
    api::NodeId,
    client::{Client, ClientError},
    pipeline::Pipeline,
};

/// One connection to each node that is asked.
#[derive(Debug)]
pub struct Connections(BTreeMap<NodeId, Connection>);

#[derive(Debug)]
pub(crate) struct Connection {
    cluster: String,
    address: String,
    present: Mutex<Option<Pipeline>>,
    /// One client connects while the others wait.
    connecting: tokio::sync::Mutex<()>,
}

impl Connections {
    /// Connections to nodes of the named cluster, none of them made yet.
    pub fn new(cluster: &str, addresses: BTreeMap<NodeId, String>) -> Self {
        let connection = |(node, address)| {
            let (present, connecting) = Default::default();
            (node, Connection { cluster: cluster.to_owned(), address, present, connecting })
        };
        Self(addresses.into_iter().map(connection).collect())
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.0.keys().copied()
    }

    pub(crate) fn to(&self, node: NodeId) -> Option<&Connection> {
        self.0.get(&node)
    }
}

impl Connection {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What is there, or else a new one, if the node accepts it so soon. An error is definite: nothing was sent.
    pub(crate) async fn reach(&self, limit: Duration) -> Result<Pipeline, ClientError> {
        if let Some(pipeline) = self.present() {
            return Ok(pipeline);
        }
        time::timeout(limit, self.connect(limit)).await.unwrap_or_else(|_| {
            let reason = format!("{} did not answer within {} ms", self.address, limit.as_millis());
            Err(ClientError::Connect(io::Error::new(io::ErrorKind::TimedOut, reason)))
        })
    }

    async fn connect(&self, limit: Duration) -> Result<Pipeline, ClientError> {
        let _only_one = self.connecting.lock().await;
        if let Some(pipeline) = self.present() {
            return Ok(pipeline);
        }
        let pipeline = Pipeline::new(Client::connect_within(limit, &self.address, &self.cluster).await?);
        *self.lock() = Some(pipeline.clone());
        Ok(pipeline)
    }

    fn present(&self) -> Option<Pipeline> {
        self.lock().as_ref().filter(|pipeline| !pipeline.is_lost()).cloned()
    }

    /// Nobody asks anything more on this one; who waits for it already goes on waiting.
    pub(crate) fn give_up(&self, pipeline: &Pipeline) {
        self.lock().take_if(|present| present.is_same(pipeline));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pipeline>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
