//! What recording costs: the same load with and without a history, in turn, on the same processes; and with and without the
//! messages between nodes, in turn on two clusters.
//!
//! First the clients and the recorder alone, against a stub that answers at once; then `workloads/load.toml` as a run carries
//! it out: real nodes with their traces, every connection through the proxy; once with as much as the machine bears, and once
//! with a little more than a run must hold. And where the processors' time goes.
//!
//!     scripts/bench recording [--json] [--rounds N] [--seconds S]

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use futures::{SinkExt, StreamExt};
use harness::{
    clock::boottime_ns,
    cluster::{Cluster, ClusterSpec},
    generator::Generator,
    history_writer::History,
    leaders::Leaders,
    plan::{Plan, PlannedClient},
    proxy::{Network, Protocol},
    targets::{Target, store::Store},
    worker::{Session, Surroundings, Worker},
    workload,
};
use serde::Serialize;
use store::{
    api::{Answer, Ballot, ClientReply, ClientRequest, NodeId, Operation, Outcome, ReplyBody, RequestBody},
    config::{ClockSkew, NodeConfig},
    load::{median, used, used_in},
    node::wire::{self, Handshake, Verdict},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tokio_util::codec::Framed;

/// What a run must hold.
const GOAL: f64 = 50_000.0;

/// What is asked for where the load is given.
const ASKED: f64 = 1.1 * GOAL;

/// How much of the load must be left with recording.
const RATIO_GOAL: f64 = 0.9;

/// How long the clients run before they are counted.
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Debug, Parser)]
struct Arguments {
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// How often everything is measured; medians are shown.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long one measurement takes.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(measure_all(&arguments))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    Ok(())
}

async fn measure_all(arguments: &Arguments) -> Result<Report> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/load.toml");
    let plan = Plan::new(workload::load(&path).map_err(|problem| anyhow::anyhow!("{problem}"))?, 0);
    let folder = tempfile::tempdir()?;
    let stub = start_stub()?;
    let node = |client: &PlannedClient| ((client.client, 1), stub);
    let addresses = Arc::new(plan.clients.iter().map(node).collect());
    let ids = Threads { nodes: BTreeMap::new() };
    let alone = Place {
        arguments,
        plan: &plan,
        what: What::History,
        folder: folder.path(),
        sides: [(&addresses, &ids); 2],
    };
    let alone = alone.measure("clients and recorder alone", None).await?;
    let with = Booted::new(&plan, &folder.path().join("with"), true).await?;
    let without = Booted::new(&plan, &folder.path().join("without"), false).await?;
    let mut sides = vec![alone];
    let history = [
        (What::History, "a whole run, all it bears", None),
        (What::History, "a whole run, 55,000 asked", Some(ASKED)),
    ];
    let messages = [
        (What::Messages, "messages, all it bears", None),
        (What::Messages, "messages, 55,000 asked", Some(ASKED)),
    ];
    for (what, name, asked) in history.into_iter().chain(messages) {
        let compared = if what == What::History { [&with; 2] } else { [&without, &with] };
        let compared = compared.map(|booted| (&booted.addresses, &booted.ids));
        let place = Place { arguments, plan: &plan, what, folder: folder.path(), sides: compared };
        sides.push(place.measure(name, asked).await?);
    }
    for booted in [with, without] {
        booted.cluster.shutdown().await;
        booted.network.shutdown().await?;
    }
    Ok(Report { rounds: arguments.rounds, seconds: arguments.seconds, sides })
}

/// A cluster behind its proxies.
struct Booted {
    network: Arc<Network>,
    cluster: Cluster,
    addresses: Addresses,
    ids: Threads,
}

impl Booted {
    async fn new(plan: &Plan, folder: &Path, messages: bool) -> Result<Self> {
        let (network, cluster) = boot(plan, folder, messages).await?;
        let addresses = Arc::new(network.client_addresses());
        let id = |node: NodeId| Some((cluster.process_id(node)?, format!("node {node}")));
        let ids = Threads { nodes: plan.node_ids().into_iter().filter_map(id).collect() };
        Ok(Self { network, cluster, addresses, ids })
    }
}

