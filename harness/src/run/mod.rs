//! One run: boot, warm-up, faults, heal, quiesce, final reads, end, checks.
//!
//! The phases run beside those who watch: the history must be writable, the proxies must work, and the user may stop it all.
//! Whoever of them speaks first ends the run; the nodes are killed and the history is kept whatever happens. Nodes that died
//! by themselves are known when all are reaped, and go into the verdict.

mod checks;
mod phases;
mod progress;

use std::{
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use checker::history::Key;
use store::{api::NodeId, node::control::Notice};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::broadcast,
    time,
};

use crate::{
    cluster::{Cluster, ClusterEvent, ClusterSpec, NodeEvent},
    history_writer::History,
    leaders::Leaders,
    nemesis::{Effects, Nemesis, OBSERVER, Roles},
    plan::Plan,
    proxy::Network,
    report::{Report, html, schema},
    results::{ResultsFolder, VERDICT},
    script::ScriptReport,
    stall::Stalls,
    targets,
    worker::Surroundings,
    workload::{Action, history_key},
};
use phases::Phases;
use progress::Progress;

/// Clients that read every key at the end.
pub(crate) const READERS: u64 = 4;

/// How often the history is handed to the operating system.
const FLUSH: Duration = Duration::from_millis(100);

/// How long a node may take to listen.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// What a run needs to know beside its plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where results go.
    pub results: PathBuf,
    /// Program and arguments that become a node.
    pub node_command: Vec<String>,
    /// No progress lines.
    pub quiet: bool,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// It was carried out and checked.
    Checked(Box<Report>),
    /// The user stopped it; what was recorded so far is in the folder.
    Interrupted(PathBuf),
}

/// Everything that the phases share.
struct Run {
    plan: Arc<Plan>,
    network: Arc<Network>,
    cluster: Arc<Cluster>,
    history: Arc<History>,
    stalls: Arc<Stalls>,
    roles: Arc<Roles>,
    nemesis: Arc<Nemesis>,
    surroundings: Surroundings,
    progress: Arc<Progress>,
    keys: Vec<Key>,
    keys_read: AtomicUsize,
}

/// What the phases leave for the checks.
#[derive(Debug, Default)]
struct Carried {
    script: Option<ScriptReport>,
    healed: u64,
    ended: u64,
    keys_read: usize,
    /// The nodes that no permanent fault has hit.
    core: Vec<NodeId>,
    /// Keys that could not be read at the end, and why.
    unread: Vec<String>,
    /// Why the phases did not come to their end.
    cut_short: Option<String>,
}

/// Carries out a plan and checks what came of it; `again` is the command that does so. A node that died by itself is a part of
/// the report, and decides its verdict (see [`judge`](crate::report::judge)). However the run ends, what it has recorded is
/// drawn in its folder.
pub async fn run(plan: Plan, again: String, options: &Options) -> Result<Ended> {
    let mut interrupt = Interrupt::listen()?;
    let folder = ResultsFolder::create(&options.results, &plan)?;
    let ended = carry_out(plan, again, &folder, options, &mut interrupt).await;
    tokio::select! {
        biased;
        () = interrupt.came() => {}
        () = draw(folder.path().to_owned()) => {}
    }
    ended
}

/// The same for those who have nothing else to do meanwhile.
pub fn alone(plan: &Plan, again: String, options: &Options) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(run(plan.clone(), again, options));
    // a check that was interrupted is waited for by nobody
    runtime.shutdown_background();
    ended
}

/// Writes `report.html`. That it cannot be written changes no verdict.
async fn draw(folder: PathBuf) {
    if !folder.join("history.jsonl").exists() {
        return;
    }
    let written = tokio::task::spawn_blocking(move || html::write(&folder)).await;
    match written.map_err(anyhow::Error::from) {
        Ok(Ok(_)) => {}
        Ok(Err(error)) | Err(error) => eprintln!("error: there is no {}: {error:#}", html::FILE),
    }
}

async fn carry_out(
    plan: Plan,
    again: String,
    folder: &ResultsFolder,
    options: &Options,
    interrupt: &mut Interrupt,
) -> Result<Ended> {
    let plan = Arc::new(plan);
    let booted = tokio::select! {
        biased;
        () = interrupt.came() => return Ok(Ended::Interrupted(folder.path().to_owned())),
        booted = boot(Arc::clone(&plan), folder, options) => booted,
    };
    let run = Arc::new(
        booted.with_context(|| format!("the cluster did not start (see {})", folder.path().display()))?,
    );
    let events = run.cluster.events();
    let carried = tokio::select! {
        biased;
        () = interrupt.came() => Ok(None),
        error = flush(&run.history) => Err(error),
        () = run.network.ended() => Err(anyhow!("the proxies have ended")),
        never = watch_nodes(&run, events) => match never {},
        never = Arc::clone(&run.stalls).watch(Arc::clone(&run.history)) => match never {},
        never = run.progress.report(&run.history, &run.cluster, options.quiet) => match never {},
        carried = Phases::new(Arc::clone(&run)).carry_out() => carried.map(Some),
    };
    let stopped = stop(&run).await;
    folder.write("links.json", &serde_json::to_string_pretty(&run.network.counters())?)?;
    run.progress.clear(options.quiet);
    let carried = match (stopped, carried) {
        (_, Ok(None)) => return Ok(Ended::Interrupted(folder.path().to_owned())),
        (Err(error), _) => Err(error.into()),
        (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(Some(carried))) => Ok(carried),
    };
    let carried = match carried {
        Ok(carried) => carried,
        // whatever failed because a node had died says less than that death, and than what was recorded until then
        Err(error) if !run.cluster.deaths().is_empty() => run.cut_short(&error),
        Err(error) => return Err(error.context(format!("the run failed (see {})", folder.path().display()))),
    };
    run.history.flush()?;
    let report = tokio::select! {
        biased;
        () = interrupt.came() => return Ok(Ended::Interrupted(folder.path().to_owned())),
        report = checks::report(&run, carried, folder.path().to_owned(), again) => report?,
    };
    folder.write(VERDICT, &schema::in_json(&report)?)?;
    Ok(Ended::Checked(Box::new(report)))
}

