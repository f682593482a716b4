//! Clients: each is a logical process after another, asks one thing at a time and records all of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checker::history::{Function, OpResult};
use store::{
    api::{Answer, NodeId, Operation, Outcome},
    client::{Client, ClientError},
};
use tokio::{
    sync::watch,
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    generator::{Generator, Knowledge},
    history_writer::{Asked, Ended, History},
    leaders::Leaders,
    proxy::{Link, Network},
    workload::store_key,
};

/// After a refusal a client waits this long, so that a cluster without a leader is not stormed.
pub(crate) const BACKOFF: Duration = Duration::from_millis(20);

/// What all clients share.
#[derive(Clone)]
pub struct Surroundings {
    /// The proxies that they connect to.
    pub network: Arc<Network>,
    /// Where everything is recorded.
    pub history: Arc<History>,
    /// Who leads which partition, as far as the harness knows.
    pub leaders: Arc<Leaders>,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Process numbers grow by this after an unknown outcome: above every client's number.
    pub stride: u64,
}

/// A client: its connections, one to each node that it asks, and its present process number.
pub struct Session {
    surroundings: Surroundings,
    client: u64,
    process: u64,
    connections: BTreeMap<NodeId, Client>,
}

impl Session {
    /// A client that has not asked anything.
    pub fn new(client: u64, surroundings: Surroundings) -> Self {
        Self { surroundings, client, process: client, connections: BTreeMap::new() }
    }

    /// Asks `node`, once, and records it. The operation is never sent again, whatever comes of it.
    pub async fn ask(&mut self, node: NodeId, function: Function, limit: Duration) -> Ended {
        let asked = Asked { process: self.process, client: self.client, node, function };
        let history = Arc::clone(&self.surroundings.history);
        let invoked = history.invoke(&asked);
        let ended = self.attempt(&asked, Instant::now() + limit).await;
        history.complete(&asked, invoked, &ended);
        if matches!(ended, Ended::Info(_)) {
            self.process += self.surroundings.stride;
        }
        if let Some(result) = ended.result() {
            self.surroundings.leaders.answered(asked.function.key(), result.leader);
        }
        ended
    }

    async fn attempt(&mut self, asked: &Asked, deadline: Instant) -> Ended {
        let mut client = match self.connection(asked.node, deadline).await {
            Ok(client) => client,
            Err(ended) => return ended,
        };
        match time::timeout_at(deadline, client.call(operation_of(&asked.function))).await {
            Ok(Ok(answer)) => {
                self.connections.insert(asked.node, client);
                Ended::Ok(result_of(&answer))
            }
            Ok(Err(error @ ClientError::Store(_))) => {
                self.connections.insert(asked.node, client);
                failed(&error)
            }
            // the connection is dropped: a late answer must not be taken for that of the next operation
            Ok(Err(error)) => failed(&error),
            Err(_) => Ended::Info("no answer in time".to_owned()),
        }
    }

    /// Until the request is sent, every failure is definite.
    async fn connection(&mut self, node: NodeId, deadline: Instant) -> Result<Client, Ended> {
        if let Some(client) = self.connections.remove(&node) {
            return Ok(client);
        }
        let address = self.surroundings.network.address(Link::client(self.client, node)).to_string();
        match time::timeout_at(deadline, Client::connect(&address, &self.surroundings.cluster)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(Ended::Fail("no connection in time".to_owned())),
        }
    }
}

/// A client that asks what its generator says, until it is told to stop.
pub struct Worker {
    /// The client.
    pub session: Session,
    /// What it asks.
    pub generator: Generator,
    /// The pause from one operation's beginning to the next one's; none: as soon as it is answered.
    pub interval: Option<Duration>,
    /// After how long an operation without an answer counts as unknown.
    pub limit: Duration,
}

impl Worker {
    /// Runs until `stop` becomes true; the operation in flight is finished first. Returns early when nobody could say stop.
    pub async fn run(mut self, first: Duration, mut stop: watch::Receiver<bool>) {
        let mut knowledge = Knowledge::default();
        let mut ticks = self.interval.map(|interval| {
            let mut ticks = time::interval_at(Instant::now() + first, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            let due = async {
                match &mut ticks {
                    Some(ticks) => {
                        ticks.tick().await;
                    }
                    None => tokio::task::yield_now().await,
                }
            };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = due => {}
            }
            let choice = self.generator.choose();
            let function = choice.ask.resolve(&knowledge);
            let node = choice.node.unwrap_or_else(|| self.session.surroundings.leaders.entry(function.key()));
            let ended = self.session.ask(node, function.clone(), self.limit).await;
            knowledge.learn(&function, ended.kind(), ended.result());
            if matches!(ended, Ended::Fail(_)) {
                time::sleep(BACKOFF).await;
            }
        }
    }
}

fn failed(error: &ClientError) -> Ended {
    if error.is_definite() { Ended::Fail(error.to_string()) } else { Ended::Info(error.to_string()) }
}

/// What the store is asked.
pub(crate) fn operation_of(function: &Function) -> Operation {
    match function {
        Function::Get { key } => Operation::Get { key: store_key(key) },
        Function::Put { key, value } => Operation::Put { key: store_key(key), value: value.as_str().into() },
        Function::Cas { key, expected, new } => Operation::Cas {
            key: store_key(key),
            expected: expected.as_deref().map(Into::into),
            new: new.as_str().into(),
        },
        Function::Delete { key } => Operation::Delete { key: store_key(key) },
    }
}

/// What a history says of an answer.
pub(crate) fn result_of(answer: &Answer) -> OpResult {
    let (returned, swapped) = match &answer.outcome {
        Outcome::Value(value) => (value.as_deref(), None),
        Outcome::Written | Outcome::Deleted => (None, None),
        Outcome::Swapped => (None, Some(true)),
        Outcome::NotSwapped { seen } => (seen.as_deref(), Some(false)),
    };
    OpResult {
        returned: returned.map(str::to_owned),
        swapped,
        version: answer.version,
        leader: answer.leader,
        ballot: answer.ballot.to_string(),
        fast: answer.fast,
    }
}