/// The cluster of the plan behind its proxies, as a run starts it.
async fn boot(plan: &Plan, folder: &Path, messages: bool) -> Result<(Arc<Network>, Cluster)> {
    let nodes = plan.node_ids();
    let clients: Vec<u64> = plan.clients.iter().map(|client| client.client).collect();
    let network = Arc::new(Network::start(&nodes, &clients, Protocol::Frames, plan.seed).await?);
    for name in ["data", "logs", "trace"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    if messages {
        network.record(folder, boottime_ns())?;
    }
    let spec = ClusterSpec {
        target: target(plan, folder, |node| network.peers_of(node)),
        nodes,
        run_dir: folder.to_owned(),
        start_deadline: Duration::from_secs(20),
    };
    let cluster = Cluster::start(spec, Arc::clone(&network)).await?;
    cluster.wait_open(Duration::from_secs(20)).await?;
    while cluster.leaders().len() < plan.cluster.partitions.len() {
        sleep(Duration::from_millis(10)).await;
    }
    Ok((network, cluster))
}

/// The plan's store, in this folder, its nodes with these peers.
fn target(plan: &Plan, folder: &Path, peers: impl Fn(NodeId) -> BTreeMap<NodeId, String>) -> Arc<dyn Target> {
    let config = |node: NodeId| NodeConfig {
        node,
        listen: "127.0.0.1:0".to_owned(),
        peers: peers(node),
        data: folder.join("data").join(format!("node-{node}")),
        trace: Some(folder.join("trace").join(format!("node-{node}.jsonl"))),
        clock: ClockSkew::default(),
        cluster: plan.cluster.clone(),
        test: plan.test.clone(),
    };
    let configs = plan.node_ids().into_iter().map(|node| (node, config(node))).collect();
    let command = vec![env!("CARGO_BIN_EXE_harness").to_owned(), "node".to_owned()];
    Arc::new(Store::new(command, configs, folder, plan.sessions))
}

/// A node that answers everything at once, on a thread of its own.
fn start_stub() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let serve = async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            tokio::spawn(answer_all(listener.accept().await?.0));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("stub".to_owned())
        .spawn(move || -> std::io::Result<()> { runtime.block_on(serve) })?;
    Ok(address)
}

async fn answer_all(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut frames = Framed::new(stream, wire::frames());
    let hello = frames.next().await.context("gone")??;
    wire::decode::<Handshake>(&hello)?;
    frames.send(wire::encode(&Verdict::Welcome { node: 1 })).await?;
    let ballot = Ballot { config: 0, number: 1, priority: 0, node: 1 };
    while let Some(frame) = frames.next().await {
        let ClientRequest { id, body } = wire::decode(&frame?)?;
        let (outcome, fast) = match body {
            RequestBody::Operation { operation: Operation::Get { .. }, .. } => {
                (Outcome::Value(Some("c1-1............".into())), true)
            }
            _ => (Outcome::Written, false),
        };
        let (version, index, leader, local) = (1, 1, 1, false);
        let answer = Answer { outcome, version, index, leader, ballot, fast, local };
        let body = ReplyBody::Operation(Ok(answer));
        frames.feed(wire::encode(&ClientReply { id, body })).await?;
        // all that came together is answered together
        if frames.read_buffer().is_empty() {
            SinkExt::<bytes::Bytes>::flush(&mut frames).await?;
        }
    }
    Ok(())
}

/// One kind of measurement.
#[derive(Debug, Serialize)]
struct Side {
    name: &'static str,
    recorded_per_second: f64,
    unrecorded_per_second: f64,
    ratio: f64,
    /// Share of one processor with recording, in percent, by who used it.
    processor: BTreeMap<String, f64>,
}

/// What is recorded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// What the clients ask and are told.
    History,
    /// The messages between nodes, by one of two clusters.
    Messages,
}

/// Where each client reaches each node.
type Addresses = Arc<BTreeMap<(u64, NodeId), SocketAddr>>;

/// Where the clients find somebody to ask, without what is measured and with it.
struct Place<'a> {
    arguments: &'a Arguments,
    plan: &'a Plan,
    what: What,
    folder: &'a Path,
    sides: [(&'a Addresses, &'a Threads); 2],
}

impl Place<'_> {
    /// With `asked`, all clients together ask so much a second, and otherwise each at once when it was answered.
    async fn measure(&self, name: &'static str, asked: Option<f64>) -> Result<Side> {
        let Self { arguments, plan, what, folder, sides } = *self;
        let (mut recorded, mut unrecorded, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut shares: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for round in 0..arguments.rounds {
            let mut rates = [0.0; 2];
            // whoever comes first has the machine in another state
            for records in if round % 2 == 0 { [true, false] } else { [false, true] } {
                let (addresses, threads) = sides[usize::from(records)];
                let history = if records || what == What::Messages {
                    let path = folder.join(format!("{name} {round} {records}.jsonl"));
                    History::create(&path, |origin| plan.header(origin))?
                } else {
                    History::unrecorded()
                };
                let history = Arc::new(history);
                let before = threads.times();
                let began = boottime_ns();
                let rate = load(plan, addresses, &history, asked, arguments.seconds).await?;
                rates[usize::from(records)] = rate;
                history.flush()?;
                if records {
                    let took = (boottime_ns() - began) as f64 / 1e9;
                    for (who, after) in threads.times() {
                        let used = after - before.get(&who).copied().unwrap_or_default();
                        shares.entry(who).or_default().push(100.0 * used / took);
                    }
                }
            }
            let [without, with] = rates;
            unrecorded.push(without);
            recorded.push(with);
            ratios.push(with / without);
        }
        let processor = shares.into_iter().map(|(who, shares)| (who, median(shares)));
        Ok(Side {
            name,
            recorded_per_second: median(recorded),
            unrecorded_per_second: median(unrecorded),
            ratio: median(ratios),
            processor: processor.collect(),
        })
    }
}

