//! `store bench load`: a load on a cluster, its own or a running one, straight to the leaders.

use std::{fmt, io::Write, path::Path, process::ExitCode, time::Duration};

use anyhow::ensure;
use serde::Serialize;
use store::{
    config::StorageKind,
    load::{self, Counts, Figures, LEAST_VALUE, Length, Load, Mix, Outcome, Pace, Target, resident, used},
    local::{self, NodeProcess, Shape},
    node::clock::machine_time,
};

use super::in_folder;

/// A load on three nodes of its own, started for it, or with --address on a running cluster, of which it overwrites keys 0 to
/// --keys (bench-0 and so on where keys are texts). Exit code 1: some operations failed, or were not answered as they must be.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Connections, to the leaders in turn.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Operations in flight on each connection.
    #[arg(long, default_value_t = 16)]
    depth: usize,
    /// Operations a second, evenly spread; latency counts from when each was due. Without this: as fast as answers come.
    #[arg(long)]
    rate: Option<f64>,
    /// How long.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// End after so many operations instead.
    #[arg(long, conflicts_with = "seconds")]
    operations: Option<u64>,
    /// How long the same load runs before it is measured.
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,
    /// What is asked, with weights: get, put, cas.
    #[arg(long, default_value = "get=1", value_parser = mix)]
    mix: Mix,
    /// Number of keys; all are written beforehand: in a running cluster, over what they hold.
    #[arg(long, default_value_t = 1000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 128)]
    value_size: usize,
    /// Give a connection up after so long without an answer.
    #[arg(long, default_value_t = 5000)]
    timeout_ms: u64,
    #[command(flatten)]
    own: Own,
    /// Addresses of nodes of a running cluster, with commas between them: one that lives is enough.
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', conflicts_with = "own")]
    address: Vec<String>,
    /// Name of the running cluster.
    #[arg(long, default_value = "store", requires = "address")]
    cluster: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What the cluster is like that is started.
#[derive(Debug, clap::Args)]
#[group(id = "own", multiple = true)]
struct Own {
    /// Keep state in memory only.
    #[arg(long)]
    memory: bool,
    /// Read through the log.
    #[arg(long)]
    without_leases: bool,
    /// Partitions, by hash.
    #[arg(long, default_value_t = 1)]
    partitions: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    /// What was asked of whom, in words.
    what: String,
    seconds: f64,
    per_second: f64,
    counts: Counts,
    operations: Vec<Figures>,
    complaints: Vec<String>,
    processors: Processors,
    /// Resident memory of each node afterwards, MiB; of nodes of its own.
    memory_mib: Vec<u64>,
}

/// Processors used, on average; the nodes' are known of nodes of its own.
#[derive(Debug, Serialize)]
struct Processors {
    clients: f64,
    leaders: Option<f64>,
    followers: Option<f64>,
}

/// Puts the load on.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    check(arguments)?;
    let report = in_folder("store-bench-load", async |folder| measure(arguments, folder).await)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    if report.counts.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    let Counts { asked, right, .. } = report.counts;
    let complaints = report.complaints.join("; ");
    writeln!(
        std::io::stderr(),
        "error: of {asked} operations {right} were answered as they must be: {complaints}"
    )?;
    Ok(ExitCode::from(1))
}

fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { connections, depth, rate, seconds, warm_up, value_size, .. } = *arguments;
    ensure!(connections > 0, "--connections 0: at least one is needed");
    ensure!(depth > 0, "--depth 0: at least one operation must be in flight");
    ensure!(arguments.keys > 0, "--keys 0: at least one is needed");
    ensure!(arguments.own.partitions > 0, "--partitions 0: at least one is needed");
    ensure!(arguments.operations != Some(0), "--operations 0: nothing would be measured");
    ensure!(arguments.timeout_ms > 0, "--timeout-ms 0: no answer comes at once");
    ensure!(
        (LEAST_VALUE..=1 << 20).contains(&value_size),
        "--value-size {value_size}: from {LEAST_VALUE}, since a value carries its key, to {}",
        1 << 20
    );
    ensure!(seconds > 0.0 && seconds <= 86_400.0, "--seconds {seconds}: more than 0, and a day at most");
    ensure!((0.0..=3600.0).contains(&warm_up), "--warm-up {warm_up}: from 0 to an hour");
    if let Some(rate) = rate {
        ensure!(rate > 0.0 && rate <= 1e8, "--rate {rate}: more than 0, and a hundred million at most");
    }
    Ok(())
}

async fn measure(arguments: &Arguments, folder: &Path) -> anyhow::Result<Report> {
    let Own { memory, without_leases, partitions } = arguments.own;
    let storage = if memory { StorageKind::Memory } else { StorageKind::Durable };
    let shape = Shape { storage, leases: !without_leases, partitions };
    let nodes = if arguments.address.is_empty() {
        local::start(&std::env::current_exe()?, folder, shape).await?
    } else {
        Vec::new()
    };
    let (cluster, addresses) = if nodes.is_empty() {
        (arguments.cluster.as_str(), arguments.address.clone())
    } else {
        (local::NAME, nodes.iter().map(|node| node.address.clone()).collect())
    };
    let target = Target::find(cluster, &addresses, arguments.keys, arguments.value_size).await?;
    target.fill().await?;
    let load = arguments.load();
    let warm_up = Length::Time(Duration::from_secs_f64(arguments.warm_up));
    let warmed =
        load::run(target.links(arguments.connections).await?, Load { length: warm_up, ..load }).await?;
    if arguments.warm_up > 0.0 {
        load::check(&warmed)?;
    }
    let links = target.links(arguments.connections).await?;
    let before = Used::now(&nodes, &target);
    let outcome = load::run(links, load).await?;
    let processors = Used::now(&nodes, &target).since(&before);
    let memory_mib = nodes.iter().filter_map(|node| Some(resident(node.child.id())? >> 20)).collect();
    let what = arguments.words(&target);
    Ok(Report::new(what, &outcome, processors, memory_mib))
}

