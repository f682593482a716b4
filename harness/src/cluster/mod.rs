//! A cluster of real processes: started, killed, started again, paused, given other clocks, and watched.
//!
//! Every node is a child of this process. Its [`Target`] says what becomes it and follows what it prints; its standard error
//! is appended to a log. No node outlives the harness, however that ends: dropping a [`Cluster`] kills them, and the kernel
//! does so when the process dies (see `spawner`).

mod leaders;
mod minder;
mod process;
mod spawner;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use store::{
    api::{Ballot, NodeId, PartitionId},
    config::ClockSkew,
    node::control::{Command, DiskFault, Notice},
};
use tokio::{sync::broadcast, time::timeout};

use crate::{
    clock::{Effective, boottime_ns},
    proxy::Network,
    targets::{Inside, Target},
};
pub use leaders::Leaders as NodeLeaders;
pub use minder::Says;
use process::{Process, Start};
use spawner::Spawner;

/// How many events a slow receiver of [`Cluster::events`] may be behind before it loses the oldest.
const EVENTS: usize = 1 << 14;

/// How long a node may take to do what a command or a signal asks for.
const COMMAND_DEADLINE: Duration = Duration::from_secs(5);

/// What a cluster is started from.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// What its nodes are.
    pub target: Arc<dyn Target>,
    /// Their numbers.
    pub nodes: Vec<NodeId>,
    /// Folder of the run: standard error goes to `logs/node-N.log`.
    pub run_dir: PathBuf,
    /// How long a node may take from its start until it listens.
    pub start_deadline: Duration,
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file of the run could not be written.
    #[error("could not prepare {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The others did not let it come back.
    #[error("node {node} could not come back: {error}")]
    Unwelcome {
        /// The node.
        node: NodeId,
        /// Why.
        error: io::Error,
    },
    /// The thread that starts nodes could not be started.
    #[error("could not start the thread that starts nodes: {error}")]
    Thread {
        /// Why.
        error: io::Error,
    },
    /// The program could not be run.
    #[error("could not run {program} for node {node}: {error}{}", advice(error))]
    Spawn {
        /// The node.
        node: NodeId,
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// It ended before it listened.
    #[error("node {node} {status} before it listened\n{}", quoted(log))]
    Exited {
        /// The node.
        node: NodeId,
        /// How it ended, such as `exited with status 1`.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// It did not listen in time, and was killed.
    #[error("node {node} was not ready within {deadline:?}\n{}", quoted(log))]
    Silent {
        /// The node.
        node: NodeId,
        /// How long it was given.
        deadline: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// It said that it listens at something that is no address.
    #[error("node {node} says that it listens at {address:?}, which is no address")]
    Address {
        /// The node.
        node: NodeId,
        /// What it said.
        address: String,
    },
    /// It runs already.
    #[error("node {node} runs already")]
    Running {
        /// The node.
        node: NodeId,
    },
}

/// What to do where a program cannot be run, if that is known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; install it, or say where it is (`--bin`)",
        _ => "",
    }
}

/// The end of a log.
fn quoted(log: &str) -> String {
    if log.is_empty() { "its log is empty".to_owned() } else { format!("the last lines of its log:\n{log}") }
}

/// Why a node could not be controlled.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It does not run.
    #[error("node {node} does not run")]
    NotRunning {
        /// The node.
        node: NodeId,
    },
    /// It ended meanwhile.
    #[error("node {node} {status} meanwhile")]
    Exited {
        /// The node.
        node: NodeId,
        /// How it ended.
        status: String,
    },
    /// It did not do so in time.
    #[error("node {node} did not {action} within {deadline:?}")]
    Deadline {
        /// The node.
        node: NodeId,
        /// What it was to do.
        action: &'static str,
        /// How long it was given.
        deadline: Duration,
    },
    /// A signal or a command could not be sent.
    #[error("could not {action} node {node}: {error}")]
    Io {
        /// The node.
        node: NodeId,
        /// What it was to do.
        action: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// The end of a process that SIGKILL has ended, in words.
const KILLED: &str = "was killed by signal 9";

/// Something that a node said, or its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// [`boottime_ns`] when the harness saw it.
    pub at: u64,
    /// The node.
    pub node: NodeId,
    /// What happened.
    pub what: NodeEvent,
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeEvent {
    /// It said so.
    Notice(Notice),
    /// It printed something that is no notice.
    Unparsable {
        /// The line.
        line: String,
    },
    /// Its process ended, and was reaped.
    Exited {
        /// How, such as `was killed by signal 9`.
        status: String,
        /// True when the harness had killed it, and it died of that.
        expected: bool,
        /// The last lines of its log.
        log: String,
    },
}

/// The end of a node that nobody had asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The node.
    pub node: NodeId,
    /// What it died of.
    pub cause: Cause,
    /// The last lines of its log.
    pub log: String,
}

