//! The store: every node is told its configuration in a file and commands on its standard input, and says on its standard
//! output what it does ([`Notice`]s).

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use checker::history::{Function, OpResult, Trip};
use futures::future::BoxFuture;
use store::{
    api::{Answer, NodeId, Operation, Outcome},
    client::{ClusterClient, Done},
    config::{ClockSkew, NodeConfig, RoutingMode},
    connections::Connections,
    node::control::Notice,
};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Client, Input, Inside, Launch, Pipes, Place, Says, Target};
use crate::{
    history_writer::{Ended, Finished},
    plan::Plan,
    proxy::Network,
    workload::store_key,
};

/// The store, or whatever else takes its configuration and speaks like it.
#[derive(Debug)]
pub struct Store {
    /// Program and arguments of a node; `--config FILE` is appended.
    command: Vec<String>,
    /// Configurations go to `data/node-N.json` in it.
    run_dir: PathBuf,
    /// Name of the cluster.
    name: String,
    routing: RoutingMode,
    /// Clients have sessions, and ask for what may have happened again.
    sessions: bool,
    /// What each node's next process is told.
    configs: BTreeMap<NodeId, Mutex<NodeConfig>>,
}

impl Store {
    /// A store of these nodes, of which there is one at least; results go to `run_dir`.
    pub fn new(
        command: Vec<String>,
        configs: BTreeMap<NodeId, NodeConfig>,
        run_dir: &Path,
        sessions: bool,
    ) -> Self {
        let (name, routing) = configs
            .values()
            .next()
            .map(|config| (config.cluster.name.clone(), config.cluster.routing))
            .unwrap_or_default();
        let configs = configs.into_iter().map(|(node, config)| (node, Mutex::new(config))).collect();
        Self { command, run_dir: run_dir.to_owned(), name, routing, sessions, configs }
    }

    /// The store of a plan behind this network.
    pub fn of(plan: &Plan, network: &Network, run_dir: &Path, command: Vec<String>) -> Self {
        let clocks: BTreeMap<NodeId, ClockSkew> =
            plan.clocks.iter().map(|clock| (clock.node, clock.skew)).collect();
        let config = |node: NodeId| NodeConfig {
            node,
            listen: "127.0.0.1:0".to_owned(),
            peers: network.peers_of(node),
            data: run_dir.join("data").join(format!("node-{node}")),
            trace: Some(run_dir.join("trace").join(format!("node-{node}.jsonl"))),
            clock: clocks.get(&node).copied().unwrap_or_default(),
            cluster: plan.cluster.clone(),
            test: plan.test.clone(),
        };
        let configs = plan.node_ids().into_iter().map(|node| (node, config(node))).collect();
        Self::new(command, configs, run_dir, plan.sessions)
    }

    fn config(&self, node: NodeId) -> MutexGuard<'_, NodeConfig> {
        self.configs[&node].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Store {
    fn launch(&self, node: NodeId) -> io::Result<Launch> {
        let config = self.config(node);
        let path = self.run_dir.join("data").join(format!("node-{node}.json"));
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        std::fs::write(&path, serde_json::to_string_pretty(&*config)?)?;
        let mut command = self.command.clone();
        command.extend(["--config".to_owned(), path.to_string_lossy().into_owned()]);
        let doomed = config.test.die_in_recovery;
        Ok(Launch { command, input: Input::Commands, doomed, ..Launch::default() })
    }

    fn follow(&self, pipes: Pipes, says: Says) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut output = BufReader::new(pipes.output);
            let mut line = Vec::new();
            // an error ends it like the end of the stream does: nothing more can be read
            while output.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                match serde_json::from_slice::<Notice>(&line) {
                    Ok(notice) => says.notice(notice),
                    Err(_) => says.unparsable(&line),
                }
                line.clear();
            }
        })
    }

    fn clients(&self, addresses: BTreeMap<NodeId, SocketAddr>, numbers: &[u64]) -> Vec<Box<dyn Client>> {
        let addresses = addresses.into_iter().map(|(node, address)| (node, address.to_string())).collect();
        let connections = Arc::new(Connections::new(&self.name, addresses));
        let client = |_: &u64| -> Box<dyn Client> {
            let client = ClusterClient::sharing(Arc::clone(&connections), self.routing);
            Box::new(if self.sessions { client.exactly_once() } else { client })
        };
        numbers.iter().map(client).collect()
    }

    fn data(&self, node: NodeId) -> PathBuf {
        self.config(node).data.clone()
    }

    /// What it writes from then on is no record of the member that it was: it is not traced.
    fn wiped(&self, node: NodeId) {
        self.config(node).trace = None;
    }

    fn inside(&self) -> Option<&dyn Inside> {
        Some(self)
    }
}

impl Inside for Store {
    fn die_in_recovery(&self, node: NodeId, dies: bool) {
        self.config(node).test.die_in_recovery = dies;
    }

    fn first_clock(&self, node: NodeId, skew: ClockSkew) {
        self.config(node).clock = skew;
    }

    fn tear_log(&self, node: NodeId) -> io::Result<()> {
        store::node::storage::tear_log(&self.config(node).data)
    }
}

impl Client for ClusterClient {
    fn first(&self, place: Place) -> NodeId {
        ClusterClient::first(self, place.partition, place.entry)
    }

    /// It is asked of another node only where it certainly did not happen, or in a session.
    fn call<'a>(
        &'a mut self,
        place: Place,
        function: &'a Function,
        limit: Duration,
    ) -> BoxFuture<'a, Finished> {
        Box::pin(async move {
            let operation = operation_of(function);
            let Place { partition, entry } = place;
            finished(ClusterClient::call(self, (partition, entry), &operation, limit, |_| ()).await)
        })
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
