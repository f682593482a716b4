//! Clients: each is a logical process after another, asks one thing at a time and records all of it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use checker::history::Function;
use store::{
    api::NodeId,
    config::{ClusterConfig, ReadMode},
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
    targets::{self, Client, Place, Target},
};

/// After a refusal a client waits this long, so that a cluster without a leader is not stormed.
pub(crate) const BACKOFF: Duration = Duration::from_millis(20);

/// What all clients share.
#[derive(Clone)]
pub struct Surroundings {
    /// What they ask.
    pub target: Arc<dyn Target>,
    /// Where each client reaches each node.
    pub addresses: Arc<BTreeMap<(u64, NodeId), SocketAddr>>,
    /// Where everything is recorded.
    pub history: Arc<History>,
    /// Who leads which partition, as far as the harness knows.
    pub leaders: Arc<Leaders>,
    /// The cluster.
    pub cluster: Arc<ClusterConfig>,
    /// Process numbers grow by this after an unknown outcome: above every client's number.
    pub stride: u64,
}

/// A client: the target's own, and its present process number.
pub struct Session {
    surroundings: Surroundings,
    client: u64,
    process: u64,
    target: Box<dyn Client>,
}

impl Session {
    /// A client that has not asked anything, with connections of its own.
    pub fn new(client: u64, surroundings: Surroundings) -> Self {
        let target = targets::only(Self::on_links_of(client, &[client], &surroundings));
        Self { surroundings, client, process: client, target }
    }

    /// Clients that have not asked anything, and may share connections: those on the links of the first of them.
    pub fn sharing(clients: &[u64], surroundings: &Surroundings) -> Vec<Self> {
        let Some(first) = clients.first() else { return Vec::new() };
        let targets = Self::on_links_of(*first, clients, surroundings);
        let session = |(client, target): (&u64, Box<dyn Client>)| Self {
            surroundings: surroundings.clone(),
            client: *client,
            process: *client,
            target,
        };
        clients.iter().zip(targets).map(session).collect()
    }

    fn on_links_of(client: u64, numbers: &[u64], surroundings: &Surroundings) -> Vec<Box<dyn Client>> {
        let links = surroundings.addresses.range((client, NodeId::MIN)..=(client, NodeId::MAX));
        let addresses = links.map(|((_, node), address)| (*node, *address)).collect();
        surroundings.target.clients(addresses, numbers)
    }

    /// Where a client whose place is `node` asks.
    fn entry(&self, function: &Function, node: NodeId) -> Entry {
        entry(&self.surroundings.cluster, function, node)
    }

    /// Asks the target, and records it as one operation.
    pub async fn ask(&mut self, entry: Entry, function: Function, limit: Duration) -> Finished {
        let function = self.target.instead(function);
        let place = Place { partition: self.surroundings.leaders.partition_of(function.key()), entry };
        let node = self.target.first(place);
        let asked = Asked { process: self.process, client: self.client, node, function };
        let history = &self.surroundings.history;
        let invoked = history.invoke(&asked);
        let finished = self.target.call(place, &asked.function, limit).await;
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
            let function = self.session.target.instead(choice.ask.resolve(&knowledge));
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

/// Where a client whose place is `node` asks: at the leader if it knows it, but reads that any replica answers at its place.
pub(crate) fn entry(cluster: &ClusterConfig, function: &Function, node: NodeId) -> Entry {
    match (cluster.reads, function) {
        (ReadMode::Local, Function::Get { .. }) => Entry::At(node),
        _ => Entry::Leader(node),
    }
}