/// What a node died of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// An assertion of its core failed, which is a violation of the protocol: what the assertion says.
    Assertion(String),
    /// It said what no node of its kind says, and was killed for it: what.
    Broke(String),
    /// Something else, of which only its end is known, such as `exited with status 4`.
    Unknown(String),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, cause, .. } = self;
        match cause {
            Cause::Assertion(text) => write!(f, "node {node}'s core gave up: {text}"),
            Cause::Broke(words) => write!(f, "node {node} {words}"),
            Cause::Unknown(status) => write!(f, "node {node} {status}, and nobody had killed it"),
        }
    }
}

/// A running cluster. Dropping it kills every node.
pub struct Cluster {
    spec: ClusterSpec,
    network: Arc<Network>,
    spawner: Spawner,
    nodes: BTreeMap<NodeId, Node>,
    watch: Arc<Watch>,
}

/// One node of the cluster, which is one process after another.
#[derive(Default)]
struct Node {
    /// The process that was started last.
    process: Mutex<Option<Arc<Process>>>,
    /// One start at a time.
    starting: tokio::sync::Mutex<()>,
}

/// Where the processes report to.
struct Watch {
    leaders: Mutex<NodeLeaders>,
    deaths: Mutex<Vec<Death>>,
    events: broadcast::Sender<ClusterEvent>,
}

impl Cluster {
    /// Starts every node and waits until all listen; the network then leads to them. On
    /// an error every node that was started is killed.
    pub async fn start(spec: ClusterSpec, network: Arc<Network>) -> Result<Self, StartError> {
        let logs = spec.run_dir.join("logs");
        std::fs::create_dir_all(&logs).map_err(|error| StartError::File { path: logs, error })?;
        let spawner = Spawner::start().map_err(|error| StartError::Thread { error })?;
        let nodes = spec.nodes.iter().map(|node| (*node, Node::default())).collect();
        let watch = Arc::new(Watch {
            leaders: Mutex::default(),
            deaths: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
        });
        let cluster = Self { spec, network, spawner, nodes, watch };
        try_join_all(cluster.nodes.keys().map(|node| cluster.start_node(*node))).await?;
        Ok(cluster)
    }

    /// Kills `node` with SIGKILL; in effect when its process was reaped.
    pub async fn kill(&self, node: NodeId) -> Result<Effective, ControlError> {
        let requested = boottime_ns();
        let process = self.running(node)?;
        process.kill();
        let exit = process.exited().await;
        Ok(Effective { requested, effective: exit.at })
    }

    /// Lets `node` die in its next write to disk, or kills it when it has not written for as long as `idle`; returns when its
    /// process was reaped, and whether it died in a write.
    pub async fn kill_in_write(&self, node: NodeId, idle: Duration) -> Result<bool, ControlError> {
        let process = self.running(node)?;
        process.expect_end();
        let died = async {
            // it may die before it can say that it will
            let _ = process.command(&Command::DieInWrite).await;
            process.exited().await
        };
        let in_write = timeout(idle, died).await.is_ok();
        if !in_write {
            process.kill();
            process.exited().await;
        }
        Ok(in_write)
    }

    /// Starts a dead `node`, which dies in the middle of reading its disk, before it listens; returns when its process was
    /// reaped, and whether it did. Should it come to listen nevertheless, it is killed.
    pub async fn die_in_recovery(&self, node: NodeId) -> Result<bool, StartError> {
        self.inside().die_in_recovery(node, true);
        let started = self.start_node(node).await;
        self.inside().die_in_recovery(node, false);
        match started {
            Err(StartError::Exited { status, .. }) if status == KILLED => Ok(true),
            Err(error) => Err(error),
            Ok(()) => {
                // an error says that it has just died
                let _ = self.kill(node).await;
                Ok(false)
            }
        }
    }