/// The plan's clients for so many seconds; how many operations a second ended.
async fn load(
    plan: &Plan,
    addresses: &Arc<BTreeMap<(u64, NodeId), SocketAddr>>,
    history: &Arc<History>,
    asked: Option<f64>,
    seconds: f64,
) -> Result<f64> {
    let surroundings = Surroundings {
        target: target(plan, Path::new("."), |_| BTreeMap::new()),
        addresses: Arc::clone(addresses),
        history: Arc::clone(history),
        leaders: Arc::new(Leaders::new(plan.cluster.clone())),
        cluster: Arc::new(plan.cluster.clone()),
        stride: plan.last_client() + 1,
    };
    let operations = Arc::new(plan.operations.clone().context("the workload has no operations")?);
    let interval = asked.map(|asked| Duration::from_secs_f64(plan.clients.len() as f64 / asked));
    let mut offsets = (0..).map(|client| interval.unwrap_or_default() * client / plan.clients.len() as u32);
    let stop = watch::Sender::new(false);
    let mut workers = JoinSet::new();
    for group in plan.clients.chunks(plan.share.max(1) as usize) {
        let numbers: Vec<u64> = group.iter().map(|client| client.client).collect();
        for (client, session) in group.iter().zip(Session::sharing(&numbers, &surroundings)) {
            let worker = Worker {
                session,
                generator: Generator::new(client.clone(), plan.nodes, Arc::clone(&operations)),
                interval,
                limit: Duration::from_millis(plan.timeout_ms),
            };
            workers.spawn(worker.run(offsets.next().unwrap_or_default(), stop.subscribe()));
        }
    }
    sleep(WARM_UP).await;
    let before = (boottime_ns(), history.completed_count());
    sleep(Duration::from_secs_f64(seconds)).await;
    let after = (boottime_ns(), history.completed_count());
    stop.send_replace(true);
    while let Some(ended) = workers.join_next().await {
        ended?;
    }
    Ok((after.1 - before.1) as f64 * 1e9 / (after.0 - before.0) as f64)
}

/// Who uses the processors: the threads of this process and the nodes'.
struct Threads {
    nodes: BTreeMap<u32, String>,
}

impl Threads {
    /// Seconds of processor time so far. What cannot be read is left out.
    fn times(&self) -> BTreeMap<String, f64> {
        let mut times = BTreeMap::new();
        let main = std::process::id().to_string();
        for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            if let Ok(stat) = std::fs::read_to_string(task.path().join("stat"))
                && let Some((name, seconds)) = used_in(&stat)
            {
                let who = if task.file_name() == *main { "clients" } else { name };
                *times.entry(who.to_owned()).or_default() += seconds;
            }
        }
        for (id, name) in &self.nodes {
            if let Some(seconds) = used(*id) {
                times.insert(name.clone(), seconds);
            }
        }
        times
    }
}

/// Medians over the rounds; ratios are medians of the rounds' ratios.
#[derive(Debug, Serialize)]
struct Report {
    rounds: usize,
    seconds: f64,
    sides: Vec<Side>,
}

impl Report {
    fn print(&self) {
        println!(
            "operations per second        recorded   unrecorded   ratio   goals: >= {GOAL:.0}, >= {RATIO_GOAL:.2}"
        );
        for side in &self.sides {
            let (recorded, ratio) = (side.recorded_per_second, side.ratio);
            let reached = if recorded >= GOAL && ratio >= RATIO_GOAL { "reached" } else { "missed" };
            let name = side.name;
            println!(
                "{name:<27} {recorded:>9.0} {:>12.0} {ratio:>7.3}   {reached}",
                side.unrecorded_per_second
            );
        }
        for side in &self.sides {
            let mut shares: Vec<_> = side.processor.iter().filter(|(_, share)| **share >= 0.5).collect();
            shares.sort_by(|a, b| b.1.total_cmp(a.1));
            let shares: Vec<String> =
                shares.iter().map(|(who, share)| format!("{who} {share:.0}%")).collect();
            println!("{}, recorded, of one processor: {}", side.name, shares.join(", "));
        }
        println!("{} rounds of {} s each, in turn; medians", self.rounds, self.seconds);
    }
}
