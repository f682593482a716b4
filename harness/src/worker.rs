//! Clients: each is a logical process after another, asks one thing at a time and records all of it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use checker::history::{Function, OpResult, Trip};
use store::{
    api::{Answer, NodeId, Operation, Outcome},
    client::{ClusterClient, Done},
    config::{ClusterConfig, ReadMode},
    connections::Connections,
    routes::Entry,
};
use tokio::{
    sync::watch,
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    generator::{Generator, Knowledge},
    history_writer::{Asked, Ended, Finished, History},
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
    /// The cluster.
    pub cluster: Arc<ClusterConfig>,
    /// Clients have sessions, and ask for what may have happened again.
    pub sessions: bool,
    /// Process numbers grow by this after an unknown outcome: above every client's number.
    pub stride: u64,
}

/// The connections of a client, or of several that share them: on the links of `client`, none of them made yet.
pub fn connections(client: u64, surroundings: &Surroundings) -> Arc<Connections> {
    let links = surroundings.addresses.range((client, NodeId::MIN)..=(client, NodeId::MAX));
    let addresses = links.map(|((_, node), address)| (*node, address.to_string())).collect();
    Arc::new(Connections::new(&surroundings.cluster.name, addresses))
}

/// A client: the store's own, and its present process number.
pub struct Session {
    surroundings: Surroundings,
    client: u64,
    process: u64,
    store: ClusterClient,
}

impl Session {
    /// A client that has not asked anything, with connections of its own.
    pub fn new(client: u64, surroundings: Surroundings) -> Self {
        let connections = connections(client, &surroundings);
        Self::sharing(connections, client, surroundings)
    }

    /// A client that has not asked anything, and uses connections that others use too.
    pub fn sharing(connections: Arc<Connections>, client: u64, surroundings: Surroundings) -> Self {
        let store = ClusterClient::sharing(connections, surroundings.cluster.routing);
        let store = if surroundings.sessions { store.exactly_once() } else { store };
        Self { surroundings, client, process: client, store }
    }

    /// Where a client whose place is `node` asks.
    fn entry(&self, function: &Function, node: NodeId) -> Entry {
        entry(&self.surroundings.cluster, function, node)
    }

    /// Asks the store, and records it as one operation. It is asked of another node only where it certainly did not happen, or
    /// in a session.
    pub async fn ask(&mut self, entry: Entry, function: Function, limit: Duration) -> Finished {
        let partition = self.surroundings.leaders.partition_of(function.key());
        let node = self.store.first(partition, entry);
        let asked = Asked { process: self.process, client: self.client, node, function };
        let history = &self.surroundings.history;
        let invoked = history.invoke(&asked);
        let operation = operation_of(&asked.function);
        let done = self.store.call((partition, entry), &operation, limit, |_| ()).await;
        let finished = finished(done);
        history.complete(&asked, invoked, &finished);
        if matches!(finished.ended, Ended::Info(_)) {
            self.process += self.surroundings.stride;
        }
        if let Some(result) = finished.ended.result().filter(|result| !result.local) {
            self.surroundings.leaders.answered(asked.function.key(), result.leader);
        }
        finished
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
    /// Runs until `stop` becomes true or the client's share is asked; the operation in flight is finished first. Returns early
    /// when nobody could say stop.
    pub async fn run(mut self, first: Duration, mut stop: watch::Receiver<bool>) {
        let mut knowledge = Knowledge::default();
        let began = Instant::now();
        let mut ticks = self.interval.filter(|_| self.generator.due().is_none()).map(|interval| {
            let mut ticks = time::interval_at(Instant::now() + first, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            if let Some(due) = self.generator.due() {
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = time::sleep_until(began + due) => {}
                }
            }
            match &mut ticks {
                None if *stop.borrow() || stop.has_changed().is_err() => return,
                None => {}
                Some(ticks) => tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    _ = ticks.tick() => {}
                },
            }
            let Some(choice) = self.generator.choose() else { return };
            let function = choice.ask.resolve(&knowledge);
            let node = choice.node.unwrap_or_else(|| self.session.surroundings.leaders.entry(function.key()));
            let Finished { ended, .. } =
                self.session.ask(self.session.entry(&function, node), function.clone(), self.limit).await;
            knowledge.learn(&function, ended.kind(), ended.result());
            if matches!(ended, Ended::Fail(_)) {
                time::sleep(BACKOFF).await;
            }
        }
    }
}

/// What a history says of how an operation ended: it is a failure only if it certainly happened nowhere.
fn finished(done: Done) -> Finished {
    let ended = match done.result {
        Ok(answer) => Ended::Ok(result_of(&answer)),
        Err(error) if error.is_definite() => Ended::Fail(error.to_string()),
        Err(error) => Ended::Info(error.to_string()),
    };
    Finished { ended, node: done.node, trip: trip_of(done.trip) }
}

/// What a history says of an operation's way.
pub(crate) fn trip_of(trip: store::routes::Trip) -> Trip {
    let store::routes::Trip { redirects, gone, leaderless, behind, unknown } = trip;
    Trip { redirects, gone, leaderless, behind, unknown }
}

/// Where a client whose place is `node` asks: at the leader if it knows it, but reads that any replica answers at its place.
pub(crate) fn entry(cluster: &ClusterConfig, function: &Function, node: NodeId) -> Entry {
    match (cluster.reads, function) {
        (ReadMode::Local, Function::Get { .. }) => Entry::At(node),
        _ => Entry::Leader(node),
    }
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
        Outcome::Written | Outcome::Deleted | Outcome::Opened => (None, None),
        Outcome::Swapped => (None, Some(true)),
        Outcome::NotSwapped { seen } => (seen.as_deref(), Some(false)),
    };
    OpResult {
        returned: returned.map(str::to_owned),
        swapped,
        version: answer.version,
        index: Some(answer.index),
        leader: answer.leader,
        ballot: answer.ballot.to_string(),
        fast: answer.fast,
        local: answer.local,
    }
}