impl Arguments {
    fn load(&self) -> Load {
        Load {
            depth: self.depth,
            pace: self.rate.map_or(Pace::Closed, Pace::PerSecond),
            length: match self.operations {
                Some(operations) => Length::Operations(operations),
                None => Length::Time(Duration::from_secs_f64(self.seconds)),
            },
            mix: self.mix,
            patience: Duration::from_millis(self.timeout_ms),
        }
    }

    fn words(&self, target: &Target) -> String {
        let cluster = if self.address.is_empty() {
            let storage = if self.own.memory { "in memory" } else { "durable" };
            let leases = if self.own.without_leases { "without leases" } else { "with leases" };
            format!("{} nodes of its own, {storage}, {leases}", local::NODES)
        } else {
            format!("the cluster at {}", self.address.join(","))
        };
        let pace = self.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} operations a second"));
        format!(
            "{cluster}, partitions: {}, led by nodes {:?}; {} connections x {} in flight, {pace}; {} keys, {}-byte values",
            target.partitions,
            target.leaders(),
            self.connections,
            self.depth,
            self.keys,
            self.value_size
        )
    }
}

/// Processor time so far, in seconds, and when that was.
struct Used {
    at: u64,
    clients: f64,
    /// None: the nodes are not this program's.
    nodes: Option<(f64, f64)>,
}

impl Used {
    fn now(nodes: &[NodeProcess], target: &Target) -> Self {
        let leaders = target.leaders();
        let sum = |lead: bool| {
            let some = nodes.iter().zip(1..).filter(|(_, number)| leaders.contains(number) == lead);
            some.filter_map(|(node, _)| used(node.child.id())).sum::<f64>()
        };
        Self {
            at: machine_time(),
            clients: used(std::process::id()).unwrap_or_default(),
            nodes: (!nodes.is_empty()).then(|| (sum(true), sum(false))),
        }
    }

    fn since(&self, before: &Self) -> Processors {
        let seconds = (self.at - before.at) as f64 / 1e9;
        let both = self.nodes.zip(before.nodes);
        Processors {
            clients: (self.clients - before.clients) / seconds,
            leaders: both.map(|(now, before)| (now.0 - before.0) / seconds),
            followers: both.map(|(now, before)| (now.1 - before.1) / seconds),
        }
    }
}

/// Weights of the kinds, such as `get=9,put=1`.
fn mix(text: &str) -> Result<Mix, String> {
    let mut mix = Mix::default();
    for part in text.split(',') {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let kind = load::Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| format!("'{name}' is no operation: write get, put or cas"))?;
        let weight: u16 =
            weight.parse().map_err(|_| format!("'{weight}' is no weight: write get=9,put=1"))?;
        mix.0[kind as usize] = weight.into();
    }
    if mix.0.iter().sum::<u32>() == 0 { Err("all weights are 0".to_owned()) } else { Ok(mix) }
}

impl Report {
    fn new(what: String, outcome: &Outcome, processors: Processors, memory_mib: Vec<u64>) -> Self {
        Self {
            what,
            seconds: outcome.seconds,
            per_second: outcome.per_second(),
            counts: outcome.counts(),
            operations: outcome.figures(),
            complaints: outcome.complaints.clone(),
            processors,
            memory_mib,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(
            f,
            "            asked      right  wrong failed   unknown   per second    p50 us    p90 us    p99 us  p99.9 us    max us"
        )?;
        for figures in &self.operations {
            let Figures { kind, counts, per_second, .. } = figures;
            let Counts { asked, right, wrong, failed, unknown, .. } = counts;
            write!(f, "{kind:<6}{asked:>11}{right:>11}{wrong:>7}{failed:>7}{unknown:>10}{per_second:>13.0}")?;
            for latency in [figures.p50_us, figures.p90_us, figures.p99_us, figures.p999_us, figures.max_us] {
                match latency {
                    Some(latency) => write!(f, "{latency:>10.0}")?,
                    None => write!(f, "{:>10}", "-")?,
                }
            }
            writeln!(f)?;
        }
        let Counts { right, fast, elsewhere, .. } = self.counts;
        writeln!(
            f,
            "of {right} right answers {fast} were fast reads, {elsewhere} came from another node than was asked"
        )?;
        let Processors { clients, leaders, followers } = &self.processors;
        write!(f, "processors used: clients {clients:.2}")?;
        if let (Some(leaders), Some(followers)) = (leaders, followers) {
            write!(
                f,
                ", leaders {leaders:.2}, followers {followers:.2}; memory of the nodes, MiB: {:?}",
                self.memory_mib
            )?;
        }
        writeln!(f)
    }
}