    /// Takes a dead node's disk away.
    pub fn wipe(&self, node: NodeId) -> Result<(), StartError> {
        if self.is_running(node) {
            return Err(StartError::Running { node });
        }
        self.spec.target.wiped(node);
        let path = self.spec.target.data(node);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StartError::File { path, error }),
            _ => Ok(()),
        }
    }

    /// Leaves the disk of a dead node as a write that was torn would.
    pub fn tear_log(&self, node: NodeId) -> Result<(), StartError> {
        let torn = self.inside().tear_log(node);
        torn.map_err(|error| StartError::File { path: self.spec.target.data(node), error })
    }

    /// The clock that the next process of `node` begins with.
    pub fn set_first_clock(&self, node: NodeId, skew: ClockSkew) {
        if let Some(inside) = self.spec.target.inside() {
            inside.first_clock(node, skew);
        }
    }

    /// What is done inside a node. Plans ask for it only where the target has it (see `workload::target`).
    fn inside(&self) -> &dyn Inside {
        self.spec.target.inside().expect("plans ask of a target only what it can do")
    }

    /// Starts `node` again on what its disk holds; in effect when it listens and the network leads to it. Panics when the
    /// cluster has no such node.
    pub async fn restart(&self, node: NodeId) -> Result<Effective, StartError> {
        let requested = boottime_ns();
        self.start_node(node).await?;
        Ok(Effective::since(requested))
    }

    /// Stops `node` with SIGSTOP; in effect when the kernel says that every thread of it is stopped. When that takes longer
    /// than five seconds this fails, and the node counts as paused all the same, since it will be.
    pub async fn pause(&self, node: NodeId) -> Result<Effective, ControlError> {
        let requested = boottime_ns();
        let process = self.running(node)?;
        within(COMMAND_DEADLINE, node, "stop", process.pause()).await?;
        Ok(Effective::since(requested))
    }

    /// Lets a paused `node` go on; in effect when the kernel says that it does.
    pub async fn resume(&self, node: NodeId) -> Result<Effective, ControlError> {
        let requested = boottime_ns();
        let process = self.running(node)?;
        within(COMMAND_DEADLINE, node, "go on", process.resume()).await?;
        Ok(Effective::since(requested))
    }

    /// Gives `node` another clock; in effect when it says so. A paused node cannot, so this then fails after its deadline
    /// of five seconds, but the command stays in the pipe and takes effect when the node goes on.
    pub async fn clock(&self, node: NodeId, skew: ClockSkew) -> Result<Effective, ControlError> {
        let requested = boottime_ns();
        let process = self.running(node)?;
        let command = Command::Clock(skew);
        within(COMMAND_DEADLINE, node, "confirm its new clock", process.command(&command)).await?;
        Ok(Effective::since(requested))
    }

    /// Makes something wrong with the disk of `node`, or right again; in effect when it says so.
    pub async fn disk(&self, node: NodeId, fault: DiskFault) -> Result<Effective, ControlError> {
        let requested = boottime_ns();
        let process = self.running(node)?;
        let command = Command::Disk(fault);
        within(COMMAND_DEADLINE, node, "confirm its new disk", process.command(&command)).await?;
        Ok(Effective::since(requested))
    }

    /// Waits until every node has said that it serves clients. Fails when one ends first.
    pub async fn wait_open(&self, deadline: Duration) -> Result<(), ControlError> {
        let opened = self.nodes.keys().map(|node| async {
            let process = self.running(*node)?;
            within(deadline, *node, "serve clients", process.opened()).await
        });
        try_join_all(opened).await.map(drop)
    }

    /// True while `node` has a process, be it paused or still starting.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.running(node).is_ok()
    }

    /// True while `node` is paused.
    pub fn is_paused(&self, node: NodeId) -> bool {
        self.running(node).is_ok_and(|process| process.is_paused())
    }

    /// The process of `node`, for measurements; `None` when it does not run.
    pub fn process_id(&self, node: NodeId) -> Option<u32> {
        self.running(node).ok().map(|process| process.id())
    }

    /// Who leads `partition`, as far as the nodes have said: the highest ballot that a living node, paused ones included,
    /// leads and has not stepped down from.
    pub fn leader(&self, partition: PartitionId) -> Option<(NodeId, Ballot)> {
        self.watch.leaders().leader(partition)
    }

    /// The leader of each partition that has one.
    pub fn leaders(&self) -> BTreeMap<PartitionId, (NodeId, Ballot)> {
        self.watch.leaders().all()
    }

    /// How often each partition's leadership has passed to another ballot.
    pub fn leader_changes(&self) -> BTreeMap<PartitionId, u64> {
        self.watch.leaders().changes()
    }

    /// When that was, as [`boottime_ns`] says.
    pub fn leader_change_times(&self) -> BTreeMap<PartitionId, Vec<u64>> {
        self.watch.leaders().change_times()
    }

    /// The nodes that ended by themselves, since the start. Whoever has seen a node's end finds it here.
    pub fn deaths(&self) -> Vec<Death> {
        self.watch.deaths().clone()
    }

    /// What the nodes say and how they end, from now on. A receiver that falls behind loses the oldest, and is told so.
    pub fn events(&self) -> broadcast::Receiver<ClusterEvent> {
        self.watch.events.subscribe()
    }

    /// Kills every node and waits until all are reaped.
    pub async fn shutdown(self) {
        let processes: Vec<_> = self.nodes.values().filter_map(Node::process).collect();
        for process in &processes {
            process.kill();
        }
        join_all(processes.iter().map(|process| process.exited())).await;
    }

    async fn start_node(&self, node: NodeId) -> Result<(), StartError> {
        let place = &self.nodes[&node];
        let _one_at_a_time = place.starting.lock().await;
        if self.is_running(node) {
            return Err(StartError::Running { node });
        }
        let target = &self.spec.target;
        target.welcome(node).await.map_err(|error| StartError::Unwelcome { node, error })?;
        let launch = target.launch(node);
        let launch = launch.map_err(|error| StartError::File { path: target.data(node), error })?;
        let log = self.spec.run_dir.join("logs").join(format!("node-{node}.log"));
        let parts = (Arc::clone(&self.watch), Arc::clone(&self.network));
        let start = Start { node, launch, log, target: Arc::clone(target) };
        let process = Process::start(start, &self.spawner, parts).await?;
        *lock(&place.process) = Some(Arc::clone(&process));
        let deadline = self.spec.start_deadline;
        let listening = match timeout(deadline, process.listening()).await {
            Ok(listening) => listening.map(drop),
            Err(_) => Err(StartError::Silent { node, deadline, log: process.log_tail() }),
        };
        if listening.is_err() {
            process.kill();
            process.exited().await;
        }
        listening
    }

    fn running(&self, node: NodeId) -> Result<Arc<Process>, ControlError> {
        let process = self.nodes.get(&node).and_then(Node::process);
        process.filter(|process| process.exit().is_none()).ok_or(ControlError::NotRunning { node })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.nodes.values().filter_map(Node::process) {
            process.kill();
        }
    }
}

impl Node {
    fn process(&self) -> Option<Arc<Process>> {
        lock(&self.process).clone()
    }
}

impl Watch {
    fn leaders(&self) -> MutexGuard<'_, NodeLeaders> {
        lock(&self.leaders)
    }

    fn deaths(&self) -> MutexGuard<'_, Vec<Death>> {
        lock(&self.deaths)
    }

    fn report(&self, at: u64, node: NodeId, what: NodeEvent) {
        // an error says that nobody listens
        let _ = self.events.send(ClusterEvent { at, node, what });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fails when `work` is not done within `deadline`.
async fn within(
    deadline: Duration,
    node: NodeId,
    action: &'static str,
    work: impl Future<Output = Result<(), ControlError>>,
) -> Result<(), ControlError> {
    let done = timeout(deadline, work).await;
    done.map_err(|_| ControlError::Deadline { node, action, deadline })?
}
