//! Clients: each is a logical process after another, asks one thing at a time and records all of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use checker::history::{Function, OpResult};
use store::{
    api::{Answer, NodeId, Operation, Outcome},
    client::{Client, ClientError},
    pipeline::Pipeline,
};
use tokio::{
    sync::watch,
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    generator::{Generator, Knowledge},
    history_writer::{Asked, Ended, History},
    leaders::Leaders,
    workload::store_key,
};

/// After a refusal a client waits this long, so that a cluster without a leader is not stormed.
pub(crate) const BACKOFF: Duration = Duration::from_millis(20);

/// What all clients share.
#[derive(Clone)]
pub struct Surroundings {
    /// Where each client reaches each node.
    pub addresses: Arc<BTreeMap<(u64, NodeId), SocketAddr>>,
    /// Where everything is recorded.
    pub history: Arc<History>,
    /// Who leads which partition, as far as the harness knows.
    pub leaders: Arc<Leaders>,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Process numbers grow by this after an unknown outcome: above every client's number.
    pub stride: u64,
}

/// Connections of one client, or of several that share them: one to each node that they ask.
pub struct Connections(BTreeMap<NodeId, Connection>);

struct Connection {
    address: String,
    present: Mutex<Option<Pipeline>>,
    /// One client connects while the others wait.
    connecting: tokio::sync::Mutex<()>,
}

impl Connections {
    /// Connections on the links of `client`, none of them made yet.
    pub fn new(client: u64, surroundings: &Surroundings) -> Self {
        let links = surroundings.addresses.range((client, NodeId::MIN)..=(client, NodeId::MAX));
        let connection = |address: &SocketAddr| Connection {
            address: address.to_string(),
            present: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        };
        Self(links.map(|((_, node), address)| (*node, connection(address))).collect())
    }

    fn to(&self, node: NodeId) -> &Connection {
        self.0.get(&node).unwrap_or_else(|| panic!("no client has a link to node {node}"))
    }
}

impl Connection {
    /// What is there, or else a new one.
    async fn reach(&self, cluster: &str) -> Result<Pipeline, ClientError> {
        if let Some(pipeline) = self.present() {
            return Ok(pipeline);
        }
        let _only_one = self.connecting.lock().await;
        if let Some(pipeline) = self.present() {
            return Ok(pipeline);
        }
        let pipeline = Pipeline::new(Client::connect(&self.address, cluster).await?);
        *self.lock() = Some(pipeline.clone());
        Ok(pipeline)
    }

    fn present(&self) -> Option<Pipeline> {
        self.lock().as_ref().filter(|pipeline| !pipeline.is_lost()).cloned()
    }

    /// Nobody asks anything more on this one; who waits for it already goes on waiting.
    fn give_up(&self, pipeline: &Pipeline) {
        self.lock().take_if(|present| present.is_same(pipeline));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pipeline>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client: its connections and its present process number.
pub struct Session {
    surroundings: Surroundings,
    client: u64,
    process: u64,
    connections: Arc<Connections>,
}

impl Session {
    /// A client that has not asked anything, with connections of its own.
    pub fn new(client: u64, surroundings: Surroundings) -> Self {
        let connections = Arc::new(Connections::new(client, &surroundings));
        Self::sharing(connections, client, surroundings)
    }

    /// A client that has not asked anything, and uses connections that others use too.
    pub fn sharing(connections: Arc<Connections>, client: u64, surroundings: Surroundings) -> Self {
        Self { surroundings, client, process: client, connections }
    }

    /// Asks `node`, once, and records it. The operation is never sent again, whatever comes of it.
    pub async fn ask(&mut self, node: NodeId, function: Function, limit: Duration) -> Ended {
        let asked = Asked { process: self.process, client: self.client, node, function };
        let history = &self.surroundings.history;
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

    /// Until the request is sent, every failure is definite.
    async fn attempt(&self, asked: &Asked, deadline: Instant) -> Ended {
        let connection = self.connections.to(asked.node);
        let reached = time::timeout_at(deadline, connection.reach(&self.surroundings.cluster));
        let pipeline = match reached.await {
            Ok(Ok(pipeline)) => pipeline,
            Ok(Err(error)) => return failed(&error),
            Err(_) => return Ended::Fail("no connection in time".to_owned()),
        };
        match time::timeout_at(deadline, pipeline.call(operation_of(&asked.function))).await {
            Ok(Ok(answer)) => Ended::Ok(result_of(&answer)),
            Ok(Err(error)) => failed(&error),
            Err(_) => {
                // whatever is wrong with it must not keep the next operation waiting, too
                connection.give_up(&pipeline);
                Ended::Info("no answer in time".to_owned())
            }
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
            match &mut ticks {
                None if *stop.borrow() || stop.has_changed().is_err() => return,
                None => {}
                Some(ticks) => tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    _ = ticks.tick() => {}
                },
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
