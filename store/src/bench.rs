//! `store bench`: a first measure of a cluster on this machine, straight to the leader.

mod flat;
mod leases;
mod load;

use std::{io::Write, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, bail, ensure};
use clap::builder::RangedU64ValueParser;
use hdrhistogram::Histogram;
use store::{
    api::{Key, MAX_VALUES, Operation},
    client::Client,
    config::StorageKind,
    local::{self, NAME, NODES, NodeProcess, Shape},
    node::clock::machine_time,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// What is measured.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Comparison>,
    /// Clients, each with one connection and one operation in flight.
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// Operations of each kind.
    #[arg(long, default_value_t = 20_000)]
    operations: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 128, value_parser = RangedU64ValueParser::<usize>::new().range(..=MAX_VALUES as u64))]
    value_size: usize,
    /// Keep state in memory only.
    #[arg(long)]
    memory: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is compared instead.
#[derive(Debug, clap::Subcommand)]
enum Comparison {
    /// The same reads with leases and without, in turn.
    Leases(leases::Arguments),
    /// Whether memory and disk stay as they are while writes go on.
    Flat(flat::Arguments),
    /// A load of any kind: so many operations in flight on so many connections, or so many a second.
    Load(load::Arguments),
}

const KEYS: i64 = 1000;

/// Figures of one kind of operation.
#[derive(Debug, serde::Serialize)]
struct Figures {
    kind: &'static str,
    operations: u64,
    per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    max_us: f64,
}

/// Runs the benchmark.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Some(Comparison::Leases(arguments)) => return leases::run(arguments),
        Some(Comparison::Flat(arguments)) => return flat::run(arguments),
        Some(Comparison::Load(arguments)) => return load::run(arguments),
        None => {}
    }
    let Arguments { clients, operations, .. } = *arguments;
    ensure!(clients > 0, "--clients 0: at least one is needed");
    ensure!(operations >= clients, "--operations {operations}: at least one for each of {clients} clients");
    let mut figures = Vec::new();
    for lease in [true, false] {
        figures.extend(in_folder("store-bench", async |folder| measure(arguments, folder, lease).await)?);
    }
    print(arguments, &figures)?;
    Ok(ExitCode::SUCCESS)
}

/// Measures with nodes that have their data in a folder, which is gone when that ends, by Ctrl-C too.
fn in_folder<T>(name: &str, measure: impl AsyncFnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let measured = runtime.block_on(async {
        let (mut interrupted, mut terminated) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            measured = measure(&folder) => measured,
            _ = interrupted.recv() => bail!("interrupted"),
            _ = terminated.recv() => bail!("interrupted"),
        }
    });
    // it may not be there if nothing started
    let _ = std::fs::remove_dir_all(&folder);
    measured
}

async fn measure(arguments: &Arguments, folder: &Path, lease: bool) -> anyhow::Result<Vec<Figures>> {
    let nodes = start(arguments, folder, lease).await?;
    let leader =
        timeout(Duration::from_secs(20), find_leader(&nodes)).await.context("no leader within 20 s")??;
    let mut figures = Vec::new();
    if lease {
        figures.push(load("write", arguments, &leader, true, false).await?);
        figures.push(load("fast read", arguments, &leader, false, true).await?);
    } else {
        figures.push(load("read through the log", arguments, &leader, false, false).await?);
    }
    Ok(figures)
}

/// Starts nodes of one partition.
async fn start(arguments: &Arguments, folder: &Path, leases: bool) -> anyhow::Result<Vec<NodeProcess>> {
    let storage = if arguments.memory { StorageKind::Memory } else { StorageKind::Durable };
    local::start(&std::env::current_exe()?, folder, Shape { storage, leases, partitions: 1 }).await
}

/// The address of the node that answers a read itself.
async fn find_leader(nodes: &[NodeProcess]) -> anyhow::Result<String> {
    loop {
        for node in nodes {
            if let Ok(mut client) = Client::connect(&node.address, NAME).await
                && let Ok(answer) = client.call(Operation::Get { key: Key::Integer(0) }).await
            {
                let leader = usize::try_from(answer.leader - 1)?;
                return Ok(nodes[leader].address.clone());
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn load(
    kind: &'static str,
    arguments: &Arguments,
    leader: &str,
    write: bool,
    fast: bool,
) -> anyhow::Result<Figures> {
    let each = arguments.operations / arguments.clients;
    let value: store::api::Value = "x".repeat(arguments.value_size).into();
    let mut clients = Vec::new();
    let began = machine_time();
    for client in 0..arguments.clients {
        clients.push(one_client(leader, client, each, write.then(|| value.clone()), fast));
    }
    let mut all = Histogram::<u64>::new(3)?;
    for latencies in futures::future::try_join_all(clients).await? {
        all.add(latencies)?;
    }
    let seconds = (machine_time() - began) as f64 / 1e9;
    let at = |quantile| all.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Figures {
        kind,
        operations: all.len(),
        per_second: all.len() as f64 / seconds,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        max_us: all.max() as f64 / 1e3,
    })
}

async fn one_client(
    leader: &str,
    number: u64,
    operations: u64,
    value: Option<store::api::Value>,
    fast: bool,
) -> anyhow::Result<Histogram<u64>> {
    let mut client = Client::connect(leader, NAME).await?;
    let mut latencies = Histogram::new(3)?;
    for count in 0..operations {
        let key = Key::Integer((number as i64 * 7919 + count as i64) % KEYS);
        let operation = match &value {
            Some(value) => Operation::Put { key, value: value.clone() },
            None => Operation::Get { key },
        };
        let began = machine_time();
        let answer = client.call(operation).await?;
        latencies.record(machine_time() - began)?;
        ensure!(
            answer.fast == fast || value.is_some(),
            "a read was {}fast",
            if answer.fast { "" } else { "not " }
        );
    }
    Ok(latencies)
}

fn print(arguments: &Arguments, figures: &[Figures]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(figures)?)?;
        return Ok(());
    }
    let storage = if arguments.memory { "in memory" } else { "durable" };
    writeln!(
        out,
        "{NODES} nodes, {storage}, {} clients with one operation in flight each, {}-byte values",
        arguments.clients, arguments.value_size
    )?;
    for f in figures {
        writeln!(
            out,
            "{:<22}{:>10.0}/s   p50 {:>7.0} us   p90 {:>7.0} us   p99 {:>7.0} us   max {:>7.0} us",
            f.kind, f.per_second, f.p50_us, f.p90_us, f.p99_us, f.max_us
        )?;
    }
    Ok(())
}