impl Run {
    /// What there is of a run whose phases did not come to their end.
    fn cut_short(&self, error: &anyhow::Error) -> Carried {
        let now = self.history.now();
        let keys_read = self.keys_read.load(Ordering::Relaxed);
        Carried {
            healed: now,
            ended: now,
            keys_read,
            cut_short: Some(format!("{error:#}")),
            ..Carried::default()
        }
    }
}

/// Starts the network and the processes; they need not serve yet.
async fn boot(plan: Arc<Plan>, folder: &ResultsFolder, options: &Options) -> Result<Run> {
    let nodes = plan.node_ids();
    let last = plan.last_client() + READERS;
    let clients: Vec<u64> = (OBSERVER..=last).collect();
    let network = Network::start(&nodes, &clients, targets::protocol(&plan.system), plan.seed)
        .await
        .context("the network did not start")?;
    let network = Arc::new(network);
    network.switch(Effects::new(&plan).conditions()).await;
    let path = folder.path().join("history.jsonl");
    let history = History::create(&path, |origin| plan.header(origin))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let history = Arc::new(history);
    network.record(folder.path(), history.origin()).context("cannot record the messages between nodes")?;
    history.phase("boot");
    let target = targets::of(&plan, &network, folder.path(), &options.node_command).await?;
    let spec = ClusterSpec {
        target: Arc::clone(&target),
        nodes,
        run_dir: folder.path().to_owned(),
        start_deadline: START_DEADLINE,
    };
    let cluster = Arc::new(Cluster::start(spec, Arc::clone(&network)).await?);
    let roles = Arc::new(Roles::new(Arc::clone(&plan), Arc::clone(&network), Arc::clone(&cluster)));
    let nemesis = Nemesis::new(
        Arc::clone(&plan),
        Arc::clone(&network),
        Arc::clone(&cluster),
        Arc::clone(&history),
        Arc::clone(&roles),
    );
    let surroundings = Surroundings {
        target,
        addresses: Arc::new(network.client_addresses()),
        history: Arc::clone(&history),
        leaders: Arc::new(Leaders::new(plan.cluster.clone())),
        cluster: Arc::new(plan.cluster.clone()),
        stride: last + 1,
    };
    Ok(Run {
        keys: all_keys(&plan),
        keys_read: AtomicUsize::new(0),
        plan,
        network,
        cluster,
        history,
        stalls: Arc::default(),
        roles,
        nemesis: Arc::new(nemesis),
        surroundings,
        progress: Arc::default(),
    })
}

/// Every key that the run knows of: of operations, steps and preset values.
pub(crate) fn all_keys(plan: &Plan) -> Vec<Key> {
    let random = plan.operations.iter().flat_map(|operations| operations.keys.iter().cloned());
    let scripted = plan.steps.iter().flat_map(|step| match &step.action {
        Action::Operation(operation) => operation.keys.clone(),
        _ => Vec::new(),
    });
    let preset = plan.cluster.preset.iter().map(|(key, _)| history_key(key));
    let mut keys: Vec<Key> = random.chain(scripted).chain(preset).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Keeps the file up to date; returns when that fails.
async fn flush(history: &History) -> anyhow::Error {
    loop {
        time::sleep(FLUSH).await;
        if let Err(error) = history.hand_over() {
            return error.into();
        }
    }
}

/// Learns who leads.
async fn watch_nodes(run: &Run, mut events: broadcast::Receiver<ClusterEvent>) -> Infallible {
    loop {
        match events.recv().await {
            Ok(ClusterEvent { node, what: NodeEvent::Notice(Notice::Leading { partition, .. }), .. }) => {
                run.surroundings.leaders.announced(partition, node);
            }
            Ok(_) => {}
            // what was missed has led to this
            Err(broadcast::error::RecvError::Lagged(_)) => {
                for (partition, (node, _)) in run.cluster.leaders() {
                    run.surroundings.leaders.announced(partition, node);
                }
            }
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Kills every node and closes the network. An error says that the network had failed before.
async fn stop(run: &Run) -> io::Result<()> {
    let nodes = run.plan.node_ids();
    let running = nodes.into_iter().filter(|node| run.cluster.is_running(*node));
    // a node that has just ended by itself is dead as well, and among the deaths as soon as its end is known
    futures::future::join_all(running.map(|node| run.cluster.kill(node))).await;
    run.network.shutdown().await
}

/// Ctrl-C, or a polite request to end.
struct Interrupt {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupt {
    fn listen() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
